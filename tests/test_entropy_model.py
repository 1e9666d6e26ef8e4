import numpy as np
import pytest
import torch

from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.model.entropy_model import ERROR_BITS
from mptvc.model.integer_network import ALPHABET, PRECISION, integer_frequencies, logistic_frequencies
from mptvc.model.model import fresh_slices


def latents(model, seed=0, shape=(4, 9, 7)):
    """Symbols with the scale differences and temporal repeats of real ones."""
    generator = torch.Generator().manual_seed(seed)
    halves = model.halves
    first = torch.randn(*shape, halves.numel(), generator=generator) * halves / 12
    first[1:] = 0.7 * first[:1] + 0.3 * first[1:]
    return torch.minimum(torch.maximum(first.round(), -halves), halves)


def entropy_model(small_model, level):
    model = small_model.level(level).entropy_model
    parent = None if level == 0 else latents(small_model.level(level - 1).entropy_model, 1, (4, 5, 4))
    return model, latents(model), parent


@pytest.mark.parametrize("level", [0, 1])
def test_training_and_coding_use_the_same_bits(small_model, level):
    model, q, parent = entropy_model(small_model, level)
    shots = torch.tensor([[0, 0, 1, 1]])
    bits, z_bits = model(q[None], None if parent is None else parent[None], fresh_slices(shots))
    costs = []

    def record(rows, symbols, means):
        costs.append(model.bits_table.numpy()[rows, symbols + ALPHABET // 2].sum(dtype=np.float64))
        return symbols

    model.code(record, q.shape[:3], parent, [True, False, True, False], q)
    assert np.isclose(sum(costs), (bits.double().sum() + z_bits.double().sum()).item(), rtol=1e-5)


@pytest.mark.parametrize("level", [0, 1])
def test_decoding_returns_the_symbols_and_uses_up_the_packet(small_model, level):
    model, q, parent = entropy_model(small_model, level)
    fresh = [True, False, True, False]
    tables = Tables(model.frequencies.numpy())
    writer = PacketWriter(tables)
    model.code(writer, q.shape[:3], parent, fresh, q)
    packet = writer.finish()
    reader = PacketReader(tables, packet)
    assert torch.equal(model.code(reader, q.shape[:3], parent, fresh), q)
    reader.finish()


def test_estimated_bits_match_the_packet(small_model):
    model, _, _ = entropy_model(small_model, 0)
    q = latents(model, 2, (4, 40, 40))
    writer = PacketWriter(Tables(model.frequencies.numpy()))
    model.code(writer, q.shape[:3], None, [True, False, False, False], q)
    with torch.no_grad():
        bits, z_bits = model(q[None], None, fresh_slices(torch.zeros(1, 4)))
    assert abs(len(writer.finish()) * 8 / float(bits.sum() + z_bits.sum()) - 1) < 0.001


@pytest.mark.parametrize("level", [0, 1])
def test_chosen_symbols_cost_less_than_nearest_ones(small_model, level):
    model, q, parent = entropy_model(small_model, level)
    noise = torch.rand(q.shape, generator=torch.Generator().manual_seed(5)) - 0.5
    y = torch.minimum(torch.maximum(q + 0.98 * noise, -model.halves), model.halves)
    above = None if parent is None else parent[None]
    fresh = torch.tensor([[True, False, True, False]])
    chosen = model.choose(y[None], above, fresh)
    costs = []
    for symbols in (chosen, y.round()[None]):
        with torch.no_grad():
            bits, z_bits = model(symbols, above, fresh, y.round()[None])
        costs.append(float(bits.sum() + z_bits.sum()) + ERROR_BITS * float((symbols - y).square().sum()))
    assert costs[0] < costs[1]
    assert float((chosen - y).abs().max()) < 1.5
    shape, starts = q.shape[:3], fresh[0].tolist()
    written = model.code(lambda _, symbols, means: symbols, shape, parent, starts, y, choose=True)
    assert torch.equal(written, chosen[0])


def test_chosen_symbols_decode(small_model):
    model, q, _ = entropy_model(small_model, 0)
    fresh, tables = [True, False, False, False], Tables(model.frequencies.numpy())
    writer = PacketWriter(tables)
    chosen = model.code(writer, q.shape[:3], None, fresh, q * 1.3 + 0.2, choose=True)
    reader = PacketReader(tables, writer.finish())
    assert torch.equal(model.code(reader, q.shape[:3], None, fresh), chosen)
    reader.finish()


def test_activations_are_integers_within_the_proven_bound(small_model):
    model, q, parent = entropy_model(small_model, 1)
    seen = []
    for mixer in model.mixers:
        for layer in (mixer.inner, mixer.outer):
            layer.register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    model(q[None], parent[None], fresh_slices(torch.zeros(1, 4)))
    assert seen
    for inputs, sums in seen:
        assert torch.equal(inputs, inputs.round())
        assert inputs.abs().max() <= 127
        assert torch.equal(sums, sums.round())
        assert sums.abs().max() <= model.accumulator_bound() < 2**24


def test_double_precision_gives_the_same_rows(small_model):
    model, q, parent = entropy_model(small_model, 1)
    rows = {}
    for dtype in (torch.float32, torch.float64):
        model.to(dtype)
        rows[dtype] = []
        model.code(lambda r, s, _, kind=dtype: rows[kind].append(r) or s, q.shape[:3], parent, [False] * 4, q)
    model.to(torch.float32)
    hyper = range(0, len(rows[torch.float32]), 1 + len(model.groups))
    for index, (a, b) in enumerate(zip(rows[torch.float32], rows[torch.float64], strict=True)):
        if index not in hyper:  # the encoder's hyper-analysis is floating point by design
            assert np.array_equal(a, b)


def test_a_fresh_slice_does_not_see_the_slice_before(small_model):
    model, q, _ = entropy_model(small_model, 0)
    other = q.clone()
    other[1] = q[1].flip(0)
    packets = []
    for symbols in (q, other):
        rows = []
        fresh = [True, False, True, False]
        model.code(lambda r, s, _, out=rows: out.append(r) or s, q.shape[:3], None, fresh, symbols)
        packets.append(rows)
    per_slice = 1 + len(model.groups)
    for a, b in zip(packets[0][2 * per_slice :], packets[1][2 * per_slice :], strict=True):
        assert np.array_equal(a, b)


def test_gradients_reach_latents_and_integer_weights(small_model):
    model, q, _ = entropy_model(small_model, 0)
    q = q[None].clone().requires_grad_()
    bits, z_bits = model(q, None, fresh_slices(torch.zeros(1, 4)))
    (bits.sum() + z_bits.sum()).backward()
    assert q.grad.abs().sum() > 0
    assert model.mixers[0].outer.weight.grad.abs().sum() > 0
    assert model.hyper_analysis.outer.weight.grad.abs().sum() > 0
    model.zero_grad(set_to_none=True)


def test_symbol_outside_its_range_is_refused(small_model):
    model, q, _ = entropy_model(small_model, 0)
    with pytest.raises(ValueError, match="outside its channel's range"):
        model.code(lambda rows, *_: np.full(len(rows), 100, np.int16), q.shape[:3], None, [True] * 4)


def test_tables_are_positive_and_complete():
    for table in (logistic_frequencies(48), integer_frequencies(np.eye(ALPHABET)[:3])):
        assert int(table.min()) >= 1
        assert (table.long().sum(1) == 2**PRECISION).all()


def test_wider_scales_spread_further():
    table = logistic_frequencies(48).double() / 2**PRECISION
    distance = (torch.arange(ALPHABET) - ALPHABET // 2).abs().double()
    spread = (table * distance).sum(1)[2::4]
    assert (spread.diff() > 0).all()
