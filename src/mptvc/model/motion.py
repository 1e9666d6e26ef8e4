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
from torch import Tensor

from mptvc.native import calls, pictures

#: Height and width of a block in pixels.
BLOCK = 16
#: Vector units in a pixel.
UNITS = 4
#: Pixels by which a reference is extended at each side: a window that lies further out sees the same.
MARGIN = 2 * BLOCK + 4
_HALF = BLOCK // 2
#: Samples of a kind that are computed at once: what is computed of them stays in the cache.
_AT_ONCE = 2**18
#: A third in 65536, with which every mean of three colours is right.
_THIRD = 21846


class Reference:
    """A decoded picture that others are predicted from.

    Args:
        picture: uint8 ``[C, H, W]``.
    """

    def __init__(self, picture: Tensor) -> None:
        self.picture = picture
        _, self.height, self.width = picture.shape

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks along y and x."""
        return self.height // BLOCK, self.width // BLOCK

    @cached_property
    def planes(self) -> Tensor:
        """Samples at whole pixels, half a pixel right, half below, and both, uint8 ``[4, C, H', W']``."""
        if calls.serve(self.picture.device):
            return torch.from_numpy(pictures.interpolated(calls.array(self.picture), MARGIN))
        height, width = self.height + 2 * MARGIN, self.width + 2 * MARGIN
        planes = self.picture.new_empty(4, len(self.picture), height, width)
        rows = -(-_AT_ONCE // (len(self.picture) * width))
        for top in range(0, height, rows):
            band = planes[:, :, top : top + rows]
            wide = self._extended(top, band.shape[2] + 5)
            right = _half(wide, -1)
            band[0], band[1] = wide[:, 2:-3, 2:-3], right[:, 2:-3]
            band[2], band[3] = _half(wide, -2)[:, :, 2:-3], _half(right, -2)
        return planes

    @cached_property
    def whole(self) -> Tensor:
        """Samples at whole pixels alone, uint8 ``[1, C, H', W']``: a still picture needs no others."""
        if calls.serve(self.picture.device):
            return torch.from_numpy(pictures.extended(calls.array(self.picture), MARGIN))
        rows, columns = (
            torch.arange(-MARGIN, size + MARGIN, device=self.picture.device).clamp_(0, size - 1)
            for size in (self.height, self.width)
        )
        return self.picture.index_select(1, rows).index_select(2, columns)[None]

    def forget(self) -> None:
        """Forget what can be made again of the picture, which takes several times as much memory."""
        for name in ("planes", "whole", "luma"):
            self.__dict__.pop(name, None)

    def planes_for(self, vectors: Tensor) -> Tensor:
        """Planes, the first of which are enough where no vector leads between pixels."""
        return self.planes if bool((vectors & (UNITS - 1)).any()) else self.whole

    def _extended(self, top: int, count: int) -> Tensor:
        """What samples from row ``top`` on are made from: the picture repeated at its edges, int16."""
        side = MARGIN + 2
        rows = torch.arange(top - side, top - side + count, device=self.picture.device)
        inner = self.picture.index_select(1, rows.clamp_(0, self.height - 1))
        wide = inner.new_empty(len(inner), count, side + self.width + side + 1, dtype=torch.int16)
        wide[..., side:][..., : self.width] = inner
        wide[..., :side], wide[..., side + self.width :] = inner[..., :1], inner[..., -1:]
        return wide

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
        parts = (top | left) & (UNITS - 1)
        if not bool(parts.any()):
            return _windows(self.whole, top >> 1, left >> 1, size)
        first = self.half_windows(top >> 1, left >> 1, size)
        if not bool((parts & 1).any()):
            return first
        second = self.half_windows((top + 1) >> 1, (left + 1) >> 1, size)
        return first.add_(second).add_(1).bitwise_right_shift_(1)

    def half_windows(self, top: Tensor, left: Tensor, size: int) -> Tensor:
        """The same for starts in half pixels."""
        return _windows(self.planes, top, left, size)

    def moved_blocks(self, vectors: Tensor, places: Tensor | None = None) -> Tensor:
        """Blocks that are found by vectors ``[2, h, w]``, int16 ``[N, C, BLOCK, BLOCK]``.

        All of them row by row, or those of some places in that order, int64 ``[N]``.
        """
        top, left = _starts(vectors)
        return self.windows(*((top, left) if places is None else (top[places], left[places])), BLOCK)

    def overlapped_blocks(self, vectors: Tensor, places: Tensor | None = None) -> Tensor:
        """The same where every pixel is a mean over its four nearest blocks' vectors.

        Weights fall linearly with the distance from a block's centre; beyond the edge lie blocks with the
        vectors of those at the edge. First means along x are rounded, then those of these along y.
        """
        _, rows, columns = vectors.shape
        if places is None:
            places = torch.arange(rows * columns, device=vectors.device)
        row, column = places // columns, places % columns
        around = torch.cat([vectors[:, :1], vectors, vectors[:, -1:]], 1)
        around = torch.cat([around[:, :, :1], around, around[:, :, -1:]], 2)
        blocks = places.new_empty(len(places), self.picture.shape[0], BLOCK, BLOCK, dtype=torch.int16)
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):  # the quarter of a block below and right of these
            above, beside = row + 2 * i, column + 2 * j
            near = torch.stack([around[:, row + 1, column + 1], around[:, row + 1, beside]], 1)
            far = torch.stack([around[:, above, column + 1], around[:, above, beside]], 1)
            found = torch.cat([near, far], 1)  # [2, 4, N]
            top, left = (
                ((at * BLOCK + k * _HALF) * UNITS + v).flatten()
                for at, k, v in zip((row, column), (i, j), found, strict=True)
            )
            windows = self.windows(top, left, _HALF).view(4, *blocks.shape[:2], _HALF, _HALF)
            weights = _weights(vectors.device)
            along_y, along_x = (weights.flip(0) if k else weights for k in (i, j))
            one, other = (_mixed(windows[k], windows[k + 1], along_x) for k in (0, 2))
            quarter = _mixed(one, other, along_y[:, None])
            blocks[:, :, i * _HALF :, j * _HALF :][:, :, :_HALF, :_HALF] = quarter
        return blocks


def _windows(planes: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """Windows int16 ``[N, C, size, size]`` of planes as `Reference` has them, for starts in half pixels."""
    _, channels, height, width = planes.shape
    y = ((top >> 1) + MARGIN).clamp(0, height - size)
    x = ((left >> 1) + MARGIN).clamp(0, width - size)
    starts = ((2 * (top & 1) + (left & 1)) * channels * height + y) * width + x
    rows = torch.arange(channels, device=starts.device)[:, None] * height * width
    rows = rows + torch.arange(size, device=starts.device) * width
    view = planes.as_strided((planes.numel() - size + 1, size), (1, 1))  # of all runs
    found = view.index_select(0, (starts[:, None] + rows.flatten()).flatten())
    return found.view(-1, channels, size, size).to(torch.int16)


def _weights(device: torch.device) -> Tensor:
    """What a block's own vector weighs over ``2 BLOCK`` from its edge to its centre, int16 ``[_HALF]``."""
    return 2 * torch.arange(_HALF, dtype=torch.int16, device=device) + 1 + BLOCK


def _mixed(own: Tensor, other: Tensor, weights: Tensor) -> Tensor:
    """Means of windows of 0 to 255 with these weights, and what is left of ``2 BLOCK``; halves up."""
    mixed = (own * weights).add_(other * (2 * BLOCK - weights))
    return mixed.add_(BLOCK).bitwise_right_shift_((2 * BLOCK).bit_length() - 1)


def differs_nearby(vectors: Tensor) -> Tensor:
    """Blocks of ``[2, h, w]`` beside or cornering on one with another vector, bool ``[h, w]``."""
    _, rows, columns = vectors.shape
    differs = torch.zeros(rows, columns, dtype=torch.bool, device=vectors.device)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        first = vectors[:, : rows - dy, max(0, -dx) : columns - max(0, dx)]
        second = vectors[:, dy:, max(0, dx) : columns - max(0, -dx)]
        apart = (first != second).any(0)
        differs[: rows - dy, max(0, -dx) : columns - max(0, dx)] |= apart
        differs[dy:, max(0, dx) : columns - max(0, -dx)] |= apart
    return differs


def _half(x: Tensor, axis: int) -> Tensor:
    """Samples half a pixel further along an axis, which becomes 5 shorter: six taps, rounded, 0 to 255."""
    size = x.shape[axis] - 5
    a, b, c, d, e, f = (x.narrow(axis, i, size) for i in range(6))
    total = (c + d).mul_(4).sub_(b).sub_(e).mul_(5).add_(a).add_(f)  # taps of 1, -5, 20, 20, -5, 1
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
        coefficients: Of dy and of dx, in sixteenths of a vector unit, int64 ``[2, 3]``: what is added at
            the lower edge of the picture and taken away at the upper one, the same for right and left, and a
            constant.
        rows: Of blocks.
        columns: Of blocks.
    """
    if calls.serve(coefficients.device):
        return torch.from_numpy(pictures.camera_vectors(calls.array(coefficients), (rows, columns)))
    y = 2 * torch.arange(rows, device=coefficients.device)[:, None] - rows + 1
    x = 2 * torch.arange(columns, device=coefficients.device) - columns + 1
    down, right, everywhere = coefficients.T[..., None, None]
    scale = rows * columns
    total = down * y * columns + right * x * rows + everywhere * scale
    return torch.div(2 * total + 16 * scale, 32 * scale, rounding_mode="floor")


def luma_of(picture: Tensor) -> Tensor:
    """Mean of three colours, uint8 ``[1, H, W]`` from uint8 ``[3, H, W]``."""
    if calls.serve(picture.device):
        return torch.from_numpy(pictures.luma(calls.array(picture)))
    total = picture[:1].to(torch.int32).add_(picture[1]).add_(picture[2]).add_(1)
    return total.mul_(_THIRD).bitwise_right_shift_(16).to(torch.uint8)


def blocks_of(picture: Tensor) -> Tensor:
    """The blocks ``[h w, C, BLOCK, BLOCK]`` of a picture ``[C, H, W]``, row by row."""
    channels, height, width = picture.shape
    cells = picture.reshape(channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return cells.permute(1, 3, 0, 2, 4).flatten(0, 1)


def picture_of(blocks: Tensor, rows: int) -> Tensor:
    """The picture ``[C, H, W]`` of blocks ``[h w, C, BLOCK, BLOCK]`` in so many rows."""
    grid = blocks.view(rows, -1, *blocks.shape[1:]).permute(2, 0, 3, 1, 4)
    return grid.flatten(3, 4).flatten(1, 2)
