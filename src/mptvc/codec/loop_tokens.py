"""Tokens with prediction: what prediction left of each frame, and how it is predicted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from mptvc.codec.coder import Piece
from mptvc.codec.loop_coder import FINENESS_TYPE, SIDE_TYPES, LoopCoder, LoopPiece, loop_shots
from mptvc.codec.pictures import PictureTokens
from mptvc.codec.settings import computing
from mptvc.codec.slices import ClipLoop, CodedSlice
from mptvc.codec.tokens import TOKENS, Specification, Tokens, UnfitError
from mptvc.format.header import Layout
from mptvc.format.slices import KINDS, MAX_SLICE_GAIN, SlicePacket, joined
from mptvc.model.activity import LARGEST, Residual
from mptvc.model.exchange import NUMBERS
from mptvc.model.fineness import FINEST
from mptvc.model.motion import BLOCK
from mptvc.model.restoration import STRENGTH_VALUES, USUAL_STRENGTH
from mptvc.model.side_symbols import BASE_CHOICE, CHOICES, Side, base_alone

_SIDE = tuple(field.name for field in fields(Side))


class LoopTokens:
    """What weights with prediction do with tokens; as `TokenForm`.

    Args:
        coder: The weights.
    """

    def __init__(self, coder: LoopCoder) -> None:
        self._coder = coder

    def specification(self, layout: Layout, level: int) -> Specification:
        """The arrays that a level of a video has."""
        count, slices = layout.shots.num_frames, (layout.shots.num_slices,)
        rows, columns = blocks = self._coder.blocks(layout.geometry, level)
        kind = self._coder.model.level(level).key
        shapes = {"choices": blocks, "vectors": (2, *blocks), "coefficients": (2, 3)}
        grid = kind.grid(rows * BLOCK, columns * BLOCK)
        return {
            TOKENS: (torch.int16, (count, *grid, kind.channels)),
            "shapes": (torch.uint8, (count, *grid)),
            **{name: (SIDE_TYPES[name], (count, *shapes[name])) for name in _SIDE},
            "fineness": (FINENESS_TYPE, (count, *self._coder.blocks(layout.geometry, 0))),
            "strengths": (torch.uint8, (count,)),
            "kinds": (torch.uint8, slices),
            "gains": (torch.int8, slices),
        }

    @computing(by_kernels=True)
    def check(self, level: int, arrays: Mapping[str, Tensor]) -> None:
        """Check the values of a level's arrays one by one; as ``TokenForm.check``."""
        ranges = {
            TOKENS: (-LARGEST, LARGEST),
            "shapes": (0, 1),
            "choices": (0, CHOICES - 1),
            "fineness": (-FINEST, FINEST),
            "strengths": (0, STRENGTH_VALUES - 1),
            "kinds": (0, KINDS - 1),
            "gains": (-MAX_SLICE_GAIN, MAX_SLICE_GAIN),
        }
        if level == 0:  # finer ones are what the coarser ones say
            ranges["coefficients"] = (-NUMBERS // 2, NUMBERS // 2 - 1)
        for name, (least, most) in ranges.items():
            low, high = (int(end) for end in arrays[name].aminmax())
            if low < least or high > most:
                found = low if low < least else high
                raise ValueError(f"level {level}: {name} of {least} to {most}, found {found}")

    def pieces(self, tokens: Tokens, levels: int, clip: int) -> Iterator[Piece]:
        """A clip, slice by slice; as ``TokenForm.pieces``."""
        for found in self._slices(tokens, levels, clip):
            yield LoopPiece(self._coder, tokens.layout.geometry, found)

    def sections(self, tokens: Tokens, clip: int) -> list[bytes]:
        """The sections of a clip; as ``TokenForm.sections``."""
        slices = self._slices(tokens, len(tokens.levels), clip)
        packets = [[SlicePacket(coded.packet, coded.gain, coded.kind) for coded in found] for found in slices]
        return [joined(level) for level in zip(*packets, strict=True)]

    def _slices(self, tokens: Tokens, levels: int, clip: int) -> Iterator[list[CodedSlice]]:
        """Every level of each slice of a clip."""
        shots = loop_shots(tokens.layout)
        loop, first = self._coder.clip(tokens.layout.geometry, levels), shots.frames(clip).start
        for number, frames in enumerate(shots.slices(clip), start=shots.first_slice(clip)):
            place = range(first + frames.start, first + frames.stop)
            found: list[CodedSlice] = []
            for level in range(levels):
                try:
                    found.append(self._slice(loop, tokens, level, number, place, found))
                except ValueError as error:
                    message = f"level {level}, frames {place[0]} to {place[-1]}: {error}"
                    raise UnfitError(message) from error
            yield found

    @computing(by_kernels=True)
    def _slice(
        self,
        loop: ClipLoop,
        tokens: Tokens,
        level: int,
        number: int,
        place: range,
        coarser: Sequence[CodedSlice],
    ) -> CodedSlice:
        """One level of a slice, whose frames have this place in the video."""
        arrays, device, opens = tokens.arrays(level), self._coder.device, loop.past(level) is None
        given = []
        for at in place:
            side = Side(**{name: arrays[name][at].to(device).long() for name in _SIDE})
            if opens and not _same(side, base_alone(side.choices)):
                raise ValueError(f"an opening key has choices of {BASE_CHOICE} and else 0")
            fineness = arrays["fineness"][at].to(device).long()
            residual = Residual(arrays[TOKENS][at].to(device), arrays["shapes"][at].to(device).bool())
            if bool((residual.quartered & ~residual.symbols.any(-1)).any()):
                raise ValueError("a token without symbols has a shape of 0")
            strength = int(arrays["strengths"][at])
            given.append(PictureTokens(None if opens else side, residual, fineness, strength))
        kind, gain = int(arrays["kinds"][number]), int(arrays["gains"][number])
        coded = loop.encode(level, given, coarser[-1].pictures if coarser else [], kind, gain)
        for mine, theirs in zip(given, coded.pictures, strict=True):
            if mine.side is not None and theirs.side is not None and not _same(mine.side, theirs.side):
                raise ValueError("vectors or coefficients are not those that choices and coarser levels say")
            if not torch.equal(mine.fineness, theirs.fineness):
                raise ValueError("fineness is that of the coarser level, and 0 between keys")
            if mine.strength != theirs.strength:
                raise ValueError(f"a picture that is not restored has a strength of {USUAL_STRENGTH}")
        return coded


def _same(a: Side, b: Side) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in _SIDE)
