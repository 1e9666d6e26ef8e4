"""Prediction of pictures from decoded ones, block by block, in exact integers.

A key is predicted from the key before it (``near``), the picture before that (``far``), and the coarser
level's decoded picture of the same frame (``base``). Every block has a vector and a blend, which says what is
mixed.
"""

from enum import IntEnum

import torch
from torch import Tensor

from mptvc.model.motion import Reference, blocks_of, differs_nearby, picture_of


class Blend(IntEnum):
    """What the prediction of a block is made of."""

    NEAR = 0  #: the block that its vector finds in ``near``
    BOTH = 1  #: the mean of that and of what twice the vector finds in ``far``: less noise
    OVERLAPPED = 2  #: what its own and its neighbours' vectors find, under a window: no edges
    NEAR_BASE = 3  #: the mean of NEAR and the base
    BASE = 4  #: the base alone


def predict_key(
    near: Reference, far: Reference | None, base: Tensor, vectors: Tensor, blends: Tensor
) -> Tensor:
    """The prediction of a key.

    Args:
        near: The key that it follows.
        far: The picture before that; None where there is none, then no block may be BOTH.
        base: What the coarser level says, uint8 ``[3, H, W]``.
        vectors: Vector of each block in quarter pixels, int64 ``[2, h, w]``.
        blends: Blend of each block, int64 ``[h, w]``.

    Returns:
        uint8 ``[3, H, W]``.

    Raises:
        ValueError: A block is BOTH, and there is no picture ``far``.
    """
    flat = blends.flatten()
    moved = near.moved_blocks(vectors)
    smooth = _places((flat == Blend.OVERLAPPED) & differs_nearby(vectors).flatten())
    moved[smooth] = near.overlapped_blocks(vectors, smooth)
    if len(both := _places(flat == Blend.BOTH)):
        if far is None:
            raise ValueError("a block is predicted from two pictures, and there is one")
        moved[both] = mean_of(moved[both], far.moved_blocks(2 * vectors, both))
    below = blocks_of(base.to(torch.int16))
    mean, alone = _places(flat == Blend.NEAR_BASE), _places(flat == Blend.BASE)
    moved[mean] = mean_of(moved[mean], below[mean])
    moved[alone] = below[alone]
    return picture_of(moved.to(torch.uint8), blends.shape[0])


def mean_of(a: Tensor, b: Tensor) -> Tensor:
    """Means of integers, halves up; ``a`` and ``b`` are left alone."""
    return (a + b).add_(1).bitwise_right_shift_(1)


def _places(wanted: Tensor) -> Tensor:
    """Where bool ``[N]`` holds, int64 ``[n]``."""
    return torch.nonzero(wanted).flatten()
