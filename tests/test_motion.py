"""Prediction from moved blocks: against the definition sample by sample, and what follows from it."""

from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import moved_picture
from torch import Tensor

from mptvc.model.motion import BLOCK, Reference, camera_vectors, differs_nearby, picture_of

SETTINGS = settings(deadline=None, max_examples=40)


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=rng, dtype=torch.uint8)


def vectors_of(rows: int, columns: int, reach: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(-reach, reach + 1, (2, rows, columns), generator=rng)


class Samples:
    """A channel of a picture between its pixels, by the definition, with Python's integers."""

    def __init__(self, channel: Tensor) -> None:
        self.values = channel.tolist()

    def whole(self, y: int, x: int) -> int:
        rows, columns = len(self.values), len(self.values[0])
        return self.values[min(max(y, 0), rows - 1)][min(max(x, 0), columns - 1)]

    def half(self, y: int, x: int) -> int:
        """The sample at (y / 2, x / 2)."""
        taps = (1, -5, 20, 20, -5, 1)

        def right(row: int) -> int:
            if x % 2 == 0:
                return self.whole(row, x // 2)
            total = sum(tap * self.whole(row, x // 2 - 2 + i) for i, tap in enumerate(taps))
            return min(max((total + 16) >> 5, 0), 255)

        if y % 2 == 0:
            return right(y // 2)
        total = sum(tap * right(y // 2 - 2 + i) for i, tap in enumerate(taps))
        return min(max((total + 16) >> 5, 0), 255)

    def quarter(self, y: int, x: int) -> int:
        """The sample at (y / 4, x / 4)."""
        return (self.half(y // 2, x // 2) + self.half(-(-y // 2), -(-x // 2)) + 1) >> 1


@pytest.mark.parametrize("reach", [3, 40, 2000])
def test_blocks_are_the_samples_that_their_vectors_name(reach: int) -> None:
    picture, vectors = noise(32, 48), vectors_of(2, 3, reach, seed=reach)
    moved = moved_picture(Reference(picture), vectors)
    for channel in range(3):
        samples = Samples(picture[channel])
        for y, x in [(0, 0), (15, 16), (16, 15), (31, 47), (7, 40), (20, 2)]:
            dy, dx = vectors[:, y // BLOCK, x // BLOCK].tolist()
            assert moved[channel, y, x] == samples.quarter(4 * y + dy, 4 * x + dx)


@pytest.mark.parametrize("reach", [3, 40, 2000])
def test_overlapped_pixels_are_means_of_four_predictions(reach: int) -> None:
    picture, vectors = noise(32, 48), vectors_of(2, 3, reach, seed=reach)
    blended = picture_of(Reference(picture).overlapped_blocks(vectors), 2)
    samples = Samples(picture[1])
    for y, x in [(0, 0), (15, 16), (16, 15), (31, 47), (7, 40), (20, 2)]:
        total = 0
        for i in ((y - 8) // BLOCK, (y + 8) // BLOCK):  # the two nearest blocks along y and along x
            row = 0
            for j in ((x - 8) // BLOCK, (x + 8) // BLOCK):
                dy, dx = vectors[:, min(max(i, 0), 1), min(max(j, 0), 2)].tolist()
                weight = 2 * BLOCK - abs(2 * x + 1 - (2 * j + 1) * BLOCK)
                row += weight * samples.quarter(4 * y + dy, 4 * x + dx)
            total += (2 * BLOCK - abs(2 * y + 1 - (2 * i + 1) * BLOCK)) * ((row + 16) >> 5)
        assert blended[1, y, x] == (total + 16) >> 5


@given(st.integers(-300, 300), st.integers(-300, 300))
@SETTINGS
def test_where_all_vectors_are_equal_overlapping_changes_nothing(dy: int, dx: int) -> None:
    reference = Reference(noise(48, 32))
    vectors = torch.tensor([dy, dx])[:, None, None].expand(2, 3, 2)
    assert torch.equal(reference.moved_blocks(vectors), reference.overlapped_blocks(vectors))


@given(st.integers(-12, 12), st.integers(-12, 12))
@SETTINGS
def test_whole_pixels_are_copied(dy: int, dx: int) -> None:
    picture = noise(64, 64)
    vectors = torch.tensor([4 * dy, 4 * dx])[:, None, None].expand(2, 4, 4)
    moved = moved_picture(Reference(picture), vectors)
    inside = slice(16, 48)
    expected = torch.roll(picture, (-dy, -dx), (1, 2))
    assert torch.equal(moved[:, inside, inside], expected[:, inside, inside].short())


@pytest.mark.parametrize("vector", [(2**30, 0), (0, -(2**30)), (-(2**30), 2**30)])
def test_vectors_that_point_far_outside_see_the_edge(vector: tuple[int, int]) -> None:
    picture = noise(32, 32)
    vectors = torch.tensor(vector)[:, None, None].expand(2, 2, 2)
    moved = moved_picture(Reference(picture), vectors)
    dy, dx = vector
    edge = picture[:, -1 if dy > 0 else 0] if dy else picture
    edge = edge[..., -1 if dx > 0 else 0] if dx else edge
    expected = edge[:, None, None] if dy and dx else edge[:, None] if dy else edge[..., None]
    assert torch.equal(moved, expected.expand(3, 32, 32).short())


def test_a_flat_picture_stays_flat() -> None:
    for value in (0, 1, 254, 255):
        picture = torch.full((3, 32, 32), value, dtype=torch.uint8)
        reference, vectors = Reference(picture), vectors_of(2, 2, 50, seed=1)
        assert bool((moved_picture(reference, vectors) == value).all())
        assert bool((reference.overlapped_blocks(vectors) == value).all())


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (30, 54)])
def test_the_camera_moves_every_block_as_its_six_numbers_say(rows: int, columns: int) -> None:
    coefficients = torch.tensor([[37, -5, 100], [-2000, 3, -33]])
    vectors = camera_vectors(coefficients, rows, columns)
    for row in {0, rows // 2, rows - 1}:
        for column in {0, columns // 2, columns - 1}:
            place = (Fraction(2 * row - rows + 1, rows), Fraction(2 * column - columns + 1, columns), 1)
            for axis in range(2):
                exact = sum(int(c) * p for c, p in zip(coefficients[axis], place, strict=True)) / 16
                assert vectors[axis, row, column] == floor(exact + Fraction(1, 2))


def test_a_still_camera_moves_nothing() -> None:
    assert not camera_vectors(torch.zeros(2, 3, dtype=torch.int64), 4, 5).any()


def test_blocks_with_their_own_vectors_all_around_are_no_blend() -> None:
    vectors = torch.zeros(2, 5, 6, dtype=torch.int64)
    vectors[1, 2, 3] = 4
    near = torch.zeros(5, 6, dtype=torch.bool)
    near[1:4, 2:5] = True
    assert torch.equal(differs_nearby(vectors), near)
    assert not differs_nearby(vectors[:, :1, :1]).any()
    reference = Reference(noise(80, 96))
    same = reference.moved_blocks(vectors) == reference.overlapped_blocks(vectors)
    assert torch.equal(same.flatten(1).all(1) | near.flatten(), torch.ones(30, dtype=torch.bool))


def test_some_blocks_are_those_of_all() -> None:
    reference, vectors = Reference(noise(48, 64)), vectors_of(3, 4, 40, seed=3)
    places = torch.tensor([7, 0, 11])
    for found in (reference.moved_blocks, reference.overlapped_blocks):
        assert torch.equal(found(vectors, places), found(vectors)[places])
