"""What predictions say of where symbols are: exact to the last integer, and learned from what was coded."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mptvc.codec.stored import write_weights
from mptvc.codec.weights import read_weights
from mptvc.errors import WeightsError
from mptvc.model.activity import ActivityModel, Residual
from mptvc.model.contexts import Context
from mptvc.model.dct import dct_matrix
from mptvc.model.envelope import Envelope, EnvelopeModel, eighths, magnitudes
from mptvc.model.loop_config import LoopConfig, LoopLevelConfig
from mptvc.model.loop_model import LoopModel, band_groups, band_order
from mptvc.train.envelope_fit import EnvelopeTrainer

PATCHES = pytest.mark.parametrize("patch", [4, 8, 16])


def stirred(patch: int, seed: int = 1) -> EnvelopeModel:
    """A network all of whose weights do something, in integers as they are stored."""
    torch.manual_seed(seed)
    model = EnvelopeModel(patch, band_order(patch))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(20 * torch.randn_like(parameter)).round_().clamp_(-127, 20000)
    return model


def some_cells(count: int, patch: int, seed: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Luma of tokens of much and of little texture, their steps, and which are quartered."""
    rng = torch.Generator().manual_seed(seed)
    amplitude = 2.0 ** torch.linspace(0, 7, count)[:, None, None]
    texture = torch.randn(count, patch, patch, generator=rng) * amplitude
    cells = (128 + texture).round().clamp(0, 255).to(torch.uint8)
    steps = (torch.linspace(0.1, 200, count) * 256).round() / 256
    return cells, steps, torch.arange(count) % 3 == 1


def spectrum(cell: np.ndarray, is_quartered: bool) -> list[int]:
    """Magnitudes in 1/64 of a token's spectrum, by its definition, in integers."""
    patch = len(cell)
    size = patch // 2 if is_quartered else patch
    matrix = (dct_matrix(size) * 2**13).round().long().tolist()
    found = []
    for u, v in product(range(patch), repeat=2):
        across, down = (u // 2, v // 2) if is_quartered else (u, v)
        left, top = (size * (u % 2), size * (v % 2)) if is_quartered else (0, 0)
        total = sum(
            int(cell[top + y, left + x]) * matrix[across][x] * matrix[down][y]
            for y, x in product(range(size), repeat=2)
        )
        found.append(rounded(abs(total), 2**20))
    return found


def rounded(numerator: int, denominator: int) -> int:
    """To the nearest, of two to the even one."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


def logarithm(value: int) -> int:
    octave = value.bit_length() - 1
    return 8 * octave + (8 * (value - 2**octave) >> octave)


@PATCHES
def test_envelopes_are_those_of_plain_integers(patch: int) -> None:
    model = stirred(patch)
    cells, steps, quartered = some_cells(7, patch)
    below = model.sums_below(cells, steps, quartered)
    weights = {name: value.detach().long().tolist() for name, value in model.named_parameters()}
    side, order = patch // model.cells, band_order(patch).tolist()
    for token in range(len(cells)):
        shape = int(quartered[token])
        least = max(1, round(64 * 0.058 * float(steps[token])))
        levels = [
            min(127, logarithm(m + least) - logarithm(least))
            for m in spectrum(cells[token].numpy(), bool(shape))
        ]
        largest = [
            max(levels[(side * u + i) * patch + side * v + j] for i, j in product(range(side), repeat=2))
            for u, v in product(range(model.cells), repeat=2)
        ]
        hidden = [
            min(127, max(0, (sum(map(int.__mul__, row, [*largest, 127 * shape])) + bias) // 128))
            for row, bias in zip(weights["inner.weight"], weights["inner.bias"], strict=True)
        ]
        expected = []
        for place, row in enumerate(weights["outer.weight"]):
            total = sum(map(int.__mul__, row, hidden)) + weights["outer.bias"][place]
            total += weights["own"][place] * levels[order[place] % patch**2]
            octave, eighth = divmod(
                min(127, max(0, (total + shape * weights["shape_bias"][place]) // 128)), 8
            )
            expected.append((16 + 2 * eighth) << octave)
        assert below[token].tolist() == np.cumsum([0, *expected]).tolist()


def test_logarithms_are_those_of_plain_integers() -> None:
    values = [*range(1, 3000), *(2**k + d for k in range(12, 23) for d in (-1, 0, 1)), 2**24 - 1]
    assert eighths(torch.tensor(values)).tolist() == [logarithm(v) for v in values]


def test_what_outcomes_expect_is_their_inverse_and_sums_fit() -> None:
    expected = magnitudes(torch.arange(128).float())
    assert eighths(expected).tolist() == [8 * 4 + outcome for outcome in range(128)]
    assert 3 * 16**2 * int(expected.max()) < 2**31


@PATCHES
def test_a_flat_token_has_no_level_but_the_lowest(patch: int) -> None:
    model = EnvelopeModel(patch, band_order(patch))
    cells = torch.full((2, patch, patch), 80, dtype=torch.uint8)
    levels = model.levels(cells, torch.tensor([8.0, 8.0]), torch.tensor([False, True]))
    places = levels.view(2, patch, patch)
    assert places[0, 0, 0] > 0
    assert bool((places[1, :2, :2] > 0).all())
    assert int((levels > 0).sum()) == 1 + 4
    coarser = model.levels(cells, torch.tensor([32.0, 32.0]), torch.tensor([False, True]))
    assert 15 <= float(levels[0, 0] - coarser[0, 0]) <= 17  # two octaves


def test_the_level_of_a_wave_is_at_its_frequency() -> None:
    """Channels go by the frequency along x first."""
    model = EnvelopeModel(8, band_order(8))
    wave = torch.cos(math.pi * (torch.arange(8) + 0.5) * 5 / 8)
    cells = (128 + 100 * wave).round().to(torch.uint8).expand(1, 8, 8)
    levels = model.levels(cells, torch.tensor([2.0]), torch.tensor([False])).view(8, 8)
    assert int(levels[1:].argmax()) == 4 * 8  # along x, less the lowest


def test_batches_and_bands_do_not_matter() -> None:
    model = stirred(8)
    rng = torch.Generator().manual_seed(3)
    luma = torch.randint(0, 256, (64 * 8, 40 * 8), generator=rng, dtype=torch.uint8)
    steps = 1 + torch.rand(64, 40, generator=rng) * 30
    envelope, tokens = Envelope(model, luma, steps), torch.arange(64 * 40)
    quartered = tokens % 2 == 1
    whole = envelope.sums_below(tokens, quartered)
    assert bool((whole[:, 1:] > whole[:, :-1]).all())
    for some in torch.split(tokens, 700):
        assert torch.equal(envelope.sums_below(some, quartered[some]), whole[some])
    band = envelope.of_rows(slice(10, 20))
    inside = torch.arange(10 * 40)
    assert torch.equal(band.sums_below(inside, quartered[inside]), whole[400:800])


def loop_model() -> LoopModel:
    return LoopModel(LoopConfig((LoopLevelConfig(38.0, detail=2), LoopLevelConfig(13.0))))


def test_weights_that_could_leave_the_exact_range_are_refused(tmp_path: Path) -> None:
    model = loop_model()
    with torch.no_grad():
        model.level(1).envelope.outer.bias.fill_(2**24)
    with pytest.raises(WeightsError, match=r"level 1: the integer network can reach"):
        write_weights(model, tmp_path / "w")
    write_weights(loop_model(), tmp_path / "w")


def test_stored_networks_say_the_same(tmp_path: Path) -> None:
    """In training weights are rounded on the way."""
    model = loop_model()
    with torch.no_grad():
        for parameter in model.level(1).envelope.parameters():
            parameter.add_(20 * torch.randn_like(parameter))
    write_weights(model, tmp_path / "w")
    config, tensors = read_weights(tmp_path / "w")
    other = LoopModel(config)  # type: ignore[arg-type]
    other.load_state_dict(tensors)
    given = some_cells(9, 8)
    found, wanted = (m.level(1).envelope.sums_below(*given) for m in (other, model))
    assert torch.equal(found, wanted)


def test_symbols_are_expected_where_texture_is() -> None:
    """Here symbols stand at the frequencies of the prediction's waves, along x or along y."""
    patch, count, rng = 8, 20000, np.random.default_rng(4)
    model = EnvelopeModel(patch, band_order(patch))
    across = torch.from_numpy(rng.random(count) < 0.5)
    frequency = rng.integers(3, 7, count)
    phase = math.pi * (np.arange(patch) + 0.5) / patch
    wave = torch.from_numpy(128 + 60 * np.cos(phase * frequency[:, None]))[:, None].expand(-1, patch, -1)
    cells = torch.where(across[:, None, None], wave, wave.transpose(1, 2)).round().to(torch.uint8)
    channel = torch.from_numpy(np.where(across.numpy(), frequency * patch, frequency))
    symbols = torch.zeros(count, 3 * patch**2, dtype=torch.int16)
    symbols[torch.arange(count), channel] = 1
    trainer = EnvelopeTrainer(model, ActivityModel(band_groups(patch), band_order(patch)))
    for some in torch.split(torch.arange(count), 200):  # pictures of one row
        luma = cells[some].transpose(0, 1).reshape(patch, -1)
        none, nothing = torch.zeros(1, 200, dtype=torch.bool), torch.zeros(1, 200, 12, dtype=torch.int64)
        envelope = Envelope(model, luma, torch.full((1, 200), 10.0))
        trainer.add(Residual(symbols[some][None], none), Context(nothing, nothing[..., 0], envelope))
    trainer.train()
    steps, whole = torch.full((count,), 10.0), torch.zeros(count, dtype=torch.bool)
    expected = model.sums_below(cells, steps, whole).diff()[:, band_order(patch).argsort()]
    group = (band_groups(patch) == band_groups(patch)[channel][:, None]) & (
        torch.arange(3 * patch**2) != channel[:, None]
    )
    others = (expected * group).sum(1)
    mine = expected[torch.arange(count), channel]
    assert float((mine > others).float().mean()) > 0.95
