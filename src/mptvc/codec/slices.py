"""One clip in a closed loop, slice by slice: pictures of all levels to packets and back.

A clip starts with an opening key. Then come slices of up to four pictures, predicted from those before and,
where they lie between keys, from both sides. A level's packet of a slice needs the packets before it in the
same level, and the coarser levels' of the same slice; so any number of levels decodes by itself, and what a
level lacks harms only itself and finer ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from mptvc.codec.importance import Role
from mptvc.codec.loop import Base, LevelLoop
from mptvc.codec.pictures import CodedPicture, Past, PictureTokens
from mptvc.codec.plan import planned
from mptvc.codec.slice_motion import SliceMotion
from mptvc.codec.stages import stage
from mptvc.codec.tables import Coder, LevelTables
from mptvc.format.gain import gain_factor
from mptvc.format.packet import PacketReader, PacketWriter
from mptvc.format.slices import CHAIN, Turn, turns
from mptvc.model.loop_config import LoopConfig
from mptvc.model.motion import BLOCK
from mptvc.model.pyramid import expand
from mptvc.model.side_symbols import Side
from mptvc.native import calls, pictures

#: What level 0 is predicted from where nothing is known.
_GRAY = 128


#: A slice to encode: its frames, or tokens of each.
Given = SliceMotion | Sequence[PictureTokens]


def _wanted(given: Given | None, level: int, index: int) -> Tensor | PictureTokens | None:
    """The picture to encode of a frame, or tokens that stay as they are; nothing to decode."""
    if isinstance(given, SliceMotion):
        return given.pyramids[index].pictures[level]
    return None if given is None else given[index]


@dataclass(frozen=True)
class CodedSlice:
    """One level of a slice.

    Attributes:
        packet: What holds it.
        pictures: Its pictures, in the order in which they are shown.
        gain: How much finer than in training it is quantized.
        kind: Which of them are keys.
    """

    packet: bytes
    pictures: list[CodedPicture]
    gain: int
    kind: int


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

    def step(self, level: int, gain: int) -> float:
        """Quantization step of a level with some gain."""
        return self._config.levels[level].step / gain_factor(gain)

    def encode(
        self, level: int, given: Given, coarser: Sequence[CodedPicture], kind: int, gain: int
    ) -> CodedSlice:
        """Code one level of the next slice.

        Args:
            level: The level.
            given: The frames, and how they move; or tokens, which stay as they are.
            coarser: The coarser level's pictures; none at level 0.
            kind: Which of them are keys.
            gain: How much finer than in training to quantize.

        Raises:
            ValueError: Tokens cannot be followed; the level cannot go on in this clip.
        """
        writer = PacketWriter(self._levels[level].tables.digits)
        pictures = self._code(level, writer, len(given), coarser, kind, gain, given)
        return CodedSlice(_finished(writer), pictures, gain, kind)

    def decode(
        self,
        level: int,
        packet: bytes,
        count: int,
        coarser: Sequence[CodedPicture],
        kind: int,
        gain: int,
    ) -> list[CodedPicture]:
        """Decode one level of the next slice.

        Args:
            level: The level.
            packet: What ``encode`` made.
            count: Frames of the slice.
            coarser: The coarser level's pictures; none at level 0.
            kind: Which of them are keys.
            gain: How much finer than in training it is quantized.

        Raises:
            ValueError: The packet does not fit; the level cannot go on in this clip.
        """
        reader = PacketReader(self._levels[level].tables.digits, packet)
        pictures = self._code(level, reader, count, coarser, kind, gain)
        reader.finish()
        return pictures

    def _code(
        self,
        level: int,
        coder: Coder,
        count: int,
        coarser: Sequence[CodedPicture],
        kind: int,
        gain: int,
        given: Given | None = None,
    ) -> list[CodedPicture]:
        """Walk through one level of a slice: to encode what is given, or to decode it."""
        loop = self._levels[level]
        step, config = self.step(level, gain), self._config
        if loop.past is None:
            base = self._base(level, coarser, 0)
            parent = coarser[0] if coarser else None
            step *= config.opening_step
            fineness = self._fineness(level, coder, None, parent, given, Role.OPENING)
            return [loop.opening(coder, base, step, fineness, parent, _wanted(given, level, 0))]
        loop.start()
        role = Role.CHAIN if kind == CHAIN else Role.KEY
        found: dict[int, CodedPicture] = {}
        for turn in turns(kind, count):
            base, parent = self._base(level, coarser, turn.index), coarser[turn.index] if coarser else None
            mine, wanted = step * _step_share(config, kind, turn), _wanted(given, level, turn.index)
            fineness = self._fineness(level, coder, turn, parent, given, role)
            plan = self._plan(level, turn, given, base, parent, mine, fineness)
            found[turn.index] = loop.picture(coder, turn, base, mine, fineness, parent, plan, wanted)
        loop.finish(kind, count)
        return [found[index] for index in range(count)]

    def _fineness(
        self,
        level: int,
        coder: Coder,
        turn: Turn | None,
        parent: CodedPicture | None,
        given: Given | None,
        role: Role,
    ) -> Tensor:
        """Code the fineness of a picture, without a turn the opening key."""
        index, mine = 0 if turn is None else turn.index, None
        if parent is None and given is not None and (turn is None or not turn.is_between):
            if isinstance(given, SliceMotion):
                mine = given.fineness(index, role, self._config.levels[0].fineness)
            else:
                mine = given[index].fineness
        height, width = (side // self._config.shrink(0) // BLOCK for side in self._size)
        return self._levels[level].fineness(coder, (height, width), turn, parent, mine)

    def _plan(
        self,
        level: int,
        turn: Turn,
        motion: Given | None,
        base: Base,
        parent: CodedPicture | None,
        step: float,
        fineness: Tensor,
    ) -> Side | None:
        """How to predict a picture, unless it is decoded."""
        if not isinstance(motion, SliceMotion):
            return None if motion is None else motion[turn.index].side
        loop = self._levels[level]
        vectors = [motion.vectors(level, turn.index, turn.near)]
        if turn.is_between:
            vectors.append(motion.vectors(level, turn.index, turn.far))
        return planned(
            loop.tables.level,
            motion.pyramids[turn.index].pictures[level],
            base(),
            lambda coefficients: loop.references(turn, coefficients, parent),
            loop.known(turn, parent),
            vectors,
            motion.camera(turn.index, turn.near),
            loop.tables.level.steps(step, fineness, (vectors[0].shape[1], vectors[0].shape[2])),
        )

    def _base(self, level: int, coarser: Sequence[CodedPicture], index: int) -> Base:
        if not coarser:
            shape = 3, *(side // self._config.shrink(level) for side in self._size)
            device = self._levels[level].tables.device
            return cache(lambda: torch.full(shape, _GRAY, dtype=torch.uint8, device=device))
        ratio = self._config.shrink(level - 1) // self._config.shrink(level)
        return cache(lambda: enlarged(coarser[index].picture, ratio))


def _step_share(config: LoopConfig, kind: int, turn: Turn) -> float:
    """Step of a picture that is predicted, in a slice of some kind, over that of its level."""
    if turn.is_between:
        return config.between_steps[turn.height]
    return config.chain_steps[turn.index] if kind == CHAIN else config.key_step


@stage("pyramid")
def enlarged(picture: Tensor, ratio: int) -> Tensor:
    """A picture uint8 ``[3, H, W]``, ``ratio`` times as high and wide, a power of two."""
    while ratio > 1:
        if calls.serve(picture.device):
            picture = torch.from_numpy(pictures.expanded(calls.array(picture)))
        else:
            picture = expand(picture.to(torch.int16)).clamp_(0, 255).to(torch.uint8)
        ratio //= 2
    return picture


@stage("entropy")
def _finished(writer: PacketWriter) -> bytes:
    return writer.finish()
