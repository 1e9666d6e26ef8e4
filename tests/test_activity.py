"""The entropy model of what prediction leaves: symbols and packets and back, contexts, fitted tables."""

import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.model import activity, activity_bits, splitting
from mptvc.model.activity import (
    LARGEST,
    MOST,
    SHAPES,
    ActivityModel,
    Residual,
    Table,
    activity_thresholds,
    shape_rows,
)
from mptvc.model.contexts import (
    CLASSES,
    CODED_ROWS,
    CONTEXTS,
    Context,
    all_contexts,
    checkerboard,
    coded_rows,
    inner_contexts,
    repeated,
    token_classes,
)
from mptvc.model.envelope import Envelope
from mptvc.native import calls
from mptvc.train.loop_tables import ActivityCounter

GROUPS = (2, 3, 4, 8)
CHANNELS = sum(GROUPS)
GROUP_OF = torch.repeat_interleave(torch.arange(len(GROUPS)), torch.tensor(GROUPS))
ORDER = torch.arange(CHANNELS)


def left(symbols: Tensor, share: float = 0.5, seed: int = 0) -> Residual:
    """Symbols ``[h, w, C]`` of tokens of which about this share is quartered."""
    chosen = torch.rand(symbols.shape[:2], generator=torch.Generator().manual_seed(seed)) < share
    return Residual(symbols, chosen & symbols.any(-1))


def pictures(count: int, seed: int, height: int = 9, width: int = 12) -> list[Residual]:
    """Pictures in which a patch that moves is busy, half of it quartered, and the rest is not."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        busy = np.zeros((height, width, 1))
        busy[index % 4 : index % 4 + 4, 2:9] = 1.0
        scale = busy * 3 / np.arange(1, CHANNELS + 1)
        symbols = np.rint(rng.laplace(scale=scale + 1e-9)).clip(-63, 63)
        found.append(left(torch.from_numpy(symbols).to(torch.int16), seed=index))
    return found


def nothing(height: int = 9, width: int = 12) -> Tensor:
    return torch.zeros(height, width, len(GROUPS), dtype=torch.int64)


class Expecting(Envelope):
    """Expects something of every token and shape that no prediction is asked for."""

    def __init__(self, grid: tuple[int, int]) -> None:
        shares = 2.0 ** np.random.default_rng(9).uniform(4, 12, (2, *grid, CHANNELS))
        below = np.pad(shares.round().cumsum(-1), ((0, 0),) * 3 + ((1, 0),))
        object.__setattr__(self, "_below", torch.from_numpy(below).to(torch.int32).flatten(1, 2))

    def sums_below(self, tokens: Tensor, quartered: Tensor) -> Tensor:
        return self._below[quartered.long(), tokens]


def after(past: Tensor) -> Context:
    """What is known of a picture after one with these activities: a class for every token."""
    rows, columns = (torch.arange(n) for n in past.shape[:2])
    return Context(past, (rows[:, None] + 2 * columns) % CLASSES, Expecting((len(rows), len(columns))))


def packets(model: ActivityModel, residuals: list[Residual]) -> list[bytes]:
    tables, past, coded = (
        [Tables(table.numpy()) for table in model.tables()],
        nothing(*residuals[0].quartered.shape),
        [],
    )
    for picture in residuals:
        writer = PacketWriter(tables[0])
        _, past = model.code(lambda r, s, k, w=writer: w(r, s, tables=tables[k]), after(past), picture)
        coded.append(writer.finish())
    return coded


def decoded(model: ActivityModel, coded: list[bytes], height: int, width: int) -> list[Residual]:
    tables = [Tables(table.numpy()) for table in model.tables()]
    past, found = nothing(height, width), []
    for packet in coded:
        reader = PacketReader(tables[0], packet)
        residual, past = model.code(lambda r, s, k, c=reader: c(r, s, tables=tables[k]), after(past))
        reader.finish()
        found.append(residual)
    return found


def same(a: Residual, b: Residual) -> bool:
    return torch.equal(a.symbols, b.symbols) and torch.equal(a.quartered, b.quartered)


def counted(residuals: list[Residual], *, has_flags: bool = False) -> ActivityModel:
    """A model whose tables are fitted to pictures that follow each other."""
    model = ActivityModel(GROUP_OF, ORDER, has_flags=has_flags)
    counter, past = ActivityCounter(model), nothing()
    for picture in residuals:
        counter.add(picture, after(past))
        past = model.activities(picture.symbols)
    counter.fit()
    return model


@pytest.fixture(scope="module", params=[False, True], ids=["all tell", "flags"])
def fitted(request: pytest.FixtureRequest) -> ActivityModel:
    return counted(pictures(40, seed=1), has_flags=request.param)


def test_activity_is_a_logarithm_of_the_sum_of_magnitudes() -> None:
    model = ActivityModel(torch.zeros(1, dtype=torch.int64), torch.arange(1))
    for total in (0, 1, 2, 3, 4, 6, 7, 63, 64):
        activity = int(model.activities(torch.tensor([[[total]]])))
        assert activity == (1 + math.floor(1.5 * math.log2(total) + 1e-9) if total else 0)
    assert len(activity_thresholds()) == MOST
    many = ActivityModel(torch.zeros(768, dtype=torch.int64), torch.arange(768))
    assert int(many.activities(torch.full((1, 1, 768), LARGEST, dtype=torch.int16))) == MOST


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (9, 12)])
@pytest.mark.parametrize("is_fitted", [False, True])
def test_symbols_come_back(fitted: ActivityModel, is_fitted: bool, size: tuple[int, int]) -> None:
    model = fitted if is_fitted else ActivityModel(GROUP_OF, ORDER, has_flags=fitted.has_flags)
    symbols = [picture.symbols[: size[0], : size[1]] for picture in pictures(4, seed=2)]
    for share in (0.0, 0.4, 1.0):
        given = [left(picture, share, seed=3) for picture in symbols]
        for found, mine in zip(decoded(model, packets(model, given), *size), given, strict=True):
            assert same(found, mine)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, LARGEST))
def test_symbols_of_any_size_come_back(fitted: ActivityModel, seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    busy = rng.random((5, 6, 1)) < rng.random()
    symbols = torch.from_numpy(rng.integers(-most, most + 1, (5, 6, CHANNELS)) * busy).to(torch.int16)
    residual = left(symbols, rng.random(), seed)
    assert same(decoded(fitted, packets(fitted, [residual]), 5, 6)[0], residual)


def test_fitted_tables_take_fewer_bits_on_other_pictures(fitted: ActivityModel) -> None:
    others = pictures(12, seed=3)
    before, after = (sum(map(len, packets(m, others))) for m in (ActivityModel(GROUP_OF, ORDER), fitted))
    assert after < 0.75 * before


def test_nothing_costs_next_to_nothing(fitted: ActivityModel) -> None:
    """An empty picture of 108 tokens, 432 activities, after an empty one."""
    empty = left(torch.zeros(9, 12, CHANNELS, dtype=torch.int16))
    assert 8 * len(packets(fitted, [empty])[0]) < 8 * 12 + 0.2 * 432


def test_only_what_is_not_empty_is_walked(fitted: ActivityModel) -> None:
    walked: list[tuple[int, int]] = []

    def exchange(rows: np.ndarray, integers: np.ndarray | None, table: int) -> np.ndarray:
        assert integers is not None
        if table not in (Table.ACTIVITIES, Table.CODED):
            walked.append((table, len(rows)))
        return integers

    symbols = torch.zeros(4, 4, CHANNELS, dtype=torch.int16)
    symbols[1, 2, 0], symbols[3, 3, CHANNELS - 1], symbols[0, 0, GROUPS[0]] = 5, -1, 70
    fitted.code(exchange, after(nothing(4, 4)), left(symbols))
    shares, rests, signs = (Table.SPLITTING + table for table in splitting.Table)
    # Three shapes. A remainder of the sum of 5, which two channels share; a sum of 1 in eight; two signs.
    assert walked == [
        (Table.SHAPES, 3),
        (rests, 1),
        (shares, 2),
        (shares, 1),
        (shares, 1),
        (signs, 2),
        (Table.SYMBOLS, GROUPS[1]),
    ]


@pytest.mark.parametrize("of_coded", [False, True])
def test_contexts_hold_nothing_that_a_decoder_lacks(of_coded: bool) -> None:
    """Whatever comes later in the order of coding changes no row."""
    rng = torch.Generator().manual_seed(1)
    found = torch.randint(0, MOST + 1, (6, 7, len(GROUPS)), generator=rng)
    found *= torch.rand(6, 7, 1, generator=rng) < 0.7
    context = after(found.flip(0))
    halves = checkerboard(found)
    for half, group, mine, contexts in all_contexts(found, context, of_coded=of_coded):
        assert torch.equal(mine, halves[half] & (found.any(-1) | (not of_coded)))
        assert 0 <= int(contexts.min()) <= int(contexts.max()) < CLASSES * CONTEXTS**2
        later = found.clone()
        later[halves[1]] = MOST if half == 0 else later[halves[1]]
        later[..., group:][mine] = MOST
        others = all_contexts(later, context, of_coded=of_coded)
        assert torch.equal(next(c for h, g, _, c in others if (h, g) == (half, group)), contexts)


def test_rows_of_flags_hold_nothing_that_a_decoder_lacks() -> None:
    found = torch.randint(0, MOST + 1, (6, 7, len(GROUPS)), generator=torch.Generator().manual_seed(2))
    context, (first, second) = after(found.flip(0) // 2), checkerboard(found)
    rows = [coded_rows(found, context, half) for half in range(2)]
    assert torch.equal(coded_rows(0 * found, context, 0), rows[0])
    assert torch.equal(coded_rows(found * first[..., None], context, 1)[second], rows[1][second])
    assert not torch.equal(coded_rows(0 * found, context, 1)[second], rows[1][second])
    assert 0 <= int(rows[0].min()) < int(rows[0].max()) < CODED_ROWS // 2 <= int(rows[1].min())
    assert int(coded_rows(0 * found + MOST, after(0 * found + MOST), 1).max()) == CODED_ROWS - 1
    assert not coded_rows(0 * found, Context(0 * found, 0 * context.classes, context.envelope), 0).any()


def test_tokens_that_hold_nothing_tell_only_that() -> None:
    """And where no group before had anything, a later one has a context of its own."""
    model, walked = ActivityModel(GROUP_OF, ORDER, has_flags=True), list[tuple[int, list[int]]]()

    def exchange(rows: np.ndarray, integers: np.ndarray | None, table: int) -> np.ndarray:
        assert integers is not None
        walked.append((table, integers.tolist()))
        return integers

    symbols = torch.zeros(1, 3, CHANNELS, dtype=torch.int16)
    symbols[0, 2, 6] = 1
    model.code(exchange, after(nothing(1, 3)), left(symbols, 0.0))
    assert walked[0] == (Table.CODED, [-1, 1])
    assert walked[1:5] == [(Table.ACTIVITIES, [group - MOST // 2]) for group in (0, 0, 1, 0)]
    assert walked[5:10] == [(Table.CODED, [-1])] + 4 * [(Table.ACTIVITIES, [])]
    found = model.activities(symbols)[0]
    assert inner_contexts(found, of_coded=True)[2].tolist() == [CONTEXTS - 1] * 3 + [1]
    assert inner_contexts(found, of_coded=False)[2].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("by", [nullcontext, calls.off])
def test_classes_tell_the_coarser_levels_activity_and_the_prediction(by: Any) -> None:
    parents = torch.zeros(2, 3, 2, dtype=torch.uint8)
    parents[0, 1], parents[1, 2, 0] = torch.tensor([2, 9]), 1
    kinds = torch.zeros(4, 6, dtype=torch.int64)
    kinds[3, 5] = 2
    with by():
        classes = token_classes(parents, kinds, (4, 6))
        assert classes[:2, 2:4].tolist() == [[9, 9], [9, 9]]
        assert classes[2:, 4:].tolist() == [[3, 3], [3, 5]]
        assert int(classes.sum()) == 4 * 9 + 4 * 3 + 2
        assert torch.equal(token_classes(None, kinds, (4, 6)), kinds)
        assert torch.equal(token_classes(None, kinds, (8, 12)), repeated(kinds, 2))
        finer = repeated(token_classes(parents, kinds, (4, 6)), 2)
        assert torch.equal(token_classes(parents, kinds, (8, 12)), finer)
        assert int(token_classes(torch.full_like(parents, 255), kinds, (4, 6)).max()) < CLASSES


def test_bits_are_those_of_the_tables(fitted: ActivityModel) -> None:
    """A packet takes what its rows say, but for its check value and the coder's state."""
    bits = 0.0
    tables = [table.double() / 2**24 for table in fitted.tables()]

    def exchange(rows: np.ndarray, integers: np.ndarray | None, table: int) -> np.ndarray:
        nonlocal bits
        assert integers is not None
        middle = tables[table].shape[1] // 2
        bits -= float(torch.log2(tables[table][rows.astype(int), integers + middle]).sum())
        return integers

    residual = pictures(1, seed=4)[0]
    fitted.code(exchange, after(nothing()), residual)
    taken = 8 * len(packets(fitted, [residual])[0])
    assert bits <= taken <= bits + 8 * 16
    assert float(activity_bits.token_bits(fitted, residual, after(nothing())).sum()) == pytest.approx(
        bits, rel=1e-4
    )


def test_bits_apart_are_those_of_tokens_whose_neighbours_are_not_known(fitted: ActivityModel) -> None:
    """So for activities, of the first half of a checkerboard they are exact."""
    found, context = fitted.activities(pictures(2, seed=5)[1].symbols), after(nothing())
    outer = activity_bits.contexts_apart(fitted, context).flatten(0, 1)
    apart = activity_bits.activity_bits_apart(fitted, found.flatten(0, 1), outer).view(9, 12)
    bits, whole = -torch.log2(fitted.activity_frequencies / 2**24), torch.zeros(9, 12)
    first, second = checkerboard(nothing())
    if fitted.coded_frequencies is not None:
        flags = -torch.log2(fitted.coded_frequencies / 2**24)
        for half, mine in enumerate((first, second)):
            whole += mine * flags[coded_rows(found, context, half), 2 * found.any(-1).long()]
    for half, group, mine, contexts in all_contexts(found, context, of_coded=fitted.has_flags):
        whole[mine] += bits[fitted.row_of[group, half].long()[contexts], found[..., group][mine]]
    assert torch.allclose(apart[first], whole[first], rtol=1e-5)
    assert not torch.allclose(apart[second], whole[second], rtol=0.1)


def test_rows_sum_to_the_coders_total(fitted: ActivityModel) -> None:
    for table in fitted.tables():
        assert bool((table.long().sum(1) == 2**24).all())
        assert int(table.min()) >= 1


def test_the_largest_symbols_come_back_in_bits_that_are_counted(fitted: ActivityModel) -> None:
    symbols = torch.zeros(3, 4, CHANNELS, dtype=torch.int16)
    symbols[1, 1, 0], symbols[2, 3, 5], symbols[0, 0, -1] = LARGEST, -LARGEST, 127
    for share in (0.0, 1.0):
        residual = left(symbols, share)
        packet = packets(fitted, [residual])[0]
        assert same(decoded(fitted, [packet], 3, 4)[0], residual)
        taken = float(activity_bits.token_bits(fitted, residual, after(nothing(3, 4))).sum())
        assert taken <= 8 * len(packet) <= taken + 8 * 16


def test_contexts_that_count_alike_share_a_row(fitted: ActivityModel) -> None:
    assert 8 < len(fitted.row_of.unique()) <= len(fitted.activity_frequencies)


# Shapes


def shape_bits(model: ActivityModel, residual: Residual) -> float:
    """What the shapes of a picture take."""
    active = residual.symbols.any(-1)
    rows = shape_rows(model.activities(residual.symbols)[active])
    counts = model.shape_frequencies[rows.long(), 2 * residual.quartered[active].long()]
    return float(-torch.log2(counts / 2**24).sum())


def test_shapes_that_are_seen_take_fewer_bits() -> None:
    """And where all are the same, next to none."""
    symbols = [picture.symbols for picture in pictures(40, seed=1)]
    for share in (0.0, 1.0):
        model, residual = counted([left(x, share) for x in symbols]), left(pictures(1, 6)[0].symbols, share)
        count = int(residual.symbols.any(-1).sum())
        assert count > 20
        assert shape_bits(model, residual) < 0.05 * count
        assert shape_bits(model, left(residual.symbols, 1 - share)) > 5 * count


def test_rows_of_shapes_are_those_of_how_much_tokens_hold() -> None:
    """Here busy tokens are quartered and others are whole."""
    activities = torch.tensor([[0, 1, 0, 0], [3, 4, 0, 1], [MOST] * 4])
    assert shape_rows(activities).tolist() == [1, 8, SHAPES - 1]

    def sorted_out(picture: Residual) -> Residual:
        return Residual(picture.symbols, shape_rows(model.activities(picture.symbols)) > 8)

    model = ActivityModel(GROUP_OF, ORDER)
    learned, other = counted([sorted_out(x) for x in pictures(40, seed=1)]), pictures(1, seed=6)[0]
    chosen = sorted_out(other)
    assert 8 < int(chosen.quartered.sum()) < int(chosen.symbols.any(-1).sum()) - 8
    assert shape_bits(learned, chosen) < 0.2 * shape_bits(counted(pictures(40, seed=1)), other)


def test_rows_of_symbols_are_those_of_the_magnitude_that_is_expected() -> None:
    """Here all of a group's sum in one channel or another, and next to nothing of it in the others."""
    model, activities = ActivityModel(GROUP_OF, ORDER), torch.zeros(2, len(GROUPS), dtype=torch.int64)
    activities[:, 2] = 9  # sums from 41 on, of channels 5 to 8
    shares = torch.ones(2, CHANNELS)
    shares[0, 6] = shares[1, 8] = 2**16
    expected = torch.cat([torch.zeros(2, 1), shares.cumsum(1)], 1).to(torch.int32)
    places, rows = model.symbol_rows(activities, expected)
    assert places.tolist() == [5, 6, 7, 8, CHANNELS + 5, CHANNELS + 6, CHANNELS + 7, CHANNELS + 8]
    likely = 28 + math.floor(4 * math.log2(41))  # four rows an octave, row 28 from a magnitude of 1 on
    assert rows.tolist() == [0, likely, 0, 0, 0, 0, 0, likely]
    assert int(model.thresholds[8]) == 41


def test_small_sums_are_weighed_as_their_channels_are_expected() -> None:
    """Halves, a quarter and eighths of a sum of 2: its arrangements, its channels and its signs."""
    model, shares = ActivityModel(GROUP_OF, ORDER), torch.ones(3, CHANNELS)
    shares[:, 5:9] = torch.tensor([8.0, 4.0, 2.0, 2.0])
    expected = torch.cat([torch.zeros(3, 1), shares.cumsum(1)], 1).to(torch.int32)
    symbols = torch.zeros(3, CHANNELS)
    symbols[0, 5], symbols[1, 5], symbols[1, 7], symbols[2, 8] = 2, 1, -1, -2
    whole, outer = torch.zeros(3, dtype=torch.bool), torch.zeros(3, len(GROUPS) + 1, dtype=torch.int64)
    first, second, third = activity_bits.bits_apart(model, symbols, whole, expected, outer).tolist()
    assert second - first == pytest.approx((1 + 1) + (3 + 1) - 1 - (2 * 1 + 1))
    assert third - first == pytest.approx(2 * 3 - 2 * 1)


def test_symbols_of_many_tokens_come_some_at_a_time(
    fitted: ActivityModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits, in another order."""
    residual = pictures(1, seed=7)[0]
    whole, bits = packets(fitted, [residual])[0], activity_bits.token_bits(fitted, residual, after(nothing()))
    monkeypatch.setattr(activity, "_AT_ONCE", 5)
    assert int(residual.symbols.any(-1).sum()) % 5
    packet = packets(fitted, [residual])[0]
    assert packet != whole
    assert abs(len(packet) - len(whole)) <= 8
    assert same(decoded(fitted, [packet], 9, 12)[0], residual)
    assert torch.equal(activity_bits.token_bits(fitted, residual, after(nothing())), bits)


def test_a_token_without_a_shape_is_refused(fitted: ActivityModel) -> None:
    """A packet with a 0 there, which the table has as it has every integer; nothing else is wrong with it."""
    tables = [Tables(table.numpy()) for table in fitted.tables()]
    writer, residual = PacketWriter(tables[0]), pictures(1, seed=4)[0]

    def forged(rows: np.ndarray, integers: np.ndarray | None, table: int) -> np.ndarray:
        assert integers is not None
        written = integers * (np.arange(len(rows)) > 0) if table == Table.SHAPES else integers
        writer(rows, written.astype(np.int16), tables=tables[table])
        return integers

    fitted.code(forged, after(nothing()), residual)
    with pytest.raises(ValueError, match="a token has no shape"):
        decoded(fitted, [writer.finish()], *residual.quartered.shape)
