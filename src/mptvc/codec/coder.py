"""What both forms of the codec have in common: weights with what is needed to code one clip with them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from mptvc.errors import FormatError
from mptvc.format.geometry import Geometry, Shots
from mptvc.format.header import Layout, VideoInfo
from mptvc.model.config import PyramidConfig


@dataclass(frozen=True)
class CodedSection:
    """One level of one clip.

    Attributes:
        data: The section's bytes.
        gain: How much finer than in training it is quantized; 0 where every slice has a gain of its own.
    """

    data: bytes
    gain: int


class FrameKind(StrEnum):
    """What a frame is predicted from."""

    OPENING = "opening key"  #: from no other frame
    KEY = "key"  #: from keys before it
    BETWEEN = "between"  #: from frames on both sides


@dataclass(frozen=True)
class Shown:
    """How a frame is predicted at a level.

    Attributes:
        kind: From what.
        motion: Where its blocks are found, float32 ``[2, h, w]`` (y, x) in pixels of the level's picture; NaN
            where a block is predicted from the coarser level alone.
        blends: What blocks are made of, a `Blend` each, int64 ``[h, w]``.
        coded: Tokens where prediction left something, bool ``[h, w]``.
    """

    kind: FrameKind
    motion: np.ndarray
    blends: np.ndarray
    coded: np.ndarray


class Piece(ABC):
    """Some of a clip's frames, decoded.

    Attributes:
        num_levels: Levels that are there.
        num_frames: Frames of the piece.
    """

    num_levels: int
    num_frames: int

    @abstractmethod
    def frames(self, levels: int, *, source_size: bool = True, out: np.ndarray | None = None) -> np.ndarray:
        """Frames of a prefix, uint8 ``[T, H, W, 3]``.

        Args:
            levels: Levels of the prefix, at least 1, at most those that are there.
            source_size: Enlarge to the source's size; otherwise the last level's own size.
            out: Where they are put; by default a new array.
        """

    @abstractmethod
    def symbols(self, level: int) -> Iterator[Tensor]:
        """All integers of a level, in the order in which they are walked through, of any shapes."""

    @abstractmethod
    def bits(self, level: int, frame: int) -> np.ndarray:
        """Bits that symbols take in every token that shows a frame, float32 ``[h, w]``.

        Args:
            level: The level.
            frame: Which frame of the piece.
        """

    @abstractmethod
    def arrays(self, level: int) -> dict[str, Tensor]:
        """Tokens of a level and what belongs to them, by name, on the CPU; their first axis is time."""

    def shown(self, level: int, frame: int) -> "Shown | None":
        """How a frame of the piece is predicted at a level; None for weights without prediction."""
        return None

    def side_bits(self, level: int, frame: int) -> float:
        """Bits that say how a frame of the piece is predicted."""
        return 0.0


#: Told of a level and of what does not fit its packets; it may raise.
Damaged = Callable[[int, ValueError], None]


class ClipCoder(ABC):
    """Weights with what is needed to code one clip with them.

    Args:
        config: Of the weights.
        device: Where they are.
        entropy_id: SHA-256 of the weights' entropy-relevant part.
        weights_id: SHA-256 of the whole weights.
        dtype: Type of the networks' matrix products; symbols are exact in any case.
    """

    def __init__(
        self,
        config: PyramidConfig,
        device: torch.device,
        *,
        entropy_id: bytes,
        weights_id: bytes,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.pyramid, self.device, self.dtype = config, device, dtype
        self.entropy_id, self.weights_id = entropy_id, weights_id

    @property
    def num_levels(self) -> int:
        """Number of levels."""
        return len(self.pyramid.levels)

    @abstractmethod
    def geometry(self, width: int, height: int) -> Geometry:
        """Grids and tiles of a video of so many pixels."""

    @abstractmethod
    def shots(self, lengths: tuple[int, ...]) -> Shots:
        """Slices and clips of shots of so many frames."""

    @abstractmethod
    def require_shots(self, shots: Shots) -> None:
        """Check that slices and clips are such as these weights code.

        Raises:
            FormatError: They are not.
        """

    @abstractmethod
    def pieces(
        self, sections: Sequence[bytes], layout: Layout, clip: int, damaged: Damaged
    ) -> Iterator[Piece]:
        """Decode a clip piece by piece.

        Args:
            sections: Of the clip's first levels.
            layout: Of the video.
            clip: The clip.
            damaged: Told where a packet does not fit; if it returns, finer levels are left out from there on,
                and where not even level 0 is there, the clip ends.

        Raises:
            MptError: The memory is too small.
        """

    def layout(
        self, video: VideoInfo, lengths: tuple[int, ...], gains: Sequence[Sequence[int]] = ()
    ) -> Layout:
        """The layout of a video.

        Args:
            video: The video.
            lengths: Frames of each of its shots.
            gains: For each clip the gain of every level; none where all are 0.
        """
        return Layout(
            video=video,
            geometry=self.geometry(video.width, video.height),
            shots=self.shots(lengths),
            entropy_id=self.entropy_id,
            weights_id=self.weights_id,
            gains=tuple(zip(*gains, strict=True)) if any(map(any, gains)) else (),
        )

    def picture_size(self, geometry: Geometry, levels: int) -> tuple[int, int]:
        """Height and width of the picture of the last of ``levels`` levels."""
        shrink = self.pyramid.shrink(levels - 1)
        return -(-geometry.height // shrink), -(-geometry.width // shrink)

    def require_layout(self, layout: Layout) -> None:
        """Check that a layout which names these weights has their geometry.

        Raises:
            FormatError: It has not.
        """
        mine = self.num_levels, self.pyramid.patch_size
        require_geometry((layout.num_levels, layout.geometry.patch_size) == mine)
        self.require_shots(layout.shots)


def require_geometry(fits: bool) -> None:
    """Raise a FormatError unless a header has the geometry of the weights that it names."""
    if not fits:
        raise FormatError("the header's geometry is not that of the weights it names: the file is forged")


def joined_frames(pieces: Iterable[Piece], layout: Layout) -> np.ndarray:
    """The frames uint8 ``[T, H, W, 3]`` of all pieces of a video, with the levels that these have."""
    geometry = layout.geometry
    frames, done = np.empty((layout.shots.num_frames, geometry.height, geometry.width, 3), np.uint8), 0
    for piece in pieces:
        piece.frames(piece.num_levels, out=frames[done : done + piece.num_frames])
        done += piece.num_frames
    return frames[:done]
