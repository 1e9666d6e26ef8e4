"""Weights with a closed loop: clips of slices to symbols and frames."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.coder import (
    ClipCoder,
    Damaged,
    FrameKind,
    Piece,
    Shown,
    require_geometry,
)
from mptvc.codec.loop_decoder import LoopDecoder
from mptvc.codec.pictures import CodedPicture
from mptvc.codec.settings import computing, spare_threads
from mptvc.codec.slices import ClipLoop, CodedSlice, enlarged
from mptvc.codec.stages import is_observed
from mptvc.codec.tables import LevelTables
from mptvc.codec.tokens import TOKENS
from mptvc.format.geometry import Geometry, LoopShots, Shots, TileGrid
from mptvc.format.header import Layout
from mptvc.format.rules import MAX_CLIP
from mptvc.format.slices import SlicePacket, split
from mptvc.model.activity_bits import token_bits
from mptvc.model.loop_config import LoopConfig
from mptvc.model.loop_model import Kind, LoopModel
from mptvc.model.motion import BLOCK, UNITS
from mptvc.model.prediction import Blend
from mptvc.model.restoration import strength_bits
from mptvc.model.side_symbols import Side, base_alone
from mptvc.native import calls, pictures

#: Pixels of the largest frames of which two slices are coded at once: larger ones keep all threads busy by
#: themselves, and take much memory.
_OVERLAPPING_PIXELS = 2**22
#: Pictures are whole: nothing of this form sees them in tiles.
_WHOLE = TileGrid(1, 1, 0)
#: Types of side symbols as tokens; vectors double with each of up to eight levels.
SIDE_TYPES = {"choices": torch.uint8, "vectors": torch.int32, "coefficients": torch.int32}
#: Type of fineness as tokens.
FINENESS_TYPE = torch.int8


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

    @computing(by_kernels=True)
    def clip(self, geometry: Geometry, levels: int) -> ClipLoop:
        """The state of a clip of which so many levels are coded."""
        return ClipLoop(self.tables[:levels], self.config, self.padded(geometry))

    def padded(self, geometry: Geometry) -> tuple[int, int]:
        """Height and width of frames that are extended to whole tokens of level 0."""
        height, width = (side * self.config.multiple for side in geometry.grid(0))
        return height, width

    def blocks(self, geometry: Geometry, level: int) -> tuple[int, int]:
        """Blocks of a level's pictures along y and x."""
        height, width = (side // self.config.shrink(level) // BLOCK for side in self.padded(geometry))
        return height, width

    def pieces(
        self, sections: Sequence[bytes], layout: Layout, clip: int, damaged: Damaged
    ) -> Iterator[Piece]:
        """Decode a clip slice by slice; as ``ClipCoder.pieces``."""
        slices = loop_shots(layout).slices(clip)
        packets: list[list[SlicePacket]] = []
        for level, section in enumerate(sections):
            try:
                packets.append(split(section, len(slices)))
            except ValueError as error:
                damaged(level, error)
                break
        overlaps = self.overlaps(layout.geometry, len(packets))
        loop, fineness = self.clip(layout.geometry, len(packets)), None
        decoder = LoopDecoder(loop, packets, [len(frames) for frames in slices], overlaps=overlaps)
        for found in decoder.slices(damaged):
            last = found[0].pictures[-1].fineness
            yield LoopPiece(self, layout.geometry, found, fineness)
            fineness, found = last, []  # only this while the next one is decoded

    def overlaps(self, geometry: Geometry, levels: int) -> bool:
        """Whether the finest level of a slice is coded while coarser ones of the next slice are."""
        height, width = self.padded(geometry)
        is_small = height * width <= _OVERLAPPING_PIXELS
        return levels > 1 and is_small and spare_threads() > 1 and not is_observed()


class LoopPiece(Piece):
    """A decoded slice.

    Args:
        coder: The weights.
        geometry: Of the video.
        levels: The slice at each level that is there.
        fineness: Of the last key before it.
    """

    def __init__(
        self,
        coder: LoopCoder,
        geometry: Geometry,
        levels: Sequence[CodedSlice],
        fineness: Tensor | None = None,
    ) -> None:
        self._coder, self._geometry, self._levels, self._before = coder, geometry, levels, fineness
        self.num_levels, self.num_frames = len(levels), len(levels[0].pictures)

    @computing(by_kernels=True)
    def frames(self, levels: int, *, source_size: bool = True, out: np.ndarray | None = None) -> np.ndarray:
        """Frames of a prefix; as ``Piece.frames``."""
        shrink = self._coder.config.shrink(levels - 1) if source_size else 1
        height, width = self._coder.picture_size(
            self._geometry, self._coder.num_levels if source_size else levels
        )
        frames = np.empty((self.num_frames, height, width, 3), np.uint8) if out is None else out
        shown = [coded.picture for coded in self._levels[levels - 1].pictures]
        for index, frame in enumerate(frames):
            if index and shown[index] is shown[index - 1]:  # as where nothing moves
                frame[:] = frames[index - 1]
                continue
            picture = enlarged(shown[index], shrink)
            if calls.serve(picture.device):
                pictures.interleave(calls.array(picture), frame)
            else:
                frame[:] = picture[:, :height, :width].permute(1, 2, 0).cpu().numpy()
        return frames

    def symbols(self, level: int) -> Iterator[Tensor]:
        """All integers of a level; as ``Piece.symbols``."""
        for coded in self._levels[level].pictures:
            yield coded.fineness
            if coded.side is not None:
                yield coded.side.coefficients
                yield coded.side.choices
                yield coded.side.vectors
            yield coded.quartered
            yield coded.residual.symbols
            if self._kind(level, coded).restoration is not None:
                yield torch.tensor(coded.strength, device=coded.coded.device)

    @computing(by_kernels=True)
    def arrays(self, level: int) -> dict[str, Tensor]:
        """Tokens and how frames are predicted; as ``Piece.arrays``."""
        coded = self._levels[level]
        sides = [self._side(picture) for picture in coded.pictures]
        return {
            TOKENS: torch.stack([picture.residual.symbols for picture in coded.pictures]).cpu(),
            "shapes": torch.stack([picture.quartered for picture in coded.pictures]).to("cpu", torch.uint8),
            **{
                name: torch.stack([getattr(side, name) for side in sides]).to("cpu", dtype)
                for name, dtype in SIDE_TYPES.items()
            },
            "fineness": torch.stack([p.fineness for p in coded.pictures]).to("cpu", FINENESS_TYPE),
            "strengths": torch.tensor([p.strength for p in coded.pictures], dtype=torch.uint8),
            "kinds": torch.tensor([coded.kind], dtype=torch.uint8),
            "gains": torch.tensor([coded.gain], dtype=torch.int8),
        }

    @computing(by_kernels=True)
    def bits(self, level: int, frame: int) -> np.ndarray:
        """Bits of a frame's tokens, side symbols left out; as ``Piece.bits``."""
        coded = self._levels[level].pictures[frame]
        model = self._kind(level, coded).entropy_model
        bits: np.ndarray = token_bits(model, coded.residual, coded.context).cpu().numpy()
        return bits

    @computing(by_kernels=True)
    def shown(self, level: int, frame: int) -> Shown:
        """How a frame is predicted; as ``Piece.shown``."""
        coded = self._levels[level].pictures[frame]
        side, kind = self._side(coded), FrameKind.OPENING
        if coded.side is not None:
            kind = FrameKind.BETWEEN if coded.is_between else FrameKind.KEY
        motion = (side.vectors / UNITS).masked_fill(side.blends == Blend.BASE, torch.nan)
        moved, blends, left = (x.cpu().numpy() for x in (motion, side.blends, coded.coded))
        return Shown(kind, moved, blends, left)

    @computing(by_kernels=True)
    def side_bits(self, level: int, frame: int) -> float:
        """Bits of fineness, strength, choices, vectors and coefficients; as ``Piece.side_bits``."""
        pictures, model = self._levels[level].pictures, self._coder.model.level(level)
        coded, total = pictures[frame], 0.0
        if model.fineness is not None and not coded.is_between:
            keys = [one.fineness for one in pictures[:frame] if not one.is_between]
            total += model.fineness.bits(keys[-1] if keys else self._before, coded.fineness)
        if coded.side is not None:
            total += model.predicted(coded.is_between).side.bits(coded.known, coded.side)
        if self._kind(level, coded).restoration is not None and len(coded.values):
            total += strength_bits(coded.last_strength, coded.strength)
        return total

    def _kind(self, level: int, coded: CodedPicture) -> Kind:
        """What a picture is coded with."""
        model = self._coder.model.level(level)
        return model.opening if coded.side is None else model.predicted(coded.is_between)

    def _side(self, coded: CodedPicture) -> Side:
        """How a picture is predicted; an opening key from its base alone."""
        if coded.side is not None:
            return coded.side
        height, width = (side // BLOCK for side in coded.picture.shape[1:])
        return base_alone(coded.coded.new_empty(height, width))


def loop_shots(layout: Layout) -> LoopShots:
    """Slices and clips of a layout with prediction."""
    if not isinstance(layout.shots, LoopShots):
        raise TypeError("the layout is that of another form")
    return layout.shots


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
    frame = frame.copy()  # one of any strides
    if calls.serve(device):
        return torch.from_numpy(pictures.separated(frame, size))
    height, width, _ = frame.shape
    rows = torch.arange(size[0]).clamp_(max=height - 1)
    columns = torch.arange(size[1]).clamp_(max=width - 1)
    picture = torch.from_numpy(frame).permute(2, 0, 1)[:, rows[:, None], columns]
    return picture.contiguous().to(device)
