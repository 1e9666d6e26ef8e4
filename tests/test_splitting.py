"""Groups with small sums: symbols and packets and back, what they cost, and packets that do not fit."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.model.activity import activity_thresholds
from mptvc.model.splitting import (
    MOST_SUM,
    ROWS,
    Parts,
    SplittingModel,
    Table,
    share_rows,
    small_activity,
)
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


def even(count: int) -> Tensor:
    """As much expected of every channel, int32 ``[n, C + 1]``."""
    return (16 * torch.arange(CHANNELS + 1, dtype=torch.int32)).expand(count, -1)


def mixed(count: int, seed: int = 8) -> Tensor:
    """Something else expected of every token."""
    rng = np.random.default_rng(seed)
    shares = 16 * 2.0 ** rng.uniform(0, 16, (count, CHANNELS))
    return torch.from_numpy(np.pad(shares.round().cumsum(1), ((0, 0), (1, 0)))).to(torch.int32)


def activities(symbols: Tensor) -> Tensor:
    sums = torch.zeros(len(symbols), len(GROUPS), dtype=torch.int64)
    sums.index_add_(1, GROUP_OF, symbols.abs().long())
    return torch.bucketize(sums, THRESHOLDS, right=True)


def small(symbols: Tensor) -> Tensor:
    """The symbols of groups whose sums are small."""
    kept = activities(symbols) <= small_activity(THRESHOLDS)
    return symbols * kept[:, GROUP_OF]


def written(splitting: SplittingModel, symbols: Tensor, expected: Tensor) -> bytes:
    tables = [Tables(table.numpy()) for table in splitting.tables()]
    writer = PacketWriter(tables[0])
    given = activities(symbols), expected, THRESHOLDS, symbols
    splitting.code(lambda r, s, k: writer(r, s, tables=tables[k]), *given)
    return writer.finish()


def read(splitting: SplittingModel, packet: bytes, active: Tensor, expected: Tensor) -> Tensor:
    tables = [Tables(table.numpy()) for table in splitting.tables()]
    reader = PacketReader(tables[0], packet)
    given = active, expected, THRESHOLDS
    places, values = splitting.code(lambda r, s, k: reader(r, s, tables=tables[k]), *given)
    reader.finish()
    found = torch.zeros(len(active) * CHANNELS, dtype=torch.int16)
    found[places] = values.to(torch.int16)
    return found.view(-1, CHANNELS)


def fitted(examples: Tensor, expected: Tensor) -> SplittingModel:
    splitting = model()
    counter = SplittingCounter(splitting)
    splitting.walked(counter, activities(examples), expected, THRESHOLDS, examples)
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
    for splitting in (model(), fitted(tokens(200, seed=3), mixed(200))):
        for expected in (even(count), mixed(count)):
            packet = written(splitting, symbols, expected)
            assert torch.equal(read(splitting, packet, activities(symbols), expected), small(symbols))


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


def test_one_of_many_costs_little_where_it_is_expected() -> None:
    """Here or there, which no table knows but by what is expected."""
    symbols, here = torch.zeros(600, CHANNELS, dtype=torch.int16), torch.arange(600) % 3 == 1
    first, *_, last = ORDER[GROUP_OF[ORDER] == 2]
    symbols[here, first] = symbols[~here, last] = 1
    shares = torch.where(symbols[:, ORDER] > 0, 2**16, 1)
    right = torch.cat([shares.new_zeros(600, 1), shares.cumsum(1)], 1).to(torch.int32)
    splitting, active = fitted(symbols, right), activities(symbols)
    wrong = right[~here][0].expand(600, -1)
    bits, mistaken = (splitting.bits(active, x, THRESHOLDS, symbols) for x in (right, wrong))
    assert float(bits.max()) < 1.1  # the sign
    assert torch.equal(mistaken[~here], bits[~here])
    assert float(mistaken[here].min()) > 5


def test_rows_of_shares_are_those_of_the_sum_and_the_odds() -> None:
    def rows(first: int, second: int, total: int) -> int:
        below = torch.tensor([[7, 7 + first, 7 + first + second]], dtype=torch.int32)
        part = Parts(*(torch.tensor([x]) for x in (0, 0, 2, total)))
        return int(share_rows(part, below))

    assert rows(1, 1, 1) == 8
    assert rows(2**20, 1, 1) == 15
    assert rows(1, 2**20, 1) == 0
    for k in range(18):
        octaves = math.log2(3) + k - 9  # which is a little over an eighth's start at every k
        assert rows(3 << k, 1 << 9, 3) == 2 * 16 + min(15, max(0, math.floor((octaves + 6) / 0.75)))
    assert rows(2**20, 1, MOST_SUM) == ROWS - 1 < 256


@pytest.mark.parametrize(
    ("activity", "spoil", "message"),
    [
        (4, lambda table, n: np.full(n, 3 - 8) if table == Table.RESTS else np.ones(n), "sum is larger"),
        (
            2,
            lambda table, n: np.full(n, 3 - 8) if table == Table.SHARES else 0 * np.ones(n) - 8,
            "part of a group",
        ),
        (2, lambda table, n: np.full(n, 1 - 8) if table == Table.SHARES else np.zeros(n), "has no sign"),
    ],
)
def test_what_does_not_fit_is_refused(
    activity: int, spoil: Callable[[int, int], np.ndarray], message: str
) -> None:
    active = torch.zeros(2, len(GROUPS), dtype=torch.int64)
    active[1, 2] = activity
    for expected in (even(2), mixed(2)):
        with pytest.raises(ValueError, match=message):
            model().code(
                lambda rows, _, table: spoil(table, len(rows)).astype(np.int64), active, expected, THRESHOLDS
            )
