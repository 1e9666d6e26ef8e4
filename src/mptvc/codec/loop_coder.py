"""Weights with a closed loop: clips of slices to symbols and frames."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.coder import ClipCoder, Damaged, Piece, require_geometry
from mptvc.codec.loop import LevelTables
from mptvc.codec.pictures import CodedPicture
from mptvc.codec.settings import computing
from mptvc.codec.slices import ClipLoop, enlarged
from mptvc.format.geometry import Geometry, LoopShots, Shots, TileGrid
from mptvc.format.header import Layout
from mptvc.format.rules import MAX_CLIP
from mptvc.format.slices import SlicePacket, split
from mptvc.model.loop_config import LoopConfig
from mptvc.model.loop_model import LoopModel
from mptvc.model.motion import UNITS
from mptvc.model.prediction import Blend

#: Pictures are whole: nothing of this form sees them in tiles.
_WHOLE = TileGrid(1, 1, 0)


class LoopCoder(ClipCoder):
    """Weights with a closed loop, with what is needed to code one clip with them.

    Args:
        model: Transforms and tables, on their device.
        entropy_id: SHA-256 of the weights' entropy-relevant part.
        weights_id: SHA-256 of the whole weights.
        clip_frames: Frames of the longest clip that is made; by default what the configuration says.

    Raises:
        ValueError: ``clip_frames`` is out of range.
    """

    def __init__(
        self, model: LoopModel, *, entropy_id: bytes, weights_id: bytes, clip_frames: int | None = None
    ) -> None:
        self.model, self.config = model, model.config
        self.tables = [LevelTables(model.level(k)) for k in range(len(model.config.levels))]
        super().__init__(model.config, self.tables[0].device, entropy_id=entropy_id, weights_id=weights_id)
        self.clip_frames = checked_clip_frames(clip_frames, model.config)

    def geometry(self, width: int, height: int) -> Geometry:
        """Grids of a video of so many pixels."""
        return Geometry(width, height, self.config.patch_size, (_WHOLE,) * self.num_levels)

    def shots(self, lengths: tuple[int, ...]) -> LoopShots:
        """Slices and clips of shots of so many frames."""
        return LoopShots(lengths, self.clip_frames)

    def require_shots(self, shots: Shots) -> None:
        """Check that slices and clips are such as these weights code.

        Raises:
            FormatError: They are not.
        """
        require_geometry(isinstance(shots, LoopShots))

    @computing()
    def clip(self, geometry: Geometry, levels: int) -> ClipLoop:
        """The state of a clip of which so many levels are coded."""
        return ClipLoop(self.tables[:levels], self.config, self.padded(geometry))

    def padded(self, geometry: Geometry) -> tuple[int, int]:
        """Height and width of frames that are extended to whole tokens of level 0."""
        height, width = (side * self.config.multiple for side in geometry.grid(0))
        return height, width

    def pieces(
        self, sections: Sequence[bytes], layout: Layout, clip: int, damaged: Damaged
    ) -> Iterator[Piece]:
        """Decode a clip slice by slice; as ``ClipCoder.pieces``."""
        shots = layout.shots
        if not isinstance(shots, LoopShots):
            raise TypeError("the layout is that of another form")
        slices = shots.slices(clip)
        packets: list[list[SlicePacket]] = []
        for level, section in enumerate(sections):
            try:
                packets.append(split(section, len(slices)))
            except ValueError as error:
                damaged(level, error)
                break
        loop = self.clip(layout.geometry, len(packets))
        for index, frames in enumerate(slices):
            found = self._slice(loop, [level[index] for level in packets], len(frames), damaged)
            if not found:
                return
            packets = packets[: len(found)]
            yield _Slice(self, layout.geometry, found)

    @computing()
    def _slice(
        self, loop: ClipLoop, packets: Sequence[SlicePacket], count: int, damaged: Damaged
    ) -> list[list[CodedPicture]]:
        """Keys of every level of a slice that can be decoded."""
        found: list[list[CodedPicture]] = []
        for level, coded in enumerate(packets):
            coarser = found[-1] if found else []
            try:
                found.append(loop.decode(level, coded.packet, count, coarser, coded.kind, coded.gain))
            except ValueError as error:
                damaged(level, error)
                break
        return found


class _Slice(Piece):
    """A decoded slice."""

    def __init__(self, coder: LoopCoder, geometry: Geometry, levels: list[list[CodedPicture]]) -> None:
        self._coder, self._geometry, self._levels = coder, geometry, levels
        self.num_levels, self.num_frames = len(levels), len(levels[0])

    @computing()
    def frames(self, levels: int, *, source_size: bool = True) -> np.ndarray:
        """Frames of a prefix; as ``Piece.frames``."""
        shrink = self._coder.config.shrink(levels - 1) if source_size else 1
        height, width = self._coder.picture_size(
            self._geometry, self._coder.num_levels if source_size else levels
        )
        keys = self._levels[levels - 1]
        frames = np.empty((len(keys), height, width, 3), dtype=np.uint8)
        for frame, key in zip(frames, keys, strict=True):
            picture = enlarged(key.picture, shrink)[:, :height, :width]
            frame[:] = picture.permute(1, 2, 0).cpu().numpy()
        return frames

    def symbols(self, level: int) -> Iterator[Tensor]:
        """All integers of a level; as ``Piece.symbols``."""
        for key in self._levels[level]:
            if key.side is not None:
                yield key.side.coefficients
                yield key.side.choices
                yield key.side.vectors
            yield key.symbols

    @computing()
    def bits(self, level: int, frame: int) -> np.ndarray:
        """Bits of a key's tokens, choices and vectors left out; as ``Piece.bits``."""
        key, model = self._levels[level][frame], self._coder.model.level(level)
        kind = model.opening if key.side is None else model.predicted(key.is_between)
        bits: np.ndarray = kind.entropy_model.bits(key.symbols, key.context).cpu().numpy()
        return bits

    @computing()
    def motion(self, level: int, frame: int) -> np.ndarray | None:
        """Vectors of a key's blocks; as ``Piece.motion``."""
        side = self._levels[level][frame].side
        if side is None:
            return None
        vectors = (side.vectors / UNITS).masked_fill(side.blends == Blend.BASE, torch.nan)
        moved: np.ndarray = vectors.cpu().numpy()
        return moved


def checked_clip_frames(clip_frames: int | None, config: LoopConfig) -> int:
    """The number of frames of a clip; that of the configuration if none is given.

    Raises:
        ValueError: It is out of range.
    """
    if clip_frames is None:
        return config.clip_frames
    if not 1 <= clip_frames <= MAX_CLIP:
        raise ValueError(f"clip_frames is 1 to {MAX_CLIP}, found {clip_frames}")
    return clip_frames


def picture_tensor(frame: np.ndarray, size: tuple[int, int], device: torch.device) -> Tensor:
    """A frame uint8 ``[H, W, 3]`` as a picture ``[3, H', W']`` whose last row and column are repeated."""
    height, width, _ = frame.shape
    rows = torch.arange(size[0]).clamp_(max=height - 1)
    columns = torch.arange(size[1]).clamp_(max=width - 1)
    picture = torch.from_numpy(frame).permute(2, 0, 1)[:, rows[:, None], columns]
    return picture.contiguous().to(device)
