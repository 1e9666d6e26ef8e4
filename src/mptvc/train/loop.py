"""Training of one level: KLT start, optimiser steps, moving average, fitted tables, validation.

Imports torch, numpy and safetensors only, so that it runs on a machine without a video library.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mptvc.model.model import Model
from mptvc.model.pyramid import expand
from mptvc.model.transforms import init_klt, patchify
from mptvc.train.config import TrainConfig
from mptvc.train.data import CropSampler, to_video
from mptvc.train.tables import TableCounter, estimated_bits

_KLT_BATCHES, _TABLE_BATCHES = 10**9, 2 * 10**9  # batch numbers that no optimiser step reaches
#: Times that each pixel is drawn, on average, after which statistics of a few small shots change no more.
_ENOUGH_DRAWS = 8
_INTEGERS = ("entropy_model.mixers", "entropy_model.hyper_scale", "entropy_model.hyper_gate")
_LINEAR = (
    "analysis.embed.weight",
    "analysis.linear.weight",
    "synthesis.head.weight",
    "synthesis.linear.weight",
)


def trade_off(step: float) -> float:
    """Bits per unit of squared error at which uniform quantization with ``step`` is optimal."""
    return 6 / (math.log(2) * step**2)


def draw_gains(config: TrainConfig, step: int, levels: int) -> np.ndarray:
    """Factors by which the latents of each level are multiplied in a step's batch, float64 ``[levels]``."""
    rng = np.random.default_rng((config.seed, step, 1))  # crops are drawn from (seed, step)
    return np.asarray(2.0 ** (config.gain_octaves * rng.uniform(-1, 1, levels)))


@dataclass(frozen=True)
class _Given:
    """What a level is coded from, as arguments of ``Model.step``."""

    picture: Tensor
    coarser: Tensor | None
    parent: Tensor | None
    shots: Tensor


class LevelTrainer:
    """Trains one level while the coarser ones stay fixed.

    Matrices of the attention blocks are stepped by Muon, all else by Adam.

    Args:
        model: On the device to train on.
        index: The level.
        config: How to train.
        sampler: Source of batches.
        dtype: Precision of the networks' matrix products.
    """

    def __init__(
        self, model: Model, index: int, config: TrainConfig, sampler: CropSampler, dtype: torch.dtype
    ) -> None:
        self.model, self.index, self.config, self.sampler = model, index, config, sampler
        self.level = model.level(index)
        self.lmbda = 3 * trade_off(config.quantization_steps[index])
        self.device = next(model.parameters()).device
        self.autocast = torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)
        self.optimizers = self._optimizers()
        self.average = self._parameters()
        self.step = 0

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        rates = self.config
        integer, linear, matrices, other = [], [], [], []
        for name, parameter in self.level.named_parameters():
            if name.startswith(_INTEGERS):
                integer.append(parameter)
            elif name in _LINEAR:
                linear.append(parameter)
            elif ".blocks." in name and parameter.ndim == 2:
                matrices.append(parameter)
            else:
                other.append(parameter)
        groups = [
            {"params": integer, "lr": rates.rate_integer, "peak": rates.rate_integer},
            {"params": linear, "lr": rates.rate_linear, "peak": rates.rate_linear},
            {"params": other, "lr": rates.rate_attention, "peak": rates.rate_attention},
        ]
        adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        blocks = [{"params": matrices, "peak": rates.rate_attention}]
        muon = torch.optim.Muon(
            blocks, lr=rates.rate_attention, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
        )
        return [adam, muon]

    def _parameters(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.level.named_parameters()}

    def init_klt(self) -> None:
        """Start from the KLT of the residual that the coarser levels leave."""
        values = self.model.config.patch_values(self.index)
        total, products = torch.zeros(values).double(), torch.zeros(values, values).double()
        count = 0
        for given in self._drawn(_KLT_BATCHES, self.config.klt_batches):
            residual = self.level.residual(given.picture, self.model.base(self.index, given.coarser))
            patches = patchify(residual, *self.level.patch).flatten(0, 3).cpu()
            total += patches.double().sum(0)
            products += (patches.T @ patches).double()
            count += len(patches)
        mean = total / count
        covariance = products / count - torch.outer(mean, mean)
        step = self.config.quantization_steps[self.index]
        init_klt(self.level.analysis, self.level.synthesis, mean.float(), covariance.float(), step)
        self.average = self._parameters()

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches from the current step on."""
        return self.sampler.batches(self.config.crops[self.index], self.step)

    def train_step(self, pixels: Tensor, shots: Tensor, progress: float) -> dict[str, float]:
        """One optimiser step.

        Args:
            pixels: Crops uint8 ``[B, 3, T, H, W]``.
            shots: Shot numbers ``[B, T / patch_frames]``.
            progress: Position in the schedule, from 0 to 1.

        Returns:
            Loss and its parts.
        """
        gains = draw_gains(self.config, self.step, len(self.model.levels))
        given = self._given(pixels, shots, gains)
        gain = float(gains[self.index])
        with self.autocast:
            out = self.model.level_forward(
                self.index, given.picture, given.coarser, given.parent, given.shots, gain
            )
            # At the optimum the rate's slope over the error grows with the square of the gain.
            loss = (out.bits + self.lmbda * gain**2 * out.squared_error) / gain
        self._update(loss, progress)
        return {"loss": loss.item(), "bits": out.bits.item(), "mse": out.squared_error.item()}

    def _drawn(self, first: int, most: int) -> "Iterator[_Given]":
        """What the level is trained on in batches from a number on, fewer where the shots hold little."""
        crop = self.config.crops[self.index]
        enough = -(-_ENOUGH_DRAWS * self.sampler.num_pixels // (crop.batch * crop.frames * crop.size**2))
        for number in range(min(most, enough)):
            yield self._given(*self.sampler.batch(crop, first + number))

    @torch.no_grad()
    def _given(self, pixels: Tensor, shots: Tensor, gains: np.ndarray | None = None) -> "_Given":
        """What the level is trained on: its picture, and what the coarser levels make of the crops."""
        shots = shots.to(self.device)
        pictures = self.model.pyramid(to_video(pixels.to(self.device)))
        factors = [1.0] * self.index if gains is None else gains.tolist()
        with self.autocast:
            steps = self.model.steps(pictures[: self.index], shots, factors)
            coarser, parent = (steps[-1].x_hat, steps[-1].coded.symbols) if steps else (None, None)
        return _Given(pictures[self.index], coarser, parent, shots)

    def _update(self, loss: Tensor, progress: float) -> None:
        warm = min(1.0, (self.step + 1) / self.config.warmup_steps)
        factor = warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.level.parameters(), 5.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            if torch.isfinite(norm):
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
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
        for given in self._drawn(_TABLE_BATCHES, self.config.table_batches):
            with self.autocast:
                y = self.model.analyse(self.index, given.picture, given.coarser, given.shots)
            counter.add(y, given.parent, given.shots)
        before = estimated_bits(counter.counts, entropy_model.frequencies)
        entropy_model.set_frequencies(counter.frequencies())
        return 1 - estimated_bits(counter.counts, entropy_model.frequencies) / before

    @torch.no_grad()
    def swap_average(self) -> None:
        """Exchange the level's parameters and their moving average."""
        for name, parameter in self.level.named_parameters():
            newest = parameter.clone()
            parameter.copy_(self.average[name])
            self.average[name] = newest

    def state(self) -> dict[str, Tensor]:
        """Moving average and optimiser state, by name."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.level.named_parameters()}
        tensors = {f"average/{name}": tensor for name, tensor in self.average.items()}
        for optimizer in self.optimizers:
            for parameter, slots in optimizer.state.items():
                tensors |= {f"optimizer/{names[parameter]}/{key}": slot for key, slot in slots.items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Go on from what ``state`` returned after ``step`` steps; the model is restored already."""
        for name in self.average:
            self.average[name] = tensors[f"average/{name}"].to(self.device)
        parameters = dict(self.level.named_parameters())
        owner = {p: o for o in self.optimizers for group in o.param_groups for p in group["params"]}
        for key, tensor in tensors.items():
            kind, _, rest = key.partition("/")
            if kind == "optimizer":
                name, _, slot = rest.rpartition("/")
                state: dict[str, Any] = owner[parameters[name]].state[parameters[name]]
                state[slot] = tensor.to(self.device)
        self.step = step


@torch.no_grad()
def validate(
    model: Model, clips: list[tuple[Tensor, Tensor]], levels: int, dtype: torch.dtype
) -> list[dict[str, float]]:
    """Rate and PSNR of every prefix, mean over clips of uint8 ``[1, 3, T, H, W]``."""
    device = next(model.parameters()).device
    rows: list[list[tuple[float, float]]] = []
    for pixels, shots in clips:
        x = to_video(pixels.to(device))
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            outputs = model(x, shots.to(device), levels)
        bpp, row = 0.0, []
        for k, out in enumerate(outputs):
            shrink = model.config.shrink(k)
            bpp += out.bits.item() / shrink**2
            picture = out.x_hat
            for _ in range(shrink.bit_length() - 1):
                picture = expand(picture)
            error = (picture.clamp(-1, 1) - x).square().mean().item() / 4
            row.append((bpp, -10 * math.log10(max(error, 1e-10))))
        rows.append(row)
    table = np.array(rows).mean(0)
    return [{"bpp": float(b), "psnr": float(p)} for b, p in table]
