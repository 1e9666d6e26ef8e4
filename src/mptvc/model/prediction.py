"""Prediction of pictures from decoded ones, block by block, in exact integers.

A key is predicted from the key before it (``near``), the picture before that (``far``), and the coarser
level's decoded picture of the same frame (``base``). Every block has a vector and a blend, which says what is
mixed. The three frames between two keys are predicted from both, along a path of every block.
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


class Source(IntEnum):
    """What the prediction of a block in the frames between is made of."""

    BOTH = 0  #: the mean of what its paths find in the key before and in the key after
    BEFORE = 1  #: the former alone: it is covered in the key after
    AFTER = 2  #: the latter alone: it appears
    BOTH_BASE = 3  #: the mean of BOTH and the base
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
    moved = _found(near, vectors, _which(flat, Blend.OVERLAPPED))
    if len(both := _places(flat, Blend.BOTH)):
        if far is None:
            raise ValueError("a block is predicted from two pictures, and there is one")
        moved[both] = mean_of(moved[both], far.moved_blocks(2 * vectors, both))
    below = blocks_of(base.to(torch.int16))
    mean, alone = _places(flat, Blend.NEAR_BASE), _places(flat, Blend.BASE)
    moved[mean] = mean_of(moved[mean], below[mean])
    moved[alone] = below[alone]
    return picture_of(moved.to(torch.uint8), blends.shape[0])


def predict_between(
    before: Reference, after: Reference, base: Tensor, paths: Tensor, sources: Tensor, overlapped: Tensor
) -> Tensor:
    """The prediction of the frames between two keys.

    Args:
        before: The earlier key.
        after: The later key.
        base: What the coarser level says of each frame, uint8 ``[F, 3, H, W]``.
        paths: Vectors of each block for each key, the earlier first, and each frame, in quarter pixels,
            int64 ``[2, F, 2, h, w]``.
        sources: Source of each block, int64 ``[h, w]``, the same in all frames.
        overlapped: Whether a block is blended with what its neighbours' vectors find, bool ``[h, w]``.

    Returns:
        uint8 ``[F, 3, H, W]``.
    """
    frames = [
        _frame_between(before, after, *frame, sources.flatten(), overlapped.flatten())
        for frame in zip(base.to(torch.int16), paths[0], paths[1], strict=True)
    ]
    return torch.stack([picture_of(frame, sources.shape[0]).to(torch.uint8) for frame in frames])


def _frame_between(
    before: Reference,
    after: Reference,
    base: Tensor,
    path_before: Tensor,
    path_after: Tensor,
    sources: Tensor,
    overlapped: Tensor,
) -> Tensor:
    """Blocks of one frame between, int16 ``[h w, 3, BLOCK, BLOCK]``."""
    earlier, later = _found(before, path_before, overlapped), _found(after, path_after, overlapped)
    below, predicted = blocks_of(base), mean_of(earlier, later)
    mean = _which(sources, Source.BOTH_BASE)
    predicted[mean] = mean_of(predicted[mean], below[mean])
    for source, blocks in ((Source.BEFORE, earlier), (Source.AFTER, later), (Source.BASE, below)):
        mine = _which(sources, source)
        predicted[mine] = blocks[mine]
    return predicted


def _found(reference: Reference, vectors: Tensor, overlapped: Tensor) -> Tensor:
    """Blocks that vectors find, some of them blended with their neighbours'."""
    blocks = reference.moved_blocks(vectors)
    places = torch.nonzero(overlapped & differs_nearby(vectors).flatten()).flatten()
    if len(places):
        blocks[places] = reference.overlapped_blocks(vectors, places)
    return blocks


def mean_of(a: Tensor, b: Tensor) -> Tensor:
    """Means of integers, halves up; ``a`` and ``b`` are left alone."""
    return (a + b).add_(1).bitwise_right_shift_(1)


def _which(chosen: Tensor, *wanted: IntEnum) -> Tensor:
    """Which blocks have one of some choices, bool ``[N]``."""
    return torch.isin(chosen, chosen.new_tensor(wanted))


def _places(chosen: Tensor, *wanted: IntEnum) -> Tensor:
    """Where blocks have one of some choices, int64 ``[n]``."""
    return torch.nonzero(_which(chosen, *wanted)).flatten()
