"""When the frames of a video are shown."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from math import ceil, floor

#: Seconds by which a time given as a float may miss the time stamp that it means.
TIME_TOLERANCE = Fraction(1, 10**6)


@dataclass(frozen=True)
class Timeline:
    """The times of a video's frames in seconds from the first: ``times[i]`` is that of frame i.

    Attributes:
        num_frames: Number of frames.
        frame_rate: Mean frames a second.
        time_base: Unit of ``steps`` in seconds.
        steps: For each frame the difference of its time stamp to the frame before, the first being 0; empty
            at a constant frame rate.
        last: Units of ``time_base`` that the last frame is shown; 0 for as long as frames are on average.
    """

    num_frames: int
    frame_rate: Fraction
    time_base: Fraction
    steps: Sequence[int]
    last: int = 0

    @cached_property
    def ticks(self) -> "array[int]":
        """Time stamps in units of the time base; empty at a constant frame rate."""
        return array("Q", accumulate(self.steps))

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, frame: int) -> Fraction:
        if not 0 <= frame < self.num_frames:
            raise IndexError(f"frame {frame} of {self.num_frames}")
        return self.ticks[frame] * self.time_base if self.steps else frame / self.frame_rate

    @property
    def end(self) -> Fraction:
        """When the last frame ends."""
        shown = self.last * self.time_base if self.last else 1 / self.frame_rate
        return self[self.num_frames - 1] + shown

    def at(self, time: float | Fraction) -> int:
        """The frame that is shown at a time.

        Raises:
            IndexError: The time is before the first frame or not before the end of the last.
        """
        if not 0 <= time < self.end:
            raise IndexError(f"no frame at {float(time)} s, the video ends at {float(self.end):.3f} s")
        # A float may be just below the time stamp that it stands for.
        exact = Fraction(time) + (TIME_TOLERANCE if isinstance(time, float) else 0)
        if self.steps:
            index = bisect_right(self.ticks, exact / self.time_base) - 1
        else:
            index = floor(exact * self.frame_rate)
        return min(index, self.num_frames - 1)

    def from_time(self, time: float) -> int:
        """The first frame that is shown at a time or later; the number of frames if there is none."""
        if time == float("inf"):
            return self.num_frames
        exact = max(Fraction(0), Fraction(time) - TIME_TOLERANCE)
        if self.steps:
            return bisect_left(self.ticks, exact / self.time_base)
        return min(ceil(exact * self.frame_rate), self.num_frames)
