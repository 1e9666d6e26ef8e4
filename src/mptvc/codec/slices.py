"""One clip in a closed loop, slice by slice: pictures of all levels to packets and back.

A clip starts with an opening key. Then come slices of up to four keys, each predicted from those before it. A
level's packet of a slice needs the packets before it in the same level, and the coarser levels' of the same
slice; so any number of levels decodes by itself, and what a level lacks harms only itself and finer ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mptvc.codec.key_search import fitted_camera, planned
from mptvc.codec.keys import CodedKey, Past
from mptvc.codec.loop import LevelLoop, LevelTables
from mptvc.codec.motion_search import Luma, search
from mptvc.codec.stages import stage
from mptvc.format.gain import gain_factor
from mptvc.format.packet import PacketReader, PacketWriter
from mptvc.model.loop_config import LoopConfig
from mptvc.model.pyramid import expand, reduce

#: What a frame without any change counts.
_LEAST_CHANGE = 0.25
#: Bits grow less than differences do.
_CHANGE_POWER = 0.7
#: What level 0 is predicted from where nothing is known.
_GRAY = 128


class Pyramid:
    """The pictures of one frame at every level.

    Args:
        frame: uint8 ``[3, H, W]``, sides of whole tokens of level 0.
        config: Sizes of the levels.
    """

    def __init__(self, frame: Tensor, config: LoopConfig) -> None:
        count = len(config.levels)
        by_shrink = {1: frame}
        for k in reversed(range(count)):
            shrink, size = config.shrink(k), max(by_shrink)
            while size < shrink:
                by_shrink[2 * size] = reduce(by_shrink[size].to(torch.int16)).to(torch.uint8)
                size *= 2
        self.shrinks = [config.shrink(k) for k in range(count)]
        self.pictures = [by_shrink[shrink] for shrink in self.shrinks]


@dataclass(frozen=True)
class Motion:
    """How a frame moves from the one before.

    Attributes:
        vectors: For each level where its blocks are found, int64 ``[2, h, w]``; none without a frame before.
        camera: Coefficients of the whole picture's motion at level 0, int64 ``[2, 3]``.
        change: A power of the mean absolute difference of luma that is left: bits go about with it.
    """

    vectors: list[Tensor]
    camera: Tensor
    change: float


class LumaPyramid:
    """Luma of the pictures of one frame, for motion search.

    Args:
        pyramid: The pictures.
    """

    def __init__(self, pyramid: Pyramid) -> None:
        self._shrinks = pyramid.shrinks
        self._luma = {s: Luma(p) for s, p in zip(pyramid.shrinks, pyramid.pictures, strict=True)}

    @stage("motion search")
    def motion_from(self, before: "LumaPyramid | None") -> Motion:
        """The motion from an earlier frame; without one, none, and nothing that changed."""
        if before is None:
            return Motion([], torch.zeros(2, 3, dtype=torch.int64), 0.0)
        found = {shrink: search(before._luma[shrink], luma) for shrink, luma in self._luma.items()}
        finest = found[min(found)]
        camera = fitted_camera(finest.vectors, self._shrinks[0] // min(found))
        vectors = [found[shrink].vectors for shrink in self._shrinks]
        return Motion(vectors, camera, (finest.difference + _LEAST_CHANGE) ** _CHANGE_POWER)


@dataclass(frozen=True)
class CodedSlice:
    """One level of a slice.

    Attributes:
        packet: What holds it.
        keys: Its pictures.
        gain: How much finer than in training it is quantized.
    """

    packet: bytes
    keys: list[CodedKey]
    gain: int


class ClipLoop:
    """Codes the slices of one clip, in order; one object encodes or decodes one clip.

    Args:
        tables: Of all levels or the first ones.
        config: Of the weights.
        size: Height and width of the frames, of whole tokens of level 0.
    """

    def __init__(self, tables: Sequence[LevelTables], config: LoopConfig, size: tuple[int, int]) -> None:
        self._config, self._size = config, size
        self._levels = [LevelLoop(level) for level in tables]

    def past(self, level: int) -> Past | None:
        """What a level keeps; an encoder that tries something puts it back with ``put_back``."""
        return self._levels[level].past

    def put_back(self, level: int, past: Past | None) -> None:
        """Undo what was coded since ``past`` was there."""
        self._levels[level].past = past

    def encode(
        self,
        level: int,
        pyramids: Sequence[Pyramid],
        motions: Sequence[Motion],
        coarser: Sequence[CodedKey],
        gain: int,
    ) -> CodedSlice:
        """Code one level of the next slice.

        Args:
            level: The level.
            pyramids: Of each frame.
            motions: Of each frame, from the one before; not looked at for an opening key.
            coarser: The coarser level's keys; none at level 0.
            gain: How much finer than in training to quantize.
        """
        loop = self._levels[level]
        writer = PacketWriter(loop.tables.digits)
        keys: list[CodedKey] = []
        for index, pyramid in enumerate(pyramids):
            picture, base = pyramid.pictures[level], self._base(level, coarser, index)
            step = self._step(level, index, gain)
            parent = coarser[index] if coarser else None
            if loop.past is None:
                keys.append(loop.opening(writer, base, step, parent, picture))
                continue
            side = None if parent is None else parent.side
            vectors, camera = motions[index].vectors[level], motions[index].camera
            plan = planned(loop.tables.level, picture, base, loop.past, side, vectors, camera, step)
            keys.append(loop.key(writer, base, step, parent, plan, picture))
        return CodedSlice(_finished(writer), keys, gain)

    def decode(
        self, level: int, packet: bytes, count: int, coarser: Sequence[CodedKey], gain: int
    ) -> list[CodedKey]:
        """Decode one level of the next slice.

        Args:
            level: The level.
            packet: What ``encode`` made.
            count: Frames of the slice.
            coarser: The coarser level's keys; none at level 0.
            gain: How much finer than in training it is quantized.

        Raises:
            ValueError: The packet does not fit; the level cannot go on in this clip.
        """
        loop = self._levels[level]
        reader = PacketReader(loop.tables.digits, packet)
        keys: list[CodedKey] = []
        for index in range(count):
            base, step = self._base(level, coarser, index), self._step(level, index, gain)
            parent = coarser[index] if coarser else None
            opens = loop.past is None
            keys.append((loop.opening if opens else loop.key)(reader, base, step, parent))
        reader.finish()
        return keys

    def _step(self, level: int, index: int, gain: int) -> float:
        config = self._config
        share = config.opening_step if self._levels[level].past is None else config.chain_steps[index]
        return config.levels[level].step * share / gain_factor(gain)

    def _base(self, level: int, coarser: Sequence[CodedKey], index: int) -> Tensor:
        if not coarser:
            height, width = (side // self._config.shrink(level) for side in self._size)
            device = self._levels[level].tables.device
            return torch.full((3, height, width), _GRAY, dtype=torch.uint8, device=device)
        ratio = self._config.shrink(level - 1) // self._config.shrink(level)
        return enlarged(coarser[index].picture, ratio)


@stage("pyramid")
def enlarged(picture: Tensor, ratio: int) -> Tensor:
    """A picture uint8 ``[3, H, W]``, ``ratio`` times as high and wide, a power of two."""
    while ratio > 1:
        picture = expand(picture.to(torch.int16)).clamp_(0, 255).to(torch.uint8)
        ratio //= 2
    return picture


@stage("entropy")
def _finished(writer: PacketWriter) -> bytes:
    return writer.finish()
