"""A whole training run: every level in turn, validated, exported as a weights folder."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mptvc.config import LevelConfig, ModelConfig
from mptvc.model import Model
from mptvc.train.data import CropSampler, CropShape, open_shards
from mptvc.train.loop import LevelTrainer, TrainConfig, save_state, validate, write_log
from mptvc.weights import build_model, read_weights, write_weights

#: Called with the level, the share of its time that has passed, and the newest losses.
Report = Callable[[int, float, dict[str, float]], None]

_LOG_SECONDS = 60.0
_VALIDATION_SIZE = 384


def default_model_config() -> ModelConfig:
    """The published channels with wider ranges for the leading ones; about 4.7 M parameters."""
    return ModelConfig(
        levels=(
            LevelConfig((127,) * 8 + (63,) * 24 + (31,) * 32, 192, 2, (8, 56), 64),
            LevelConfig((63,) * 32 + (31,) * 64, 160, 2, (8, 24, 64), 64),
            LevelConfig((63,) * 32 + (31,) * 96, 128, 2, (8, 24, 96), 64),
        )
    )


def default_train_config(minutes: tuple[float, ...]) -> TrainConfig:
    """Settings of the packaged weights, with the given minutes for each level."""
    return TrainConfig(
        steps_of_level=(0.65, 0.37, 0.32),
        minutes_of_level=minutes,
        crops=(CropShape(2, 32, 384), CropShape(2, 32, 256), CropShape(2, 32, 192)),
    )


def train(
    shards: Path,
    out: Path,
    config: TrainConfig,
    *,
    init: str | Path | None = None,
    held_out: frozenset[str] = frozenset(),
    report: Report | None = None,
) -> list[dict[str, float]]:
    """Train a model level by level and write it as a weights folder.

    Args:
        shards: Folder of array shards.
        out: Folder of the result, the log and the newest state.
        config: How to train.
        init: Weights to start from instead of the KLT.
        held_out: Names of shards to validate on and not to train on.
        report: Called about once a minute.

    Returns:
        Rate and PSNR of every prefix on the held-out shards, or nothing without any.
    """
    torch.manual_seed(config.seed)
    shots = open_shards(shards)
    model = Model(default_model_config()) if init is None else build_model(*read_weights(init))
    sampler = CropSampler(
        [shot for name, shot in shots.items() if name not in held_out],
        config.seed,
        model.config.patch_frames,
    )
    clips = [_validation_clip(shots[name], model.config) for name in sorted(held_out)]
    results: list[dict[str, float]] = []
    for index, minutes in enumerate(config.minutes_of_level):
        if minutes > 0:
            trainer = LevelTrainer(model, index, config, sampler)
            if init is None:
                trainer.init_klt()
            _train_level(trainer, minutes, out, report)
            trainer.use_average()
            saved = trainer.fit_tables()
            write_log(out, {"level": index, "bits_saved_by_tables": saved})
            save_state(model, out / "state.safetensors")
        if clips:
            results = validate(model, clips, index + 1)
            write_log(out, {"level": index, "held_out": results})
    write_weights(model, out)
    return results


def _train_level(trainer: LevelTrainer, minutes: float, out: Path, report: Report | None) -> None:
    started = logged = time.monotonic()
    losses: list[dict[str, float]] = []
    while (elapsed := time.monotonic() - started) < 60 * minutes:
        losses.append(trainer.train_step(elapsed / (60 * minutes)))
        if time.monotonic() - logged >= _LOG_SECONDS:
            logged = time.monotonic()
            names = {name for loss in losses for name in loss}
            means = {n: float(np.mean([x[n] for x in losses if n in x])) for n in sorted(names)}
            write_log(out, {"level": trainer.index, "step": trainer.step, **means})
            if report is not None:
                report(trainer.index, elapsed / (60 * minutes), means)
            losses = []


def _validation_clip(shot: np.ndarray, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """The middle of a shot's first clip, uint8 ``[1, 3, T, H, W]``, and its shot numbers."""
    block, frames = config.multiple, min(config.clip_frames, len(shot))
    frames -= frames % config.patch_frames
    height, width = (min(side, _VALIDATION_SIZE) // block * block for side in shot.shape[1:3])
    top, left = (shot.shape[1] - height) // 2, (shot.shape[2] - width) // 2
    clip = shot[:frames, top : top + height, left : left + width].transpose(3, 0, 1, 2)
    scenes = torch.zeros(1, frames // config.patch_frames)
    return torch.from_numpy(np.ascontiguousarray(clip))[None], scenes
