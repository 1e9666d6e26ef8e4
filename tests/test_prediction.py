"""Keys predicted block by block: each blend against its definition, and what no block may depend on."""

import pytest
import torch
from moving import moved_picture, overlapped_picture
from torch import Tensor

from mptvc.model.motion import BLOCK, Reference, blocks_of, picture_of
from mptvc.model.prediction import Blend, predict_key

ROWS, COLUMNS = 3, 4


def noise(seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, ROWS * BLOCK, COLUMNS * BLOCK), generator=rng, dtype=torch.uint8)


NEAR, FAR, BASE = Reference(noise(1)), Reference(noise(2)), noise(3)
VECTORS = torch.randint(-30, 31, (2, ROWS, COLUMNS), generator=torch.Generator().manual_seed(4))


def uniform(blend: Blend) -> Tensor:
    return torch.full((ROWS, COLUMNS), int(blend))


def mean(a: Tensor, b: Tensor) -> Tensor:
    return (a.int() + b.int() + 1) // 2


def alone(blend: Blend) -> Tensor:
    """All blocks with one blend, by its definition."""
    base = BASE.short()
    found = overlapped_picture if blend is Blend.OVERLAPPED else moved_picture
    source = found(NEAR, VECTORS)
    if blend is Blend.BOTH:
        return mean(source, moved_picture(FAR, 2 * VECTORS))
    if blend is Blend.NEAR_BASE:
        return mean(source, base)
    return base if blend is Blend.BASE else source


@pytest.mark.parametrize("blend", list(Blend))
def test_each_blend_is_what_its_name_says(blend: Blend) -> None:
    predicted = predict_key(NEAR, FAR, BASE, VECTORS, uniform(blend))
    assert predicted.dtype == torch.uint8
    assert torch.equal(predicted, alone(blend).to(torch.uint8))


def test_blocks_do_not_depend_on_the_blends_of_others() -> None:
    blends = torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS) % len(Blend)
    mixed = blocks_of(predict_key(NEAR, FAR, BASE, VECTORS, blends))
    for index, blend in enumerate(blends.flatten().tolist()):
        assert torch.equal(mixed[index], blocks_of(alone(Blend(blend)))[index].to(torch.uint8))


def test_two_pictures_are_needed_for_both() -> None:
    with pytest.raises(ValueError, match="there is one"):
        predict_key(NEAR, None, BASE, VECTORS, uniform(Blend.BOTH))
    predict_key(NEAR, None, BASE, VECTORS, uniform(Blend.NEAR_BASE))


def test_a_still_scene_is_repeated() -> None:
    still = torch.zeros(2, ROWS, COLUMNS, dtype=torch.int64)
    for blend in (Blend.NEAR, Blend.OVERLAPPED):
        assert torch.equal(predict_key(NEAR, None, BASE, still, uniform(blend)), NEAR.picture)


def test_blocks_go_into_a_picture_and_back() -> None:
    assert torch.equal(picture_of(blocks_of(BASE), ROWS), BASE)
    assert torch.equal(blocks_of(BASE)[COLUMNS + 1], BASE[:, BLOCK : 2 * BLOCK, BLOCK : 2 * BLOCK])
