"""The entropy model of choices and vectors: packets and back, what contexts may know, fitted tables."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.model.motion import camera_vectors
from mptvc.model.prediction import Blend
from mptvc.model.side import SideModel
from mptvc.model.side_symbols import BASE_CHOICE, BLENDS, CHOICES, Known, Side, Vector, part_of
from mptvc.train.loop_tables import SideCounter

ROWS, COLUMNS = 6, 9
MOTION = torch.tensor([[300, 20, -100], [-50, 400, 64]])
CAMERA = camera_vectors(MOTION, ROWS, COLUMNS)


def sides(count: int, seed: int, camera: Tensor = CAMERA) -> list[Side]:
    """Pictures in which an object moves before a ground that the camera moves."""
    rng = np.random.default_rng(seed)
    rows, columns = camera.shape[1:]
    found = []
    for index in range(count):
        choices = np.full((rows, columns), Vector.CAMERA * BLENDS + Blend.OVERLAPPED)
        choices[rng.random(choices.shape) < 0.15] = BASE_CHOICE
        place = (slice(1, 4), slice(index % 3, index % 3 + 4))
        choices[place] = Vector.OWN * BLENDS + Blend.BOTH
        vectors = camera.clone()
        vectors[(slice(None), *place)] += torch.tensor([-20, 33])[:, None, None]
        vectors[(slice(None), *place)] += torch.from_numpy(
            rng.integers(-2, 3, vectors[(slice(None), *place)].shape)
        )
        still = rng.random(choices.shape) < 0.05
        choices[still] = Vector.STILL * BLENDS + Blend.NEAR
        vectors[:, torch.from_numpy(still)] = 0
        found.append(Side(torch.from_numpy(choices), vectors, MOTION))
    return found


def written(model: SideModel, side: Side, past: Side | None, parent: Side | None) -> bytes:
    tables = [Tables(table.numpy()) for table in model.tables()]
    writer = PacketWriter(tables[0])
    model.code(lambda r, s, k: writer(r, s, tables=tables[k]), (ROWS, COLUMNS), Known(past, parent), side)
    return writer.finish()


def read(model: SideModel, packet: bytes, past: Side | None, parent: Side | None) -> Side:
    tables = [Tables(table.numpy()) for table in model.tables()]
    reader = PacketReader(tables[0], packet)
    side = model.code(lambda r, s, k: reader(r, s, tables=tables[k]), (ROWS, COLUMNS), Known(past, parent))
    reader.finish()
    return side


def assert_equal(a: Side, b: Side) -> None:
    assert torch.equal(a.choices, b.choices)
    assert torch.equal(a.vectors, b.vectors)


@pytest.fixture(scope="module")
def fitted() -> SideModel:
    model = SideModel()
    counter = SideCounter(model)
    past: Side | None = None
    for side in sides(40, seed=1):
        counter.add(side, Known(past, past))
        past = side
    counter.fit()
    return model


@pytest.mark.parametrize("is_fitted", [False, True])
@pytest.mark.parametrize("with_past", [False, True])
@pytest.mark.parametrize("with_coarser", [False, True])
def test_side_symbols_come_back(
    fitted: SideModel, is_fitted: bool, with_past: bool, with_coarser: bool
) -> None:
    model = fitted if is_fitted else SideModel()
    past, side = sides(2, seed=2)
    coarse = Side(side.choices[::2, ::2], side.vectors[:, ::2, ::2], MOTION // 2)
    known = (past if with_past else None, coarse if with_coarser else None)
    assert_equal(read(model, written(model, side, *known), *known), side)


def test_every_choice_comes_back(fitted: SideModel) -> None:
    choices = torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS) % CHOICES
    number = choices // BLENDS
    vectors = torch.where(number == Vector.OWN, CAMERA + 7, torch.where(number == Vector.STILL, 0, CAMERA))
    coarse = Side(choices[::2, ::2], CAMERA[:, ::2, ::2] - 5, MOTION // 2)
    parents = (2 * (CAMERA - 5))[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2)
    vectors = torch.where(number == Vector.PARENT, parents[:, :ROWS, :COLUMNS], vectors)
    side = Side(choices, vectors, MOTION)
    assert_equal(read(fitted, written(fitted, side, None, coarse), None, coarse), side)
    assert int(side.blends.max()) == Blend.BASE


def test_fitted_tables_take_fewer_bits_on_other_pictures(fitted: SideModel) -> None:
    others = sides(8, seed=3)
    taken = [sum(len(written(m, b, a, a)) for a, b in pairwise(others)) for m in (SideModel(), fitted)]
    assert taken[1] < 0.6 * taken[0]


@pytest.mark.parametrize("half", [0, 1])
def test_contexts_hold_nothing_that_a_decoder_lacks(fitted: SideModel, half: int) -> None:
    """Choices of the same half, and vectors that come later, change no row."""
    past, side = sides(2, seed=4)
    parity = (torch.arange(ROWS)[:, None] + torch.arange(COLUMNS)) % 2
    later = torch.where(parity >= half, BASE_CHOICE, side.choices)
    rows = [fitted.choice_rows(c, Known(past, past), half)[parity == half] for c in (side.choices, later)]
    assert torch.equal(*rows)
    changed = torch.where(parity >= half, side.vectors + 99, side.vectors)
    before, after = (
        fitted.vector_sizes(Side(side.choices, v, MOTION), CAMERA + 3, past, half)
        for v in (side.vectors, changed)
    )
    mine = before[2]
    assert torch.equal(before[0][:, mine], after[0][:, mine])
    assert torch.equal(before[1][mine], after[1][mine])


def test_a_vector_out_of_reach_is_refused(fitted: SideModel) -> None:
    (side,) = sides(1, seed=5)
    far = Side(side.choices, torch.where(side.own, side.vectors + 200, side.vectors), MOTION)
    with pytest.raises(ValueError, match="more than 127 quarter pixels"):
        written(fitted, far, None, None)


def test_a_camera_alone_costs_next_to_nothing(fitted: SideModel) -> None:
    choices = torch.full((ROWS, COLUMNS), Vector.CAMERA * BLENDS + Blend.OVERLAPPED)
    side = Side(choices, CAMERA, MOTION)
    assert 8 * len(written(fitted, side, side, side)) < 8 * 12 + 0.6 * ROWS * COLUMNS


def test_rows_sum_to_the_coders_total(fitted: SideModel) -> None:
    for table in fitted.tables():
        assert bool((table.long().sum(1) == 2**24).all())


def test_vectors_at_the_ends_of_their_range_come_back(fitted: SideModel) -> None:
    """Whatever is likely: differences are counted in a circle."""
    choices = torch.full((ROWS, COLUMNS), Vector.OWN * BLENDS + Blend.NEAR)
    ends = torch.where(
        torch.rand(2, ROWS, COLUMNS, generator=torch.Generator().manual_seed(6)) < 0.5, -127, 127
    )
    sides_ = [
        Side(choices, CAMERA + ends, MOTION),
        Side(choices, CAMERA - ends, MOTION),
        Side(choices, CAMERA + ends.flip(1), MOTION),
    ]
    for past, side in pairwise([None, *sides_]):
        assert_equal(read(fitted, written(fitted, side, past, None), past, None), side)


def test_a_part_of_the_way_is_a_part_of_every_vector() -> None:
    (side,) = sides(1, seed=7)
    half = part_of(side, 1, 2)
    assert torch.equal(half.vectors, torch.floor((side.vectors + 1) / 2).long())
    assert torch.equal(half.coefficients, torch.floor((MOTION + 1) / 2).long())
    assert torch.equal(half.choices, side.choices)
