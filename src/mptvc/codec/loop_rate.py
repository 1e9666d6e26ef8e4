"""How finely a closed loop quantizes each slice: by a constant quality, or as a number of bits allows.

Bits are planned over the frames that an encoder holds, of all shots for which it may look ahead. What a
block takes goes about with a logarithm of its difference from the frame before in quantization steps, so one
gain for all of them is found from these differences; an opening key is told by what is in it. What slices
took says how many bytes that is, and before that what is usual, so none but the first of a clip are coded
more than once, unless a slice would use up what others need. Pure arithmetic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

import numpy as np
from torch import Tensor

from mptvc.codec.rate import Rate
from mptvc.format.gain import GAIN_OCTAVE, OCTAVE_DB
from mptvc.format.slices import FRONT_BYTES, MAX_SLICE_GAIN

#: Bytes of a slice that no gain changes: in front of its packet, the check value, half a word to fill it.
_SLICE_BYTES = FRONT_BYTES + 6
#: The same of a predicted frame: a little for its choices, and at level 0 the motion of the whole picture.
_FRAME_BYTES, _FIRST_FRAME_BYTES = 1, 11
#: Differences of blocks are counted by their size, in parts of an octave above the smallest.
_SMALLEST, _PARTS, _SIZES = 2.0**-4, 4, 48
#: A difference takes bits from about so many steps on, and a power of it does, for frames that are predicted
#: and for opening keys. Fitted to slices of eight training clips at four gains: what they took then differs
#: from what is expected by a factor of 1.9, 1.3 and 1.3 at the three levels (one standard deviation), 1.4,
#: 1.1 and 1.1 for opening keys.
CHANGE, TEXTURE = (0.25, 1.5), (0.3, 1.0)
#: Bytes of a unit of change over those of a unit of texture at each level (at finer ones those of the last),
#: and units for which this counts beside what slices took: where nothing has moved yet, that says nothing.
#: Of 18 training clips at 0.02, 0.15 and 0.6 bits per pixel; they differ by a factor of 1.3.
_CHANGE_SHARES, _USUAL_UNITS = (0.17, 0.3, 0.42), 0.05
#: Bits of a pixel and unit of texture that an opening key takes at each level at gain 0, and octaves of size
#: that an octave of gain takes beyond that: what is expected before anything was coded. Of 21 training clips
#: at 0.02, 0.15 and 0.6 bits per pixel; their bits differ by a factor of 1.35.
_OPENING_BITS, _USUAL_SLOPES = (0.45, 1.2, 0.8), (0.15, 0.15, 0.5)
#: Bounds of such octaves.
_SLOPES = (-1.0, 3.0)
#: What two gains of the same slices say of that counts half if they are the root of this apart, in octaves.
_NOISE = 0.02
#: A slice may take so many times its share of what is left before it is coded again, more coarsely.
_TOLERANCE = 1.5
#: Share of what is left that every slice may take: beside an opening key to come, what others are expected
#: to take may be less than they take at any gain.
_LEAST_SHARE = 0.1
#: Gains below what was planned from which on a slice may take half of what others need.
_FALL = 16
#: Share of what was planned that is asked for, as slices differ.
_AIM = 0.98
#: What slices before the last count in what is expected of the next, each as against the one after it.
_KEPT = 0.85
#: Most by which gains of slices that follow each other differ, downwards and upwards.
_STEPS = (8, 12)


def counted(differences: Tensor) -> np.ndarray:
    """Share of blocks with a mean absolute difference of each size, float64 ``[sizes]``."""
    octaves = np.log2(np.maximum(differences.flatten().cpu().double().numpy(), _SMALLEST) / _SMALLEST)
    sizes = np.minimum((_PARTS * octaves).astype(np.int64), _SIZES - 1)
    return np.bincount(sizes, minlength=_SIZES) / len(sizes)


@dataclass(frozen=True)
class Work:
    """What slices have to say.

    Attributes:
        change: Differences of frames that are predicted from those before, as `counted` at each level and
            summed over frames, ``[levels, sizes]``.
        texture: The same of neighbouring pixels in opening keys.
        frames: Number of frames that are predicted.
        slices: Number of the slices.
    """

    change: np.ndarray
    texture: np.ndarray
    frames: int
    slices: int

    def __add__(self, other: "Work") -> "Work":
        """What both say."""
        change, texture = self.change + other.change, self.texture + other.texture
        return Work(change, texture, self.frames + other.frames, self.slices + other.slices)

    def fixed(self, level: int) -> int:
        """Bytes that a level takes of them at any gain."""
        return _SLICE_BYTES * self.slices + (_FRAME_BYTES if level else _FIRST_FRAME_BYTES) * self.frames


def no_work(levels: int) -> Work:
    """Nothing."""
    return Work(np.zeros((levels, _SIZES)), np.zeros((levels, _SIZES)), 0, 0)


@dataclass(frozen=True)
class Left:
    """What is to be coded, and what was until then; levels of other slices may be coded meanwhile.

    Attributes:
        work: What the next slices and all held after them say.
        pixels: Those of all frames that have arrived.
        spent: Bytes of the coarser levels up to and with the next slices, and beside all slices.
    """

    work: Work
    pixels: int
    spent: float


class SliceRate:
    """Chooses the gains of a video's packets as its slices pass.

    What it keeps of one level depends on no other, so each level may be coded in a thread of its own.

    Args:
        rate: What decides.
        steps: Quantization step of each level at gain 0.

    Raises:
        ValueError: The rate has bits for another number of levels.
    """

    def __init__(self, rate: Rate, steps: Sequence[float]) -> None:
        rate.require_levels(len(steps))
        self._rate = rate
        self._pixels = self._overhead = 0
        self._spent = [0] * len(steps)  # bytes of every level
        self._sizes = [_LevelSizes(level, step) for level, step in enumerate(steps)]
        self._quality = clamped(rate.quality / OCTAVE_DB * GAIN_OCTAVE)

    @property
    def is_planned(self) -> bool:
        """Whether bits are planned."""
        return bool(self._rate.bpp)

    def arrive(self, pixels: int, overhead: int = 0) -> None:
        """A frame of so many pixels is to be coded; the file takes so many bytes beside its slices."""
        if not self._pixels:
            for sizes in self._sizes:
                sizes.expect(pixels)
        self._pixels += pixels
        self._overhead += overhead

    def left(self, work: Work) -> Left:
        """What is left before level 0 of the next slices is coded, ``work`` says all that is held."""
        return Left(work, self._pixels, self._overhead)

    def finer(self, level: int, left: Left) -> Left:
        """What is left before the next level is."""
        return Left(left.work, left.pixels, left.spent + self._spent[level])

    def spend(self, level: int, size: int) -> None:
        """Note the bytes of a packet."""
        self._spent[level] += size

    def _allowed(self, level: int, left: Left) -> float:
        """Bytes that a level may take in the frames that have arrived."""
        bytes_at = [bits * left.pixels / 8 for bits in self._rate.bpp]
        allowed = bytes_at[level] - left.spent - self._spent[level]
        if level:  # what coarser levels are yet to take
            allowed -= max(0.0, bytes_at[level - 1] - left.spent)
        return allowed

    def note(self, level: int, gain: int, sizes: Sequence[int], works: Sequence[Work]) -> None:
        """Learn from slices that were coded.

        Args:
            level: The level.
            gain: Their gain.
            sizes: Bytes of each.
            works: What each says.
        """
        changing = [max(1, size - work.fixed(level)) for size, work in zip(sizes, works, strict=True)]
        self._sizes[level].note(gain, changing, works)

    def gain(self, level: int, left: Left, *, again: bool = False) -> int:
        """The gain at which what is left takes about what a level may take.

        Args:
            level: The level.
            left: All that is left.
            again: Whether the first of them is an opening key that was noted: it may have any gain.
        """
        if not self.is_planned:
            return self._quality
        allowed = _AIM * (self._allowed(level, left) - left.work.fixed(level))
        return self._sizes[level].gain(allowed, left.work, again=again)

    def most(self, level: int, works: Sequence[Work], left: Left, fallen: int = 0) -> float:
        """Bytes that the next slices may take, so that something is left for what comes after them.

        Args:
            level: The level.
            works: The next slices.
            left: These and all that come after them.
            fallen: How far their gain is below what was planned.
        """
        if not self.is_planned:
            return float("inf")
        fixed, share = sum(work.fixed(level) for work in works), self._sizes[level].share(works, left.work)
        most = min(1.0, max(_LEAST_SHARE, _TOLERANCE * share))
        if fallen >= _FALL:
            most = max(most, (1 + share) / 2)
        return fixed + most * (self._allowed(level, left) - left.work.fixed(level))


class _LevelSizes:
    """What slices of one level take."""

    def __init__(self, level: int, step: float) -> None:
        self._level, self._last = level, 0
        self._units = [_units(step, *rule) for rule in (CHANGE, TEXTURE)]
        self._opening = 0.0  # bytes of each unit of texture, at the last gain
        self._chain = self._earlier = (0.0, 0.0)  # bytes of predicted frames, and their units of change
        self._slope = _at(_USUAL_SLOPES, level)  # octaves by which these grow in an octave of gain
        self._works: Sequence[Work] = ()  # of the last slices, and what they took
        self._size = 0

    def expect(self, pixels: int) -> None:
        """Expect what is usual of frames of so many pixels."""
        self._opening = _at(_OPENING_BITS, self._level) * pixels / 8

    def note(self, gain: int, sizes: Sequence[int], works: Sequence[Work]) -> None:
        """Learn from slices; what follows an opening key is learned anew."""
        octaves = (gain - self._last) / GAIN_OCTAVE
        if works is self._works:  # the same once more
            expected = self._expected(sum(works[1:], works[0]))
            grown = expected[gain + MAX_SLICE_GAIN] / expected[self._last + MAX_SLICE_GAIN]
            missed = log2(sum(sizes) / self._size / grown)
            slope = self._slope + missed * octaves / (octaves**2 + _NOISE)
            self._slope = min(max(slope, _SLOPES[0]), _SLOPES[1])
        scale, kept = 2 ** (self._slope * octaves), _KEPT
        taken, changed = self._earlier if works is self._works else self._chain
        self._earlier = self._chain = taken * scale, changed
        self._opening *= scale
        for size, work in zip(sizes, works, strict=True):
            change, texture = (units[gain + MAX_SLICE_GAIN] for units in self._said(work))
            if texture:
                self._opening, kept = size / texture, 0.0
            else:
                self._chain = kept * self._chain[0] + size, kept * self._chain[1] + change
        self._last, self._works, self._size = gain, works, sum(sizes)

    def share(self, works: Sequence[Work], left: Work) -> float:
        """Share of what is left that slices will take, at the gain of the last ones."""
        total, mine = (
            self._expected(work)[self._last + MAX_SLICE_GAIN] for work in (left, sum(works[1:], works[0]))
        )
        return float(mine / total) if total else 1.0

    def gain(self, left: float, work: Work, *, again: bool) -> int:
        """The gain at which so much takes so many bytes."""
        expected = self._expected(work)
        gain = int(np.searchsorted(expected, left, side="right")) - 1 - MAX_SLICE_GAIN
        if self._works and not again:
            gain = min(max(gain, self._last - _STEPS[0]), self._last + _STEPS[1])
        return clamped(gain)

    def _expected(self, work: Work) -> np.ndarray:
        """Bytes at each gain, from the coarsest on."""
        change, texture = self._said(work)
        octaves = (np.arange(-MAX_SLICE_GAIN, MAX_SLICE_GAIN + 1) - self._last) / GAIN_OCTAVE
        usual = self._opening * _at(_CHANGE_SHARES, self._level)
        chain = (self._chain[0] + _USUAL_UNITS * usual) / (self._chain[1] + _USUAL_UNITS)
        expected = (chain * change + self._opening * texture) * 2 ** (self._slope * octaves)
        return np.maximum.accumulate(expected)

    def _said(self, work: Work) -> tuple[np.ndarray, np.ndarray]:
        """Units of change and of texture at each gain."""
        change, texture = self._units
        return change @ work.change[self._level], texture @ work.texture[self._level]


def _units(step: float, least: float, power: float) -> np.ndarray:
    """About the bits of a block whose difference has each size, at each gain, ``[gains, sizes]``."""
    gains = np.arange(-MAX_SLICE_GAIN, MAX_SLICE_GAIN + 1)[:, None]
    differences = _SMALLEST * 2 ** ((np.arange(_SIZES) + 0.5) / _PARTS)
    return np.log2(1 + (differences / (least * step) * 2 ** (gains / GAIN_OCTAVE)) ** power)


def _at(usual: Sequence[float], level: int) -> float:
    """What is usual of a level; of finer ones than are known, that of the last."""
    return usual[min(level, len(usual) - 1)]


def clamped(gain: float) -> int:
    """The gain of a packet that is nearest, or below."""
    return int(min(max(gain // 1, -MAX_SLICE_GAIN), MAX_SLICE_GAIN))
