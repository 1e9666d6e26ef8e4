"""What a file says of itself: the source video, the layout of its tokens, and where its sections are.

Pure data and arithmetic: no bytes, no files, no tensors. `bitstream` writes and reads it.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from typing import Self

import numpy as np

from mptvc.format.geometry import Geometry, Shots
from mptvc.format.timeline import Timeline

#: Largest numerator and denominator of a rate or time base.
MAX_RATIO = 2**32 - 1


def prefix_name(levels: int) -> str:
    """What the prefix with so many levels is called."""
    return "level 0" if levels == 1 else f"levels 0-{levels - 1}"


def header_ratio(value: Fraction) -> Fraction:
    """The nearest ratio that a header can hold, to a millionth where it is below 4,294; 0 below that."""
    return value.limit_denominator(min(10**6, max(1, int(MAX_RATIO / (value + 1)))))


@dataclass(frozen=True)
class Colour:
    """Colour description codes of ITU-T H.273; 2 means unspecified, range 0 likewise."""

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    range: int = 0


@dataclass(frozen=True)
class VideoInfo:
    """What a file remembers of its source video.

    Attributes:
        width: Pixels.
        height: Pixels.
        num_frames: Number of frames.
        frame_rate: Mean frames a second.
        time_base: Unit of ``time_steps`` and ``last_step`` in seconds.
        time_steps: For each frame the difference of its time stamp to the frame before, the first
            being 0; empty at a constant frame rate. Any integers; kept as an array.
        pixel_aspect: Width of a pixel over its height.
        rotation: Degrees counter-clockwise by which a player turns the picture.
        colour: Colour description.
        last_step: How long the last frame is shown; 0 for as long as a frame is on average.
    """

    width: int
    height: int
    num_frames: int
    frame_rate: Fraction
    time_base: Fraction
    time_steps: Sequence[int] = ()
    pixel_aspect: Fraction = Fraction(1)
    rotation: int = 0
    colour: Colour = Colour()
    last_step: int = 0

    def __post_init__(self) -> None:
        """Keep time steps compactly: of a long video they are millions."""
        object.__setattr__(self, "time_steps", array("I", self.time_steps))

    @cached_property
    def times(self) -> Timeline:
        """When its frames are shown."""
        return Timeline(self.num_frames, self.frame_rate, self.time_base, self.time_steps, self.last_step)

    @property
    def num_pixels(self) -> int:
        """Pixels of all frames."""
        return self.width * self.height * self.num_frames

    def with_times(self, time_base: Fraction, steps: Sequence[int], last: int = 0) -> "VideoInfo":
        """This video with these differences of time stamps, and the mean rate that they give."""
        rate, total = self.frame_rate, sum(steps) + last
        if steps and total:
            rate = header_ratio((len(steps) - (not last)) / (total * time_base)) or rate
        return replace(self, frame_rate=rate, time_base=time_base, time_steps=steps, last_step=last)

    def excerpt(self, first: int, last: int, width: int, height: int) -> "VideoInfo":
        """Its frames from ``first`` to before ``last``, at another size."""
        steps = self.time_steps[first:last]
        return replace(
            self,
            width=width,
            height=height,
            num_frames=last - first,
            time_steps=(0, *steps[1:]) if steps else (),
            last_step=self.last_step if last == self.num_frames else sum(self.time_steps[last : last + 1]),
        )


@dataclass(frozen=True, slots=True)
class Section:
    """Length in bytes and CRC-32 of one level of one clip."""

    length: int
    crc: int


@dataclass(frozen=True, slots=True)
class Side:
    """The side section: sound and subtitles as they were in the source.

    Attributes:
        section: Its length and CRC-32.
        lead_s: Seconds by which its time stamps are later than the video's, so that none is negative.
    """

    section: Section
    lead_s: int


@dataclass(frozen=True)
class Index:
    """Length and CRC-32 of every section, held as compactly as in a file: a header may claim millions.

    Attributes:
        entries: For each level, for each clip: length, CRC-32.
        num_clips: Number of clips.
    """

    entries: "array[int]"
    num_clips: int

    @classmethod
    def of(cls, levels: Sequence[Sequence[Section]]) -> Self:
        """The index of each level's sections."""
        entries = array("I", (n for level in levels for s in level for n in (s.length, s.crc)))
        return cls(entries, len(levels[0]))

    def section(self, level: int, clip: int) -> Section:
        """One section."""
        at = 2 * (level * self.num_clips + clip)
        return Section(self.entries[at], self.entries[at + 1])

    def filled(self, level: int) -> list[int]:
        """Clips whose section of a level holds something, or should: one without a byte has the CRC-32 0."""
        entries = np.frombuffer(self.entries, dtype=np.dtype(f"u{self.entries.itemsize}"))
        of_level = entries.reshape(-1, self.num_clips, 2)[level]
        clips: list[int] = np.flatnonzero(of_level.any(axis=1)).tolist()
        return clips

    def lengths(self, level: int) -> "array[int]":
        """Bytes of each section of a level."""
        return self.entries[2 * level * self.num_clips : 2 * (level + 1) * self.num_clips : 2]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a video's tokens are laid out, and what they need to become pixels again.

    Attributes:
        video: The source video.
        geometry: Sizes and grids in space.
        shots: Shots, slices and clips in time.
        entropy_id: SHA-256 of the weights' entropy-relevant part.
        weights_id: SHA-256 of the whole weights.
        gains: Gain of each level's clips; empty where all are 0.
    """

    video: VideoInfo
    geometry: Geometry
    shots: Shots
    entropy_id: bytes
    weights_id: bytes
    gains: tuple[tuple[int, ...], ...] = ()

    @property
    def num_levels(self) -> int:
        """Number of levels."""
        return self.geometry.num_levels

    def clip_gains(self, clip: int) -> tuple[int, ...]:
        """For each level, how much finer than in training a clip is quantized, in 24ths of an octave."""
        return tuple(level[clip] for level in self.gains) or (0,) * self.num_levels


@dataclass(frozen=True, kw_only=True)
class Header(Layout):
    """Everything in front of the first section of a file.

    Attributes:
        video: The source video.
        geometry: Sizes and grids in space.
        shots: Shots, slices and clips in time.
        entropy_id: SHA-256 of the weights' entropy-relevant part.
        weights_id: SHA-256 of the whole weights.
        gains: Gain of each level's clips; empty where all are 0.
        index: The file's sections.
        side: The side section, None without one.
        size_bytes: Bytes of the header, optional chunks that this release skips included.
    """

    index: Index
    side: Side | None = None
    size_bytes: int = field(default=0, compare=False)

    @property
    def layout(self) -> Layout:
        """The layout alone."""
        return Layout(**{part.name: getattr(self, part.name) for part in fields(Layout)})

    @cached_property
    def _offsets(self) -> "array[int]":
        return array("Q", accumulate(self.index.entries[::2], initial=self.size_bytes + self.side_bytes))

    @property
    def side_bytes(self) -> int:
        """Bytes of the side section."""
        return 0 if self.side is None else self.side.section.length

    def offset(self, level: int, clip: int) -> int:
        """Byte at which a section starts."""
        return self._offsets[level * self.shots.num_clips + clip]

    def prefix_bytes(self, levels: int) -> int:
        """Bytes of the prefix that holds the first ``levels`` levels."""
        return self._offsets[levels * self.shots.num_clips]

    def picture_bytes(self, levels: int) -> int:
        """Bytes of that prefix without the side section."""
        return self.prefix_bytes(levels) - self.side_bytes

    def bpp(self, levels: int) -> float:
        """Bits per source pixel of that prefix, with the header, without the side section."""
        return 8 * self.picture_bytes(levels) / self.video.num_pixels


@dataclass(frozen=True)
class Availability:
    """What a possibly cut file holds.

    Attributes:
        levels: Complete levels.
        clips: Clips of the next level that are complete.
        next_share: Share of the next level's bytes that are there, 0 to 1; 1 if none is missing.
    """

    levels: int
    clips: int
    next_share: float

    @property
    def percent(self) -> int:
        """The share in whole per cent for people, rounded down: below 100 while a byte is missing."""
        if self.next_share == 1:
            return 100
        return min(99, int(100 * self.next_share + 1e-9))  # 0.29 as a float is a little less


def availability(header: Header, size_bytes: int) -> Availability:
    """What the first ``size_bytes`` bytes of a file hold."""
    complete = sum(header.prefix_bytes(k + 1) <= size_bytes for k in range(header.num_levels))
    if complete == header.num_levels:
        return Availability(complete, 0, 1.0)
    start, end = header.offset(complete, 0), header.prefix_bytes(complete + 1)
    clips = sum(
        header.offset(complete, i) + length <= size_bytes
        for i, length in enumerate(header.index.lengths(complete))
    )
    return Availability(complete, clips, max(0, size_bytes - start) / max(1, end - start))
