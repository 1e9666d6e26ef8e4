"""Smoothing of the borders of coded tokens, in exact integers, in the loop: predictions have no edges.

Each token is quantized by itself, so where both sides of a border are smooth and differ by less than
quantization may have made, they are brought together. Borders between columns come first, then those between
rows, which see what became of the others. Limits are products in float32: of strength and step, and of that
and a constant.

Source: Norkin et al., "HEVC Deblocking Filter", 2012, whose normal filter this is.
"""

import torch
from torch import Tensor

from mptvc.native import calls, pictures

#: By how many steps a pixel changes at most, where smoothing is 1.
_MOST = 0.08
#: Curvature of both sides together, in steps, from which a border lies on detail and is left alone.
_CURVED = 0.5
#: A difference over so many times the largest change is an edge of the picture.
_EDGE = 10
#: Pixels along a token's side from which on no border reads what another one writes.
_APART = 8


def smoothed(picture: Tensor, coded: Tensor, steps: Tensor) -> Tensor:
    """A picture with smoothed borders.

    Args:
        picture: uint8 ``[3, H, W]``.
        coded: Which tokens hold symbols, bool ``[h, w]``; other borders than theirs are left alone.
        steps: Quantization step of each token, times the strength of smoothing, float32 ``[h, w]``; at a
            border the smaller one counts.

    Returns:
        uint8 ``[3, H, W]``.
    """
    result, (rows, columns) = picture.clone(), coded.shape
    patch = picture.shape[1] // rows
    cells = result.view(3, rows, patch, columns, patch)
    beside, below = coded[:, :-1] | coded[:, 1:], coded[:-1] | coded[1:]
    by_column, by_row = cells.permute(4, 0, 1, 2, 3), cells.permute(2, 0, 1, 3, 4)
    across, along = torch.minimum(steps[:, :-1], steps[:, 1:]), torch.minimum(steps[:-1], steps[1:])
    if patch >= _APART and calls.serve(picture.device):
        limits = [*_limits(across, beside), *_limits(along, below)]
        pictures.smooth(result.numpy(), patch, _EDGE, list(map(calls.array, limits)))
        return result
    _smooth([(line[..., :-1], line[..., 1:]) for line in by_column], beside[:, None], across[:, None])
    _smooth([(line[:, :-1], line[:, 1:]) for line in by_row], below[..., None], along[..., None])
    return result


def _limits(steps: Tensor, applies: Tensor) -> tuple[Tensor, Tensor]:
    """The largest change at borders, 0 where they are left alone, and the curvature from which they are."""
    most = (_MOST * steps).round_().clamp_(1, 255).to(torch.int16)
    curved = (_CURVED * steps).round_().clamp_(1, 4 * 255).to(torch.int16)
    return most.mul_(applies), curved


def _smooth(lines: list[tuple[Tensor, Tensor]], applies: Tensor, steps: Tensor) -> None:
    """Smooth across borders in place.

    Args:
        lines: For each place in a token, from its first line of pixels on, that line of all tokens before
            borders and of all behind them, uint8.
        applies: Which borders, bool, for all of a line.
        steps: Of the borders.
    """
    most, curved = _limits(steps, applies)
    p2, p1, p0 = (before.to(torch.int16) for before, _ in lines[-3:])
    q0, q1, q2 = (behind.to(torch.int16) for _, behind in lines[:3])
    change = ((q0 - p0) * 9 - (q1 - p1) * 3 + 8) >> 4
    bend = (p2 - 2 * p1 + p0).abs_() + (q2 - 2 * q1 + q0).abs_()
    applies = (bend < curved) & (change.abs() < _EDGE * most)
    change = change.clamp_(-most, most).mul_(applies)
    half = most >> 1
    beside_p = ((((p2 + p0 + 1) >> 1) - p1 + change) >> 1).clamp_(-half, half).mul_(applies)
    beside_q = ((((q2 + q0 + 1) >> 1) - q1 - change) >> 1).clamp_(-half, half).mul_(applies)
    for line, pixels in ((lines[-2][0], p1 + beside_p), (lines[-1][0], p0 + change)):
        line.copy_(pixels.clamp_(0, 255))
    for line, pixels in ((lines[0][1], q0 - change), (lines[1][1], q1 + beside_q)):
        line.copy_(pixels.clamp_(0, 255))
