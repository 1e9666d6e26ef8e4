"""Restoration of coded tokens: what its filters see, and what they must not change."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import mptvc
from mptvc.codec.loop_coder import LoopCoder
from mptvc.codec.stored import write_weights
from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.model.loop_config import LoopConfig, LoopLevelConfig, read_config
from mptvc.model.loop_model import LoopModel
from mptvc.model.restoration import (
    CLASSES,
    FILTER_BITS,
    STRENGTH_VALUES,
    TAPS,
    Restoration,
    chosen_strength,
    classes,
    coded_strength,
    differences,
    strength_bits,
    strength_frequencies,
    windows,
)
from mptvc.train.restoration_fit import RestorationCounter

GRID = (3, 4)
SIZE = (48, 64)


def every(value: float = 1.0) -> Tensor:
    return torch.full(GRID, value)


def stripes(down: int, right: int) -> Tensor:
    """A picture of waves along one direction, uint8 ``[3, 48, 64]``."""
    y, x = torch.meshgrid(*map(torch.arange, SIZE), indexing="ij")
    return (128 + 80 * torch.sin((down * y + right * x) * 0.9)).to(torch.uint8).expand(3, -1, -1).contiguous()


def classes_of(picture: Tensor, step: float) -> Tensor:
    places = torch.ones(GRID).nonzero()
    units = (every(step) * 256).int()
    return classes(windows(picture, picture, units, places))


def noisy(seed: int) -> tuple[Tensor, Tensor]:
    """A smooth picture, and the same with noise."""
    rng = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*map(torch.arange, SIZE), indexing="ij")
    clean = (100 + y + x // 2).expand(3, -1, -1).to(torch.uint8).contiguous()
    noise = torch.randint(-4, 5, clean.shape, generator=rng)
    return clean, (clean + noise).clamp(0, 255).to(torch.uint8)


def filters_of(tap: int, value: float) -> Restoration:
    """The same filter for all classes, of one tap."""
    restoration = Restoration()
    restoration.filters[:, tap] = round(value * 2**FILTER_BITS)
    return restoration


def test_without_filters_nothing_changes() -> None:
    _, picture = noisy(1)
    coded = every().bool()
    assert torch.equal(Restoration()(picture, 255 - picture, coded, every()), picture)


def test_only_coded_tokens_change() -> None:
    _, picture = noisy(2)
    before, coded = picture.clone(), torch.zeros(GRID, dtype=torch.bool)
    coded[1, 2] = True
    result = filters_of(0, 0.3)(picture, picture, coded, every())
    changed = (result != picture).any(0)
    assert changed[16:32, 32:48].any()
    changed[16:32, 32:48] = False
    assert not changed.any()
    assert torch.equal(picture, before)


def test_a_pair_of_pixels_pulls_by_its_share_and_by_no_more_than_its_limit() -> None:
    picture = torch.full((3, *SIZE), 100, dtype=torch.uint8)
    picture[:, 8, 8] = 140
    whole = filters_of(0, 0.25)(picture, picture, every().bool(), every(16))
    assert whole[0, 8, 7:10].tolist() == [110, 120, 110]  # of both neighbours a quarter
    limited = filters_of(1, 0.25)(picture, picture, every().bool(), every(16))
    assert limited[0, 8, 7:10].tolist() == [101, 138, 101]  # differences of at most 4


def test_the_prediction_pulls_by_half_a_step_at_most() -> None:
    picture = torch.full((3, *SIZE), 100, dtype=torch.uint8)
    result = filters_of(TAPS - 1, 0.5)(picture, picture + 90, every().bool(), every(16))
    assert result.unique().tolist() == [104]


@pytest.mark.parametrize("strength", range(STRENGTH_VALUES))
def test_strengths_are_quarters(strength: int) -> None:
    picture = torch.full((3, *SIZE), 100, dtype=torch.uint8)
    result = filters_of(TAPS - 1, 0.5)(picture, picture + 90, every().bool(), every(16), strength)
    assert result.unique().tolist() == [100 + strength]


@pytest.mark.parametrize(("helps", "chosen"), [(-9, 0), (0, 2), (1, 4), (1.5, 5), (2, 6), (9, 8)])
@pytest.mark.parametrize("patch", [4, 16])
def test_an_encoder_goes_halfway_to_what_helps(helps: float, chosen: int, patch: int) -> None:
    """Of few tokens and of many."""
    picture, grid = torch.full((3, *SIZE), 100, dtype=torch.uint8), (SIZE[0] // patch, SIZE[1] // patch)
    found = picture, picture + 90, torch.ones(grid, dtype=torch.bool), torch.full(grid, 16.0)
    wanted = (picture.int() + int(4 * helps)).to(torch.uint8)
    assert chosen_strength(filters_of(TAPS - 1, 0.5), found, wanted) == chosen
    assert chosen_strength(Restoration(), found, wanted) == 4  # nothing to choose


def test_strengths_are_coded_under_the_last_one() -> None:
    table = Tables(strength_frequencies().numpy())
    writer, bits = PacketWriter(table), 0.0
    pairs = [(last, strength) for last in range(STRENGTH_VALUES) for strength in range(STRENGTH_VALUES)]
    for last, strength in pairs:
        coded_strength(lambda rows, values, _: writer(rows, values), last, strength)
        bits += strength_bits(last, strength)
    packet = writer.finish()
    assert 8 * len(packet) == pytest.approx(bits, abs=80)
    reader = PacketReader(table, packet)
    for last, strength in pairs:
        assert coded_strength(lambda rows, values, _: reader(rows, values), last, None) == strength
    reader.finish()


def test_pixels_stay_pixels() -> None:
    restoration = Restoration()
    restoration.filters.fill_(2047)
    for around in (0, 255):
        picture = torch.full((3, *SIZE), around, dtype=torch.uint8)
        picture[:, 8, 8] = 255 - around
        result = restoration(picture, picture, every().bool(), every(200))
        assert result[:, 8, 8].unique().tolist() == [around]


def test_classes_tell_directions_and_strength() -> None:
    waves = [stripes(0, 1), stripes(1, 0), stripes(1, 1), stripes(1, -1)]
    inner = [classes_of(wave, 20.0)[5, 8, 8].item() for wave in waves]
    assert [number % 9 for number in inner] == [4, 2, 8, 6]
    flat = classes_of(torch.full((3, *SIZE), 9, dtype=torch.uint8), 20.0)
    assert flat.unique().tolist() == [0]
    strengths = [classes_of(waves[0], step)[5, 8, 8].item() // 9 for step in (1, 20, 80, 320, 5000)]
    assert strengths == sorted(strengths, reverse=True)
    assert (strengths[0], strengths[-1]) == (7, 0)


@pytest.mark.parametrize("patch", [4, 8, 16])
def test_beyond_its_border_a_picture_goes_on(patch: int) -> None:
    _, picture = noisy(3)
    coded = torch.ones(SIZE[0] // patch, SIZE[1] // patch, dtype=torch.bool)
    rng = torch.Generator().manual_seed(4)
    restoration = Restoration()
    restoration.filters.copy_(torch.randint(-99, 99, (CLASSES, TAPS), generator=rng))
    padded = torch.nn.functional.pad(picture[None].float(), [patch] * 4, mode="replicate")[0].to(torch.uint8)
    around = torch.nn.functional.pad(coded, [1] * 4)
    alone = restoration(picture, picture, coded, coded * 9.0)
    inside = restoration(padded, padded, around, around * 9.0 + ~around)
    assert torch.equal(alone, inside[:, patch:-patch, patch:-patch])


def test_fitted_filters_bring_back_what_was_lost() -> None:
    restoration, coded = Restoration(), every().bool()
    counter = RestorationCounter(restoration, 16.0)
    for seed in range(40):
        clean, picture = noisy(seed)
        counter.add((picture, picture, coded, every(16)), clean)
    RestorationCounter.fit([counter])
    clean, picture = noisy(99)
    result = restoration(picture, picture, coded, every(16))
    before, after = ((x.float() - clean).square().mean().item() for x in (picture, result))
    assert after < 0.3 * before


def test_sums_are_whole_numbers_and_add_up() -> None:
    counters = [RestorationCounter(Restoration(), 16.0) for _ in range(2)]
    for seed in range(4):
        clean, picture = noisy(seed)
        counters[seed % 2].add((picture, clean, every().bool(), every(9)), clean)
    for counter in counters:
        (sums,) = counter.counts
        assert np.array_equal(sums, np.round(sums))
        assert sums.any()


def test_nothing_counted_means_no_filter() -> None:
    restoration = filters_of(3, 0.5)
    RestorationCounter.fit([RestorationCounter(restoration, 16.0)])
    assert not restoration.filters.any()


def test_differences_are_those_of_each_tap() -> None:
    _, picture = noisy(5)
    places = torch.tensor([[1, 1]])
    found = list(differences(windows(picture, 255 - picture, (every(400) * 256).int(), places)))
    assert len(found) == TAPS
    middle = picture[:, 16:32, 16:32].int()
    assert torch.equal(found[0][0], picture[:, 16:32, 17:33].int() + picture[:, 16:32, 15:31] - 2 * middle)
    assert torch.equal(found[10][0], picture[:, 18:34, 16:32].int() + picture[:, 14:30, 16:32] - 2 * middle)
    assert torch.equal(found[0], found[1])  # a hundred is no limit here
    assert torch.equal(found[-1][0], 255 - 2 * middle)


def test_weights_from_before_have_none_and_their_text_stays() -> None:
    old = LoopConfig((LoopLevelConfig(38.0, detail=2), LoopLevelConfig(13.0)))
    assert "restoration" not in old.to_json()
    assert read_config(old.to_json()) == old
    assert not any("filters" in name for name in LoopModel(old).state_dict())


def test_filters_are_stored_as_they_are(tmp_path: Path) -> None:
    levels = LoopLevelConfig(38.0, detail=2, restoration=True), LoopLevelConfig(13.0)
    model = LoopModel(LoopConfig(levels))
    assert read_config(model.config.to_json()) == model.config
    model.level(0).key.restoration.filters.copy_(torch.arange(CLASSES * TAPS).view(CLASSES, TAPS) - 400)
    write_weights(model, tmp_path)
    coder = mptvc.load(tmp_path, device="cpu").coder
    assert isinstance(coder, LoopCoder)
    for name, tensor in coder.model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]) or "filters" not in name
