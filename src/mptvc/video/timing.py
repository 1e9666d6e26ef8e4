"""Time stamps of frames as a header keeps them: none at a constant rate, otherwise their differences."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise

from mptvc.format.header import MAX_RATIO, VideoInfo

#: Periods of a constant rate from which a last frame is worth a word of its own.
_LONG = Fraction(3, 2)
#: Periods by which a frame may be early: about as far as frames are coded in another order.
_MOST_BACK = 4


def timed(video: VideoInfo, stamps: Sequence[int | None], last: int) -> VideoInfo:
    """A video with the time stamps of its frames; containers do not state a mean rate reliably.

    Args:
        video: What its container says, with the unit of the stamps.
        stamps: When each frame is shown; one that is unknown stands for a constant rate.
        last: How long the last one is shown; 0 where that is unknown.
    """
    period = 1 / (video.frame_rate * video.time_base)
    steps = _steps(stamps, period)
    if not steps and last <= _LONG * period:
        last = 0
    return video.with_times(video.time_base, steps, min(last, MAX_RATIO))


def _steps(stamps: Sequence[int | None], period: Fraction) -> tuple[int, ...]:
    """Differences between time stamps, or nothing if they are those of a constant rate.

    One that goes back a little is shown with the one before, as FFmpeg has it; where all starts again, none
    is believed.
    """
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) < len(stamps):
        return ()
    rounding = min(Fraction(1), period / 2)
    if all(abs(stamp - known[0] - i * period) <= rounding for i, stamp in enumerate(known)):
        return ()
    rising = list(accumulate(known, max))
    if any(high - stamp > _MOST_BACK * period for high, stamp in zip(rising, known, strict=True)):
        return ()
    steps = [b - a for a, b in pairwise(rising)]
    return (0, *(min(step, MAX_RATIO) for step in steps))
