"""Transforms of residuals, whole and quartered; what a decoder computes is exact, and so are steps."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mptvc.codec.weights import read_weights
from mptvc.format.gain import gain_factor
from mptvc.format.slices import MAX_SLICE_GAIN
from mptvc.model.activity import LARGEST
from mptvc.model.dct import MATRIX_BITS, dct_matrix
from mptvc.model.fineness import FINEST
from mptvc.model.loop_config import LoopConfig, LoopLevelConfig
from mptvc.model.loop_model import (
    _LATENT_UNITS,
    _MOST_LATENT,
    _SUM_UNITS,
    COLOURS,
    OUTWARD,
    Kind,
    LoopLevel,
    band_groups,
)
from mptvc.model.restoration import STEP_UNITS

PATCHES = pytest.mark.parametrize("patch", [4, 8, 16])
#: Largest integer below which float64 holds every one.
EXACT = 2**53


def noise(patch: int, seed: int = 1) -> Tensor:
    """What prediction may leave of 2 x 3 tokens, float32 ``[3, H, W]``."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(-255, 256, (3, 2 * patch, 3 * patch), generator=rng).float()


def cells_of(residual: Tensor, patch: int) -> Tensor:
    """Tokens ``[n, 3, patch, patch]`` of a picture ``[3, H, W]``."""
    cells = residual.unflatten(2, (-1, patch)).unflatten(1, (-1, patch))
    return cells.permute(1, 3, 0, 2, 4).flatten(0, 1)


def any_latents(kind: Kind, count: int, most: int = _MOST_LATENT) -> tuple[Tensor, Tensor]:
    """Restored latents of so many tokens, and which are quartered."""
    rng = torch.Generator().manual_seed(count)
    latents = torch.randint(-most, most + 1, (count, kind.channels), generator=rng).double()
    return latents, torch.rand(count, generator=rng) < 0.5


# Transforms


@PATCHES
def test_both_transforms_are_orthonormal_and_come_back(patch: int) -> None:
    kind, residual = Kind(patch, restores=False), noise(patch)
    cells, whole_energy = cells_of(residual, patch), residual.square().sum()
    for shape, latents in enumerate(kind.latents(kind.cells(residual))):
        assert latents.shape == (6, kind.channels)
        assert torch.allclose(latents.square().sum(), whole_energy, rtol=1e-4)
        restored = (latents.double() * _LATENT_UNITS).round()
        found = kind.pixels(restored, torch.full((6,), bool(shape)))
        # What rounding of latents, coefficients and sums leaves, of values of up to 255.
        assert (found - cells).square().mean() < 0.002
        assert (found - cells).abs().max() < 0.2


@PATCHES
def test_a_flat_token_is_one_latent_or_one_in_each_quarter(patch: int) -> None:
    kind = Kind(patch, restores=False)
    whole, quartered = (latents.flatten() for latents in kind.latents(torch.ones(1, 3, patch, patch)))
    first = F.one_hot(torch.tensor(0), kind.channels)
    assert torch.allclose(whole, first * 3**0.5 * patch, atol=1e-3)
    lowest = [0, 1, patch, patch + 1]
    assert torch.allclose(quartered[lowest], torch.tensor(3**0.5 * patch / 2), atol=1e-3)
    assert quartered.square().sum() == pytest.approx(3 * patch**2, rel=1e-4)


@PATCHES
@pytest.mark.parametrize(("down", "right"), [*product((0, 1), (0, 1))])
def test_a_quarter_has_every_second_place_of_a_quartered_token(patch: int, down: int, right: int) -> None:
    kind, half = Kind(patch, restores=False), patch // 2
    residual = torch.zeros(3, patch, patch)
    quarter = slice(down * half, down * half + half), slice(right * half, right * half + half)
    residual[(slice(None), *quarter)] = noise(half)[:, :half, :half]
    places = torch.zeros(3, patch, patch, dtype=torch.bool)  # colour, along x, along y
    places[:, right::2, down::2] = True
    whole, quartered = (latents.view(3, patch, patch) for latents in kind.latents(kind.cells(residual)))
    assert not quartered[~places].any()
    assert bool((quartered[places] != 0).all())
    assert bool((whole[~places] != 0).any())
    only = torch.where(places, quartered, 0).double().mul(16).round().view(1, -1)
    found = kind.pixels(only, torch.tensor([True]))[0]
    others = torch.ones(patch, patch, dtype=torch.bool)
    others[quarter] = False
    assert not found[:, others].any()


@PATCHES
def test_frequencies_of_both_transforms_stand_near_each_other(patch: int) -> None:
    """A pattern of both halves alike has its energy in places whose frequencies are near."""
    kind = Kind(patch, restores=False)
    for frequency in range(patch // 2):
        wave = dct_matrix(patch // 2)[frequency].float().repeat(2)
        whole, quartered = kind.latents(wave.expand(1, 3, patch, patch))
        along_x = [x.view(3, patch, patch).square().sum((0, 2)) for x in (whole, quartered)]
        places = torch.arange(patch).float()
        means = [float((energy * places).sum() / energy.sum()) for energy in along_x]
        assert means[1] == pytest.approx(2 * frequency + 0.5, abs=1e-3)
        assert abs(means[0] - means[1]) < 1.5


@pytest.mark.parametrize("patch", [8, 16])
def test_every_group_has_channels(patch: int) -> None:
    groups = band_groups(patch)
    assert (
        len(groups.unique()) == int(groups.max()) + 1 == Kind(patch, restores=False).entropy_model.num_groups
    )


# What a decoder computes


def rounded(numerator: np.ndarray, denominator: int) -> np.ndarray:
    """Integers nearest to fractions, the even one of two."""
    below, rest = numerator // denominator, numerator % denominator
    up = (2 * rest > denominator) | ((2 * rest == denominator) & (below % 2 == 1))
    found: np.ndarray = below + up
    return found


def integer_dct(size: int) -> np.ndarray:
    k, i = np.mgrid[:size, :size]
    scale = np.where(k == 0, 1, 2**0.5) / size**0.5
    return np.rint(2**13 * scale * np.cos(np.pi * (i + 0.5) * k / size)).astype(np.int64)


def integer_latents(symbols: np.ndarray, step_units: np.ndarray) -> np.ndarray:
    """Restored latents in sixteenths, in plain integer arithmetic, as the specification says it."""
    tenths = (10 * symbols + np.sign(symbols)) * step_units[:, None]
    return rounded(16 * tenths, 10 * 256).clip(-(2**19), 2**19)


def integer_pixels(latents: np.ndarray, quartered: np.ndarray, patch: int) -> np.ndarray:
    """Residuals times 2^19, in plain integer arithmetic, as the specification says it."""
    sums = np.empty((len(latents), 3, patch, patch), np.int64)
    whole, half = integer_dct(patch), integer_dct(patch // 2)
    for mine, of_token, is_quartered in zip(sums, latents, quartered, strict=True):
        places = of_token.reshape(3, patch, patch)  # colour, along x, along y
        if not is_quartered:
            mine[:] = np.einsum("dkl,kx,ly->dyx", places, whole, whole)
            continue
        for down, right in product((0, 1), (0, 1)):
            rows, columns = (slice(k * patch // 2, (k + 1) * patch // 2) for k in (down, right))
            mine[:, rows, columns] = np.einsum("dkl,kx,ly->dyx", places[:, right::2, down::2], half, half)
    colours = np.rint(2**13 * np.array(COLOURS)).astype(np.int64)
    found: np.ndarray = np.einsum("dc,ndyx->ncyx", colours, rounded(sums, 2**24))
    return found


@PATCHES
def test_pixels_are_those_of_plain_integer_arithmetic(patch: int) -> None:
    kind = Kind(patch, restores=False)
    for most in (1, 300, _MOST_LATENT):
        latents, quartered = any_latents(kind, 12, most)
        latents[0] = most
        found = kind.pixels(latents, quartered)
        assert found.dtype == torch.float64
        expected = integer_pixels(latents.long().numpy(), quartered.numpy(), patch)
        assert np.array_equal((found * 2**19).numpy(), expected)


def test_latents_are_those_of_plain_integer_arithmetic() -> None:
    """Halves among them, of which there are many."""
    kind = Kind(4, restores=False)
    symbols = torch.arange(-LARGEST, LARGEST + 1)
    symbols = torch.cat([symbols, symbols.new_zeros(-len(symbols) % kind.channels)]).view(-1, kind.channels)
    halves = 0
    for units in (1, 5, 16, 20, 80, 255, 256, 3328, 2**16 + 16, 2**24):
        mine = np.full(len(symbols), units)
        restored = kind.restored(symbols.to(torch.int16), torch.full((len(symbols),), units / STEP_UNITS))
        assert np.array_equal(restored.numpy(), integer_latents(symbols.numpy(), mine))
        tenths = (10 * symbols + symbols.sign()) * units
        halves += int((tenths % 160 == 80).sum())
    assert halves > 1000
    assert restored.abs().max() == _MOST_LATENT


@PATCHES
def test_no_order_of_sums_changes_a_pixel(patch: int) -> None:
    """Tokens in any order, some or one at a time; and sums backwards."""
    kind = Kind(patch, restores=False)
    latents, quartered = any_latents(kind, 33)
    whole = kind.pixels(latents, quartered)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(2))
    assert torch.equal(kind.pixels(latents[order], quartered[order]), whole[order])
    for size in (1, 5):
        some = zip(latents.split(size), quartered.split(size), strict=True)
        assert torch.equal(torch.cat([kind.pixels(*x) for x in some]), whole)
    cells = latents.view(-1, 3, patch, patch)[~quartered]
    backwards = torch.einsum("ndkl,kx,ly->ndyx", cells.flip(2, 3), *[kind.exact_dct.flip(0)] * 2)
    forwards = torch.einsum("ndkl,kx,ly->ndyx", cells, *[kind.exact_dct] * 2)
    assert torch.equal(backwards, forwards)


@PATCHES
def test_the_largest_sums_are_exact(patch: int) -> None:
    """No part of a sum, in whatever order, is larger than the sum of magnitudes."""
    kind = Kind(patch, restores=False)
    colours = float(kind.exact_colours.abs().sum(0).max())
    for matrix in (kind.exact_dct, kind.exact_half_dct):
        assert torch.equal(matrix, matrix.round())
        largest = _MOST_LATENT * float(matrix.abs().sum(0).max()) ** 2
        assert largest < EXACT
        frequency_sums = largest * _SUM_UNITS / _LATENT_UNITS / 2 ** (2 * MATRIX_BITS) + 1
        assert frequency_sums * colours + 255 * _SUM_UNITS * 2**MATRIX_BITS < EXACT
    LoopConfig((LoopLevelConfig(1000.0, fineness=1.0),), patch_size=16, opening_step=10.0)  # is allowed
    largest_step = 1000.0 * 10.0 * gain_factor(MAX_SLICE_GAIN) * 2.0**FINEST
    assert (10 * LARGEST + OUTWARD) * largest_step * STEP_UNITS < EXACT


@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_no_coefficient_is_near_a_half(size: int) -> None:
    """So it is rounded to the same integer whatever the last bits of a cosine are."""
    for matrix in (dct_matrix(size), torch.tensor(COLOURS, dtype=torch.float64)):
        apart = (matrix * 2**MATRIX_BITS) % 1
        assert (apart - 0.5).abs().min() > 1e-3


# Steps


def test_a_unit_is_a_part_of_an_octave_of_the_step() -> None:
    level = LoopLevel(0, 16, LoopLevelConfig(40.0, fineness=0.5))
    values = torch.tensor([[-2, 0, 2], [3, -3, 1]])
    steps = level.steps(40.0, values, (4, 6))
    assert steps.shape == (4, 6)
    assert torch.allclose(steps[::2, ::2], 40 * 2 ** (-values / 2), atol=1 / 512)
    assert torch.equal(steps[::2, ::2], steps[1::2, 1::2])
    assert torch.equal(steps * STEP_UNITS, (steps * STEP_UNITS).round())


def test_steps_are_never_nothing() -> None:
    level = LoopLevel(0, 16, LoopLevelConfig(1.0, fineness=1.0))
    steps = level.steps(1e-6, torch.tensor([[-FINEST, FINEST]]), (1, 2))
    assert steps.tolist() == [[1 / STEP_UNITS] * 2]


def test_no_step_of_the_packaged_weights_is_near_a_half() -> None:
    """So it is rounded to the same multiple whatever the last bits of a power are."""
    config, _ = read_weights("codec")
    assert isinstance(config, LoopConfig)
    gains = np.arange(-MAX_SLICE_GAIN, MAX_SLICE_GAIN + 1)
    shares = [config.opening_step, *config.chain_steps, config.key_step, *config.between_steps]
    units = np.arange(-FINEST, FINEST + 1)
    for level in config.levels:
        steps = level.step / 2.0 ** (gains[:, None, None] / 24) * np.array(shares)[:, None]
        steps = steps * 2.0 ** (-level.fineness * units)
        assert steps.shape == (193, 1 + 4 + 1 + 2, 7)
        assert np.abs(steps * STEP_UNITS % 1 - 0.5).min() > 1e-6
        assert steps.max() * STEP_UNITS < 2**24  # float32 holds every multiple


# Where latents are restored


def test_latents_are_restored_where_most_of_those_of_a_symbol_lie() -> None:
    """What prediction leaves has many small values and few large ones, which are rounded towards zero."""
    kind, rng = Kind(8, restores=False), torch.Generator().manual_seed(3)
    latents = torch.empty(2000, kind.channels).exponential_(1.5, generator=rng)
    latents *= torch.randint(0, 2, latents.shape, generator=rng) * 2 - 1
    symbols = latents.sign() * (latents.abs() + 0.3).floor()
    restored = kind.restored(symbols, torch.ones(2000)) / _LATENT_UNITS
    assert bool((restored.sign() == symbols.sign()).all())
    assert (latents - restored).square().sum() < 0.99 * (latents - symbols).square().sum()
