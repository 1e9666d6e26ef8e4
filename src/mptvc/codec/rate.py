"""How finely an encoder quantizes: by a constant quality, or as a number of bits allows. Pure arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log2

from mptvc.format.gain import GAIN_OCTAVE, MAX_GAIN, OCTAVE_DB

#: Above what any video takes, and small enough to count with.
_MAX_BPP = 1e6
#: Octaves of size in an octave of gain, to start from; measured are 0.9 to 1.2.
_SLOPE = 1.1
#: A size of at least this share of what is allowed ends the search: the next gain would hardly fit.
_NEAR = 0.97
_TRIES = 5


@dataclass(frozen=True)
class Rate:
    """What decides the size of a file.

    Attributes:
        quality: Decibels by which quantization is finer (above 0) or coarser than in training, -6 to 6;
            about the change in PSNR of the full video. Finer only as far as the levels' values reach.
        bpp: Most bits per source pixel of each prefix, growing, one number for each level; none to go by
            ``quality``. All bytes count but sound and the time stamps of uneven frames. A clip may use what
            those before it left and, with prediction, what frames to come are expected to leave, of all shots
            in 256 MiB of them. The limit is kept where the coarsest quantization can keep it, but for a few
            per cent with prediction where a shot ends soon after a clip began.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> import mptvc, numpy as np
        >>> frames = np.random.default_rng(0).integers(0, 255, (8, 64, 96, 3), dtype=np.uint8)
        >>> small, large = (mptvc.load().compress(frames, rate=mptvc.Rate(quality=q)) for q in (-3, 3))
        >>> len(small) < len(large)
        True
    """

    quality: float = 0.0
    bpp: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not -6 <= self.quality <= 6:
            raise ValueError(f"quality is -6 to 6 dB, found {self.quality}")
        if not all(a < b < _MAX_BPP for a, b in zip((0.0, *self.bpp), self.bpp, strict=False)):
            raise ValueError(f"bits per pixel of prefixes are numbers above zero that grow, found {self.bpp}")

    def require_levels(self, levels: int) -> None:
        """Check that a video of so many levels can be coded at this rate.

        Raises:
            ValueError: There are bits for another number of levels.
        """
        if self.bpp and len(self.bpp) != levels:
            raise ValueError(f"bits per pixel are {levels} numbers, one a prefix, found {len(self.bpp)}")


#: Quantization as in training.
DEFAULT_RATE = Rate()


class RateControl:
    """Chooses the gains of a video's sections as its clips pass.

    Args:
        rate: What decides.
        levels: Levels of the video.
        packs: Whether packets are wanted, and not symbols alone.
        wanted: Levels that are wanted; all by default.

    Attributes:
        packs: Whether packets are to be made: always where bits are counted.
        levels: Levels to be coded: all where bits are counted.

    Raises:
        ValueError: The rate has bits for another number of levels.
    """

    def __init__(self, rate: Rate, levels: int, *, packs: bool = True, wanted: int | None = None) -> None:
        rate.require_levels(levels)
        self._rate, self.packs = rate, packs or bool(rate.bpp)
        self.levels = levels if rate.bpp else wanted or levels
        self._pixels = 0
        self._spent = [0] * len(rate.bpp)  # bytes of every prefix

    def start_clip(self, pixels: int, overhead: int) -> None:
        """Go on to a clip of so many source pixels, which takes so many bytes beside its sections."""
        self._pixels += pixels
        self.spend(0, overhead)

    def spend(self, level: int, size: int) -> None:
        """Note the bytes of a section, which all prefixes from its level on hold."""
        for k in range(level, len(self._spent)):
            self._spent[k] += size

    def gain(self, level: int, finest: Callable[[], int], size_of: Callable[[int], int]) -> int:
        """The gain of the next section.

        Args:
            level: Its level.
            finest: Largest gain that the level's values have room for, at least 0.
            size_of: Bytes of the section at a gain; asked a few times, for a number of bits alone.
        """
        if self._rate.bpp:
            most = self._rate.bpp[level] * self._pixels / 8 - self._spent[level]
            return largest_gain(size_of, most, finest())
        gain = round(self._rate.quality / OCTAVE_DB * GAIN_OCTAVE)
        return gain if gain <= 0 else min(gain, finest())


def largest_gain(size_of: Callable[[int], int], most: float, finest: int = MAX_GAIN) -> int:
    """About the largest gain at which a section takes at most ``most`` bytes, the smallest if none is found.

    Args:
        size_of: Bytes at a gain, about exponential in it.
        most: Bytes that are allowed.
        finest: The largest gain to consider, at least 0.
    """
    fits, exceeds, gain, slope = -MAX_GAIN, finest + 1, 0, _SLOPE
    known: tuple[int, float] | None = None
    for _ in range(_TRIES):
        size = size_of(gain)
        if size <= most:
            fits = gain
        else:
            exceeds = gain
        if _NEAR * most <= size <= most or exceeds - fits <= 1:
            break
        octaves = log2(max(size, 1))
        if known is not None:
            slope = max(0.3, GAIN_OCTAVE * (octaves - known[1]) / (gain - known[0]))
        known = (gain, octaves)
        wanted = gain + GAIN_OCTAVE * (log2(max(most, 1)) - octaves) / slope
        gain = min(max(int(wanted // 1), fits + 1), exceeds - 1)
    return fits
