import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mptvc.codec.tiles import MARGIN, choose_tiles, tiles
from mptvc.format.geometry import TileGrid


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(16, 80), st.sampled_from([1, 8]))
def test_weights_sum_to_one_everywhere(height, width, most, per_token):
    grid = choose_tiles(height, width, (most, most))
    total = torch.zeros(height * per_token, width * per_token)
    for tile in tiles(grid, height, width):
        tile.pixels(total, per_token).add_(tile.weights(per_token))
    assert torch.allclose(total, torch.ones_like(total), atol=1e-5)


def test_small_picture_is_one_tile_without_borders():
    (tile,) = tiles(choose_tiles(60, 108, (144, 256)), 60, 108)
    assert (tile.weights(8) == 1).all()
    assert tile.tokens(torch.zeros(2, 60, 108, 5)).shape == (2, 60, 108, 5)


def test_outer_half_of_the_margin_has_no_weight():
    first, second = tiles(TileGrid(1, 2, 8), 40, 80)
    assert first.x.stop == 48
    assert (first.weights(1)[:, -4:] == 0).all()
    assert (second.weights(1)[:, :4] == 0).all()
    assert (first.weights(1)[:, -5] > 0).all()


def test_tiles_differ_by_a_token_at_most_inside_the_picture():
    spans = {tile.y.stop - tile.y.start for tile in tiles(choose_tiles(271, 16, (60, 60)), 271, 16)}
    assert max(spans) - min(spans) <= MARGIN + 1


@pytest.mark.parametrize("grid", [TileGrid(0, 1, 8), TileGrid(9, 1, 8), TileGrid(2, 1, 8)])
def test_impossible_grid_is_refused(grid):
    with pytest.raises(ValueError, match="do not fit"):
        tiles(grid, 8, 8)
