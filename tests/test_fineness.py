"""Fineness of keys: packets and back, what it does to steps, and what an encoder finds it to be worth."""

import numpy as np
import pytest
import torch
from torch import Tensor

import mptvc
from mptvc.codec.importance import MOST_FRAMES, Flow, Role, fineness, importances
from mptvc.codec.loop import LevelLoop
from mptvc.codec.loop_coder import LoopCoder
from mptvc.codec.loop_encoder import LoopEncoder
from mptvc.codec.rate import Rate
from mptvc.codec.tables import LevelTables
from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.model.fineness import FINEST, KINDS, VALUES, FinenessModel, fineness_rows
from mptvc.model.loop_config import LoopLevelConfig
from mptvc.model.loop_model import LoopLevel
from mptvc.train.loop_tables import FinenessCounter

GRID = 5, 7


def keys(count: int) -> list[Tensor]:
    """Fineness of keys that follow each other: an island that moves, and single blocks anywhere."""
    rng, found = torch.Generator().manual_seed(3), []
    for index in range(count):
        values = torch.full(GRID, -1)
        values[1:4, index : index + 3] = 2
        values[torch.rand(GRID, generator=rng) < 0.1] = FINEST
        found.append(values)
    return found


def written(model: FinenessModel, keys: list[Tensor]) -> bytes:
    tables = Tables(model.tables()[0].numpy())
    writer = PacketWriter(tables)
    for before, values in zip([None, *keys], keys, strict=False):
        model.code(lambda r, s, _: writer(r, s, tables=tables), before, GRID, values)
    return writer.finish()


def read(model: FinenessModel, packet: bytes, count: int) -> list[Tensor]:
    tables = Tables(model.tables()[0].numpy())
    reader, found = PacketReader(tables, packet), list[Tensor]()
    for _ in range(count):
        before = found[-1] if found else None
        found.append(model.code(lambda r, s, _: reader(r, s, tables=tables), before, GRID))
    reader.finish()
    return found


def test_fineness_comes_back_and_fitted_tables_take_less() -> None:
    model, given = FinenessModel(), keys(4)
    even = written(model, given)
    for ours, theirs in zip(read(model, even, len(given)), given, strict=True):
        assert torch.equal(ours, theirs)
    counter = FinenessCounter(model)
    for before, values in zip([None, *given], given, strict=False):
        counter.add(values, before)
    counter.fit()
    fitted = written(model, given)
    assert len(fitted) < 0.7 * len(even)
    for ours, theirs in zip(read(model, fitted, len(given)), given, strict=True):
        assert torch.equal(ours, theirs)


def test_a_decoder_can_name_every_row() -> None:
    """Those of the first half depend on the key before alone, those of the second on the first half too."""
    before, values = keys(2)
    first, second = (fineness_rows(values, before, half) for half in range(2))
    assert torch.equal(first, fineness_rows(torch.zeros_like(values), before, 0))
    assert int(second.max()) < 2 * KINDS**2
    assert bool((first < KINDS**2).all())
    assert bool((second >= KINDS**2).all())
    assert bool((fineness_rows(values, None, 0) == KINDS**2 - 1).all())


def flow(differences: float, dy: int = 0, dx: int = 0) -> Flow:
    vectors = torch.tensor([dy, dx])[:, None, None].expand(2, *GRID)
    return Flow(torch.full(GRID, 8.0), torch.full(GRID, differences), vectors)


def test_what_stays_counts_for_every_frame_and_what_changes_for_one() -> None:
    still, changing = (importances([flow(d) for _ in range(9)], 2) for d in (0.0, 50.0))
    assert len(still) == len(changing) == 2
    assert torch.allclose(still[0], torch.full(GRID, 9.0), atol=0.01)
    assert torch.allclose(still[1], torch.full(GRID, 8.0), atol=0.01)
    assert torch.equal(changing[0], torch.ones(GRID))
    assert bool((fineness(still[0], Role.OPENING, 0.5) > fineness(changing[0], Role.OPENING, 0.5)).all())


def test_importance_lies_where_later_blocks_come_from() -> None:
    """All blocks are found half a block further right: the leftmost is used half, the last one twice."""
    (first, _) = importances([flow(0.0), flow(0.0, dx=4 * 8)], 2)
    assert torch.allclose(first[:, 0], torch.full((GRID[0],), 1.5), atol=1e-3)
    assert torch.allclose(first[:, 1:-1], torch.full((GRID[0], GRID[1] - 2), 2.0), atol=1e-3)
    assert torch.allclose(first[:, -1], torch.full((GRID[0],), 2.5), atol=1e-3)  # half lies outside


def test_a_frame_alone_is_as_fine_as_one_that_stays() -> None:
    codec = mptvc.load(device="cpu")
    frame = (
        np.random.default_rng(1).integers(0, 256, (1, 12, 20, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    )
    alone, still = (codec.unpack(codec.compress(frame.repeat(n, 0)), levels=1) for n in (1, 20))
    opening = alone.predictions[0].fineness[0]
    assert opening.tolist() == still.predictions[0].fineness[0].tolist() == [[1] * 3] * 2


@pytest.mark.parametrize("role", Role)
def test_fineness_keeps_to_its_bounds(role: Role) -> None:
    for unit in (0.0, 0.25, 0.5, 1.0):
        found = fineness(torch.tensor([1e-3, role.value.usual, 1e6]), role, unit)
        assert found.tolist() == [role.value.least, 0, role.value.most]
    assert VALUES == 2 * FINEST + 1


def test_what_stands_still_is_coded_more_finely_than_what_does_not() -> None:
    """The left half stays, the right half is another picture in every frame."""
    rng = np.random.default_rng(5)
    frames = rng.integers(0, 256, (13, 16, 16, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    frames[:, :, :32] = frames[0, :, :32]
    codec = mptvc.load(device="cpu")
    tokens = codec.unpack(codec.compress(frames), levels=1)
    opening = tokens.predictions[0].fineness[0]
    assert opening.tolist() == [[1, -2], [1, -2]]


@pytest.mark.parametrize("index", [0, 2])
def test_finer_blocks_are_nearer_to_the_picture(index: int) -> None:
    """Noise over gray: half of the picture has a step of 2^3 times that of the other half."""
    level = LoopLevel(index, 16, LoopLevelConfig(40.0, fineness=0.5))
    loop = LevelLoop(LevelTables(level))
    picture = torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    values = torch.full((4, 6), -FINEST)
    values[:, :3] = FINEST
    writer, base = PacketWriter(loop.tables.digits), torch.full_like(picture, 128)
    made = loop.opening(writer, lambda: base, 40.0, values, None, picture).picture
    apart = (made.float() - picture).square().mean((0, 1))
    assert 20 * apart[:48].mean() < apart[48:].mean()


@pytest.mark.parametrize(("size", "most"), [((1, 1), 2**14), ((2160, 3840), 8)])
def test_frames_that_are_held_are_bounded(size: tuple[int, int], most: int) -> None:
    coder = mptvc.load(device="cpu").coder
    assert isinstance(coder, LoopCoder)
    for rate, bound in ((Rate(), min(most, MOST_FRAMES)), (Rate(bpp=(0.02, 0.15, 0.6)), most)):
        encoder = LoopEncoder(coder, rate)
        assert 5 <= encoder._most_held(coder.geometry(size[1], size[0])) <= bound
