"""Restoration of coded tokens, in the loop, in exact integers: small filters for what a picture looks like.

Quantization leaves errors that depend on what is around a pixel: noise where little is seen, steps along
edges, lost texture. Every block of 4 x 4 pixels of a coded token has a **class** by how strongly and in which
direction it bends, compared with the quantization step; each class has a filter of its own, which was fitted
to what training clips lose. Tokens without symbols were restored when they were coded, and stay as they are.

Of a pixel p, of each colour, and a pair of pixels on opposite sides of it, a filter takes the sum of what
these differ by from p, and the same sum where each difference is kept to a quarter of the step: small
differences are noise more often, large ones are edges. There are six such pairs, up to two pixels away. Last
it takes what the prediction differs by, kept to half of the step.

- **Bends** are ``|2 y(p) - y(p - d) - y(p + d)|`` with ``y = R + 2 G + B``, along the row, along the column
  and along both diagonals, each summed over all columns and every second row of 8 x 8 pixels, of which the
  block is the middle. Beyond its border a picture goes on as its last pixels.
- **Directions**: none, or one of four, weakly or strongly, by the larger over the smaller bend of both axes,
  or of both diagonals where that ratio is larger.
- **Sharpness**: bends of both axes over the step, in octaves.

What filters give counts by the **strength** of its picture, in quarters, which is coded with it: scenes
differ, and what helps every picture by itself may hurt a chain of them. A strength is coded under that of the
last picture of the same kind, by rows that halve with every quarter between them.

Source: Tsai et al., "Adaptive Loop Filtering for Video Coding", 2013; Karczewicz et al., "VVC In-Loop
Filters", 2021, whose classes and clipped differences these are, with filters that need few bits.
"""

from collections.abc import Iterator
from math import log2
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mptvc.model.exchange import Exchange
from mptvc.model.integer_network import PRECISION, integer_frequencies
from mptvc.native import calls, pictures

#: Pixels along a block that has a class, and around a token that are looked at.
CELL, AROUND = 4, 3
#: One of each pair of pixels, the other lies opposite.
PAIRS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))
TAPS = 2 * len(PAIRS) + 1
#: Directions, and sharpness: octaves from a fortieth of the step on.
_DIRECTIONS, _OCTAVES, _LEAST = 9, 8, 40
CLASSES = _DIRECTIONS * _OCTAVES
#: Bends are compared as ratios of small integers, after this was added to their sums.
_FLAT, _WEAK, _STRONG = 13, (3, 2), (5, 2)
#: Filters are multiples of one over 2 to the power of this, and at most so many of these.
FILTER_BITS, MOST_FILTER = 10, 2047
#: Steps are multiples of one over this.
STEP_UNITS = 256
#: Strengths are multiples of one over this; values of them, and the one of a picture that none is coded for.
_STRENGTH_PARTS, STRENGTH_VALUES, USUAL_STRENGTH = 4, 9, 4
#: Coded tokens up to which all of them choose the strength; of more, one of so many.
_FEW, _SAMPLED = 128, 4
#: Pixels that tensors work on at once, so that what they make stays in the cache; and on a GPU.
_AT_ONCE, _AT_ONCE_ON_GPU = 2**17, 2**21


class Windows(NamedTuple):
    """Some tokens and what is around them.

    Attributes:
        pixels: Decoded ones, int32 ``[n, 3, p + 6, p + 6]``.
        prediction: Predicted ones of the tokens alone, int32 ``[n, 3, p, p]``.
        units: Quantization steps in 256ths, int32 ``[n]``.
    """

    pixels: Tensor
    prediction: Tensor
    units: Tensor

    @property
    def inner(self) -> Tensor:
        """Decoded pixels of the tokens alone."""
        return self.pixels[..., AROUND:-AROUND, AROUND:-AROUND]


class Restoration(nn.Module):
    """The filters of one kind of picture at one level.

    Attributes:
        filters: int16 ``[CLASSES, TAPS]``, in 1024ths; 0 leaves a picture as it is.
    """

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", torch.zeros(CLASSES, TAPS, dtype=torch.int16))

    def forward(
        self,
        picture: Tensor,
        prediction: Tensor,
        coded: Tensor,
        steps: Tensor,
        strength: int = USUAL_STRENGTH,
    ) -> Tensor:
        """A picture with restored tokens.

        Args:
            picture: What was decoded, uint8 ``[3, H, W]``.
            prediction: What it was predicted from.
            coded: Which tokens hold symbols, bool ``[h, w]``; only these change.
            steps: Quantization step of each token, of multiples of 1/256, float32 ``[h, w]``.
            strength: In quarters.

        Returns:
            uint8 ``[3, H, W]``.
        """
        units = step_units(steps)
        if calls.serve(picture.device):
            given = map(calls.array, (picture, prediction, coded, units, self.filters))
            return torch.from_numpy(pictures.restored(*given, strength=strength))
        result, patch = picture.clone(), picture.shape[1] // coded.shape[0]
        cells = _tokens(result, coded.shape)
        most = (_AT_ONCE_ON_GPU if picture.is_cuda else _AT_ONCE) // patch**2
        for places in torch.split(coded.nonzero(), most):
            found = windows(picture, prediction, units, places)
            cells[places[:, 0], places[:, 1]] = self._restored(found, strength)
        return result

    def _restored(self, given: Windows, strength: int) -> Tensor:
        """Tokens uint8 ``[n, 3, p, p]``."""
        filters = self.filters.int()[classes(given)]  # [n, p, p, TAPS]
        total, unit = torch.zeros_like(given.inner), _STRENGTH_PARTS * 2**FILTER_BITS
        for tap, difference in enumerate(differences(given)):
            total.addcmul_(filters[:, None, ..., tap], difference)
        change = torch.div(total * strength + unit // 2, unit, rounding_mode="floor")
        return given.inner.add(change).clamp_(0, 255).to(torch.uint8)


def chosen_strength(restoration: Restoration, found: tuple[Tensor, ...], wanted: Tensor) -> int:
    """The strength of a picture's restoration, halfway from 1 to that at which it is most like another one.

    Others are predicted from it: on 16 training crops all the way gains 0.01 / 0.04 / 0.01 dB over 1 at 0.02,
    0.15 and 0.6 bits per pixel and loses 0.1 on some, halfway 0.01 / 0.04 / 0.02 and next to nothing. Of many
    tokens a part says it.

    Args:
        restoration: Its filters.
        found: What they are given.
        wanted: The picture as it should be, uint8 ``[3, H, W]``.
    """
    picture, prediction, coded, steps = found
    places = coded.nonzero()
    places, some = places[:: _SAMPLED if len(places) > _FEW else 1], torch.zeros_like(coded)
    some[places[:, 0], places[:, 1]] = True
    restored: Tensor = restoration(picture, prediction, some, steps)
    before, after, goal = (
        _tokens(x, some.shape)[places[:, 0], places[:, 1]].int() for x in (picture, restored, wanted)
    )
    change, error = after - before, goal - before
    squares = int((change * change).sum())
    best = int((change * error).sum()) / squares if squares else 1.0
    return min(max(round(_STRENGTH_PARTS * (1 + best) / 2), 0), STRENGTH_VALUES - 1)


def _tokens(picture: Tensor, grid: tuple[int, ...]) -> Tensor:
    """The tokens ``[h, w, 3, p, p]`` of a picture."""
    (rows, columns), patch = grid, picture.shape[1] // grid[0]
    return picture.view(3, rows, patch, columns, patch).permute(1, 3, 0, 2, 4)


def strength_frequencies() -> Tensor:
    """The table of strengths, int32 ``[last strength, strength]``."""
    last, value = np.ogrid[:STRENGTH_VALUES, :STRENGTH_VALUES]
    return integer_frequencies(2.0 ** -np.abs(value - last))


def coded_strength(exchange: Exchange, last: int, strength: int | None) -> int:
    """Code a strength under that of the last picture of its kind; nothing is given to decode."""
    rows, middle = np.array([last], np.uint8), STRENGTH_VALUES // 2
    given = None if strength is None else np.array([strength - middle], np.int16)
    return int(exchange(rows, given, 0)[0]) + middle


def strength_bits(last: int, strength: int) -> float:
    """Bits that a strength takes."""
    return PRECISION - log2(int(strength_frequencies()[last, strength]))


def step_units(steps: Tensor) -> Tensor:
    """Quantization steps in their units, int32."""
    return (steps * STEP_UNITS).int()


def windows(picture: Tensor, prediction: Tensor, units: Tensor, places: Tensor) -> Windows:
    """What is around some tokens.

    Args:
        picture: What was decoded, uint8 ``[3, H, W]``.
        prediction: What it was predicted from.
        units: Quantization step of each token, in 256ths, int32 ``[h, w]``.
        places: Rows and columns of tokens, int64 ``[n, 2]``.
    """
    _, height, width = picture.shape
    patch, (row, column) = height // units.shape[0], places.T
    reach = torch.arange(-AROUND, patch + AROUND, device=picture.device)
    y = (patch * row[:, None] + reach).clamp_(0, height - 1)[:, :, None]
    x = (patch * column[:, None] + reach).clamp_(0, width - 1)[:, None]
    pixels, mine = picture[:, y, x], slice(AROUND, patch + AROUND)
    inner = prediction[:, y[:, mine], x[..., mine]]
    return Windows(pixels.transpose(0, 1).int(), inner.transpose(0, 1).int(), units[row, column])


def classes(given: Windows) -> Tensor:
    """Class of each pixel of tokens, int64 ``[n, p, p]``."""
    red, green, blue = given.pixels.unbind(1)
    luma = red + 2 * green + blue
    size = luma.shape[1]
    middle = luma[:, 1 : size - 1 : 2, 1:-1]  # every second row
    along, across, falling, rising = (
        _block_sums((2 * middle - _moved(luma, -down, -right) - _moved(luma, down, right)).abs_())
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1))
    )
    axes, diagonals = _ordered(along + _FLAT, across + _FLAT), _ordered(falling + _FLAT, rising + _FLAT)
    is_diagonal = diagonals[0] * axes[1] > axes[0] * diagonals[1]
    larger, smaller = (torch.where(is_diagonal, d, a) for d, a in zip(diagonals, axes, strict=True))
    weak, strong = (low * larger > high * smaller for high, low in (_WEAK, _STRONG))
    degree = weak.long() + strong.long()
    way = torch.where(is_diagonal, 2 + (falling > rising).long(), (along > across).long())
    direction = torch.where(degree > 0, 2 * way + degree, 0)
    ratios = given.units.long()[:, None, None, None] << torch.arange(_OCTAVES - 1, device=luma.device)
    sharpness = (_LEAST * (along + across)[..., None] >= ratios).sum(-1)
    found = sharpness * _DIRECTIONS + direction
    return found.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)


def _moved(luma: Tensor, down: int, right: int) -> Tensor:
    """Every second row of luma ``[n, S, S]``, from elsewhere, without the outermost pixels."""
    size = luma.shape[1]
    return luma[:, 1 + down : size - 1 + down : 2, 1 + right : size - 1 + right]


def _block_sums(bends: Tensor) -> Tensor:
    """Sums int64 over 8 x 8 pixels around every block, of every second row, ``[n, p / 4, p / 4]``."""
    tokens, rows, columns = bends.shape
    parts = bends.view(tokens, rows // 2, 2, columns // CELL, CELL).long().sum((2, 4))
    pairs = parts[:, 1:] + parts[:, :-1]
    return pairs[..., 1:] + pairs[..., :-1]


def _ordered(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The larger and the smaller of both."""
    return torch.maximum(a, b), torch.minimum(a, b)


def differences(given: Windows) -> Iterator[Tensor]:
    """What each tap of a filter takes of every pixel, int32 ``[n, 3, p, p]``."""
    size, inner = given.pixels.shape[-1], given.inner
    limit = ((given.units + 2 * STEP_UNITS) >> 10).clamp_(1, 255)[:, None, None, None]

    def other(down: int, right: int) -> Tensor:
        rows, columns = (slice(AROUND + by, size - AROUND + by) for by in (down, right))
        return given.pixels[..., rows, columns] - inner

    for down, right in PAIRS:
        one, opposite = other(down, right), other(-down, -right)
        yield one + opposite
        yield one.clamp(-limit, limit) + opposite.clamp(-limit, limit)
    yield (given.prediction - inner).clamp(-2 * limit, 2 * limit)
