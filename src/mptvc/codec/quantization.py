"""What an encoder makes of what prediction leaves: symbols of which error and bits together are small.

A token is tried whole and quartered, with smaller symbols, and without any; the tables say what each takes.

Source: Sullivan and Wiegand, "Rate-Distortion Optimization for Video Compression", 1998.
"""

import torch
from torch import Tensor

from mptvc.model.activity import LARGEST, Residual
from mptvc.model.loop_model import OUTWARD, Kind

#: What is added to magnitudes before they are rounded down: less than half, as larger symbols take more bits.
_ROUNDING = 0.31, 0.27  # of the lowest band, and of the others
#: How much less of it, in the other try.
_LESS = 0.12
#: Squared steps of error that a bit is worth.
_BIT_PRICE = 0.12
#: A group whose magnitudes sum to at most this is dropped where it is not worth its bits.
_FEW = 5
#: Squared steps of error that a bit is worth there, and about what a magnitude of 1 takes beside its place.
_GROUP_PRICE, _ONE_BITS = 0.12, 1.5


def quantized(kind: Kind, left: Tensor, steps: Tensor, outer: Tensor) -> Residual:
    """What prediction left of a picture as symbols, such that error and bits are small together.

    Args:
        kind: Transform and entropy model.
        left: What prediction left, ``[3, H, W]``.
        steps: Of its tokens, float32 ``[n]``.
        outer: Contexts of its tokens, as `ActivityModel.bits_apart` takes them.

    Returns:
        Symbols float32 ``[n, C]`` and shapes ``[n]`` of its tokens.
    """
    exact = [latents.mul_(steps.reciprocal()[:, None]) for latents in kind.latents(left)]
    first = [_rounded(kind, latents, 0.0) for latents in exact]
    places = torch.nonzero(first[0].any(1) | first[1].any(1)).flatten()
    symbols, shapes = torch.zeros_like(exact[0]), torch.zeros_like(places, dtype=torch.bool)
    quartered = torch.zeros_like(steps, dtype=torch.bool)
    outer, energy = outer[places], exact[0][places].square().sum(1)
    nothing = symbols[places]
    best = energy + _BIT_PRICE * kind.entropy_model.bits_apart(nothing, shapes, outer)
    chosen = nothing
    for shape, (latents, usual) in enumerate(zip(exact, first, strict=True)):
        mine, is_quartered = latents[places], torch.full_like(shapes, bool(shape))
        for tried in (usual[places], _rounded(kind, mine, _LESS)):
            error = energy - _explained(mine, tried).sum(1)
            cost = error + _BIT_PRICE * kind.entropy_model.bits_apart(tried, is_quartered, outer)
            better = cost < best
            best = torch.where(better, cost, best)
            chosen[better], shapes[better] = tried[better], bool(shape)
    symbols[places], quartered[places] = chosen, shapes & chosen.any(1)
    return Residual(symbols, quartered)


def _rounded(kind: Kind, latents: Tensor, less: float) -> Tensor:
    """Symbols float32 for latents in steps ``[n, C]``; groups with little in them only where they pay."""
    members, (first, later) = kind.entropy_model.members, _ROUNDING
    rounding = torch.where(kind.entropy_model.group_of < 2, first - less, later - less)
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
