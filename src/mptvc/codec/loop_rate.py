"""How finely a closed loop quantizes each slice: by a constant quality, or as a number of bits allows.

Bits are planned over the frames that an encoder holds, for which it may look ahead. What a slice took says
what the next ones will take, so none but the first of a clip are coded more than once, unless a slice would
use up what others need. Pure arithmetic.
"""

from math import log2

from mptvc.codec.rate import Rate
from mptvc.format.gain import GAIN_OCTAVE, OCTAVE_DB
from mptvc.format.slices import FRONT_BYTES, MAX_SLICE_GAIN

#: Octaves of size in an octave of gain.
_SLOPE = 1.0
#: A slice may take so many times its share of what is left before it is coded again, more coarsely.
_TOLERANCE = 2.0
#: Share of what was planned that is asked for, as slices differ.
_AIM = 0.98
#: How much the last slice's size counts in what is expected of the next.
_NEWEST = 0.5


class SliceRate:
    """Chooses the gains of a video's packets as its slices pass.

    Args:
        rate: What decides.
        levels: Levels of the video.

    Raises:
        ValueError: The rate has bits for another number of levels.
    """

    def __init__(self, rate: Rate, levels: int) -> None:
        if rate.bpp and len(rate.bpp) != levels:
            raise ValueError(f"bits per pixel are {levels} numbers, one a prefix, found {len(rate.bpp)}")
        self._rate, self._levels = rate, levels
        self._pixels = 0
        self._spent = [0.0] * levels  # bytes of every prefix
        self._sizes: list[dict[bool, float]] = [{} for _ in range(levels)]  # bytes a frame at gain 0
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
        for k in range(level, self._levels):
            self._spent[k] += size

    def left(self, level: int) -> float:
        """Bytes that a level may take in the frames that have arrived."""
        allowed = self._rate.bpp[level] * self._pixels / 8 - self._spent[level]
        if level:  # what coarser levels are yet to take
            allowed -= max(0.0, self._rate.bpp[level - 1] * self._pixels / 8 - self._spent[level - 1])
        return allowed

    def note(
        self, level: int, gain: int, sizes: tuple[int, ...], frames: tuple[int, ...], *, opens: bool
    ) -> None:
        """Learn from slices that were coded, the first of which is an opening key if ``opens``."""
        if opens:
            self._sizes[level] = {}  # what came before says little of what starts here
        known = self._sizes[level]
        for index, (size, count) in enumerate(zip(sizes, frames, strict=True)):
            is_opening = opens and index == 0
            found = max(1, size - FRONT_BYTES) / count * 2 ** (-_SLOPE * gain / GAIN_OCTAVE)
            old = known.get(is_opening, found)
            known[is_opening] = old + _NEWEST * (found - old)

    def gain(self, level: int, frames: int, *, opens: bool) -> int:
        """The gain at which the frames that are left take about what a level may take.

        Args:
            level: The level.
            frames: How many are left.
            opens: Whether the first of them is an opening key.
        """
        if not self.is_planned:
            return self._quality
        known = self._sizes[level]
        if not known:
            return 0
        chain = known.get(False, known.get(True, 1.0))
        expected = chain * (frames - opens) + (known.get(True, 8 * chain) if opens else 0.0)
        octaves = log2(max(_AIM * self.left(level), 1.0)) - log2(max(expected, 1.0))
        return clamped(octaves / _SLOPE * GAIN_OCTAVE)

    def most(self, level: int, frames: int, left: int) -> float:
        """Bytes that slices of so many frames may take while so many frames are left, these included."""
        if not self.is_planned:
            return float("inf")
        everything = self.left(level)
        return everything if frames >= left else min(everything, _TOLERANCE * everything * frames / left)


def clamped(gain: float) -> int:
    """The gain of a packet that is nearest, or below."""
    return int(min(max(gain // 1, -MAX_SLICE_GAIN), MAX_SLICE_GAIN))
