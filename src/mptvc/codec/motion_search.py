"""Motion search of the encoder: where in another picture each block is found, from coarse to fine on luma.

What it finds is only a proposal: a decoder needs none of it, so it may use floating point.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mptvc.model.motion import BLOCK, MARGIN, UNITS, Reference, luma_of
from mptvc.model.prediction import mean_of
from mptvc.model.pyramid import halved
from mptvc.native import calls, choices

#: For each size of the pictures but the smallest, from coarse to fine: how often they are halved, and the
#: steps in quarter pixels by which vectors are improved.
_ROUNDS = ((2, (4,)), (1, (4, 2)), (0, (2, 1)))
#: How often the smallest pictures are halved, and how many of their pixels a block is looked for to a side.
_SMALLEST, _REACH = 3, 4
#: Side of the smallest block that is looked for in a halved picture; a smaller one is found anywhere.
_LEAST_SIDE = 4
_SQUARE = tuple(product((-1, 0, 1), repeat=2))
#: Price of a pixel by which a vector differs from those around it, in mean absolute difference of luma: it
#: costs bits and is seldom true motion.
_PRICE = 0.25
_MOST_PIXELS = 8.0


class Luma:
    """Luma of a picture and of its halvings, as search needs it.

    Args:
        picture: uint8 ``[3, H, W]``, sides of whole blocks in the smallest picture that is searched.
        halvings: How often the smallest picture that is searched is halved.

    Attributes:
        halvings: Luma of the picture and of each halving, uint8 ``[1, H, W]``.
        references: The same to look in.
    """

    def __init__(self, picture: Tensor, halvings: int = 0) -> None:
        self.halvings = [luma_of(picture)]
        for _ in range(halvings + _SMALLEST):
            self.halvings.append(halved(self.halvings[-1]))
        self.references = [Reference(halving) for halving in self.halvings]

    def texture(self, halvings: int) -> Tensor:
        """Mean absolute difference of neighbouring pixels in each block of a size, float32 ``[h, w]``."""
        picture = self.halvings[halvings][0].float()
        down, right = (
            F.pad(picture.diff(dim=axis).abs_(), end) for axis, end in ((0, (0, 0, 0, 1)), (1, (0, 1)))
        )
        return F.avg_pool2d((down + right)[None] / 2, BLOCK)[0]


@dataclass(frozen=True)
class Found:
    """Where blocks are found.

    Attributes:
        vectors: In quarter pixels, int64 ``[2, h, w]``.
        differences: Mean absolute differences of luma that are left, float32 ``[h, w]``.
    """

    vectors: Tensor
    differences: Tensor


def search(reference: Luma, target: Luma, halvings: int = 0, likely: Tensor | None = None) -> Found:
    """Where a reference shows a target's blocks.

    Args:
        reference: Where to look.
        target: What to look for.
        halvings: Of the pictures whose blocks are looked for.
        likely: Vectors that are tried too, int64 ``[2, h, w]``.
    """
    smallest, differences = halvings + _SMALLEST, torch.empty(0)
    vectors = _Blocks(reference, target, smallest, _side(_SMALLEST)).everywhere()
    for smaller, steps in _ROUNDS:
        looking = _Blocks(reference, target, halvings + smaller, _side(smaller))
        start = [_spread(2 * vectors, looking.grid)]
        if likely is not None and not smaller:
            start.append((likely + UNITS // 2) // UNITS * UNITS)
        vectors = looking.of_neighbours(start)
        for step in steps:
            vectors, differences = looking.improved(vectors, step)
    return Found(vectors, differences)


def refined(reference: Luma, target: Luma, halvings: int, coarse: Tensor) -> Found:
    """The same near vectors int64 ``[2, h, w]`` that are known of the pictures of half the size.

    All but the last quarter of a pixel is found in those.
    """
    looking = _Blocks(reference, target, halvings + 1, _side(1))
    vectors = looking.of_neighbours([_spread(coarse // 2 * 2, looking.grid)])
    for step in (2, 1):
        vectors, _ = looking.improved(vectors, step)
    return Found(*_Blocks(reference, target, halvings, BLOCK).improved(2 * vectors, 1))


def _side(halvings: int) -> int:
    return max(BLOCK >> halvings, _LEAST_SIDE)


def _extended(picture: Tensor, before: int, height: int, width: int) -> Tensor:
    """Rows and columns of ``[H, W]`` from ``-before`` to ``height`` and ``width``, edges repeated, int16."""
    rows, columns = (
        torch.arange(-before, end, device=picture.device).clamp_(0, size - 1)
        for end, size in zip((height, width), picture.shape, strict=True)
    )
    return picture[rows[:, None], columns].to(torch.int16)


class _Blocks:
    """The blocks of a picture, to be found in another one of its size."""

    def __init__(self, reference: Luma, target: Luma, halvings: int, side: int) -> None:
        self._target, self._reference = target.halvings[halvings][0], reference.references[halvings]
        height, width = self._target.shape
        self.grid, self._side = (max(1, height // side), max(1, width // side)), side

    @cached_property
    def _picture(self) -> Tensor:
        """The target, int16, and what its edges show where it is smaller than a block."""
        rows, columns = self.grid
        return _extended(self._target, 0, rows * self._side, columns * self._side)

    @cached_property
    def _blocks(self) -> Tensor:
        """The blocks ``[h w, side, side]``."""
        (rows, columns), side = self.grid, self._side
        return self._picture.view(rows, side, columns, side).transpose(1, 2).reshape(-1, side, side)

    @cached_property
    def _starts(self) -> tuple[Tensor, Tensor]:
        """Where blocks start, in quarter pixels, ``[h, 1]`` and ``[w]``."""
        top, left = (torch.arange(count, device=self._target.device) for count in self.grid)
        return top[:, None] * self._side * UNITS, left * self._side * UNITS

    def everywhere(self) -> Tensor:
        """The best of all vectors of whole pixels up to ``_REACH``, int64 ``[2, h, w]``."""
        if calls.serve(self._target.device):
            return torch.from_numpy(self._kernel(self._reference.whole).everywhere(_REACH))
        (rows, columns), side = self.grid, self._side
        height, width = rows * side, columns * side
        wide = _extended(self._reference.picture[0], _REACH, height + _REACH, width + _REACH)
        places = list(product(range(-_REACH, _REACH + 1), repeat=2))
        costs = []
        for y, x in places:
            apart = wide[_REACH + y :, _REACH + x :][:height, :width] - self._picture
            sums = apart.abs_().view(rows, side, columns, side).sum((1, 3), dtype=torch.int32)
            costs.append(sums / side**2 + _PRICE * (abs(y) + abs(x)))
        best = torch.stack(costs).argmin(0)
        return UNITS * self._target.new_tensor(places, dtype=torch.int64)[best].permute(2, 0, 1)

    def of_neighbours(self, starts: list[Tensor]) -> Tensor:
        """The best for every block of its own vectors, its four neighbours', or none; of halves of pixels.

        At an edge of the picture a neighbour is taken from the opposite one: any vector may be tried.
        """
        if calls.serve(self._target.device):
            return self._best_at_once(starts, 0)[0]
        vectors, sides = starts[0], ((1, 1), (-1, 1), (1, 2), (-1, 2))
        rolled = [torch.roll(start, by, axis) for start in starts for by, axis in sides]
        tried = torch.stack([*starts, *rolled, torch.zeros_like(vectors)])
        return self._best(vectors, tried, (self._half_pixels(*vector) for vector in tried))[0]

    def improved(self, vectors: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The best of the vectors around, and the mean differences that they leave ``[h, w]``.

        Args:
            vectors: Of whole pixels for a step of 4, of halves for one of 2 or 1, int64 ``[2, h, w]``.
            step: Distance in quarter pixels.
        """
        if calls.serve(self._target.device):
            return self._best_at_once([vectors], step)
        tried = torch.stack([vectors + step * vectors.new_tensor(p)[:, None, None] for p in _SQUARE])
        find = {4: self._pixels_around, 2: self._halves_around, 1: self._quarters_around}[step]
        return self._best(vectors, tried, find(vectors))

    def _best_at_once(self, starts: list[Tensor], step: int) -> tuple[Tensor, Tensor]:
        """The same by a compiled kernel; ``step`` is 0 for neighbours."""
        is_whole = step in (0, UNITS) and not any(bool((start & (UNITS - 1)).any()) for start in starts)
        kernel = self._kernel(self._reference.whole if is_whole else self._reference.planes)
        vectors, differences = kernel.best(list(map(calls.array, starts)), step)
        return torch.from_numpy(vectors), torch.from_numpy(differences)

    def _kernel(self, planes: Tensor) -> choices.Search:
        target = calls.array(self._target)
        return choices.Search(planes.numpy(), MARGIN, target, self._side, (_PRICE, _MOST_PIXELS))

    def _best(self, vectors: Tensor, tried: Tensor, found: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """The best of vectors ``[n, 2, h, w]`` that find these blocks, near those of blocks around."""
        smooth = F.avg_pool2d(F.pad(vectors.float()[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0]
        apart = (tried - smooth).abs().sum(1).div_(UNITS).clamp_(max=_MOST_PIXELS)
        differences = torch.stack([self._difference(blocks) for blocks in found]) / self._side**2
        best = (differences + _PRICE * apart).argmin(0)
        return tried.gather(0, best.expand(1, 2, *self.grid))[0], differences.gather(0, best[None])[0]

    def _difference(self, blocks: Tensor) -> Tensor:
        """Sums of absolute differences ``[h, w]`` of blocks that were found."""
        return (blocks - self._blocks).abs_().flatten(1).sum(1, dtype=torch.int32).view(self.grid)

    def _pixels_around(self, vectors: Tensor) -> Iterator[Tensor]:
        wide = self._half_pixels(vectors[0] - UNITS, vectors[1] - UNITS, self._side + 2)
        return (wide[:, 1 + y :, 1 + x :][:, : self._side, : self._side] for y, x in _SQUARE)

    def _halves_around(self, vectors: Tensor) -> Iterator[Tensor]:
        half = UNITS // 2
        return (self._half_pixels(vectors[0] + half * y, vectors[1] + half * x) for y, x in _SQUARE)

    def _quarters_around(self, vectors: Tensor) -> Iterator[Tensor]:
        """Means of what is found half a pixel to both sides, as `Reference.windows` takes them."""
        halves = dict(zip(_SQUARE, self._halves_around(vectors), strict=True))
        pairs = (((min(y, 0), min(x, 0)), (max(y, 0), max(x, 0))) for y, x in _SQUARE)
        return (mean_of(halves[a], halves[b]) for a, b in pairs)

    def _half_pixels(self, dy: Tensor, dx: Tensor, side: int | None = None) -> Tensor:
        """Blocks int16 ``[N, side, side]`` that vectors of whole or half pixels find."""
        top, left = (((start + by) >> 1).flatten() for start, by in zip(self._starts, (dy, dx), strict=True))
        return self._reference.half_windows(top, left, side or self._side)[:, 0]


def _spread(vectors: Tensor, grid: tuple[int, int]) -> Tensor:
    """Vectors ``[2, h, w]`` for a finer grid."""
    rows, columns = (np.arange(n) * coarse // n for n, coarse in zip(grid, vectors.shape[1:], strict=True))
    return torch.from_numpy(calls.array(vectors.cpu())[:, rows[:, None], columns]).to(vectors.device)
