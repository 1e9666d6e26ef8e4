"""Prediction of pictures from decoded ones, block by block, in exact integers.

A picture is predicted from one before it (``near``), another decoded one, further back or to come (``far``),
and the coarser level's decoded picture of the same frame (``base``). Every block has a vector and a blend,
which says what is mixed. The vector leads to ``near``; in ``far`` the block lies on the straight line through
both, bent as the camera's path is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from mptvc.model.motion import MARGIN, Reference, blocks_of, differs_nearby, picture_of
from mptvc.native import calls, pictures


class Blend(IntEnum):
    """What the prediction of a block is made of."""

    NEAR = 0  #: the block that its vector finds in ``near``
    BOTH = 1  #: the mean of that and of what is found in ``far``: less noise
    OVERLAPPED = 2  #: what its own and its neighbours' vectors find in ``near``, under a window: no edges
    NEAR_BASE = 3  #: the mean of NEAR and the base
    FAR = 4  #: what is found in ``far``
    BOTH_OVERLAPPED = 5  #: the mean of what is found in both, each under a window
    BOTH_BASE = 6  #: the mean of BOTH and the base
    BASE = 7  #: the base alone


#: Blends with a window, with the picture ``far``, and with the base beside others.
SMOOTH = (Blend.OVERLAPPED, Blend.BOTH_OVERLAPPED)
FROM_FAR = (Blend.BOTH, Blend.FAR, Blend.BOTH_OVERLAPPED, Blend.BOTH_BASE)
HALF_BASE = (Blend.NEAR_BASE, Blend.BOTH_BASE)
_WITH_BASE = *HALF_BASE, Blend.BASE
#: Those of ``near`` alone, which are the same where nothing moves, and of others without the base.
_OF_NEAR = (Blend.NEAR, Blend.OVERLAPPED)
_OF_FAR = (Blend.BOTH, Blend.FAR, Blend.BOTH_OVERLAPPED)
#: Blocks that are computed at once: what is computed of them stays in the cache.
_AT_ONCE = 2048


@dataclass(frozen=True)
class References:
    """What a picture is predicted from.

    Attributes:
        near: A decoded picture before it.
        far: Another one; None where there is none.
        apart: Frames from the picture back to ``near`` and to ``far``, negative to one that is shown later.
        bend: What is added to vectors to ``far`` on straight lines, int64 ``[2, h, w]``; None for nothing.
    """

    near: Reference
    far: Reference | None
    apart: tuple[int, int]
    bend: Tensor | None = None

    @property
    def are_around(self) -> bool:
        """Whether the picture lies between them."""
        return self.far is not None and self.apart[1] < 0

    @property
    def luma(self) -> "References":
        """The same in luma alone."""
        far = None if self.far is None else self.far.luma
        return References(self.near.luma, far, self.apart, self.bend)

    def moved(self, vectors: Tensor, places: Tensor, *, both: bool) -> Tensor:
        """Blocks that vectors find in ``near`` or, as their mean, in both."""
        found = self.near.moved_blocks(vectors, places)
        return mean_of(found, self.beyond(vectors, places)) if both else found

    def overlapped(self, vectors: Tensor, places: Tensor, *, both: bool) -> Tensor:
        """The same under a window."""
        found = self.near.overlapped_blocks(vectors, places)
        if not both:
            return found
        return mean_of(found, self.other.overlapped_blocks(self.further(vectors), places))

    def beyond(self, vectors: Tensor, places: Tensor) -> Tensor:
        """Blocks that vectors find in ``far``."""
        return self.other.moved_blocks(self.further(vectors), places)

    def further(self, vectors: Tensor) -> Tensor:
        """Vectors to ``far`` on the same lines."""
        near, far = self.apart
        straight = scaled(vectors, far, near)
        return straight if self.bend is None else straight + self.bend

    def nearer(self, vectors: Tensor) -> Tensor:
        """Vectors to ``near`` of blocks that these find in ``far``, which is shown later."""
        near, far = self.apart
        straight = vectors if self.bend is None else vectors - self.bend
        return scaled(-straight, near, -far)

    @property
    def other(self) -> Reference:
        """The picture ``far``, where a block needs it."""
        if self.far is None:
            raise ValueError("a block is predicted from two pictures, and there is one")
        return self.far


def predicted(references: References, base: Tensor | None, vectors: Tensor, blends: Tensor) -> Tensor:
    """The prediction of a picture.

    Args:
        references: Decoded pictures.
        base: What the coarser level says, uint8 ``[3, H, W]``; may be None where no block ``needs_base``.
        vectors: Vector of each block to ``near`` in quarter pixels, int64 ``[2, h, w]``.
        blends: Blend of each block, int64 ``[h, w]``.

    Returns:
        uint8 ``[3, H, W]``; where nothing moves, the picture ``near`` itself, not a copy.

    Raises:
        ValueError: A block needs a picture that is not there.
    """
    present = blends_in(blends)
    if base is None and not present.isdisjoint(_WITH_BASE):
        raise ValueError("a block is predicted from the coarser level, and there is none")
    if _repeats(references, vectors, present):
        return references.near.picture
    if calls.serve(vectors.device):
        return _predicted_at_once(references, base, vectors, blends, has_far=not present.isdisjoint(FROM_FAR))
    flat, differs = blends.flatten(), differs_nearby(vectors).flatten()
    below = blocks_of(references.near.picture if base is None else base)
    found = below.clone()
    smooth, far = any_of(flat, SMOOTH) & differs, any_of(flat, FROM_FAR)
    moved = (flat != Blend.BASE) & (flat != Blend.FAR)
    for both in (False, True):
        mine = moved & (far if both else ~far)
        for find, wanted in ((references.moved, mine & ~smooth), (references.overlapped, mine & smooth)):
            for places in _places(wanted):
                found[places] = find(vectors, places, both=both).to(torch.uint8)
    for places in _places(flat == Blend.FAR):
        found[places] = references.beyond(vectors, places).to(torch.uint8)
    for places in _places(any_of(flat, HALF_BASE)):
        found[places] = mean_of(found[places].to(torch.int16), below[places]).to(torch.uint8)
    return picture_of(found, blends.shape[0])


def needs_base(blends: Tensor) -> bool:
    """Whether some block is predicted from the coarser level's picture."""
    return not blends_in(blends).isdisjoint(_WITH_BASE)


def _repeats(references: References, vectors: Tensor, present: set[int]) -> bool:
    """Whether the prediction is the picture ``near``, as it is, with these blends."""
    near = (
        (*_OF_NEAR, Blend.BOTH, Blend.FAR, Blend.BOTH_OVERLAPPED)
        if references.far is references.near and references.bend is None
        else _OF_NEAR
    )
    return present.issubset(near) and not calls.array(vectors.cpu()).any()


def _predicted_at_once(
    references: References, base: Tensor | None, vectors: Tensor, blends: Tensor, *, has_far: bool
) -> Tensor:
    """The same by a compiled kernel."""
    further = references.further(vectors) if has_far else vectors
    far = references.other.planes_for(further).numpy() if has_far else None
    near = references.near.planes_for(vectors).numpy()
    fields = calls.array(vectors), calls.array(further), calls.array(blends.to(torch.uint8))
    below = None if base is None else calls.array(base)
    return torch.from_numpy(pictures.predicted(near, far, below, *fields, MARGIN))


def scaled(vectors: Tensor, numerator: int, denominator: int) -> Tensor:
    """Vectors times a fraction of positive denominator, rounded, halves up."""
    total = 2 * vectors * numerator + denominator
    return torch.div(total, 2 * denominator, rounding_mode="floor")


def mean_of(a: Tensor, b: Tensor) -> Tensor:
    """Means of integers, halves up; ``a`` and ``b`` are left alone."""
    return (a + b).add_(1).bitwise_right_shift_(1)


def blends_in(blends: Tensor) -> set[int]:
    """Those that come in ``[h, w]``."""
    counts = np.bincount(calls.array(blends.cpu()).ravel())
    return set(np.flatnonzero(counts).tolist())


def any_of(blends: Tensor, wanted: tuple[Blend, ...]) -> Tensor:
    """Where blends are among these, bool."""
    return torch.stack([blends == blend for blend in wanted]).any(0)


def _places(wanted: Tensor) -> Iterator[Tensor]:
    """Where bool ``[N]`` holds, int64, some at a time."""
    places = torch.nonzero(wanted).flatten()
    return (part for part in torch.split(places, _AT_ONCE) if len(part))
