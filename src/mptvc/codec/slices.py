"""One clip in a closed loop, slice by slice: pictures of all levels to packets and back.

A clip starts with an opening key. Then come slices of up to four pictures, predicted from those before and,
where they lie between keys, from both sides. A level's packet of a slice needs the packets before it in the
same level, and the coarser levels' of the same slice; so any number of levels decodes by itself, and what a
level lacks harms only itself and finer ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mptvc.codec.loop import Coder, LevelLoop, LevelTables
from mptvc.codec.motion_search import Found, Luma, search
from mptvc.codec.pictures import CodedPicture, Past, PictureTokens
from mptvc.codec.plan import fitted_camera, planned
from mptvc.codec.stages import stage
from mptvc.format.gain import gain_factor
from mptvc.format.packet import PacketReader, PacketWriter
from mptvc.format.slices import BEFORE, CHAIN, Turn, turns
from mptvc.model.loop_config import LoopConfig
from mptvc.model.motion import BLOCK, UNITS
from mptvc.model.pyramid import expand, reduce
from mptvc.model.side import Side

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

    def motion_from(self, before: "LumaPyramid | None") -> Motion:
        """The motion from the frame before; without one, none, and nothing that changed."""
        if before is None:
            return Motion([], torch.zeros(2, 3, dtype=torch.int64), 0.0)
        found = {shrink: before._search(self, shrink) for shrink in self._luma}
        finest = found[min(found)]
        camera = fitted_camera(finest.vectors, self._shrinks[0] // min(found))
        vectors = [found[shrink].vectors for shrink in self._shrinks]
        return Motion(vectors, camera, (finest.difference + _LEAST_CHANGE) ** _CHANGE_POWER)

    def vectors_from(self, other: "LumaPyramid", level: int, likely: Tensor | None) -> Tensor:
        """Where another frame shows a level's blocks, int64 ``[2, h, w]``; ``likely`` ones are tried too."""
        return other._search(self, self._shrinks[level], likely).vectors

    @stage("motion search")
    def _search(self, target: "LumaPyramid", shrink: int, likely: Tensor | None = None) -> Found:
        return search(self._luma[shrink], target._luma[shrink], likely)


class SliceMotion:
    """The frames of a slice and the motion between them, which is searched where it is asked for.

    Args:
        pyramids: Of the frames.
        motions: Of each frame from the one before.
        before: The frame before the slice, None where there is none.

    Attributes:
        pyramids: The same.
    """

    def __init__(
        self, pyramids: Sequence[Pyramid], motions: Sequence[Motion], before: Pyramid | None
    ) -> None:
        self.pyramids, self._motions = pyramids, motions
        self._frames = dict(enumerate(pyramids))
        if before is not None:
            self._frames[BEFORE] = before
        self._luma: dict[int, LumaPyramid] = {}
        self._found: dict[tuple[int, int, int], Tensor] = {}

    def vectors(self, level: int, frame: int, reference: int) -> Tensor:
        """Where a frame before or after another one shows its blocks, int64 ``[2, h, w]``."""
        if frame == reference + 1:
            return self._motions[frame].vectors[level]
        place = self.pyramids[0].shrinks[level], frame, reference  # levels of one size share what is found
        if place not in self._found:
            steps = [self._motions[i].vectors[level] for i in range(frame, reference, -1)]
            likely = _followed(steps) if steps else None
            looking = self._luma_of(frame)
            self._found[place] = looking.vectors_from(self._luma_of(reference), level, likely)
        return self._found[place]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.pyramids)

    @property
    def change(self) -> float:
        """How much the frames differ from those before."""
        return sum(motion.change for motion in self._motions)

    def camera(self, frame: int, reference: int) -> Tensor:
        """Coefficients of the whole picture's motion at level 0, int64 ``[2, 3]``."""
        if frame == reference + 1:
            return self._motions[frame].camera
        return fitted_camera(self.vectors(0, frame, reference))

    def _luma_of(self, frame: int) -> LumaPyramid:
        if frame not in self._luma:
            self._luma[frame] = LumaPyramid(self._frames[frame])
        return self._luma[frame]


def _followed(fields: Sequence[Tensor]) -> Tensor:
    """Vectors ``[2, h, w]`` through several pictures: those of each block found on the way are added."""
    total = fields[0]
    _, rows, columns = total.shape
    y = torch.arange(rows, device=total.device)[:, None] * BLOCK * UNITS
    x = torch.arange(columns, device=total.device) * BLOCK * UNITS
    for field in fields[1:]:
        row, column = (
            (at + v + BLOCK * UNITS // 2) // (BLOCK * UNITS) for at, v in zip((y, x), total, strict=True)
        )
        total = total + field[:, row.clamp(0, rows - 1), column.clamp(0, columns - 1)]
    return total


#: A slice to encode: its frames, or tokens of each.
Given = SliceMotion | Sequence[PictureTokens]


def _wanted(given: Given | None, level: int, index: int) -> tuple[Tensor | None, Tensor | None]:
    """The picture to encode of a frame, or symbols that stay as they are; to decode, neither."""
    if isinstance(given, SliceMotion):
        return given.pyramids[index].pictures[level], None
    return None, None if given is None else given[index].symbols


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
            step, parent = step * config.opening_step, coarser[0] if coarser else None
            return [loop.opening(coder, base, step, parent, *_wanted(given, level, 0))]
        loop.start()
        found: dict[int, CodedPicture] = {}
        for turn in turns(kind, count):
            base, parent = self._base(level, coarser, turn.index), coarser[turn.index] if coarser else None
            mine, wanted = step * _step_share(config, kind, turn), _wanted(given, level, turn.index)
            plan = self._plan(level, turn, given, base, parent, mine)
            found[turn.index] = loop.picture(coder, turn, base, mine, parent, plan, *wanted)
        loop.finish(kind, count)
        return [found[index] for index in range(count)]

    def _plan(
        self,
        level: int,
        turn: Turn,
        motion: Given | None,
        base: Tensor,
        parent: CodedPicture | None,
        step: float,
    ) -> Side | None:
        """How to predict a picture, unless it is decoded."""
        if not isinstance(motion, SliceMotion):
            return None if motion is None else motion[turn.index].side
        loop = self._levels[level]
        vectors = [motion.vectors(level, turn.index, turn.near)]
        if turn.is_between:
            vectors.append(-motion.vectors(level, turn.index, turn.far))
        return planned(
            loop.tables.level,
            motion.pyramids[turn.index].pictures[level],
            base,
            loop.references(turn),
            loop.known(turn, parent),
            vectors,
            motion.camera(turn.index, turn.near),
            step,
        )

    def _base(self, level: int, coarser: Sequence[CodedPicture], index: int) -> Tensor:
        if not coarser:
            height, width = (side // self._config.shrink(level) for side in self._size)
            device = self._levels[level].tables.device
            return torch.full((3, height, width), _GRAY, dtype=torch.uint8, device=device)
        ratio = self._config.shrink(level - 1) // self._config.shrink(level)
        return enlarged(coarser[index].picture, ratio)


def _step_share(config: LoopConfig, kind: int, turn: Turn) -> float:
    """Step of a picture that is predicted, in a slice of some kind, over that of its level."""
    if turn.is_between:
        return config.between_steps[turn.height]
    return config.chain_steps[turn.index] if kind == CHAIN else config.key_step


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
