"""What an encoder makes of what prediction leaves: symbols of which error and bits together are small.

A token is tried whole, with smaller symbols, quartered, and without any; the tables say what each takes.

Source: Sullivan and Wiegand, "Rate-Distortion Optimization for Video Compression", 1998.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mptvc.model.activity import LARGEST, ActivityModel, Residual
from mptvc.model.activity_bits import NUMBER_BITS, activity_bits_apart, bits_apart, table_bits
from mptvc.model.envelope import Envelope, EnvelopeModel
from mptvc.model.loop_model import OUTWARD, Kind
from mptvc.model.splitting import log_factorials
from mptvc.native import calls, choices

#: What is added to magnitudes before they are rounded down: less than half, as larger symbols take more bits.
_ROUNDING = 0.31, 0.27  # of the lowest band, and of the others
#: Squared steps of error that a bit is worth.
_BIT_PRICE = 0.12
#: Energy of a token in squared steps below which no latent of it is rounded to a symbol.
_LEAST_ENERGY = (1 - max(_ROUNDING)) ** 2
#: A group whose magnitudes sum to at most this is dropped where it is not worth its bits.
_FEW = 5
#: Squared steps of error that a bit is worth there, and about what a magnitude of 1 takes beside its place.
_GROUP_PRICE, _ONE_BITS = 0.12, 1.5


@dataclass(frozen=True)
class Try:
    """What tokens may become.

    Attributes:
        latents: In steps ``[n, C]``.
        symbols: What is made of them.
        expected: What the prediction lets expect, as `Envelope.sums_below` says it.
        quartered: Whether these are of quartered tokens.
    """

    latents: Tensor
    symbols: Tensor
    expected: Tensor
    quartered: bool


def quantized(
    kind: Kind, left: Tensor, outer: Tensor, envelope: Envelope, quantizer: choices.Quantizer | None = None
) -> Residual:
    """What prediction left of a picture as symbols, such that error and bits are small together.

    Args:
        kind: Transform and entropy model.
        left: What prediction left, ``[3, H, W]``, at most 255.
        outer: Contexts of its tokens, as `activity_bits.bits_apart` takes them.
        envelope: What the prediction says of them, and their steps.
        quantizer: ``compiled_quantizer`` of the same kind and network, if there is one already.

    Returns:
        Symbols int16 ``[n, C]`` and shapes ``[n]`` of its tokens.
    """
    if calls.serve(left.device):
        quantizer = compiled_quantizer(kind, envelope.model) if quantizer is None else quantizer
        given = left.float(), envelope.luma, envelope.steps, outer
        symbols, quartered = map(torch.from_numpy, quantizer.quantized(list(map(calls.array, given))))
        return Residual(symbols, quartered)
    model, cells, steps = kind.entropy_model, kind.cells(left), envelope.steps.flatten()
    symbols = torch.zeros(len(cells), kind.channels, dtype=torch.int16, device=cells.device)
    quartered = torch.zeros(len(cells), dtype=torch.bool, device=cells.device)
    energy = cells.square().sum((1, 2, 3)).div_(steps.square())
    busy = torch.nonzero(energy >= _LEAST_ENERGY).flatten()
    if not len(busy):
        return Residual(symbols, quartered)
    scales = steps[busy].reciprocal()[:, None]
    whole, quarters = (latents.mul_(scales) for latents in kind.latents(cells[busy]))
    together, apart = (_rounded(kind, latents) for latents in (whole, quarters))
    some = torch.nonzero(together.any(1) | apart.any(1)).flatten()
    whole, quarters, together, apart = (x[some] for x in (whole, quarters, together, apart))
    places = busy[some]
    shapes = torch.zeros_like(places, dtype=torch.bool)
    expected, expected_apart = (envelope.sums_below(places, x) for x in (shapes, ~shapes))
    tries = Try(whole, together, expected, False), Try(quarters, apart, expected_apart, True)
    best = _cheapest(model, energy[places], outer[places], tries)
    symbols[places], quartered[places] = best.symbols.to(torch.int16), best.quartered
    return Residual(symbols, quartered)


def compiled_quantizer(kind: Kind, envelope: EnvelopeModel) -> choices.Quantizer:
    """What choices depend on, in the form that a kernel takes which makes them all at once."""
    model = kind.entropy_model
    indexes = model.thresholds, *model.channel_indexes, model.splitting.order
    matrices = kind.dct, kind.half_dct, kind.colours
    prices = *_ROUNDING, _LEAST_ENERGY, _BIT_PRICE, _FEW, _GROUP_PRICE, _ONE_BITS, OUTWARD / 10, NUMBER_BITS
    tables = *table_bits(model), log_factorials(kind.dct.device), model.row_of, *indexes, *matrices
    return choices.Quantizer(model.sizes, prices, list(map(calls.array, tables)), envelope.compiled)


def _cheapest(model: ActivityModel, energy: Tensor, outer: Tensor, tries: Sequence[Try]) -> Residual:
    """Of each token the try of least error and bits, or nothing.

    Args:
        model: Says what bits tries take.
        energy: Of each token in squared steps ``[n]``.
        outer: As of ``quantized``.
        tries: Of all tokens.
    """
    best = energy + _BIT_PRICE * activity_bits_apart(model, torch.zeros_like(outer[:, 1:]), outer)
    chosen, shapes = torch.zeros_like(tries[0].symbols), torch.zeros_like(energy, dtype=torch.bool)
    for tried in tries:  # one with the symbols of the best so far has nothing to offer
        at = torch.nonzero((tried.symbols != chosen).any(1)).flatten()
        symbols = tried.symbols[at]
        quartered = torch.full_like(shapes[at], tried.quartered)
        bits = bits_apart(model, symbols, quartered, tried.expected[at], outer[at])
        cost = energy[at] - _explained(tried.latents[at], symbols).sum(1) + _BIT_PRICE * bits
        better = cost < best[at]
        at = at[better]
        best[at], chosen[at], shapes[at] = cost[better], symbols[better], tried.quartered
    return Residual(chosen, shapes & chosen.any(1))


def _rounded(kind: Kind, latents: Tensor) -> Tensor:
    """Symbols float32 for latents in steps ``[n, C]``; groups with little in them only where they pay."""
    members, (first, later) = kind.entropy_model.members, _ROUNDING
    rounding = torch.where(kind.entropy_model.group_of < 2, first, later)
    symbols = torch.copysign(rounding, latents).add_(latents).trunc_().clamp_(-LARGEST, LARGEST)
    tokens = torch.nonzero(symbols.any(1)).flatten()
    found = symbols[tokens]
    sums, saved = found.abs() @ members, _explained(latents[tokens], found) @ members
    bits = sums * (torch.log2(members.sum(0)) + _ONE_BITS) + _ONE_BITS
    kept = (sums > _FEW) | (saved > _GROUP_PRICE * bits)
    symbols[tokens] = found.mul_(kept.float() @ members.T)
    return symbols


def _explained(latents: Tensor, symbols: Tensor) -> Tensor:
    """By how much symbols lower the squared error of latents, both ``[n, C]``, beside that of zeros."""
    restored = symbols.add(symbols.sign(), alpha=OUTWARD / 10)
    return latents.mul(2).sub_(restored).mul_(restored)
