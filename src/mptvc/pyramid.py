"""The Laplacian pyramid: halve a picture, double it again.

``reduce`` is the mean of 2 x 2 pixels. ``expand`` treats pixels as means over their area and
reconstructs a smooth picture with exactly those means, so ``reduce(expand(x)) == x`` up to rounding
and a residual carries only what the coarser level cannot hold.
"""

import torch
from torch import Tensor


def reduce(x: Tensor) -> Tensor:
    """Halve ``[..., H, W]`` (even sizes) by the mean of 2 x 2 pixels."""
    *lead, height, width = x.shape
    return x.reshape(*lead, height // 2, 2, width // 2, 2).mean(dim=(-3, -1))


def expand(x: Tensor) -> Tensor:
    """Double ``[..., H, W]`` to ``[..., 2H, 2W]``, keeping the mean of every pixel."""
    return _expand_axis(_expand_axis(x, -2), -1)


def _expand_axis(x: Tensor, axis: int) -> Tensor:
    """Split each cell into two with the same mean.

    The half difference is that of the quartic polynomial with the five surrounding cell means:
    (22 (x[i+1] - x[i-1]) - 3 (x[i+2] - x[i-2])) / 128. Borders repeat the last cell.
    """
    size = x.shape[axis]
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, size - 1, 1)
    padded = torch.cat([first, first, x, last, last], axis)
    near = padded.narrow(axis, 3, size) - padded.narrow(axis, 1, size)
    far = padded.narrow(axis, 4, size) - padded.narrow(axis, 0, size)
    half = near.mul_(22 / 128).sub_(far, alpha=3 / 128)
    return torch.stack([x - half, x + half], x.ndim + axis + 1).flatten(x.ndim + axis, x.ndim + axis + 1)
