"""Motion search of the encoder: where in another picture each block is found, from coarse to fine on luma.

What it finds is only a proposal: a decoder needs none of it, so it may use floating point.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mptvc.model.motion import BLOCK, UNITS, Reference, luma_of
from mptvc.model.pyramid import reduce

#: For each size of the pictures, from coarse to fine: how often they are halved, then for each round the
#: reach in steps, the step in quarter pixels, and whether the vectors of neighbours are tried.
_ROUNDS = (
    (3, ((4, 4, True),)),
    (2, ((1, 4, True),)),
    (1, ((1, 4, True), (1, 2, False))),
    (0, ((1, 2, True), (1, 1, False))),
)
#: Pixels that are compared at once, for memory.
_PIECE = 2**22
#: Smallest block that is looked for in a halved picture; a smaller one is found anywhere.
_SMALLEST = 4
#: Price of a pixel by which a vector differs from those around it, in mean absolute difference of luma: it
#: costs bits and is seldom true motion.
_PRICE = 0.25
_MOST_PIXELS = 8.0


class Luma:
    """Luma of a picture and of its halvings, as search needs it.

    Args:
        picture: uint8 ``[3, H, W]``, sides of whole blocks.
    """

    def __init__(self, picture: Tensor) -> None:
        self.halvings = [luma_of(picture).to(torch.int16)]
        for _ in range(_ROUNDS[0][0]):
            self.halvings.append(reduce(self.halvings[-1]))
        self.references = [Reference(h.to(torch.uint8)) for h in self.halvings]


@dataclass(frozen=True)
class Found:
    """Where blocks are found.

    Attributes:
        vectors: In quarter pixels, int64 ``[2, h, w]``.
        difference: Mean absolute difference of luma that is left.
    """

    vectors: Tensor
    difference: float


def search(reference: Luma, target: Luma) -> Found:
    """Where a reference shows the blocks of a target."""
    vectors = torch.zeros(2, 1, 1, dtype=torch.int64, device=target.halvings[0].device)
    for halvings, rounds in _ROUNDS:
        block = max(BLOCK >> halvings, _SMALLEST)
        looking = _Blocks(reference.references[halvings], target.halvings[halvings], block)
        vectors = _spread(2 * vectors, looking.grid)
        for reach, step, with_neighbours in rounds:
            vectors, difference = looking.improved(vectors, reach, step, with_neighbours)
    return Found(vectors, difference)


class _Blocks:
    """The blocks of a picture, to be found in another one of its size."""

    def __init__(self, reference: Reference, target: Tensor, block: int) -> None:
        _, height, width = target.shape
        self.grid = rows, columns = max(1, height // block), max(1, width // block)
        self._reference, self._block = reference, block
        device = target.device
        self._top = torch.arange(rows, device=device)[:, None] * block * UNITS
        self._left = torch.arange(columns, device=device)[None] * block * UNITS
        whole = target[:, : rows * block, : columns * block]
        missing = (0, columns * block - whole.shape[2], 0, rows * block - whole.shape[1])
        whole = F.pad(whole.float(), missing, mode="replicate").to(torch.int16) if any(missing) else whole
        self._target = whole.view(rows, block, columns, block).permute(0, 2, 1, 3).reshape(-1, block, block)

    def improved(self, vectors: Tensor, reach: int, step: int, with_neighbours: bool) -> tuple[Tensor, float]:
        """The best for every block of the vectors nearby, of its four neighbours, or none.

        At an edge of the picture a neighbour is taken from the opposite one: any vector may be tried.
        """
        places = [step * d for d in range(-reach, reach + 1)]
        tried = [vectors + vectors.new_tensor((y, x))[:, None, None] for y in places for x in places]
        if with_neighbours:
            tried += [torch.roll(vectors, by, axis) for by, axis in ((1, 1), (-1, 1), (1, 2), (-1, 2))]
            tried.append(torch.zeros_like(vectors))
        candidates = torch.stack(tried)
        smooth = F.avg_pool2d(F.pad(vectors.float()[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0]
        apart = (candidates - smooth).abs().sum(1).div_(UNITS).clamp_(max=_MOST_PIXELS)  # [tried, h, w]
        differences = self._differences(candidates) / self._block**2
        best = (differences + _PRICE * apart).argmin(0)
        difference = float(differences.gather(0, best[None]).mean())
        return candidates.gather(0, best.expand(1, 2, *self.grid))[0], difference

    def _differences(self, tried: Tensor) -> Tensor:
        """Sums of absolute differences ``[n, h, w]`` of all blocks for vectors ``[n, 2, h, w]``, float32."""
        top, left = self._top + tried[:, 0], self._left + tried[:, 1]
        at_once = max(1, _PIECE // self._target.numel())
        pieces = zip(torch.split(top, at_once), torch.split(left, at_once), strict=True)
        return torch.cat([self._difference(*piece) for piece in pieces]).view(len(tried), *self.grid)

    def _difference(self, top: Tensor, left: Tensor) -> Tensor:
        found = self._reference.windows(top.flatten(), left.flatten(), self._block)
        apart = found.view(len(top), *self._target.shape).sub_(self._target).abs_()
        return apart.flatten(2).float().sum(2)


def _spread(vectors: Tensor, grid: tuple[int, int]) -> Tensor:
    """Vectors ``[2, h, w]`` for a finer grid."""
    rows = torch.arange(grid[0], device=vectors.device) * vectors.shape[1] // grid[0]
    columns = torch.arange(grid[1], device=vectors.device) * vectors.shape[2] // grid[1]
    return vectors[:, rows[:, None], columns]
