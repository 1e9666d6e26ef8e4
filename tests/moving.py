"""Pictures that move, in tensors."""

from torch import Tensor

from mptvc.model.motion import Reference, picture_of


def moved_picture(reference: Reference, vectors: Tensor) -> Tensor:
    """The picture of the blocks that vectors ``[2, h, w]`` find, int16 ``[C, H, W]``."""
    return picture_of(reference.moved_blocks(vectors), vectors.shape[1])


def overlapped_picture(reference: Reference, vectors: Tensor) -> Tensor:
    """The same with blocks that overlap."""
    return picture_of(reference.overlapped_blocks(vectors), vectors.shape[1])
