"""Sizes, grids and tiles of a video's pictures."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TileGrid:
    """How a level's token grid is cut into tiles; recorded in the file.

    Attributes:
        rows: Tiles from top to bottom.
        columns: Tiles from left to right.
        margin: Tokens by which a tile reaches over its core to each side.
    """

    rows: int
    columns: int
    margin: int
