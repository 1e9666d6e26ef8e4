"""Keys predicted block by block: each blend against its definition, and what no block may depend on."""

import pytest
import torch
from moving import moved_picture, overlapped_picture
from torch import Tensor

from mptvc.model.motion import BLOCK, Reference, blocks_of, picture_of
from mptvc.model.prediction import Blend, Source, predict_between, predict_key

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


# Frames between

BASES = torch.stack([noise(seed) for seed in (6, 7, 8)])
PATHS = torch.randint(-30, 31, (2, 3, 2, ROWS, COLUMNS), generator=torch.Generator().manual_seed(9))
NONE = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)


def between(source: Source, frame: int, overlapped: bool) -> Tensor:
    """A frame between in which all blocks have one source, by its definition."""
    how = overlapped_picture if overlapped else moved_picture
    before, after = how(NEAR, PATHS[0, frame]), how(FAR, PATHS[1, frame])
    return {
        Source.BOTH: mean(before, after),
        Source.BEFORE: before,
        Source.AFTER: after,
        Source.BOTH_BASE: mean(mean(before, after), BASES[frame]),
        Source.BASE: BASES[frame],
    }[source].to(torch.uint8)


@pytest.mark.parametrize("overlapped", [False, True])
@pytest.mark.parametrize("source", list(Source))
def test_each_source_is_what_its_name_says(source: Source, overlapped: bool) -> None:
    sources = torch.full((ROWS, COLUMNS), int(source))
    predicted = predict_between(NEAR, FAR, BASES, PATHS, sources, NONE | overlapped)
    assert predicted.dtype == torch.uint8
    for frame in range(3):
        assert torch.equal(predicted[frame], between(source, frame, overlapped))


def test_blocks_do_not_depend_on_the_sources_of_others() -> None:
    index = torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS)
    sources, overlapped = index % len(Source), index % 2 == 0
    predicted = predict_between(NEAR, FAR, BASES, PATHS, sources, overlapped)
    for frame in range(3):
        mixed = blocks_of(predicted[frame])
        for number in range(ROWS * COLUMNS):
            whole = between(Source(number % len(Source)), frame, number % 2 == 0)
            assert torch.equal(mixed[number], blocks_of(whole)[number])
