"""Where tokens are: sizes, grids and tiles of pictures in space; shots, slices and clips in time.

Pure data and arithmetic: no bytes, no files, no tensors.
"""

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True)
class TileGrid:
    """How a level's token grid is cut into tiles; recorded in the file.

    Attributes:
        rows: Tiles from top to bottom.
        columns: Tiles from left to right.
        margin: Tokens by which a tile reaches over its core to each side.
    """

    rows: int
    columns: int
    margin: int


def token_grid(width: int, height: int, patch_size: int, num_levels: int, level: int) -> tuple[int, int]:
    """Height and width of a level's token grid.

    A token of level k of K spans ``patch_size * 2^(K-1-k)`` source pixels; the source is extended to whole
    tokens of level 0.
    """
    coarsest = patch_size << (num_levels - 1)
    finer = 1 << level
    return -(-height // coarsest) * finer, -(-width // coarsest) * finer


@dataclass(frozen=True)
class Geometry:
    """The pictures of a video and their token grids.

    Attributes:
        width: Of the source, in pixels.
        height: Of the source, in pixels.
        patch_size: Source pixels along a token of the finest level.
        tiles: Tile grid of each level.
    """

    width: int
    height: int
    patch_size: int
    tiles: tuple[TileGrid, ...]

    @property
    def num_levels(self) -> int:
        """Number of levels."""
        return len(self.tiles)

    def grid(self, level: int) -> tuple[int, int]:
        """Height and width of a level's token grid."""
        return token_grid(self.width, self.height, self.patch_size, self.num_levels, level)


@dataclass(frozen=True)
class Shots(ABC):
    """The frames of a video, in shots, slices and clips.

    Attributes:
        lengths: Frames of each shot.
        clip_frames: Most coded frames of a clip.
    """

    lengths: tuple[int, ...]
    clip_frames: int

    @cached_property
    def num_frames(self) -> int:
        """Frames of the video."""
        return sum(self.lengths)

    @cached_property
    def _first_frames(self) -> "array[int]":
        return array("Q", accumulate(self.lengths, initial=0))

    @property
    @abstractmethod
    def slice_frames(self) -> int:
        """Most frames of a slice."""

    @property
    @abstractmethod
    def num_slices(self) -> int:
        """Temporal slices of the whole video."""

    @property
    @abstractmethod
    def num_clips(self) -> int:
        """Number of clips."""

    @abstractmethod
    def frames(self, clip: int) -> range:
        """The source frames of one clip."""

    @abstractmethod
    def clip_at(self, frame: int) -> int:
        """The clip that holds a source frame."""


@dataclass(frozen=True)
class Clip:
    """One clip of patches.

    Attributes:
        shots: Shot number of each temporal slice.
        frames: Source frame of each coded frame; repeats are padding.
    """

    shots: tuple[int, ...]
    frames: tuple[int, ...]

    @property
    def kept(self) -> list[int]:
        """Positions of the coded frames that are no padding."""
        previous = (-1, *self.frames)
        return [i for i, frame in enumerate(self.frames) if frame != previous[i]]


@dataclass(frozen=True)
class PatchShots(Shots):
    """Shots of patches, without prediction from other frames.

    Each shot is padded to whole slices by repeating its last frame; the slices of all shots, one after the
    other, are cut into clips.

    Attributes:
        lengths: Frames of each shot.
        clip_frames: Coded frames of a clip, a multiple of ``patch_frames``; the last clip may have fewer.
        patch_frames: Coded frames of a slice.
    """

    patch_frames: int

    @property
    def slice_frames(self) -> int:
        """Most frames of a slice."""
        return self.patch_frames

    @cached_property
    def _first_slices(self) -> "array[int]":
        """Slice at which each shot starts, and the number of slices at the end."""
        return array("Q", accumulate((-(-n // self.patch_frames) for n in self.lengths), initial=0))

    @property
    def num_slices(self) -> int:
        """Temporal slices of the whole video."""
        return self._first_slices[-1]

    @property
    def clip_slices(self) -> int:
        """Temporal slices of a clip; the last clip may have fewer."""
        return self.clip_frames // self.patch_frames

    @property
    def num_clips(self) -> int:
        """Number of clips."""
        return -(-self.num_slices // self.clip_slices)

    def slices(self, clip: int) -> range:
        """The slices of one clip."""
        return range(clip * self.clip_slices, min((clip + 1) * self.clip_slices, self.num_slices))

    def clip(self, index: int) -> Clip:
        """Shots and source frames of one clip."""
        shots: list[int] = []
        frames: list[int] = []
        for slice_ in self.slices(index):
            shot = bisect_right(self._first_slices, slice_) - 1
            shots.append(shot)
            first = (slice_ - self._first_slices[shot]) * self.patch_frames
            last = self.lengths[shot] - 1
            frames += [self._first_frames[shot] + min(first + i, last) for i in range(self.patch_frames)]
        return Clip(tuple(shots), tuple(frames))

    def frames(self, clip: int) -> range:
        """The source frames of one clip."""
        slices = self.slices(clip)
        return range(self._first_frame(slices.start), self._first_frame(slices.stop))

    def _first_frame(self, slice_: int) -> int:
        """The source frame at which a slice starts, or the number of frames at the end."""
        if slice_ == self.num_slices:
            return self.num_frames
        shot = bisect_right(self._first_slices, slice_) - 1
        return self._first_frames[shot] + (slice_ - self._first_slices[shot]) * self.patch_frames

    def clip_at(self, frame: int) -> int:
        """The clip that holds a source frame."""
        shot = bisect_right(self._first_frames, frame) - 1
        slice_ = self._first_slices[shot] + (frame - self._first_frames[shot]) // self.patch_frames
        return slice_ // self.clip_slices


#: Frames of a slice in a closed loop.
LOOP_SLICE = 4


@dataclass(frozen=True)
class LoopShots(Shots):
    """Shots in a closed loop: each is cut into clips, and nothing is repeated.

    A clip's first slice is its opening key alone; the next ones have ``LOOP_SLICE`` frames, the last one may
    have fewer.
    """

    @property
    def slice_frames(self) -> int:
        """Most frames of a slice."""
        return LOOP_SLICE

    @cached_property
    def _first_clips(self) -> "array[int]":
        """Clip at which each shot starts, and the number of clips at the end."""
        return array("Q", accumulate((-(-n // self.clip_frames) for n in self.lengths), initial=0))

    @cached_property
    def num_slices(self) -> int:
        """Temporal slices of the whole video."""
        whole = len(self._slices_of(self.clip_frames))
        rest = (len(self._slices_of(n % self.clip_frames)) for n in self.lengths if n % self.clip_frames)
        return whole * sum(n // self.clip_frames for n in self.lengths) + sum(rest)

    @cached_property
    def _first_slices(self) -> "array[int]":
        """Slice at which each clip starts, and the number of slices at the end."""
        counts = (len(self.slices(clip)) for clip in range(self.num_clips))
        return array("Q", accumulate(counts, initial=0))

    @property
    def num_clips(self) -> int:
        """Number of clips."""
        return self._first_clips[-1]

    def frames(self, clip: int) -> range:
        """The source frames of one clip."""
        shot = bisect_right(self._first_clips, clip) - 1
        first = self._first_frames[shot] + (clip - self._first_clips[shot]) * self.clip_frames
        return range(first, min(first + self.clip_frames, self._first_frames[shot + 1]))

    def clip_at(self, frame: int) -> int:
        """The clip that holds a source frame."""
        shot = bisect_right(self._first_frames, frame) - 1
        return self._first_clips[shot] + (frame - self._first_frames[shot]) // self.clip_frames

    def slices(self, clip: int) -> list[range]:
        """The frames of each slice of a clip, counted from the clip's first."""
        return self._slices_of(len(self.frames(clip)))

    def first_slice(self, clip: int) -> int:
        """The number of a clip's first slice in the video."""
        return self._first_slices[clip]

    @staticmethod
    def _slices_of(count: int) -> list[range]:
        later = (range(at, min(at + LOOP_SLICE, count)) for at in range(1, count, LOOP_SLICE))
        return [range(1), *later]
