"""Every number that shapes the model, as frozen dataclasses that travel with the weights as JSON.

This module validates; it knows nothing of tensors, files or the entropy coder.
"""

import json
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any, ClassVar

from mptvc.errors import WeightsError

#: Largest half width of a channel's values; bounds the integer entropy model's inputs.
MAX_HALF = 63
#: Largest half width of a hyper symbol's values: 16 of its units are an activation of at most 127.
MAX_HYPER_HALF = 7


@dataclass(frozen=True)
class LevelConfig:
    """One level of the pyramid: its channels and the size of its networks.

    Attributes:
        values: Number of FSQ values of each channel, odd, 3 to 127; its length is the number of
            channels. Channels come in the order of decreasing variance.
        dim: Width of the token stream in ``analysis`` and ``synthesis``.
        blocks: Attention blocks in each of the two networks.
        groups: Sizes of the channel groups that are coded one after the other.
        hidden: Hidden width of the entropy model.
        detail: How many times larger than 1/2^(K-1-k) of the source the level's picture is; its patches are
            as many times wider, so the token grid does not depend on it.
        linear: How many of the channels, the last ones, a linear map carries past the attention.
    """

    values: tuple[int, ...]
    dim: int
    blocks: int
    groups: tuple[int, ...]
    hidden: int
    detail: int = 1
    linear: int = 0

    LATER: ClassVar[dict[str, Any]] = {"detail": 1, "linear": 0}

    @property
    def channels(self) -> int:
        """Number of latent channels of a token."""
        return len(self.values)

    @property
    def attended(self) -> int:
        """Number of the channels that come out of the attention, the first ones."""
        return self.channels - self.linear

    @property
    def halves(self) -> tuple[int, ...]:
        """Largest absolute value of each channel once it is centred on zero."""
        return tuple(v // 2 for v in self.values)


class PyramidConfig:
    """The pictures and token grids of a pyramid of levels.

    Attributes:
        levels: From the coarsest to the finest; a token of level k spans ``patch_size * 2^(K-1-k)`` pixels of
            the source.
        patch_size: Height and width of a token in pixels of a level whose ``detail`` is 1.
    """

    levels: tuple[Any, ...]
    patch_size: int

    def patch_side(self, level: int) -> int:
        """Height and width of a level's patches in pixels of its picture."""
        return self.patch_size * int(self.levels[level].detail)

    def token_side(self, level: int) -> int:
        """Height and width of a level's tokens in source pixels."""
        return self.patch_size << (len(self.levels) - 1 - level)

    def shrink(self, level: int) -> int:
        """Size of the source over that of a level's picture."""
        return (1 << (len(self.levels) - 1 - level)) // int(self.levels[level].detail)

    @property
    def multiple(self) -> int:
        """Width and height of the source are padded to a multiple of this many pixels."""
        return self.patch_size << (len(self.levels) - 1)


@dataclass(frozen=True)
class ModelConfig(PyramidConfig):
    """The whole model.

    Attributes:
        levels: From the coarsest to the finest; a token of level k spans ``patch_size * 2^(K-1-k)`` pixels of
            the source.
        patch_frames: Frames in a token.
        patch_size: Height and width of a token in pixels of a level whose ``detail`` is 1.
        clip_frames: Coded frames in a clip, a multiple of ``patch_frames``.
        window: Tokens that attention sees to each side along y and x.
        heads: Attention heads for each of the three axes.
        head_dim: Width of a head, even.
        mlp_ratio: Hidden width of the MLP over ``dim``.
        rope_base: Base of the rotary embedding's geometric frequencies.
        phase_jump: Temporal phase added at every shot cut. Of 3000 to 30000 the default leaves positions in
            different shots least in phase, for up to seven cuts in a clip.
        phase_gain: Score of two temporal positions that are in phase.
        hyper_channels: Channels of the hyper-latent.
        hyper_values: FSQ values of a hyper channel, odd.
        hyper_stride: Tokens along y and x that share one hyper token.
        scales: Number of scales in the entropy model's table.
    """

    levels: tuple[LevelConfig, ...]
    patch_frames: int = 4
    patch_size: int = 8
    clip_frames: int = 32
    window: int = 4
    heads: int = 2
    head_dim: int = 16
    mlp_ratio: int = 4
    rope_base: float = 10000.0
    phase_jump: float = 15476.0
    phase_gain: float = 18.0
    hyper_channels: int = 32
    hyper_values: int = 15
    hyper_stride: int = 4
    scales: int = 48

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            WeightsError: A field is outside its range.
        """
        check(1 <= len(self.levels) <= 8, "1 to 8 levels", len(self.levels))
        for level in self.levels:
            check(1 <= level.channels <= 1024, "1 to 1024 channels", level.channels)
            for value in level.values:
                check(value % 2 == 1 and 3 <= value <= 2 * MAX_HALF + 1, "odd values", value)
            check(sum(level.groups) == level.channels, "groups that cover the channels", sum(level.groups))
            check(all(g > 0 for g in level.groups), "groups above zero", level.groups)
            check(0 <= level.linear < level.channels, "fewer linear channels than channels", level.linear)
            check(level.attended <= level.dim <= 2048, "dim from attended channels to 2048", level.dim)
            check(0 <= level.blocks <= 32, "0 to 32 blocks", level.blocks)
            check(1 <= level.hidden <= 512, "1 to 512 hidden", level.hidden)
            check(level.detail in (1, 2), "detail 1 or 2", level.detail)
        check(self.levels[-1].detail == 1, "detail 1 of the finest level", self.levels[-1].detail)
        check(1 <= self.patch_frames <= 16, "patch_frames 1 to 16", self.patch_frames)
        check(self.patch_size in (2, 4, 8, 16), "patch_size 2, 4, 8 or 16", self.patch_size)
        check(
            self.clip_frames % self.patch_frames == 0 and self.patch_frames <= self.clip_frames <= 256,
            "clip_frames a multiple of patch_frames, at most 256",
            self.clip_frames,
        )
        check(1 <= self.window <= 64, "window 1 to 64", self.window)
        check(1 <= self.heads <= 64, "heads 1 to 64", self.heads)
        check(self.head_dim % 2 == 0 and 2 <= self.head_dim <= 256, "even head_dim", self.head_dim)
        check(1 <= self.mlp_ratio <= 8, "mlp_ratio 1 to 8", self.mlp_ratio)
        check(1.0 < self.rope_base <= 1e6, "rope_base above 1", self.rope_base)
        check(0.0 <= self.phase_jump <= 1e6, "phase_jump from 0", self.phase_jump)
        check(0.0 <= self.phase_gain <= 100.0, "phase_gain 0 to 100", self.phase_gain)
        check(1 <= self.hyper_channels <= 256, "hyper_channels 1 to 256", self.hyper_channels)
        check(
            self.hyper_values % 2 == 1 and 3 <= self.hyper_values <= 2 * MAX_HYPER_HALF + 1,
            "odd hyper_values, at most 15",
            self.hyper_values,
        )
        check(1 <= self.hyper_stride <= 16, "hyper_stride 1 to 16", self.hyper_stride)
        check(2 <= self.scales <= 64, "scales 2 to 64", self.scales)

    @property
    def base_values(self) -> int:
        """Pixel values in the coarser picture's patch under a token, three colours included."""
        return 3 * self.patch_frames * self.patch_size**2

    def patch_values(self, level: int) -> int:
        """Pixel values in one patch of a level, three colours included."""
        return 3 * self.patch_frames * self.patch_side(level) ** 2

    def to_json(self) -> str:
        """Return the configuration as JSON text, without later fields that have their first meaning.

        The identity of weights is taken over this text, so that of the first weights must not change.
        """
        return json_text(asdict(self), ModelConfig, LevelConfig)

    @classmethod
    def from_json(cls, text: str) -> "ModelConfig":
        """Read a configuration from JSON text.

        Raises:
            WeightsError: The text is not JSON, or a field is missing, unknown or out of range.
        """
        config: ModelConfig = build_levels(cls, LevelConfig, json_object(text))
        return config


def json_text(raw: dict[str, Any], kind: type, level_kind: type) -> str:
    """A configuration as JSON text: that of the first weights as it was then, as digests are of this text."""
    levels = [_as_first(level, level_kind) for level in raw["levels"]]
    return json.dumps({**_as_first(raw, kind), "levels": levels}, indent=2) + "\n"


def _as_first(raw: dict[str, Any], kind: type) -> dict[str, Any]:
    """A mapping without what means the same as in the first weights, which do not have it."""
    later = _later(kind)
    return {name: value for name, value in raw.items() if name not in later or value != later[name]}


def _later(kind: type) -> dict[str, Any]:
    """Fields that the first weights do not have, with the values that these mean."""
    later: dict[str, Any] = getattr(kind, "LATER", {})
    return later


def json_object(text: str) -> dict[str, Any]:
    """The object of a JSON text.

    Raises:
        WeightsError: It is none.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"config.json is not JSON: {error}") from error
    check(isinstance(raw, dict), "an object", type(raw).__name__)
    return dict(raw)


def build_levels(kind: type, level_kind: type, raw: dict[str, Any]) -> Any:
    """Make a configuration from a mapping that holds its levels as a list of mappings.

    Raises:
        WeightsError: A field is missing, unknown or out of range.
    """
    check(isinstance(raw.get("levels"), list), "levels", type(raw))
    return build(kind, {**raw, "levels": tuple(build(level_kind, level) for level in raw["levels"])})


def check(condition: bool, expected: str, found: object) -> None:
    """Raise a WeightsError that says what was expected, unless a condition holds."""
    if not condition:
        raise WeightsError(f"config.json: expected {expected}, found {found}")


def build(kind: type, raw: Any) -> Any:
    """Make a dataclass from a mapping with exactly its fields, lists turned into tuples."""
    check(isinstance(raw, dict), f"an object for {kind.__name__}", type(raw).__name__)
    raw = {**_later(kind), **raw}
    kinds = {field.name: field.type for field in fields(kind)}
    check(not kinds.keys() - raw.keys(), f"the fields of {kind.__name__}", f"none named {_first(kinds, raw)}")
    check(not raw.keys() - kinds.keys(), f"the fields of {kind.__name__}", f"one named {_first(raw, kinds)}")
    return kind(**{name: _field(name, kinds[name], value) for name, value in raw.items()})


def _first(some: dict[str, Any], others: dict[str, Any]) -> str:
    """A name that only the first mapping has, for a message."""
    return next((repr(name)[:40] for name in some if name not in others), "")


def _field(name: str, kind: Any, value: Any) -> Any:
    """One field's value in its own type."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        check(is_number and isfinite(value) and int(value) == value, f"an integer for {name}", value)
        return int(value)
    if kind is float:
        check(is_number and abs(value) < 1e300, f"a number for {name}", str(value)[:40])
        return float(value)
    if kind is bool:
        check(isinstance(value, bool), f"true or false for {name}", value)
        return value
    check(isinstance(value, list | tuple), f"a list for {name}", value)
    if name in ("values", "groups"):
        check(all(type(v) is int for v in value), f"integers for {name}", value)
    return tuple(value)
