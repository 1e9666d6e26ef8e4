"""The training loop: KLT start, one level after the other, checkpoints, resume.

Imports torch, numpy and safetensors only, so that it runs on a machine without a video library.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mptvc.model import LevelOutput, Model
from mptvc.pyramid import expand
from mptvc.train.data import CropSampler, CropShape, to_video
from mptvc.train.tables import TableCounter, estimated_bits
from mptvc.transforms import init_klt, patchify


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        steps_of_level: Quantization step of each level for orthonormal coefficients; it sets the
            start and, as 6 / (ln 2 step^2) bits per squared error, the rate-distortion trade-off.
        minutes_of_level: Training time of each level.
        crops: Batch shape of each level.
        rate_attention: Peak learning rate of blocks and hyper-networks.
        rate_linear: Peak learning rate of the orthonormal maps.
        rate_integer: Peak learning rate of integer weights, in their own units.
        ema: Decay of the moving average that becomes the result.
        warmup_steps: Steps in which the learning rates rise to their peak.
        klt_batches: Batches that the KLT start is computed from.
        table_batches: Batches that the frequency tables are fitted to.
        seed: Seed of crops and initial weights.
    """

    steps_of_level: tuple[float, ...]
    minutes_of_level: tuple[float, ...]
    crops: tuple[CropShape, ...]
    rate_attention: float = 1.5e-3
    rate_linear: float = 1e-4
    rate_integer: float = 0.3
    ema: float = 0.998
    warmup_steps: int = 100
    klt_batches: int = 24
    table_batches: int = 24
    seed: int = 0


def trade_off(step: float) -> float:
    """Bits per unit of squared error at which uniform quantization with ``step`` is optimal."""
    return 6 / (math.log(2) * step**2)


class LevelTrainer:
    """Trains one level while the coarser ones stay fixed."""

    def __init__(self, model: Model, index: int, config: TrainConfig, sampler: CropSampler) -> None:
        self.model, self.index, self.config, self.sampler = model, index, config, sampler
        self.level = model.level(index)
        self.lmbda = 3 * trade_off(config.steps_of_level[index])
        self.optimizer = torch.optim.AdamW(
            list(self._groups()), betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )
        self.average = {k: v.detach().clone() for k, v in self.level.named_parameters()}
        self.step = 0

    def _groups(self) -> Iterator[dict[str, object]]:
        rates = self.config
        linear, integer, other = [], [], []
        for name, parameter in self.level.named_parameters():
            integers = (
                "entropy_model.mixers",
                "entropy_model.hyper_scale",
                "entropy_model.hyper_gate",
            )
            if name.startswith(integers):
                integer.append(parameter)
            elif name in ("analysis.embed.weight", "synthesis.head.weight"):
                linear.append(parameter)
            else:
                other.append(parameter)
        for parameters, rate in (
            (linear, rates.rate_linear),
            (integer, rates.rate_integer),
            (other, rates.rate_attention),
        ):
            yield {"params": parameters, "lr": rate, "peak": rate}

    def init_klt(self) -> None:
        """Start from the KLT of the residual that the coarser levels leave."""
        values = self.model.config.patch_values
        total, products, count = (
            torch.zeros(values).double(),
            torch.zeros(values, values).double(),
            0,
        )
        for number in range(self.config.klt_batches):
            picture, coarser, _ = self._batch(10**9 + number)
            residual = picture if coarser is None else picture - expand(coarser.x_hat)
            patches = patchify(residual, self.model.config).flatten(0, 3).double()
            total += patches.sum(0)
            products += patches.T @ patches
            count += len(patches)
        mean = total / count
        covariance = products / count - torch.outer(mean, mean)
        step = self.config.steps_of_level[self.index]
        init_klt(self.level.analysis, self.level.synthesis, mean.float(), covariance.float(), step)
        self.average = {k: v.detach().clone() for k, v in self.level.named_parameters()}

    @torch.no_grad()
    def _batch(self, number: int) -> tuple[Tensor, LevelOutput | None, Tensor]:
        """This level's picture, what the coarser level made of it, and the shots."""
        pixels, scenes = self.sampler.batch(self.config.crops[self.index], number)
        pictures = self.model.pyramid(to_video(pixels))
        coarser = None
        for k in range(self.index):
            base = None if coarser is None else expand(coarser.x_hat)
            with torch.autocast("cpu", torch.bfloat16):
                y_hat = self.model.level(k).fsq(self.model.level(k).analyse(pictures[k], base, scenes))
                x_hat = self.model.level(k).synthesise(y_hat, base, scenes)
            nothing = x_hat.new_zeros(())
            coarser = LevelOutput(x_hat, y_hat, nothing, nothing)
        return pictures[self.index], coarser, scenes

    def train_step(self, progress: float) -> dict[str, float]:
        """One optimiser step at ``progress`` in [0, 1] of the schedule."""
        picture, coarser, scenes = self._batch(self.step)
        with torch.autocast("cpu", torch.bfloat16):
            out = self.model.level_forward(self.index, picture, coarser, scenes)
            loss = out.bits + self.lmbda * out.squared_error
        self._update(loss, progress)
        return {"loss": loss.item(), "bits": out.bits.item(), "mse": out.squared_error.item()}

    def _update(self, loss: Tensor, progress: float) -> None:
        warm = min(1.0, (self.step + 1) / self.config.warmup_steps)
        factor = warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.level.parameters(), 5.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, parameter in self.level.named_parameters():
                self.average[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def fit_tables(self) -> float:
        """Fit the level's frequency tables to what it codes; returns the share of bits saved."""
        entropy_model = self.level.entropy_model
        counter = TableCounter(entropy_model)
        for number in range(self.config.table_batches):
            picture, coarser, scenes = self._batch(2 * 10**9 + number)
            base = None if coarser is None else expand(coarser.x_hat)
            with torch.autocast("cpu", torch.bfloat16):
                y_hat = self.level.fsq(self.level.analyse(picture, base, scenes))
            counter.add(y_hat, None if coarser is None else coarser.y_hat, scenes)
        before = estimated_bits(counter.counts, entropy_model.frequencies)
        entropy_model.set_frequencies(counter.frequencies())
        return 1 - estimated_bits(counter.counts, entropy_model.frequencies) / before

    def use_average(self) -> None:
        """Replace the level's parameters by their moving average."""
        with torch.no_grad():
            for name, parameter in self.level.named_parameters():
                parameter.copy_(self.average[name])


@torch.no_grad()
def validate(model: Model, clips: list[tuple[Tensor, Tensor]], levels: int) -> list[dict[str, float]]:
    """Rate and PSNR of every prefix, mean over clips of uint8 ``[1, 3, T, H, W]``."""
    rows: list[list[tuple[float, float]]] = []
    for pixels, scenes in clips:
        x = to_video(pixels)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = model(x, scenes, levels)
        bpp, row = 0.0, []
        for k, out in enumerate(outputs):
            up = len(model.config.levels) - 1 - k
            bpp += out.bits.item() / 4**up
            picture = out.x_hat
            for _ in range(up):
                picture = expand(picture)
            error = (picture.clamp(-1, 1) - x).square().mean().item() / 4
            row.append((bpp, -10 * math.log10(max(error, 1e-10))))
        rows.append(row)
    table = np.array(rows).mean(0)
    return [{"bpp": float(b), "psnr": float(p)} for b, p in table]


def save_state(model: Model, path: Path) -> None:
    """Write all weights of a model as safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)


def load_state(model: Model, path: Path) -> None:
    """Read what ``save_state`` wrote."""
    model.load_state_dict(load_file(path))
    for k in range(len(model.config.levels)):
        entropy_model = model.level(k).entropy_model
        entropy_model.set_frequencies(entropy_model.frequencies.clone())


def write_log(folder: Path, record: dict[str, object]) -> None:
    """Append a JSON line to the folder's log."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.jsonl", "a") as log:
        log.write(json.dumps(record) + "\n")
