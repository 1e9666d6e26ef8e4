"""Where tokens are: sizes, grids and tiles of pictures in space; shots, slices and clips in time.

Pure data and arithmetic: no bytes, no files, no tensors.
"""

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
class Clip:
    """One clip.

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
class Shots:
    """The frames of a video, in shots, slices and clips.

    Each shot is padded to whole slices by repeating its last frame; the slices of all shots, one after the
    other, are cut into clips.

    Attributes:
        lengths: Frames of each shot.
        patch_frames: Coded frames of a slice.
        clip_frames: Coded frames of a clip, a multiple of ``patch_frames``; the last clip may have fewer.
    """

    lengths: tuple[int, ...]
    patch_frames: int
    clip_frames: int

    @cached_property
    def num_frames(self) -> int:
        """Frames of the video."""
        return sum(self.lengths)

    @cached_property
    def _first_slices(self) -> "array[int]":
        """Slice at which each shot starts, and the number of slices at the end."""
        return array("Q", accumulate((-(-n // self.patch_frames) for n in self.lengths), initial=0))

    @cached_property
    def _first_frames(self) -> "array[int]":
        return array("Q", accumulate(self.lengths, initial=0))

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

    def clip_at(self, frame: int) -> int:
        """The clip that holds a source frame."""
        shot = bisect_right(self._first_frames, frame) - 1
        slice_ = self._first_slices[shot] + (frame - self._first_frames[shot]) // self.patch_frames
        return slice_ // self.clip_slices
