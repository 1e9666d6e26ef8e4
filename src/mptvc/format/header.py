"""What a file says of itself, and the geometry that follows from it.

Pure data and arithmetic: no bytes, no files, no tensors. `bitstream` writes and reads it.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import accumulate

from mptvc.format.geometry import TileGrid

#: Bytes of a header's fixed fields.
FIXED_BYTES = 132
#: Bytes of the chunk that describes the side section.
SIDE_BYTES = 12


#: Largest numerator and denominator of a rate or time base.
MAX_RATIO = 2**32 - 1
#: Seconds by which a time given as a float may miss the time stamp that it means.
TIME_TOLERANCE = 1e-6


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
        frames: Number of frames.
        frame_rate: Mean frames a second.
        time_base: Unit of ``time_steps`` in seconds.
        time_steps: For each frame the difference of its time stamp to the frame before, the first
            being 0; empty at a constant frame rate.
        pixel_aspect: Width of a pixel over its height.
        rotation: Degrees counter-clockwise by which a player turns the picture.
        colour: Colour description.
    """

    width: int
    height: int
    frames: int
    frame_rate: Fraction
    time_base: Fraction
    time_steps: tuple[int, ...] = ()
    pixel_aspect: Fraction = Fraction(1)
    rotation: int = 0
    colour: Colour = Colour()

    def with_times(self, time_base: Fraction, steps: tuple[int, ...]) -> "VideoInfo":
        """This video with these differences of time stamps, and the mean rate that they give."""
        rate = self.frame_rate
        if sum(steps):
            rate = header_ratio((len(steps) - 1) / (sum(steps) * time_base)) or rate
        return replace(self, frame_rate=rate, time_base=time_base, time_steps=steps)

    def time_of(self, frame: int) -> Fraction:
        """When a frame is shown, in seconds from the first."""
        if not self.time_steps:
            return frame / self.frame_rate
        return sum(self.time_steps[: frame + 1]) * self.time_base


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
class ClipPlan:
    """One clip.

    Attributes:
        scenes: Shot number of each temporal slice.
        frames: Source frame of each coded frame; repeats are padding.
    """

    scenes: tuple[int, ...]
    frames: tuple[int, ...]

    @property
    def kept(self) -> list[int]:
        """Positions of the coded frames that are no padding."""
        previous = (-1, *self.frames)
        return [i for i, frame in enumerate(self.frames) if frame != previous[i]]


@dataclass(frozen=True)
class Header:
    """Everything in front of the first section.

    Attributes:
        video: The source video.
        shots: Frames of each shot.
        patch_frames: Frames in a patch.
        patch_size: Pixels along a patch's side.
        clip_frames: Coded frames in a clip.
        tiles: Tile grid of each level.
        entropy_id: SHA-256 of the weights' entropy-relevant part.
        weights_id: SHA-256 of the whole weights.
        index: Sections of each level, by clip.
        side: The side section, None without one.
        gains: Gain of each section, like ``index``; empty where all are 0.
        extra_bytes: Bytes of optional chunks that this release skips.
    """

    video: VideoInfo
    shots: tuple[int, ...]
    patch_frames: int
    patch_size: int
    clip_frames: int
    tiles: tuple[TileGrid, ...]
    entropy_id: bytes
    weights_id: bytes
    index: tuple[tuple[Section, ...], ...]
    side: Side | None = None
    gains: tuple[tuple[int, ...], ...] = ()
    extra_bytes: int = 0

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.tiles)

    @cached_property
    def _first_slices(self) -> list[int]:
        """Temporal slice at which each shot starts, and the number of slices at the end."""
        return [0, *accumulate(-(-n // self.patch_frames) for n in self.shots)]

    @cached_property
    def _first_frames(self) -> list[int]:
        return [0, *accumulate(self.shots)]

    @property
    def slices(self) -> int:
        """Temporal slices of the whole video."""
        return self._first_slices[-1]

    @property
    def clip_slices(self) -> int:
        """Temporal slices in a clip; the last clip may have fewer."""
        return self.clip_frames // self.patch_frames

    @property
    def clips(self) -> int:
        """Number of clips."""
        return -(-self.slices // self.clip_slices)

    def plan(self, clip: int) -> ClipPlan:
        """Shots and source frames of one clip."""
        per_clip = self.clip_slices
        scenes, frames = [], []
        for index in range(clip * per_clip, min((clip + 1) * per_clip, self.slices)):
            shot = bisect_right(self._first_slices, index) - 1
            scenes.append(shot)
            first = (index - self._first_slices[shot]) * self.patch_frames
            last = self.shots[shot] - 1
            frames += [self._first_frames[shot] + min(first + i, last) for i in range(self.patch_frames)]
        return ClipPlan(tuple(scenes), tuple(frames))

    def clip_at(self, frame: int) -> int:
        """The clip that holds a source frame."""
        shot = bisect_right(self._first_frames, frame) - 1
        slice_ = self._first_slices[shot] + (frame - self._first_frames[shot]) // self.patch_frames
        return slice_ * self.patch_frames // self.clip_frames

    def grid(self, level: int) -> tuple[int, int]:
        """Height and width of a level's token grid."""
        factor = 2 ** (self.levels - 1 - level)
        block = self.patch_size * 2 ** (self.levels - 1)
        height, width = (
            -(-side // block) * block // factor // self.patch_size
            for side in (self.video.height, self.video.width)
        )
        return height, width

    def gain(self, level: int, clip: int) -> int:
        """How much finer than in training a section is quantized, in 24ths of an octave."""
        return self.gains[level][clip] if self.gains else 0

    @property
    def size_bytes(self) -> int:
        """Bytes of the header."""
        chunks = [4 * len(self.shots), 6 * self.levels, 8 * self.levels * self.clips]
        if self.side is not None:
            chunks.append(SIDE_BYTES)
        if self.gains:
            chunks.append(self.levels * self.clips)
        if self.video.time_steps:
            chunks.append(4 * self.video.frames)
        return FIXED_BYTES + sum(8 + size for size in chunks) + 4 + self.extra_bytes

    def header_share(self, clip: int, shots: int) -> int:
        """Bytes of the header for a clip in which so many shots start; what is for all counts for the first.

        Without sound and time stamps.
        """
        mine = (8 + 1) * self.levels + 4 * shots  # entries of INDX, GAIN and SHOT
        return mine if clip else FIXED_BYTES + 4 * 8 + 6 * self.levels + 4 + mine

    @cached_property
    def _offsets(self) -> list[int]:
        lengths = [section.length for level in self.index for section in level]
        side = 0 if self.side is None else self.side.section.length
        return list(accumulate(lengths, initial=self.size_bytes + side))

    def offset(self, level: int, clip: int) -> int:
        """Byte at which a section starts."""
        return self._offsets[level * self.clips + clip]

    def prefix_bytes(self, levels: int) -> int:
        """Bytes of the prefix that holds the first ``levels`` levels."""
        return self._offsets[levels * self.clips]

    def picture_bytes(self, levels: int) -> int:
        """Bytes of that prefix without the side section."""
        return self.prefix_bytes(levels) - (0 if self.side is None else self.side.section.length)


def gains_of(gains: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """A header's ``gains`` from those of each level's sections."""
    return tuple(map(tuple, gains)) if any(map(any, gains)) else ()


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
    complete = sum(header.prefix_bytes(k + 1) <= size_bytes for k in range(header.levels))
    if complete == header.levels:
        return Availability(complete, 0, 1.0)
    start, end = (
        header.prefix_bytes(complete) if complete else header.size_bytes,
        header.prefix_bytes(complete + 1),
    )
    clips = sum(
        header.offset(complete, i) + section.length <= size_bytes
        for i, section in enumerate(header.index[complete])
    )
    return Availability(complete, clips, max(0, size_bytes - start) / (end - start))
