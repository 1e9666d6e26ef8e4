"""Pictures predicted block by block: each blend against its definition, and what no block may depend on."""

from contextlib import nullcontext

import pytest
import torch
from moving import moved_picture, overlapped_picture
from torch import Tensor

from mptvc.model.motion import BLOCK, Reference, blocks_of, picture_of
from mptvc.model.prediction import Blend, References, predicted, scaled
from mptvc.native import calls

ROWS, COLUMNS = 3, 4


def noise(seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, ROWS * BLOCK, COLUMNS * BLOCK), generator=rng, dtype=torch.uint8)


NEAR, FAR, BASE = Reference(noise(1)), Reference(noise(2)), noise(3)
BEFORE, AROUND = References(NEAR, FAR, (1, 2)), References(NEAR, FAR, (2, -1))
ALONE = References(NEAR, None, (1, 0))
VECTORS = torch.randint(-30, 31, (2, ROWS, COLUMNS), generator=torch.Generator().manual_seed(4))


def uniform(blend: Blend) -> Tensor:
    return torch.full((ROWS, COLUMNS), int(blend))


def mean(a: Tensor, b: Tensor) -> Tensor:
    return (a.int() + b.int() + 1) // 2


def alone(blend: Blend, references: References) -> Tensor:
    """All blocks with one blend, by its definition."""
    base, (near, far) = BASE.short(), references.apart
    beyond = torch.floor(VECTORS * far / near + 0.5).long()
    found = overlapped_picture if "OVERLAPPED" in blend.name else moved_picture
    sources = found(NEAR, VECTORS), found(FAR, beyond)
    both = mean(*sources)
    return {
        Blend.NEAR: sources[0],
        Blend.OVERLAPPED: sources[0],
        Blend.NEAR_BASE: mean(sources[0], base),
        Blend.FAR: sources[1],
        Blend.BOTH: both,
        Blend.BOTH_OVERLAPPED: both,
        Blend.BOTH_BASE: mean(both, base),
        Blend.BASE: base,
    }[blend]


@pytest.mark.parametrize("references", [BEFORE, AROUND], ids=["before", "around"])
@pytest.mark.parametrize("blend", list(Blend))
def test_each_blend_is_what_its_name_says(blend: Blend, references: References) -> None:
    found = predicted(references, BASE, VECTORS, uniform(blend))
    assert found.dtype == torch.uint8
    assert torch.equal(found, alone(blend, references).to(torch.uint8))


def test_blocks_do_not_depend_on_the_blends_of_others() -> None:
    blends = torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS) % len(Blend)
    mixed = blocks_of(predicted(AROUND, BASE, VECTORS, blends))
    for index, blend in enumerate(blends.flatten().tolist()):
        assert torch.equal(mixed[index], blocks_of(alone(Blend(blend), AROUND))[index].to(torch.uint8))


@pytest.mark.parametrize("blend", [Blend.BOTH, Blend.FAR, Blend.BOTH_OVERLAPPED, Blend.BOTH_BASE])
def test_two_pictures_are_needed_for_both(blend: Blend) -> None:
    with pytest.raises(ValueError, match="there is one"):
        predicted(ALONE, BASE, VECTORS, uniform(blend))
    predicted(ALONE, BASE, VECTORS, uniform(Blend.NEAR_BASE))


@pytest.mark.parametrize(("part", "whole"), [(1, 2), (3, 4), (-1, 2), (2, 1), (0, 3), (-3, 1)])
def test_parts_of_vectors_are_rounded_halves_up(part: int, whole: int) -> None:
    found = scaled(torch.arange(-9, 10), part, whole).tolist()
    assert found == [(2 * v * part + whole) // (2 * whole) for v in range(-9, 10)]
    assert all(abs(f - v * part / whole) <= 0.5 for f, v in zip(found, range(-9, 10), strict=True))


def test_a_still_scene_is_repeated() -> None:
    still = torch.zeros(2, ROWS, COLUMNS, dtype=torch.int64)
    for blend in (Blend.NEAR, Blend.OVERLAPPED):
        assert torch.equal(predicted(ALONE, BASE, still, uniform(blend)), NEAR.picture)


def test_blocks_go_into_a_picture_and_back() -> None:
    assert torch.equal(picture_of(blocks_of(BASE), ROWS), BASE)
    assert torch.equal(blocks_of(BASE)[COLUMNS + 1], BASE[:, BLOCK : 2 * BLOCK, BLOCK : 2 * BLOCK])


@pytest.mark.parametrize("kernels", [True, False])
def test_a_picture_that_repeats_one_is_that_one(kernels: bool) -> None:
    still, twice = torch.zeros_like(VECTORS), References(NEAR, NEAR, (1, 2))
    with nullcontext() if kernels else calls.off():
        for blend in (Blend.NEAR, Blend.OVERLAPPED):
            assert predicted(AROUND, None, still, uniform(blend)) is NEAR.picture
        for blend in (Blend.BOTH, Blend.FAR, Blend.BOTH_OVERLAPPED):
            assert predicted(twice, None, still, uniform(blend)) is NEAR.picture
            assert predicted(AROUND, None, still, uniform(blend)) is not NEAR.picture
        moved = still.clone()
        moved[1, 1, 1] = 4
        mixed = predicted(AROUND, None, moved, uniform(Blend.NEAR))
        assert torch.equal(mixed, predicted(AROUND, BASE, moved, uniform(Blend.NEAR)))
        for blend in (Blend.NEAR_BASE, Blend.BOTH_BASE, Blend.BASE):
            with pytest.raises(ValueError, match="predicted from the coarser level, and there is none"):
                predicted(AROUND, None, still, uniform(blend))
