"""Every number that shapes a training run, as a frozen dataclass that is saved with the result."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any


def _require_counts(settings: object, names: tuple[str, ...], least: int) -> None:
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is a whole number from {least} on, found {value}")


@dataclass(frozen=True)
class CropShape:
    """Shape of a training batch.

    Attributes:
        batch: Crops in a batch.
        frames: Frames of a crop, a multiple of the patch's.
        size: Height and width of a crop in source pixels.
    """

    batch: int
    frames: int
    size: int

    def __post_init__(self) -> None:
        """Check that there is something in a batch.

        Raises:
            ValueError: A number below 1, or none.
        """
        _require_counts(self, ("batch", "frames", "size"), 1)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. One of ``minutes`` and ``steps`` is given, an entry for each level.

    Attributes:
        minutes: Training time of each level; learning rates follow the clock.
        steps: Optimiser steps of each level; the result depends on nothing but this and the data.
        quantization_steps: Of each level, for orthonormal coefficients; they set the start and, as
            6 / (ln 2 step^2) bits per squared error, the rate-distortion trade-off.
        crops: Batch shape of each level; smaller ones are taken where all shots are smaller.
        rate_attention: Peak learning rate of blocks and hyper-networks.
        rate_linear: Peak learning rate of the orthonormal maps.
        rate_integer: Peak learning rate of integer weights, in their own units.
        gain_octaves: Each batch is quantized with steps finer or coarser by up to this many octaves, so that
            the encoder may choose.
        ema: Decay of the moving average that becomes the result.
        warmup_steps: Steps in which the learning rates rise to their peak.
        klt_batches: Batches that the KLT start is computed from.
        table_batches: Batches that the frequency tables are fitted to.
        validations: Times that each level is validated on the held-out shots.
        seed: Seed of crops and initial weights.
    """

    minutes: tuple[float, ...] = ()
    steps: tuple[int, ...] = ()
    quantization_steps: tuple[float, ...] = (1.2, 0.8, 0.275)
    crops: tuple[CropShape, ...] = (CropShape(2, 32, 384), CropShape(2, 32, 256), CropShape(2, 32, 192))
    rate_attention: float = 1.5e-3
    rate_linear: float = 1e-4
    rate_integer: float = 0.3
    gain_octaves: float = 0.75
    ema: float = 0.998
    warmup_steps: int = 100
    klt_batches: int = 24
    table_batches: int = 24
    validations: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what training could only trip over later.

        Raises:
            ValueError: Not exactly one of ``minutes`` and ``steps``, lengths that differ, or a number that is
                none or out of range.
        """
        _require_counts(self, ("warmup_steps", "klt_batches", "table_batches"), 1)
        _require_counts(self, ("seed", "validations"), 0)
        rates = (self.rate_attention, self.rate_linear, self.rate_integer, self.gain_octaves)
        numbers = (*self.minutes, *self.steps, *self.quantization_steps, *rates, self.ema)
        if not all(isinstance(n, int | float) and math.isfinite(n) and n >= 0 for n in numbers):
            raise ValueError("minutes, steps, rates and decays are numbers from 0 on")
        if bool(self.minutes) == bool(self.steps):
            raise ValueError("training needs either minutes or steps for each level")
        if not len(self.minutes or self.steps) == len(self.quantization_steps) == len(self.crops):
            raise ValueError(
                f"minutes or steps, quantization_steps and crops need an entry for each level, found "
                f"{len(self.minutes or self.steps)}, {len(self.quantization_steps)} and {len(self.crops)}"
            )
        if not all(self.quantization_steps) or self.ema >= 1:
            raise ValueError("quantization steps are above 0, the moving average's decay is below 1")
        if not all(isinstance(steps, int) for steps in self.steps):
            raise ValueError("steps are whole numbers")

    def require_training(self, *, from_nothing: bool) -> None:
        """Check that there is something to train: without it there are no weights at the end.

        Args:
            from_nothing: No weights are there to start from, so that every level needs some.

        Raises:
            ValueError: Levels, or all of them, get no time.
        """
        given = self.minutes or self.steps
        idle = [level for level, amount in enumerate(given) if not amount]
        if len(idle) == len(given) or (from_nothing and idle):
            what = "minutes" if self.minutes else "steps"
            raise ValueError(
                f"level {idle[0]} gets 0 {what}: without init= each level needs some, with it one"
            )

    def to_json(self) -> str:
        """Return the settings as JSON text."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "TrainConfig":
        """Read settings from JSON text; a missing field takes its default.

        Raises:
            ValueError: The text is not JSON, or a field is unknown or of a wrong type.
        """
        raw = json.loads(text)
        if not isinstance(raw, dict):
            raise ValueError("training settings are a JSON object")
        if unknown := sorted(raw.keys() - {field.name for field in fields(cls)}):
            raise ValueError(f"training settings have no field {unknown[0]}")
        try:
            return cls(**{name: _value(name, value) for name, value in raw.items()})
        except TypeError as error:
            raise ValueError(f"training settings: {error}") from error


def _value(name: str, value: Any) -> Any:
    if name == "crops":
        return tuple(CropShape(**crop) for crop in value)
    return tuple(value) if isinstance(value, list) else value
