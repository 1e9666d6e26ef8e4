"""Smoothing of the borders of coded tokens, in exact integers, in the loop: predictions have no edges.

Each token is quantized by itself, so where both sides of a border are smooth and differ by less than
quantization may have made, they are brought together. Borders between columns come first, then those between
rows, which see what became of the others.

Source: Norkin et al., "HEVC Deblocking Filter", 2012, whose normal filter this is.
"""

import torch
from torch import Tensor

#: By how many steps a pixel changes at most.
_MOST = 0.08
#: Curvature of both sides together, in steps, from which a border lies on detail and is left alone.
_CURVED = 0.5
#: A difference over so many times the largest change is an edge of the picture.
_EDGE = 10


def smoothed(picture: Tensor, coded: Tensor, step: float) -> Tensor:
    """A picture with smoothed borders.

    Args:
        picture: uint8 ``[3, H, W]``.
        coded: Which tokens hold symbols, bool ``[h, w]``; other borders than theirs are left alone.
        step: Quantization step.

    Returns:
        uint8 ``[3, H, W]``.
    """
    result, (rows, columns) = picture.clone(), coded.shape
    patch = picture.shape[1] // rows
    cells = result.view(3, rows, patch, columns, patch).permute(1, 3, 0, 2, 4)  # [h, w, 3, patch, patch]
    most, curved = max(1, round(_MOST * step)), max(1, round(_CURVED * step))
    _smooth_columns(cells, coded, most, curved)
    _smooth_columns(cells.permute(1, 0, 2, 4, 3), coded.T, most, curved)
    return result


def _smooth_columns(cells: Tensor, coded: Tensor, most: int, curved: int) -> None:
    """Smooth the borders between columns of tokens ``[h, w, 3, patch, patch]`` in place."""
    row, column = torch.nonzero(coded[:, :-1] | coded[:, 1:], as_tuple=True)
    before, after = cells[..., -3:], cells[..., :3]
    p2, p1, p0 = before[row, column].to(torch.int16).unbind(-1)
    q0, q1, q2 = after[row, column + 1].to(torch.int16).unbind(-1)
    change = ((q0 - p0) * 9 - (q1 - p1) * 3 + 8) >> 4
    bend = (p2 - 2 * p1 + p0).abs_() + (q2 - 2 * q1 + q0).abs_()
    applies = (bend < curved) & (change.abs() < _EDGE * most)
    change = change.clamp_(-most, most).mul_(applies)
    half = most // 2
    beside_p = ((((p2 + p0 + 1) >> 1) - p1 + change) >> 1).clamp_(-half, half).mul_(applies)
    beside_q = ((((q2 + q0 + 1) >> 1) - q1 - change) >> 1).clamp_(-half, half).mul_(applies)
    before[..., 1:][row, column] = _pixels(p1 + beside_p, p0 + change)
    after[..., :2][row, column + 1] = _pixels(q0 - change, q1 + beside_q)


def _pixels(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack([first, second], -1).clamp_(0, 255).to(torch.uint8)
