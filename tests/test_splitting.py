"""Groups with small sums: symbols and packets and back, what they cost, and packets that do not fit."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.model.activity import activity_thresholds
from mptvc.model.splitting import MOST_SUM, SplittingModel, Table, small_activity
from mptvc.train.loop_tables import SplittingCounter

GROUPS = (1, 5, 8, 2)
CHANNELS = sum(GROUPS)
THRESHOLDS = activity_thresholds()
#: Channels of a group lie apart.
GROUP_OF = torch.repeat_interleave(torch.arange(len(GROUPS)), torch.tensor(GROUPS)).flip(0)[
    torch.randperm(CHANNELS, generator=torch.Generator().manual_seed(1))
]
ORDER = GROUP_OF.argsort(stable=True)


def model() -> SplittingModel:
    return SplittingModel(ORDER, GROUP_OF)


def tokens(count: int, seed: int, most: int = 3) -> Tensor:
    """Sparse symbols, int16 ``[n, C]``."""
    rng = np.random.default_rng(seed)
    symbols = rng.integers(-most, most + 1, (count, CHANNELS)) * (rng.random((count, CHANNELS)) < 0.3)
    return torch.from_numpy(symbols).to(torch.int16)


def mixed(count: int) -> Tensor:
    """Which of so many tokens are quartered, bool ``[n]``: every third one."""
    return torch.arange(count) % 3 == 1


def activities(symbols: Tensor) -> Tensor:
    sums = torch.zeros(len(symbols), len(GROUPS), dtype=torch.int64)
    sums.index_add_(1, GROUP_OF, symbols.abs().long())
    return torch.bucketize(sums, THRESHOLDS, right=True)


def small(symbols: Tensor) -> Tensor:
    """The symbols of groups whose sums are small."""
    kept = activities(symbols) <= small_activity(THRESHOLDS)
    return symbols * kept[:, GROUP_OF]


def written(splitting: SplittingModel, symbols: Tensor, quartered: Tensor) -> bytes:
    tables = [Tables(table.numpy()) for table in splitting.tables()]
    writer = PacketWriter(tables[0])
    given = activities(symbols), quartered, THRESHOLDS, symbols
    splitting.code(lambda r, s, k: writer(r, s, tables=tables[k]), *given)
    return writer.finish()


def read(splitting: SplittingModel, packet: bytes, active: Tensor, quartered: Tensor) -> Tensor:
    tables = [Tables(table.numpy()) for table in splitting.tables()]
    reader = PacketReader(tables[0], packet)
    given = active, quartered, THRESHOLDS
    places, values = splitting.code(lambda r, s, k: reader(r, s, tables=tables[k]), *given)
    reader.finish()
    found = torch.zeros(len(active) * CHANNELS, dtype=torch.int16)
    found[places] = values.to(torch.int16)
    return found.view(-1, CHANNELS)


def fitted(examples: Tensor, quartered: Tensor) -> SplittingModel:
    splitting = model()
    counter = SplittingCounter(splitting)
    splitting.walked(counter, activities(examples), quartered, THRESHOLDS, examples)
    counter.fit()
    return splitting


def test_sums_that_are_halved_are_those_of_whole_activities() -> None:
    largest = small_activity(THRESHOLDS)
    assert int(THRESHOLDS[largest]) == MOST_SUM + 1
    assert int(THRESHOLDS[largest - 1]) <= MOST_SUM


@pytest.mark.parametrize("most", [1, 3, 16, 5000])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_symbols_come_back(count: int, most: int) -> None:
    symbols = tokens(count, seed=2, most=most)
    none = torch.zeros(count, dtype=torch.bool)
    for splitting in (model(), fitted(tokens(200, seed=3), mixed(200))):
        for quartered in (none, ~none, mixed(count)):
            packet = written(splitting, symbols, quartered)
            assert torch.equal(read(splitting, packet, activities(symbols), quartered), small(symbols))


def test_fitted_tables_take_fewer_bits_and_the_bits_are_theirs() -> None:
    splitting, symbols = fitted(tokens(500, seed=4), mixed(500)), tokens(300, seed=5)
    packet = written(splitting, symbols, mixed(300))
    assert len(packet) < 0.6 * len(written(model(), symbols, mixed(300)))
    stated = float(splitting.bits(activities(symbols), mixed(300), THRESHOLDS, symbols).sum())
    assert 0 <= 8 * len(packet) - stated <= 8 * 12  # a check value, and the state of the coder


def test_one_of_many_costs_its_place_and_its_sign() -> None:
    """A 1 in any of 8 channels takes 3 bits for where it is and one for its sign, and no more."""
    rng = np.random.default_rng(6)
    symbols = torch.zeros(3000, CHANNELS, dtype=torch.int16)
    channels = torch.nonzero(GROUP_OF == 2).flatten()
    symbols[torch.arange(3000), channels[torch.from_numpy(rng.integers(0, 8, 3000))]] = 1
    bits = fitted(symbols, mixed(3000)).bits(activities(symbols), mixed(3000), THRESHOLDS, symbols)
    assert float(bits.mean()) == pytest.approx(4, abs=0.05)


def test_quartered_tokens_have_rows_of_their_own() -> None:
    """Whole ones hold something in the first of 8 channels alone, and quartered ones in the last."""
    symbols, quartered = torch.zeros(600, CHANNELS, dtype=torch.int16), mixed(600)
    first, *_, last = ORDER[GROUP_OF[ORDER] == 2]
    symbols[~quartered, first] = symbols[quartered, last] = 1
    splitting, active = fitted(symbols, quartered), activities(symbols)
    right, wrong = (splitting.bits(active, shapes, THRESHOLDS, symbols) for shapes in (quartered, ~quartered))
    assert float(right.max()) < 1.1  # the sign
    assert float(wrong.min()) > 5


def test_each_place_is_halved_in_one_part_alone() -> None:
    """So the place names the part, and rows of it need no other number; quartered tokens have their own."""
    symbols, seen = tokens(400, seed=7), dict[int, tuple[int, int]]()

    class Walk(SplittingCounter):
        def share(self, parts, given):  # type: ignore[no-untyped-def]
            for middle, *ends in zip(
                parts.middle.tolist(), parts.first.tolist(), parts.last.tolist(), strict=True
            ):
                assert seen.setdefault(middle, tuple(ends)) == tuple(ends)
            return super().share(parts, given)

    splitting = model()
    splitting.walked(Walk(splitting), activities(symbols), mixed(400), THRESHOLDS, symbols)
    assert len(seen) == 2 * (CHANNELS - len(GROUPS))
    assert sum(middle < CHANNELS for middle in seen) == CHANNELS - len(GROUPS)


@pytest.mark.parametrize(
    ("activity", "spoil", "message"),
    [
        (4, lambda table, n: np.full(n, 3 - 8) if table == Table.SHARES else np.ones(n), "sum is larger"),
        (2, lambda table, n: np.full(n, 3 - 8) if table == Table.SHARES else np.ones(n), "part of a group"),
        (2, lambda table, n: np.full(n, 1 - 8) if table == Table.SHARES else np.zeros(n), "has no sign"),
    ],
)
def test_what_does_not_fit_is_refused(
    activity: int, spoil: Callable[[int, int], np.ndarray], message: str
) -> None:
    active = torch.zeros(2, len(GROUPS), dtype=torch.int64)
    active[1, 2] = activity
    for quartered in (torch.zeros(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)):
        with pytest.raises(ValueError, match=message):
            model().code(
                lambda rows, _, table: spoil(table, len(rows)).astype(np.int64), active, quartered, THRESHOLDS
            )
