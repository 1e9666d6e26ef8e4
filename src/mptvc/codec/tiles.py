"""A picture's token grid in overlapping tiles, with weights that sum to one.

A grid of ``rows x columns`` cores covers the tokens without overlap; a tile is its core grown by
``margin`` tokens to each side. Across the border between two cores the weight passes linearly from
one tile to the other within half of the margin; the outer half is context alone, with weight zero.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from mptvc.format.geometry import TileGrid
from mptvc.model.pyramid import expand

#: Tokens by which a tile reaches over its core: twice the reach of one attention window.
MARGIN = 8


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in tokens.

    Attributes:
        start: First token.
        stop: Token after the last.
        fade_in: Border in whose neighbourhood the weight rises, None at the picture's edge.
        fade_out: Border around which it falls, None at the picture's edge.
        half: Tokens from the border to where the weight is 0 or 1.
    """

    start: int
    stop: int
    fade_in: int | None
    fade_out: int | None
    half: int

    def weights(self, per_token: int) -> Tensor:
        """Weight of each of the span's samples, float32, ``per_token`` samples a token."""
        at = torch.arange(self.start * per_token, self.stop * per_token) + 0.5
        weight = torch.ones(len(at))
        half = self.half * per_token
        if self.fade_in is not None:
            weight *= ((at - self.fade_in * per_token + half) / (2 * half)).clamp(0, 1)
        if self.fade_out is not None:
            weight *= ((self.fade_out * per_token + half - at) / (2 * half)).clamp(0, 1)
        return weight


@dataclass(frozen=True)
class Tile:
    """A rectangle of the token grid."""

    y: Span
    x: Span

    def tokens(self, grid: Tensor) -> Tensor:
        """The view ``[..., h, w, C]`` of a token grid ``[..., H, W, C]``."""
        return grid[..., self.y.start : self.y.stop, self.x.start : self.x.stop, :]

    def pixels(self, picture: Tensor, per_token: int) -> Tensor:
        """The view ``[..., h, w]`` of a picture ``[..., H, W]``."""
        rows = slice(self.y.start * per_token, self.y.stop * per_token)
        columns = slice(self.x.start * per_token, self.x.stop * per_token)
        return picture[..., rows, columns]

    def weights(self, per_token: int) -> Tensor:
        """Weights ``[h, w]``; over all tiles of a grid they sum to one at every sample."""
        return self.y.weights(per_token)[:, None] * self.x.weights(per_token)


def choose_tiles(height: int, width: int, most: tuple[int, int]) -> TileGrid:
    """The smallest grid of tiles whose cores are at most ``most`` (height, width) tokens."""
    rows, columns = -(-height // most[0]), -(-width // most[1])
    return TileGrid(rows=rows, columns=columns, margin=MARGIN)


def tiles(grid: TileGrid, height: int, width: int) -> list[Tile]:
    """The tiles of a grid over ``height x width`` tokens, row by row.

    Raises:
        ValueError: The grid has more cores than tokens, or cores narrower than its margin.
    """
    across = _spans(width, grid.columns, grid.margin)
    return [Tile(y, x) for y in _spans(height, grid.rows, grid.margin) for x in across]


def _spans(size: int, count: int, margin: int) -> list[Span]:
    if not 1 <= count <= size or (count > 1 and size // count < margin):
        raise ValueError(f"{count} tiles do not fit {size} tokens")
    borders = [index * size // count for index in range(count + 1)]
    return [
        Span(
            start=max(0, first - margin),
            stop=min(size, last + margin),
            fade_in=first if first > 0 else None,
            fade_out=last if last < size else None,
            half=max(1, margin // 2),
        )
        for first, last in pairwise(borders)
    ]


# Pixels of tiles

#: Pixels that ``expand`` reads beyond a tile.
_HALO = 2


def extended_pixels(frame: Tensor, height: int, width: int) -> Tensor:
    """Pixels ``[..., h, w]`` as float32 in [-1, 1], extended to ``height x width`` at the edges."""
    rows = torch.arange(height, device=frame.device).clamp_max(frame.shape[-2] - 1)
    columns = torch.arange(width, device=frame.device).clamp_max(frame.shape[-1] - 1)
    return _to_float(frame[..., rows[:, None], columns])


def _to_float(pixels: Tensor) -> Tensor:
    if pixels.dtype == torch.uint8:
        return pixels.float().div_(127.5).sub_(1)
    return pixels.float()


def tile_pixels(picture: Tensor, tile: Tile, patch: int) -> Tensor:
    """A tile's pixels ``[3, h, w]`` as float32, repeating the picture's last row and column."""
    inside = _to_float(tile.pixels(picture, patch))
    height = (tile.y.stop - tile.y.start) * patch
    width = (tile.x.stop - tile.x.start) * patch
    missing = (0, width - inside.shape[-1], 0, height - inside.shape[-2])
    return F.pad(inside, missing, mode="replicate") if any(missing) else inside


def expanded_tile(coarser: Tensor, tile: Tile, patch: int, doublings: int) -> Tensor:
    """The coarser frame ``[3, h, w]`` under a tile, enlarged.

    Args:
        coarser: The whole frame.
        tile: Where.
        patch: Pixels of the result along a token.
        doublings: How often it is doubled.
    """
    factor, halo = 1 << doublings, _HALO * doublings
    spans, lead = [], []
    for span, size in ((tile.y, coarser.shape[-2]), (tile.x, coarser.shape[-1])):
        start = max(0, span.start * patch // factor - halo)
        spans.append(slice(start, min(size, span.stop * patch // factor + halo)))
        lead.append(span.start * patch - factor * start)
    big = coarser[..., spans[0], spans[1]].float()
    for _ in range(doublings):
        big = expand(big)
    height = (tile.y.stop - tile.y.start) * patch
    width = (tile.x.stop - tile.x.start) * patch
    return big[..., lead[0] : lead[0] + height, lead[1] : lead[1] + width]
