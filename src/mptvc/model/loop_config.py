"""Every number that shapes the closed loop, as frozen dataclasses that travel with the weights as JSON."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from mptvc.format.geometry import LOOP_SLICE
from mptvc.model.config import ModelConfig, PyramidConfig, build_levels, check, json_object, json_text
from mptvc.model.motion import BLOCK

#: What the configuration of weights with a closed loop says of ``prediction``.
LOOP = "loop"


@dataclass(frozen=True)
class LoopLevelConfig:
    """One level of the closed loop.

    Attributes:
        step: Quantization step of latents at gain 0, in units of 8-bit pixels.
        detail: As of the other form: how many times larger than 1/2^(K-1-k) of the source the picture is.
        fineness: Octaves of the step that a unit of fineness is (see `fineness`).
        smoothing: How strongly borders of tokens are smoothed; see `smoothing`.
        restoration: Whether coded tokens are restored by filters; see `restoration`.
    """

    step: float
    detail: int = 1
    fineness: float = 0.5
    smoothing: float = 1.0
    restoration: bool = False

    LATER: ClassVar[dict[str, Any]] = {"restoration": False}


@dataclass(frozen=True)
class LoopConfig(PyramidConfig):
    """The closed loop.

    Attributes:
        levels: From the coarsest to the finest.
        patch_size: Height and width of a token in pixels of a level whose ``detail`` is 1.
        clip_frames: Frames of the longest clip that is made unless a caller says otherwise.
        opening_step: Step of opening keys, on which all builds, over that of their level.
        chain_steps: Steps of the keys of a chain, over that of their level.
        key_step: Step of keys with pictures between them, over that of their level.
        between_steps: Steps of pictures between keys, over that of their level: of those that nothing else
            is predicted from, and of each halving above.
        camera_path: Whether every frame says how the camera moved, so that vectors count from where it leads
            (see `side`); otherwise it is taken to move on a straight line.
        coded_flags: Whether each token first tells whether it holds something (see `activity`).
    """

    levels: tuple[LoopLevelConfig, ...]
    patch_size: int = 8
    clip_frames: int = 97
    opening_step: float = 0.5
    chain_steps: tuple[float, ...] = (1.3, 1.3, 1.3, 1.0)
    key_step: float = 1.0
    between_steps: tuple[float, ...] = (2.0, 1.6)
    camera_path: bool = False
    coded_flags: bool = False

    LATER: ClassVar[dict[str, Any]] = {"camera_path": False, "coded_flags": False}

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            WeightsError: A field is outside its range.
        """
        check(1 <= len(self.levels) <= 8, "1 to 8 levels", len(self.levels))
        check(self.patch_size in (8, 16), "patch_size 8 or 16", self.patch_size)
        check(self.levels[-1].detail == 1, "detail 1 of the finest level", self.levels[-1].detail)
        for index, level in enumerate(self.levels):
            check(1.0 <= level.step <= 1000.0, "step 1 to 1000", level.step)
            check(level.detail in (1, 2), "detail 1 or 2", level.detail)
            check(0.0 <= level.fineness <= 1.0, "fineness 0 to 1", level.fineness)
            check(0.1 <= level.smoothing <= 4.0, "smoothing 0.1 to 4", level.smoothing)
            check(self.patch_side(index) in (4, 8, 16), "patches of 4, 8 or 16 pixels", level.detail)
            side = self.multiple // self.shrink(index)
            check(side % BLOCK == 0, f"pictures of whole blocks of {BLOCK} pixels", f"multiples of {side}")
            if index:
                ratio = self.shrink(index - 1) // self.shrink(index)
                check(ratio in (1, 2), "pictures as large as those of the coarser level, or twice", ratio)
        check(1 <= self.clip_frames <= 4096, "clip_frames 1 to 4096", self.clip_frames)
        check(len(self.chain_steps) == LOOP_SLICE, f"{LOOP_SLICE} chain_steps", self.chain_steps)
        halvings = LOOP_SLICE.bit_length() - 1
        check(len(self.between_steps) == halvings, f"{halvings} between_steps", self.between_steps)
        for step in (self.opening_step, self.key_step, *self.chain_steps, *self.between_steps):
            check(isinstance(step, int | float) and 0.1 <= step <= 10.0, "steps of 0.1 to 10", step)

    def camera_scale(self, level: int) -> int:
        """How many times larger a level's pictures are than those of level 0; 0 if cameras have no path."""
        return self.shrink(0) // self.shrink(level) if self.camera_path else 0

    def to_json(self) -> str:
        """Return the configuration as JSON text."""
        return json_text({"prediction": LOOP, **asdict(self)}, LoopConfig, LoopLevelConfig)


def read_config(text: str) -> ModelConfig | LoopConfig:
    """Read a configuration of either form from JSON text.

    Raises:
        WeightsError: The text is not JSON, or a field is missing, unknown or out of range.
    """
    raw = json_object(text)
    prediction = raw.pop("prediction", None)
    if prediction is None:
        return ModelConfig.from_json(text)
    check(prediction == LOOP, f"prediction {LOOP!r}", prediction)
    config: LoopConfig = build_levels(LoopConfig, LoopLevelConfig, raw)
    return config
