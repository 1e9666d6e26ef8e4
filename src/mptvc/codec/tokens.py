"""A video as integers: tokens of either form, and what each form does with them.

Arrays of a level have names, under which files hold them too: `TOKENS` itself and, with prediction, the
fields of `Prediction`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from mptvc.codec.coder import Piece
from mptvc.format.header import Layout

#: The name of a level's tokens among its arrays.
TOKENS = "tokens"


class UnfitError(ValueError):
    """Tokens that do not fit each other."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """How the frames of one level are predicted, and tokens transformed: what a decoder needs beside these.

    T frames of the whole video are in S slices of up to four. The first frame of a clip is a slice by itself,
    its **opening key**, predicted from no other frame. A block is 16 x 16 pixels of the level's picture,
    which with the packaged weights is half as high and wide as the source at level 0, and as large as the
    source at levels 1 and 2. Arrays hold all that a decoder knows, so some of it twice: a vector is what its
    choice says, and finer levels' coefficients follow from those of level 0: the camera's motion between the
    same frames, twice as large where the picture is.

    Attributes:
        shapes: Of each token, uint8 ``[T, H, W]``: 1 where it is quartered, 0 elsewhere and where it holds
            nothing.
        choices: Of each block, uint8 ``[T, h, w]``. 28 is the coarser level's picture alone, at level 0 plain
            gray, as everywhere in an opening key; others are ``7 * vector + blend``. Vectors: 0 that of the
            whole picture's motion, 1 none, 2 one of its own, 3 that of the coarser level's block (at level 0,
            between keys: of a frame further off that was coded before), for as many frames, and as the camera
            moves. Blends: 0 what the vector finds in the last decoded frame before it, 1 the mean of that and
            of what lies on its line, bent as the camera's path is, in the other frame that a decoder has, 2
            as 0 with neighbours' vectors under a window, 3 the mean of 0 and the coarser level, 4 what lies
            in the other frame alone, 5 as 1 under windows, 6 the mean of 1 and the coarser level.
        vectors: Of each block (dy, dx) in quarter pixels, int32 ``[T, 2, h, w]``; one of its own is at most
            127 from that of the whole picture's motion along each axis.
        coefficients: The whole picture's motion from the frame that vectors lead to, of dy and of dx, in
            sixteenths of a quarter pixel, int32 ``[T, 2, 3]``: what is added at the lower edge and taken away
            at the upper one, the same of right and left, and what is added everywhere. 0 for an opening key.
        fineness: How much more finely each block of level 0 is quantized than the picture, int8
            ``[T, h0, w0]`` at every level, -3 to 3, 0 between keys: half an octave of the step each with the
            packaged weights, a quarter at level 2.
        strengths: How much of what filters give counts in each frame, in quarters, uint8 ``[T]``, 0 to 8; 4
            where the weights have no filters or nothing is left of a frame.
        kinds: Of each slice, uint8 ``[S]``, 0 to 2: its every ``2**kind``-th frame is a key, and its last
            one; others lie between frames that are coded before them.
        gains: Of each slice, how much finer than in training it is quantized, int8 ``[S]``, -96 to 96 in
            24ths of an octave.
    """

    shapes: Tensor
    choices: Tensor
    vectors: Tensor
    coefficients: Tensor
    fineness: Tensor
    strengths: Tensor
    kinds: Tensor
    gains: Tensor

    def __eq__(self, other: object) -> bool:
        """Whether all arrays are the same."""
        if not isinstance(other, Prediction):
            return NotImplemented
        return all(torch.equal(a, b) for a, b in zip(self.arrays, other.arrays, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def arrays(self) -> list[Tensor]:
        """All of them, in their order."""
        return [getattr(self, field.name) for field in fields(self)]


#: Names of the arrays of a level with prediction beside its tokens.
PREDICTION = tuple(field.name for field in fields(Prediction))


@dataclass(frozen=True, eq=False)
class Tokens:
    """A video as integers.

    Attributes:
        levels: The tokens of each level. Without prediction uint8 ``[T, H, W, C]``: temporal slices of the
            whole video, the level's token grid, channels; values 0 to ``config.levels[k].values[c] - 1``.
            With prediction int16 ``[T, H, W, C]``: frames, grid, and for each of three colours (luma, red
            less blue, red and blue less green) the DCT frequencies along x, and for each those along y, of
            what prediction left, in quantization steps; 0 where nothing is coded. Of a quartered token each
            is twice there along both axes: of the left and the right quarters, and of the upper and the
            lower ones.
        layout: Geometry, shots and gains of the video; the header of a file is one.
        predictions: With prediction how the frames of each level are predicted; empty without.
    """

    levels: tuple[Tensor, ...]
    layout: Layout
    predictions: tuple[Prediction, ...] = ()

    def __eq__(self, other: object) -> bool:
        """Whether all tokens and their layout are the same."""
        if not isinstance(other, Tokens):
            return NotImplemented
        same = len(self.levels) == len(other.levels) and all(map(torch.equal, self.levels, other.levels))
        return same and (self.layout, self.predictions) == (other.layout, other.predictions)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(cls, levels: "Sequence[Mapping[str, Tensor]]", layout: Layout) -> "Tokens":
        """Tokens of the arrays of each level, by name."""
        predictions = [
            Prediction(**{name: arrays[name] for name in PREDICTION}) for arrays in levels if len(arrays) > 1
        ]
        return cls(tuple(arrays[TOKENS] for arrays in levels), layout, tuple(predictions))

    def arrays(self, level: int) -> dict[str, Tensor]:
        """The arrays of a level, by name."""
        found = {TOKENS: self.levels[level]}
        if level < len(self.predictions):
            found |= zip(PREDICTION, self.predictions[level].arrays, strict=True)
        return found


#: For each array of a level, by name, its type and shape.
Specification = dict[str, tuple[torch.dtype, tuple[int, ...]]]


def dtype_name(dtype: torch.dtype) -> str:
    """A type as numpy calls it too."""
    return str(dtype).removeprefix("torch.")


class TokenForm(Protocol):
    """What weights of one form do with tokens."""

    def specification(self, layout: Layout, level: int) -> Specification:
        """The arrays that a level of a video has."""

    def check(self, level: int, arrays: Mapping[str, Tensor]) -> None:
        """Check the values of a level's arrays, which have the right types and shapes.

        Raises:
            ValueError: One is out of range.
        """

    def pieces(self, tokens: Tokens, levels: int, clip: int) -> Iterator[Piece]:
        """A clip, piece by piece, with its first levels.

        Raises:
            UnfitError: Values do not fit each other.
        """

    def sections(self, tokens: Tokens, clip: int) -> list[bytes]:
        """The sections of a clip, one for each level; errors as for ``pieces``."""
