"""The Laplacian pyramid: halve a picture, double it again.

``reduce`` is the mean of 2 x 2 pixels. ``expand`` treats pixels as means over their area and
reconstructs a smooth picture with exactly those means, so ``reduce(expand(x)) == x`` up to rounding
and a residual carries only what the coarser level cannot hold. What ``decimated`` halves and ``expand``
doubles is nearer to the picture still: encoders give their coarser levels that.

Both take floating point, and 8-bit pictures or their differences as 16-bit integers, which are rounded after
each step in the same way on every machine.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mptvc.native import calls, pictures

#: In 128ths, of the two middle pixels and of those further out: least squares of ``expand`` along an axis.
_DECIMATION = (60, 11, -10, 0, 3)


def reduce(x: Tensor) -> Tensor:
    """Halve ``[..., H, W]`` (even sizes) by the mean of 2 x 2 pixels."""
    rows = x[..., ::2, :] + x[..., 1::2, :]
    total = rows[..., ::2] + rows[..., 1::2]
    return total * 0.25 if x.is_floating_point() else total.add_(2).bitwise_right_shift_(2)


def halved(picture: Tensor) -> Tensor:
    """Halve a picture uint8 ``[C, H, W]``."""
    if calls.serve(picture.device):
        return torch.from_numpy(pictures.halved(calls.array(picture)))
    return reduce(picture.to(torch.int16)).to(torch.uint8)


def decimated(picture: Tensor) -> Tensor:
    """Halve a picture uint8 ``[C, H, W]`` of even sides so that doubled again it is most like itself.

    The mean of 2 x 2 pixels leaves 0.2 dB more error. Only an encoder asks.
    """
    if calls.serve(picture.device):
        return torch.from_numpy(pictures.decimated(calls.array(picture)))
    rows = _decimated(picture.int(), axis=1)
    return _decimated(rows, axis=2).clamp_(0, 255).to(torch.uint8)


def _decimated(x: Tensor, axis: int) -> Tensor:
    """Every two of ``[C, H, W]`` along an axis as one, by sums of those that lie as far from their middle."""
    size, most = x.shape[axis], 2 * len(_DECIMATION)
    places = torch.arange(1 - len(_DECIMATION), size + len(_DECIMATION), device=x.device).clamp_(0, size - 1)
    near = x.index_select(axis, places).unfold(axis, most, 2)
    taps = torch.tensor(_DECIMATION[::-1] + _DECIMATION, dtype=x.dtype, device=x.device)
    return ((near * taps).sum(-1, dtype=x.dtype) + 64) >> 7


def expand(x: Tensor) -> Tensor:
    """Double ``[..., H, W]`` to ``[..., 2H, 2W]``, keeping the mean of every pixel."""
    *lead, height, width = x.shape
    rows = _split(x.reshape(-1, height, width), axis=1)
    both = _split(rows, axis=2)
    return both.reshape(*lead, 2 * height, 2 * width)


def _split(x: Tensor, axis: int) -> Tensor:
    """Split each cell of ``[N, H, W]`` along an axis into two with the same mean.

    The half difference is that of the quartic polynomial with the five surrounding cell means:
    (22 (x[i+1] - x[i-1]) - 3 (x[i+2] - x[i-2])) / 128. Borders repeat the last cell.
    """
    size = x.shape[axis]
    padded = _padded(x, axis)
    near = padded.narrow(axis, 3, size) - padded.narrow(axis, 1, size)
    far = padded.narrow(axis, 4, size) - padded.narrow(axis, 0, size)
    if x.is_floating_point():
        half = near.mul_(22 / 128).sub_(far, alpha=3 / 128)
    else:
        half = near.mul_(22).sub_(far.mul_(3)).add_(64).bitwise_right_shift_(7)
    # Writing into place is four times as fast as stacking along the last axis.
    pair = x.new_empty(*x.shape[: axis + 1], 2, *x.shape[axis + 1 :])
    pair.select(axis + 1, 0).copy_(x - half)
    pair.select(axis + 1, 1).copy_(x + half)
    return pair.flatten(axis, axis + 1)


def _padded(x: Tensor, axis: int) -> Tensor:
    """Cells ``[N, H, W]`` with the first and the last repeated twice along an axis."""
    if x.is_floating_point():
        return F.pad(x, (0, 0, 2, 2) if axis == 1 else (2, 2, 0, 0), mode="replicate")
    places = torch.arange(-2, x.shape[axis] + 2, device=x.device).clamp_(0, x.shape[axis] - 1)
    return x.index_select(axis, places)
