"""How finely a closed loop quantizes each slice: by a constant quality, or as a number of bits allows.

Bits are planned over the frames that an encoder holds, for which it may look ahead, by how much each differs
from the one before. What a slice took says what the next ones will take, so none but the first of a clip are
coded more than once, unless a slice would use up what others need. Pure arithmetic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from mptvc.codec.rate import Rate
from mptvc.format.gain import GAIN_OCTAVE, OCTAVE_DB
from mptvc.format.slices import FRONT_BYTES, MAX_SLICE_GAIN

#: Bytes of a slice that no gain changes: in front of its packet, the check value, half a word to fill it.
_SLICE_BYTES = FRONT_BYTES + 6
#: The same of a predicted frame: a little for its choices, and at level 0 the motion of the whole picture.
_FRAME_BYTES, _FIRST_FRAME_BYTES = 1, 11
#: Octaves of size in an octave of gain to start from, and the bounds of what is learned.
_SLOPE, _SLOPES = 1.2, (0.6, 2.0)
#: A slice may take so many times its share of what is left before it is coded again, more coarsely.
_TOLERANCE = 1.5
#: Share of what was planned that is asked for, as slices differ.
_AIM = 0.98
#: How much the last slice's size counts in what is expected of the next.
_NEWEST = 0.5
#: Most by which gains of slices that follow each other differ, downwards and upwards.
_STEPS = (8, 6)


@dataclass(frozen=True)
class Work:
    """What slices have to say.

    Attributes:
        change: How much their frames differ from those before.
        frames: Frames that are predicted.
        slices: Number of the slices.
    """

    change: float
    frames: int
    slices: int

    def fixed(self, level: int) -> int:
        """Bytes that a level takes of them at any gain."""
        return _SLICE_BYTES * self.slices + (_FRAME_BYTES if level else _FIRST_FRAME_BYTES) * self.frames


class SliceRate:
    """Chooses the gains of a video's packets as its slices pass.

    Args:
        rate: What decides.
        levels: Levels of the video.

    Raises:
        ValueError: The rate has bits for another number of levels.
    """

    def __init__(self, rate: Rate, levels: int) -> None:
        rate.require_levels(levels)
        self._rate = rate
        self._pixels = 0
        self._spent = [0.0] * levels  # bytes of every prefix
        self._sizes = [_Sizes() for _ in range(levels)]
        self._quality = clamped(rate.quality / OCTAVE_DB * GAIN_OCTAVE)

    @property
    def is_planned(self) -> bool:
        """Whether bits are planned, so that to look ahead is of use."""
        return bool(self._rate.bpp)

    def arrive(self, pixels: int, overhead: int = 0) -> None:
        """A frame of so many pixels is to be coded; the file takes so many bytes beside its slices."""
        self._pixels += pixels
        self.spend(0, overhead)

    def spend(self, level: int, size: int) -> None:
        """Note the bytes of a packet, which all prefixes from its level on hold."""
        for k in range(level, len(self._spent)):
            self._spent[k] += size

    def left(self, level: int) -> float:
        """Bytes that a level may take in the frames that have arrived."""
        allowed = self._rate.bpp[level] * self._pixels / 8 - self._spent[level]
        if level:  # what coarser levels are yet to take
            allowed -= max(0.0, self._rate.bpp[level - 1] * self._pixels / 8 - self._spent[level - 1])
        return allowed

    def note(
        self, level: int, gain: int, sizes: Sequence[int], works: Sequence[Work], *, opens: bool
    ) -> None:
        """Learn from slices that were coded.

        Args:
            level: The level.
            gain: Their gain.
            sizes: Bytes of each.
            works: What each says.
            opens: Whether the first is an opening key.
        """
        changing = [max(1, size - work.fixed(level)) for size, work in zip(sizes, works, strict=True)]
        self._sizes[level].note(gain, changing, [work.change for work in works], opens=opens)

    def gain(self, level: int, left: Work, *, opens: bool) -> int:
        """The gain at which what is left takes about what a level may take.

        Args:
            level: The level.
            left: All slices that are left.
            opens: Whether the first of them is an opening key.
        """
        if not self.is_planned:
            return self._quality
        return self._sizes[level].gain(
            _AIM * (self.left(level) - left.fixed(level)), left.change, opens=opens
        )

    def most(self, level: int, works: Sequence[Work], left: Work, *, opens: bool) -> float:
        """Bytes that the next slices may take, so that something is left for what comes after them.

        Args:
            level: The level.
            works: The next slices.
            left: These and all that come after them.
            opens: Whether the first is an opening key.
        """
        if not self.is_planned:
            return float("inf")
        fixed, change = sum(work.fixed(level) for work in works), sum(work.change for work in works)
        share = 1.0 if opens or change == left.change else min(1.0, _TOLERANCE * change / left.change)
        return fixed + share * (self.left(level) - left.fixed(level))


class _Sizes:
    """What slices of one level take."""

    def __init__(self) -> None:
        self._opening = self._chain = 0.0  # bytes at gain 0, of a chain for each unit of change
        self._slope, self._last = _SLOPE, 0

    def note(self, gain: int, sizes: Sequence[int], changes: Sequence[float], *, opens: bool) -> None:
        """Learn from slices."""
        if opens and self._opening and abs(gain - self._last) > 1:
            before = self._opening * 2 ** (self._slope * self._last / GAIN_OCTAVE)
            slope = log2(sizes[0] / before) / (gain - self._last) * GAIN_OCTAVE
            self._slope = min(max(slope, _SLOPES[0]), _SLOPES[1])
        scale = 2 ** (-self._slope * gain / GAIN_OCTAVE)
        if opens:
            self._opening, sizes, changes = sizes[0] * scale, sizes[1:], changes[1:]
            self._chain = 0.0
        for size, change in zip(sizes, changes, strict=True):
            found = size * scale / max(change, 1e-6)
            self._chain += (_NEWEST if self._chain else 1.0) * (found - self._chain)
        self._last = gain

    def gain(self, left: float, change: float, *, opens: bool) -> int:
        """The gain at which so much change takes so many bytes."""
        expected = self._chain * change + (self._opening if opens else 0.0)
        if not expected:
            return self._last
        gain = (log2(max(left, 1.0)) - log2(expected)) / self._slope * GAIN_OCTAVE
        if not opens:
            gain = min(max(gain, self._last - _STEPS[0]), self._last + _STEPS[1])
        return clamped(gain)


def clamped(gain: float) -> int:
    """The gain of a packet that is nearest, or below."""
    return int(min(max(gain // 1, -MAX_SLICE_GAIN), MAX_SLICE_GAIN))
