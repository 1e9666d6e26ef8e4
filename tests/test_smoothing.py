"""Smoothing of the borders of tokens: what it changes, and what it must not."""

import pytest
import torch
from torch import Tensor

from mptvc.model.smoothing import smoothed

STEP = 40.0
STEPS = torch.full((2, 3), STEP)


def blocky(patch: int, apart: int) -> Tensor:
    """Tokens of one value each, 2 x 3 of them, uint8."""
    values = 100 + apart * torch.tensor([[0, 1, 0], [1, 0, 1]])
    picture = values.repeat_interleave(patch, 0).repeat_interleave(patch, 1)
    return picture.expand(3, -1, -1).to(torch.uint8).contiguous()


def everywhere(patch: int) -> Tensor:
    return torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize("patch", [8, 16])
def test_small_steps_at_borders_become_smaller(patch: int) -> None:
    picture = blocky(patch, 6)
    result = smoothed(picture, everywhere(patch), STEPS)
    across = (result[:, 2, patch].int() - result[:, 2, patch - 1].int()).abs()
    assert int(across.max()) < 6
    inner = slice(2, patch - 2)
    assert torch.equal(result[:, inner, inner], picture[:, inner, inner])


@pytest.mark.parametrize("patch", [8, 16])
def test_edges_of_the_picture_stay(patch: int) -> None:
    picture = blocky(patch, 90)
    assert torch.equal(smoothed(picture, everywhere(patch), STEPS), picture)


def test_detail_at_a_border_stays() -> None:
    picture = blocky(8, 4)
    picture[:, :, 1::2] += 30
    columns = smoothed(picture, everywhere(8), STEPS)[:, 2:6]
    assert torch.equal(columns, picture[:, 2:6])


def test_borders_between_tokens_without_symbols_stay() -> None:
    picture, coded = blocky(8, 6), torch.zeros(2, 3, dtype=torch.bool)
    assert torch.equal(smoothed(picture, coded, STEPS), picture)
    coded[0, 0] = True
    changed = (smoothed(picture, coded, STEPS) != picture).any(0)
    assert changed.any()
    assert not changed[:, 11:].any()
    assert not changed[11:].any()


def test_the_picture_that_is_given_stays() -> None:
    picture = blocky(8, 6)
    before = picture.clone()
    smoothed(picture, everywhere(8), STEPS)
    assert torch.equal(picture, before)


def test_one_token_has_no_borders() -> None:
    picture = blocky(8, 6)[:, :8, :8].contiguous()
    assert torch.equal(smoothed(picture, torch.ones(1, 1, dtype=torch.bool), STEPS[:1, :1]), picture)


def test_the_filter_is_that_of_its_source() -> None:
    """A step of 6: (9 * 6 - 3 * 6 + 8) >> 4 = 2 at the border, and half of what bends beside it."""
    row = smoothed(blocky(8, 6), everywhere(8), STEPS)[0, 3, 4:12].tolist()
    assert row == [100, 100, 101, 102, 104, 105, 106, 106]


def test_the_finer_side_of_a_border_says_how_much_it_is_smoothed() -> None:
    picture, steps = blocky(8, 6), STEPS.clone()
    steps[0, 0] = 1.0  # a change of 1 is the smallest
    row = smoothed(picture, everywhere(8), steps)[0, 3].tolist()
    assert row[4:12] == [100, 100, 100, 101, 105, 106, 106, 106]
    assert row[12:20] == smoothed(picture, everywhere(8), STEPS)[0, 3, 12:20].tolist()


@pytest.mark.parametrize("step", [1e-3, 1e6])
def test_the_smallest_and_largest_steps_are_no_overflow(step: float) -> None:
    picture = blocky(8, 6)
    row = smoothed(picture, everywhere(8), torch.full((2, 3), step))[0, 3, 4:12].tolist()
    least, most = [100, 100, 100, 101, 105, 106, 106, 106], [100, 100, 101, 102, 104, 105, 106, 106]
    assert row == (least if step < 1 else most)
