"""A whole training run: every level in turn, validated, with checkpoints that a later call goes on from.

Needs no video library, no entropy coder and no network: shards in, a trained model and a log out.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import SEEK_END
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mptvc.format.target import atomic_output
from mptvc.model.config import LevelConfig, ModelConfig
from mptvc.model.model import Model
from mptvc.train.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from mptvc.train.config import CropShape, TrainConfig
from mptvc.train.data import CropSampler, Shot, find_shards, pad_to
from mptvc.train.loop import LevelTrainer, validate

LOG_FILE, SETTINGS_FILE, CHECKPOINTS = "log.jsonl", "train.json", "checkpoints"
_LOG_SECONDS = 20.0
_CHECKPOINT_SECONDS = 300.0
_VALIDATION_SIZE = 384

#: Called with every record of the log.
Report = Callable[[dict[str, Any]], None]


def default_model_config() -> ModelConfig:
    """More channels than published, wider ranges for the leading ones; about 8 M parameters.

    The two coarse levels see pictures twice as large as published. With fewer channels or smaller pictures,
    what cannot be represented at all is most of the error of rich pictures, at any rate.
    """
    return ModelConfig(
        levels=(
            LevelConfig((127,) * 8 + (63,) * 56 + (31,) * 96, 160, 2, (8, 40, 112), 64, detail=2),
            LevelConfig((63,) * 64 + (31,) * 256, 192, 2, (8, 24, 64, 96, 128), 64, detail=2, linear=128),
            LevelConfig((63,) * 32 + (31,) * 224, 128, 2, (8, 24, 96, 128), 64, linear=128),
        )
    )


@dataclass(frozen=True)
class TrainResult:
    """What a run has come to.

    Attributes:
        model: With the moving average of every trained level and fitted tables.
        held_out: Rate and PSNR of every prefix on the held-out shards; nothing without any.
        seconds: Training time of each level, over all calls.
        finished: False where the run was stopped; call again to go on.
    """

    model: Model
    held_out: list[dict[str, float]]
    seconds: tuple[float, ...]
    finished: bool


def train(
    shards: Path,
    out: Path,
    config: TrainConfig,
    *,
    init: Model | None = None,
    names: frozenset[str] | None = None,
    held_out: frozenset[str] = frozenset(),
    device: str = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    should_stop: Callable[[], bool] = lambda: False,
    report: Report | None = None,
) -> TrainResult:
    """Train a model level by level, or go on with the run that ``out`` holds.

    A run goes on from its newest checkpoint; remove that to go on from the one before. With ``steps`` in the
    settings, a run that was stopped and went on gives the same weights as one that was not.

    Args:
        shards: Folder of array shards.
        out: Folder of the settings, the log and the checkpoints.
        config: How to train.
        init: Model to start from instead of the KLT.
        names: Names of shards to use; all by default.
        held_out: Names of shards to validate on and not to train on.
        device: Where to train.
        dtype: Precision of the networks' matrix products.
        should_stop: Asked before every step; True saves a checkpoint and returns.
        report: Called with every record of the log.

    Raises:
        ValueError: ``out`` holds a run with other settings, shots or another model, or the settings do not
            fit the model.
        VideoError: There are no shards.
        WeightsError: The newest checkpoint is damaged.
        MptError: ``out`` cannot be written.
    """
    run = _Run(find_shards(shards, names), out, config, init, held_out, torch.device(device), dtype, report)
    return run.finish(should_stop)


class _Run:
    """One run and where it stands."""

    def __init__(
        self,
        shots: dict[str, Shot],
        out: Path,
        config: TrainConfig,
        init: Model | None,
        held_out: frozenset[str],
        device: torch.device,
        dtype: torch.dtype,
        report: Report | None,
    ) -> None:
        self.out, self.config, self.dtype, self.report = out, config, dtype, report
        self.from_klt = init is None
        torch.manual_seed(config.seed)
        self.model = (init or Model(default_model_config())).to(device)
        _check_crops(config, self.model.config)
        training = [shot for name, shot in shots.items() if name not in held_out]
        self.fitted = replace(config, crops=_fitted(config.crops, training, self.model.config))
        self.sampler = CropSampler(training, config.seed, self.model.config.patch_frames)
        self.clips = [validation_clip(shots[name], self.model.config) for name in sorted(held_out)]
        self.level, self.step, self.seconds = 0, 0, [0.0] * len(config.crops)
        self.restored: dict[str, Tensor] = {}
        #: What a checkpoint may only go on with: other shots would mix training and held-out ones.
        self.origin = {
            "settings": json.loads(config.to_json()),
            "model": json.loads(self.model.config.to_json()),
            "training": sorted(shots.keys() - held_out),
            "held_out": sorted(held_out),
        }
        if saved := checkpoints(out / CHECKPOINTS):
            self._restore(saved[-1])
        out.mkdir(parents=True, exist_ok=True)
        with atomic_output(out / SETTINGS_FILE, force=True) as file:
            file.write(config.to_json().encode())

    def finish(self, should_stop: Callable[[], bool]) -> TrainResult:
        """Train until the end or until told to stop."""
        results: list[dict[str, float]] = []
        while self.level < len(self.config.crops):
            if self._budget() > 0 and not self._train_level(should_stop):
                return TrainResult(self.model, [], tuple(self.seconds), finished=False)
            self.level, self.step = self.level + 1, 0
            self._save()
        if self.clips:
            results = validate(self.model, self.clips, len(self.config.crops), self.dtype)
            self._log({"held_out": results})
        return TrainResult(self.model, results, tuple(self.seconds), finished=True)

    def _budget(self) -> float:
        """Steps or seconds that the current level is to be trained for."""
        config = self.config
        return config.steps[self.level] if config.steps else 60 * config.minutes[self.level]

    def _spent(self, trainer: LevelTrainer) -> float:
        return trainer.step if self.config.steps else self.seconds[self.level]

    def _train_level(self, should_stop: Callable[[], bool]) -> bool:
        """Train the current level; False where it was stopped."""
        trainer = LevelTrainer(self.model, self.level, self.fitted, self.sampler, self.dtype)
        if self.restored:
            trainer.restore(self.restored, self.step)
            self.restored = {}
        elif self.from_klt:
            trainer.init_klt()
        budget = self._budget()
        losses: list[dict[str, float]] = []
        logged = saved = time.monotonic()
        validated = int(self.config.validations * self._spent(trainer) / budget)
        for pixels, shots in trainer.batches():
            progress = self._spent(trainer) / budget
            started = time.monotonic()
            if progress >= 1:
                break
            if should_stop():
                self._save(trainer)
                return False
            if started - saved >= _CHECKPOINT_SECONDS:
                self._save(trainer)
                saved = time.monotonic()
            losses.append(trainer.train_step(pixels, shots, progress))
            self.seconds[self.level] += time.monotonic() - started
            if time.monotonic() - logged >= _LOG_SECONDS or trainer.step == 1:
                logged = time.monotonic()
                self._log({**self._position(trainer, budget), **_means(losses)})
                losses.clear()
            if self.clips and int(self.config.validations * self._spent(trainer) / budget) > validated:
                validated += 1
                self._validate(trainer, budget)
        trainer.swap_average()
        self._log({"level": self.level, "bits_saved_by_tables": trainer.fit_tables()})
        return True

    def _position(self, trainer: LevelTrainer, budget: float) -> dict[str, Any]:
        crop, seconds = self.fitted.crops[self.level], self.seconds[self.level]
        pixels = crop.batch * crop.frames * crop.size**2
        return {
            "level": self.level,
            "step": trainer.step,
            "seconds": round(seconds, 1),
            "progress": round(min(1.0, self._spent(trainer) / budget), 4),
            "pixels_per_s": round(pixels * trainer.step / max(seconds, 1e-9)),
        }

    def _validate(self, trainer: LevelTrainer, budget: float) -> None:
        trainer.swap_average()
        held_out = validate(self.model, self.clips, self.level + 1, self.dtype)
        trainer.swap_average()
        self._log({**self._position(trainer, budget), "held_out": held_out})

    def _log(self, record: dict[str, Any]) -> None:
        with open(self.out / LOG_FILE, "ab+") as log:
            if log.tell():  # a run that was ended may have left a part of a line
                log.seek(-1, SEEK_END)
                cut = log.read(1) != b"\n"
                log.write(b"\n" if cut else b"")
            log.write(json.dumps(record).encode() + b"\n")
        if self.report is not None:
            self.report(record)

    def _save(self, trainer: LevelTrainer | None = None) -> None:
        step = 0 if trainer is None else trainer.step
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        if trainer is not None:
            tensors |= trainer.state()
        state = {"level": self.level, "step": step, "seconds": self.seconds, **self.origin}
        save_checkpoint(self.out / CHECKPOINTS, f"level{self.level}-{step:08d}", tensors, state)

    def _restore(self, path: Path) -> None:
        tensors, state = load_checkpoint(path)
        for name, mine in self.origin.items():
            if state.get(name) != mine:
                what = {"model": "networks", "training": "training shots", "held_out": "held-out shots"}
                other = what.get(name, name)
                raise ValueError(f"{self.out} holds a run with other {other}; choose another folder")
        self.level, self.step, self.seconds = state["level"], state["step"], state["seconds"]
        prefix = "model/"
        self.model.load_state_dict(
            {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        )
        for k in range(len(self.model.config.levels)):
            entropy_model = self.model.level(k).entropy_model
            entropy_model.set_frequencies(entropy_model.frequencies.clone())
        self.restored = {n: t for n, t in tensors.items() if not n.startswith(prefix)}


def _check_crops(config: TrainConfig, model: ModelConfig) -> None:
    """Check that the batches of a run fit its networks.

    Raises:
        ValueError: They do not.
    """
    if len(config.crops) != len(model.levels):
        raise ValueError(f"the model has {len(model.levels)} levels, the settings have {len(config.crops)}")
    for crop in config.crops:
        if crop.frames % model.patch_frames or crop.size % model.multiple:
            raise ValueError(
                f"crops are multiples of {model.patch_frames} frames and {model.multiple} pixels, found "
                f"{crop.frames} and {crop.size}"
            )


def _fitted(crops: Sequence[CropShape], shots: list[Shot], model: ModelConfig) -> tuple[CropShape, ...]:
    """Crops that are no larger than the largest of all shots needs: the rest would be copies of its edges."""
    longest = max((shot.shape[0] for shot in shots), default=1)
    side = max((max(shot.shape[1:3]) for shot in shots), default=1)
    return tuple(
        replace(
            crop,
            frames=min(crop.frames, -(-longest // model.patch_frames) * model.patch_frames),
            size=min(crop.size, -(-side // model.multiple) * model.multiple),
        )
        for crop in crops
    )


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean of every entry over rows of the same names."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def validation_clip(shot: Shot, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """The middle of a shot's first clip, uint8 ``[1, 3, T, H, W]``, and its shot numbers.

    What is smaller than a patch is extended to one.
    """
    frames = _whole(min(config.clip_frames, shot.shape[0]), config.patch_frames)
    height, width = (_whole(min(side, _VALIDATION_SIZE), config.multiple) for side in shot.shape[1:3])
    top, left = (max(0, shot.shape[1] - height) // 2, max(0, shot.shape[2] - width) // 2)
    inside = shot.pixels()[:frames, top : top + height, left : left + width]
    clip = pad_to(inside, frames, height, width).transpose(3, 0, 1, 2)
    shots = torch.zeros(1, frames // config.patch_frames)
    return torch.from_numpy(np.ascontiguousarray(clip))[None], shots


def _whole(size: int, unit: int) -> int:
    """The largest multiple of a unit that is not above a size, at least one unit."""
    return max(unit, size // unit * unit)
