"""Motion compensation in exact integers: a picture predicted from moved blocks of a decoded one.

Pictures are uint8 ``[C, H, W]``, H and W multiples of ``BLOCK``. A vector ``(dy, dx)`` in quarter pixels says
where in the reference a block is found. Samples between pixels come from an interpolation by six taps at half
pixels and from means of two of these at quarter pixels. Every step is integer arithmetic with a
stated rounding, so that all machines predict the same, and a vector only says which samples are copied.

Sources: Wiegand et al., "Overview of the H.264/AVC Video Coding Standard", 2003 (interpolation); Orchard and
Sullivan, "Overlapped Block Motion Compensation: An Estimation-Theoretic Approach", 1994.
"""

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

#: Height and width of a block in pixels.
BLOCK = 16
#: Vector units in a pixel.
UNITS = 4
#: Pixels by which a reference is extended at each side: a window that lies further out sees the same.
_MARGIN = 2 * BLOCK + 4
#: Sum of the weights of four windows that overlap.
_ONE = 4 * BLOCK * BLOCK


class Reference:
    """A decoded picture that others are predicted from.

    Args:
        picture: uint8 ``[C, H, W]``.
    """

    def __init__(self, picture: Tensor) -> None:
        self.picture = picture
        _, self.height, self.width = picture.shape

    @cached_property
    def _planes(self) -> Tensor:
        """Samples at whole pixels, half a pixel right, half below, and both, uint8 ``[4, C, H', W']``."""
        sides = (_MARGIN + 2, _MARGIN + 3, _MARGIN + 2, _MARGIN + 3)
        wide = F.pad(self.picture[None].float(), sides, mode="replicate")[0].to(torch.int16)
        right = _half(wide, -1)
        planes = (wide[:, 2:-3, 2:-3], right[:, 2:-3], _half(wide, -2)[:, :, 2:-3], _half(right, -2))
        return torch.stack([plane.to(torch.uint8) for plane in planes])

    @cached_property
    def luma(self) -> "Reference":
        """The same picture in luma alone."""
        return Reference(luma_of(self.picture))

    def windows(self, top: Tensor, left: Tensor, size: int) -> Tensor:
        """Square windows of the picture, repeated at its edges.

        Args:
            top: Where each starts, in quarter pixels from the picture's first row, int64 ``[N]``.
            left: The same from its first column.
            size: Pixels of a side, at most ``2 * BLOCK``.

        Returns:
            int16 ``[N, C, size, size]``, values of 0 to 255.
        """
        first = self._copies(top >> 1, left >> 1, size)
        second = self._copies((top + 1) >> 1, (left + 1) >> 1, size)
        return first.add_(second).add_(1).bitwise_right_shift_(1)

    def _copies(self, top: Tensor, left: Tensor, size: int) -> Tensor:
        """Windows whose starts are in half pixels, int16 ``[N, C, size, size]``."""
        _, channels, height, width = self._planes.shape
        y = ((top >> 1) + _MARGIN).clamp(0, height - size)
        x = ((left >> 1) + _MARGIN).clamp(0, width - size)
        starts = ((2 * (top & 1) + (left & 1)) * channels * height + y) * width + x
        last = (3 * channels * height + height - size) * width + width - size  # in the last plane
        view = self._planes.as_strided((last + 1, channels, size, size), (1, height * width, width, 1))
        return view.index_select(0, starts).to(torch.int16)

    def moved_blocks(self, vectors: Tensor, places: Tensor | None = None) -> Tensor:
        """Blocks that are found by vectors ``[2, h, w]``, int16 ``[N, C, BLOCK, BLOCK]``.

        All of them row by row, or those of some places in that order, int64 ``[N]``.
        """
        top, left = _starts(vectors)
        return self.windows(*((top, left) if places is None else (top[places], left[places])), BLOCK)

    def overlapped(self, vectors: Tensor) -> Tensor:
        """The same where every pixel is a mean over its four nearest blocks' vectors, int16 ``[C, H, W]``.

        Weights fall linearly with the distance from a block's centre; beyond the edge lie blocks with the
        vectors of those at the edge.
        """
        around = torch.cat([vectors[:, :1], vectors, vectors[:, -1:]], 1)
        around = torch.cat([around[:, :, :1], around, around[:, :, -1:]], 2)
        _, rows, columns = around.shape
        top, left = _starts(around, first=-BLOCK - BLOCK // 2)
        weighted = self.windows(top, left, 2 * BLOCK).int().mul_(_window(vectors.device))
        grid = weighted.view(rows, columns, *weighted.shape[1:])
        total = grid.new_zeros(grid.shape[2], (rows + 1) * BLOCK, (columns + 1) * BLOCK)
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):  # every second window: these do not overlap
            part = grid[i::2, j::2].permute(2, 0, 3, 1, 4)
            picture = part.flatten(3, 4).flatten(1, 2)
            _, height, width = picture.shape
            total[:, i * BLOCK :][:, :height, j * BLOCK :][:, :, :width].add_(picture)
        inner = slice(BLOCK + BLOCK // 2, -BLOCK - BLOCK // 2)
        return (
            total[:, inner, inner].add_(_ONE // 2).bitwise_right_shift_(_ONE.bit_length() - 1).to(torch.int16)
        )


def _half(x: Tensor, axis: int) -> Tensor:
    """Samples half a pixel further along an axis, which becomes 5 shorter: six taps, rounded, 0 to 255."""
    size = x.shape[axis] - 5
    a, b, c, d, e, f = (x.narrow(axis, i, size) for i in range(6))
    total = (c + d).mul_(20).sub_((b + e).mul_(5)).add_(a).add_(f)
    return total.add_(16).bitwise_right_shift_(5).clamp_(0, 255)


def _starts(vectors: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
    """Starts in quarter pixels ``[h w]`` of the blocks of vectors ``[2, h, w]``, the first at ``first``."""
    _, rows, columns = vectors.shape
    y = (torch.arange(rows, device=vectors.device) * BLOCK + first) * UNITS
    x = (torch.arange(columns, device=vectors.device) * BLOCK + first) * UNITS
    return (y[:, None] + vectors[0]).flatten(), (x[None] + vectors[1]).flatten()


def camera_vectors(coefficients: Tensor, rows: int, columns: int) -> Tensor:
    """Vectors of blocks that an affine motion of the whole picture gives, int64 ``[2, rows, columns]``.

    Args:
        coefficients: Of dy and of dx, in sixteenths of a vector unit, integers ``[2, 3]``: what is added at
            the lower edge of the picture and taken away at the upper one, the same for right and left, and a
            constant.
        rows: Of blocks.
        columns: Of blocks.
    """
    y = 2 * torch.arange(rows, device=coefficients.device)[:, None] - rows + 1
    x = 2 * torch.arange(columns, device=coefficients.device) - columns + 1
    down, right, everywhere = coefficients.long().T[..., None, None]
    scale = rows * columns
    total = down * y * columns + right * x * rows + everywhere * scale
    return torch.div(2 * total + 16 * scale, 32 * scale, rounding_mode="floor")


def luma_of(picture: Tensor) -> Tensor:
    """Mean of three colours, uint8 ``[1, H, W]`` from uint8 ``[3, H, W]``."""
    total = picture.sum(0, keepdim=True, dtype=torch.int16)
    return total.add_(1).div_(3, rounding_mode="floor").to(torch.uint8)


def blocks_of(picture: Tensor) -> Tensor:
    """The blocks ``[h w, C, BLOCK, BLOCK]`` of a picture ``[C, H, W]``, row by row."""
    channels, height, width = picture.shape
    cells = picture.reshape(channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return cells.permute(1, 3, 0, 2, 4).flatten(0, 1)


def picture_of(blocks: Tensor, rows: int) -> Tensor:
    """The picture ``[C, H, W]`` of blocks ``[h w, C, BLOCK, BLOCK]`` in so many rows."""
    grid = blocks.view(rows, -1, *blocks.shape[1:]).permute(2, 0, 3, 1, 4)
    return grid.flatten(3, 4).flatten(1, 2)


def _window(device: torch.device) -> Tensor:
    """Weights of a window of two blocks, int32 ``[2 BLOCK, 2 BLOCK]``; four that overlap sum to ``_ONE``."""
    rising = 2 * torch.arange(BLOCK, dtype=torch.int32, device=device) + 1
    side = torch.cat([rising, rising.flip(0)])
    return side[:, None] * side
