"""What activities are coded under: what a decoder knows of a token before its own are.

Everything is integers: sums, weights and shifts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mptvc.model.envelope import Envelope
from mptvc.native import calls
from mptvc.native import contexts as kernels

#: Values of each of the two parts of a context, beside the class.
CONTEXTS = 16
#: Classes of tokens.
CLASSES = 12
#: Weighted sums of all activities around a token, in a 108th, from which more degrees of them are told apart.
_DEGREES = (4, 28, 54, 108, 162, 270, 432, 864, 1728)
#: Rows of what tells whether a token holds something.
CODED_ROWS = 2 * CLASSES * (len(_DEGREES) + 1)
#: Sums of a coarser token's activities from which it counts as a little, some or very active.
_PARENT_SUMS = (1, 4, 10)


@dataclass(frozen=True)
class Context:
    """What is known of a picture before its symbols are.

    Attributes:
        past: Activities of the picture before, integers ``[h, w, groups]``; zeros where there is none.
        classes: Class of each token, int64 ``[h, w]``, below ``CLASSES``.
        envelope: What the prediction says of the symbols of tokens (see `envelope`).
    """

    past: Tensor
    classes: Tensor
    envelope: Envelope


def token_classes(parents: Tensor | None, kinds: Tensor, grid: tuple[int, int]) -> Tensor:
    """Classes of tokens, int64 ``[h, w]``.

    Args:
        parents: Activities of the coarser level's tokens, uint8 ``[h', w', groups]``, of which each covers as
            many tokens along y as along x; None without one.
        kinds: How each block is predicted: 0 from decoded pictures, 1 also from its base, 2 from that alone,
            int64 ``[h'', w'']``; likewise.
        grid: Tokens along y and x.
    """
    if calls.serve(kinds.device):
        coarser = None if parents is None else calls.array(parents)
        return torch.from_numpy(kernels.token_classes(coarser, calls.array(kinds), grid))
    mine = repeated(kinds, grid[0] // kinds.shape[0])
    if parents is None:
        return mine
    sums = parents.sum(-1)
    active = torch.bucketize(sums, sums.new_tensor(_PARENT_SUMS), right=True)
    return 3 * repeated(active, grid[0] // parents.shape[0]) + mine


def outer_contexts(found: Tensor, context: Context, half: int) -> Tensor:
    """What contexts of all groups' activities say of other tokens and pictures, int64 ``[h, w, groups]``.

    Args:
        found: Activities of the first half for the second, ``[h, w, groups]``.
        context: What is known of the picture.
        half: 0 for the first tokens of a checkerboard, 1 for those between them.
    """
    before = around(context.past.long())
    if half == 0:
        outside = before.mul_(3).add_(27).div_(54, rounding_mode="floor")
    else:
        outside = before.mul_(2).add_(sum_of_neighbours(found), alpha=27).add_(54)
        outside.div_(108, rounding_mode="floor")
    outside.clamp_(max=CONTEXTS - 1)
    return outside.add_(context.classes[..., None], alpha=CONTEXTS).mul_(CONTEXTS)


def coded_rows(found: Tensor, context: Context, half: int) -> Tensor:
    """Rows int64 ``[h, w]``, below ``CODED_ROWS``, of what tells whether tokens hold something.

    Arguments as of ``outer_contexts``.
    """
    before = around(context.past.long()).sum(-1)
    total = 2 * before + 27 * sum_of_neighbours(found).sum(-1) if half else 4 * before
    degrees = torch.bucketize(total, total.new_tensor(_DEGREES), right=True)
    return (half * CLASSES + context.classes) * (len(_DEGREES) + 1) + degrees


def inner_context(found: np.ndarray, group: int, *, of_coded: bool) -> np.ndarray:
    """What a group's contexts say of the groups before it in the same tokens, from ``[groups, n]``.

    That is the largest of two, or, where these tokens are known to hold something, that none had any yet.
    """
    before: np.ndarray = found[:group]
    largest: np.ndarray = before[-2:].max(0, initial=0).clip(max=CONTEXTS - 1)
    return np.where(before.any(0), largest, CONTEXTS - 1) if of_coded else largest


def inner_contexts(found: Tensor, *, of_coded: bool) -> Tensor:
    """The same of all groups, ``[n, groups]`` from ``[n, groups]``."""
    before = F.pad(found, (2, 0)).clamp_(max=CONTEXTS - 1)
    largest = torch.maximum(before[:, :-2], before[:, 1:-1])
    if not of_coded:
        return largest
    return torch.where(found.cumsum(1) > found, largest, CONTEXTS - 1)


def all_contexts(
    found: Tensor, context: Context, *, of_coded: bool
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Contexts of a whole picture: of each half and group, its tokens bool ``[h, w]`` and their contexts.

    Of all tokens, or only of those that hold something.
    """
    for half, mine in enumerate(checkerboard(found)):
        told = mine & found.any(-1) if of_coded else mine
        contexts = outer_contexts(found, context, half)[told]
        contexts = contexts + inner_contexts(found[told], of_coded=of_coded)
        for group, ours in enumerate(contexts.T):
            yield half, group, told, ours


def around(past: Tensor) -> Tensor:
    """27 times weighted means of activities ``[h, w, groups]``: two thirds a token's own, the rest 3 x 3."""
    x = F.pad(past, (0, 0, 1, 1, 1, 1))
    x = x[:-2] + x[1:-1] + x[2:]
    return 18 * past + x[:, :-2] + x[:, 1:-1] + x[:, 2:]


def repeated(grid: Tensor, factor: int) -> Tensor:
    """Each place of a grid ``[h, w]`` so many times along both sides."""
    if factor == 1:
        return grid
    rows, columns = grid.shape
    spread = grid[:, None, :, None].expand(rows, factor, columns, factor)
    return spread.reshape(rows * factor, columns * factor)


def looked_up(values: tuple[int, ...], indexes: Tensor) -> Tensor:
    """What values there are at indexes int64, likewise."""
    if calls.serve(indexes.device):
        return torch.from_numpy(_array_of(values).take(calls.array(indexes)))  # in a quarter of the time
    return indexes.new_tensor(values)[indexes]


@cache
def _array_of(values: tuple[int, ...]) -> np.ndarray:
    return np.array(values, np.int64)


def checkerboard(grid: Tensor) -> tuple[Tensor, Tensor]:
    """The two halves of a checkerboard over ``[h, w, ...]``, bool ``[h, w]``."""
    rows, columns = (torch.arange(n, device=grid.device) for n in grid.shape[:2])
    second = (rows[:, None] + columns) % 2 == 1
    return ~second, second


def sum_of_neighbours(x: Tensor) -> Tensor:
    """Sums over the four neighbours of ``[h, w, ...]``; nothing lies outside."""
    total = torch.zeros_like(x)
    total[1:] += x[:-1]
    total[:-1] += x[1:]
    total[:, 1:] += x[:, :-1]
    total[:, :-1] += x[:, 1:]
    return total
