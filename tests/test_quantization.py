"""What an encoder makes of what prediction leaves: few bits and little error together."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import mptvc
from mptvc.codec.loop_coder import LoopCoder
from mptvc.codec.quantization import _BIT_PRICE, quantized
from mptvc.model.activity import LARGEST, Residual
from mptvc.model.activity_bits import bits_apart, contexts_apart
from mptvc.model.contexts import Context
from mptvc.model.dct import samples
from mptvc.model.envelope import Envelope, EnvelopeModel
from mptvc.model.loop_model import OUTWARD, Kind, LoopLevel

ROWS, COLUMNS = 4, 6
TOKENS = ROWS * COLUMNS


@pytest.fixture(scope="module", params=[0, 2])
def level(request: pytest.FixtureRequest) -> LoopLevel:
    """Of tokens of 16 and of 8 pixels."""
    coder = mptvc.load("codec", device="cpu").coder
    assert isinstance(coder, LoopCoder)
    return coder.model.level(request.param)


@pytest.fixture(scope="module")
def kind(level: LoopLevel) -> Kind:
    """Of opening keys."""
    return level.opening


@pytest.fixture(scope="module")
def at_steps(level: LoopLevel) -> Callable[[Tensor], Envelope]:
    """The envelope of a prediction with some texture, for steps of tokens."""
    patch, rng = level.opening.patch, torch.Generator().manual_seed(2)
    luma = torch.randint(100, 140, (ROWS * patch, COLUMNS * patch), generator=rng, dtype=torch.uint8)
    return lambda steps: Envelope(level.envelope, luma, steps.view(ROWS, COLUMNS))


def contexts(kind: Kind, before: int = 0) -> Tensor:
    """Of tokens after a picture of which all had this activity."""
    past = torch.full((ROWS, COLUMNS, kind.entropy_model.num_groups), before)
    classes, nothing = torch.zeros(ROWS, COLUMNS, dtype=torch.int64), torch.zeros(0)
    context = Context(past, classes, Envelope(EnvelopeModel(8, torch.arange(192)), nothing, nothing))
    return contexts_apart(kind.entropy_model, context).flatten(0, 1)


def picture(kind: Kind, latents: Tensor) -> Tensor:
    """A picture whose whole tokens have these latents ``[n, C]``."""
    places = latents.new_zeros(TOKENS, kind.channels)
    places[: len(latents)] = latents
    cells = samples(places.view(-1, 3, kind.patch, kind.patch), kind.dct)
    pixels = torch.einsum("dc,ndyx->ncyx", kind.colours, cells).unflatten(0, (ROWS, COLUMNS))
    return pixels.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)


def noise(kind: Kind, amplitude: float) -> Tensor:
    """Busy here and quiet there."""
    rng = torch.Generator().manual_seed(4)
    scale = amplitude * torch.rand(ROWS, 1, COLUMNS, 1, generator=rng) ** 3
    left = torch.randn(3, ROWS, kind.patch, COLUMNS, kind.patch, generator=rng) * scale
    return left.flatten(3).flatten(1, 2)


def costs(kind: Kind, left: Tensor, outer: Tensor, envelope: Envelope, found: Residual) -> Tensor:
    """Squared steps of error of each token, and what its bits are worth."""
    expected = envelope.sums_below(torch.arange(TOKENS), found.quartered)
    bits = bits_apart(kind.entropy_model, found.symbols, found.quartered, expected, outer)
    steps = envelope.steps.flatten()[:, None]
    whole, quartered = (latents / steps for latents in kind.latents(kind.cells(left)))
    restored = found.symbols + OUTWARD / 10 * found.symbols.sign()
    apart = torch.where(found.quartered[:, None], quartered, whole) - restored
    return apart.square().sum(1) + _BIT_PRICE * bits


@pytest.mark.parametrize("amplitude", [10.0, 40.0])
def test_it_costs_less_than_rounding_and_never_more_than_nothing(
    kind: Kind, at_steps: Callable[[Tensor], Envelope], amplitude: float
) -> None:
    left, outer = noise(kind, amplitude), contexts(kind, 3)
    steps = torch.linspace(8.0, 24.0, TOKENS)
    envelope = at_steps(steps)
    found = quantized(kind, left, outer, envelope)
    mine = costs(kind, left, outer, envelope, found)
    none = torch.zeros(TOKENS, dtype=torch.bool)
    nothing = Residual(torch.zeros_like(found.symbols), none)
    assert bool((mine <= costs(kind, left, outer, envelope, nothing) * (1 + 1e-4)).all())
    for shapes, latents in zip((none, ~none), kind.latents(kind.cells(left)), strict=True):
        plain = Residual((latents / steps[:, None]).round(), shapes & latents.any(1))
        assert mine.sum() < costs(kind, left, outer, envelope, plain).sum()


def test_where_nothing_is_left_nothing_is_quartered(
    kind: Kind, at_steps: Callable[[Tensor], Envelope]
) -> None:
    left = noise(kind, 8.0)
    left[:, : kind.patch] = 0
    found = quantized(kind, left, contexts(kind), at_steps(torch.full((TOKENS,), 12.0)))
    holds = found.symbols.any(1)
    assert 0 < int(holds.sum()) < TOKENS
    assert not holds[:COLUMNS].any()
    assert not found.quartered[~holds].any()
    assert torch.equal(found.symbols, found.symbols.round())
    empty = quantized(kind, torch.zeros_like(left), contexts(kind), at_steps(torch.ones(TOKENS)))
    assert not empty.symbols.any()
    assert not empty.quartered.any()


@pytest.mark.parametrize("step", [10.0, 40.0])
def test_what_is_busy_in_one_quarter_is_quartered_and_waves_are_not(
    kind: Kind, at_steps: Callable[[Tensor], Envelope], step: float
) -> None:
    rng = torch.Generator().manual_seed(1)
    patch, half, steps = kind.patch, kind.patch // 2, torch.full((TOKENS,), step)
    left = torch.zeros(3, ROWS, patch, COLUMNS, patch)
    left[:, :, :half, :, :half] = 40 * torch.randn(ROWS, half, COLUMNS, half, generator=rng)
    busy = quantized(kind, left.flatten(3).flatten(1, 2), contexts(kind, 5), at_steps(steps))
    assert bool(busy.quartered.all())
    y, x = (math.pi * (torch.arange(count * patch) + 0.5) / patch for count in (ROWS, COLUMNS))
    wave = 60 * torch.cos(2 * y)[:, None] * torch.cos(3 * x)
    smooth = quantized(kind, wave.repeat(3, 1, 1), contexts(kind, 5), at_steps(steps))
    assert bool(smooth.symbols.any(1).all())
    assert not smooth.quartered.any()


def test_small_latents_are_dropped_and_the_largest_fit(
    kind: Kind, at_steps: Callable[[Tensor], Envelope]
) -> None:
    latents = torch.zeros(8, kind.channels)
    latents[:, 0] = torch.tensor([0.0, 0.6, -0.6, 0.9, -1.8, 2.4, 99.0, -1e6])
    found = quantized(kind, picture(kind, latents), contexts(kind), at_steps(torch.ones(TOKENS))).symbols
    assert found[:7, 0].tolist() == [0, 0, 0, 1, -2, 2, 99]
    assert not found[:7, 1:].any()
    assert found[7].abs().max() == LARGEST


def test_a_lone_small_symbol_is_not_worth_its_place(
    kind: Kind, at_steps: Callable[[Tensor], Envelope]
) -> None:
    """In a large group one takes more bits than in a small one."""
    groups = kind.entropy_model.group_of
    large = torch.nonzero(groups == groups.bincount().argmax()).flatten()
    latents = torch.zeros(2, kind.channels)
    latents[0, large[3]] = latents[1, 0] = 0.95
    found = quantized(kind, picture(kind, latents), contexts(kind), at_steps(torch.ones(TOKENS))).symbols
    assert found[:2].abs().sum(1).tolist() == [0, 1]
