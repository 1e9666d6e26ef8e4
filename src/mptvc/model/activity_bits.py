"""What an activity model's tables take for what they code: exactly, and as an encoder's choices ask it."""

from math import log2

import torch
from torch import Tensor

from mptvc.model.activity import ActivityModel, Residual, active_tokens, in_parts, shape_rows
from mptvc.model.contexts import (
    Context,
    all_contexts,
    checkerboard,
    coded_rows,
    inner_contexts,
    outer_contexts,
)
from mptvc.model.envelope import OCTAVE
from mptvc.model.exchange import DIGIT
from mptvc.model.integer_network import PRECISION, REACH
from mptvc.model.splitting import MOST_SUM, log_factorials, small_activity
from mptvc.native import calls
from mptvc.native import contexts as kernels

#: Bits of a number beyond the table of symbols.
NUMBER_BITS = 2 * log2(DIGIT)


@torch.no_grad()
def token_bits(model: ActivityModel, residual: Residual, context: Context) -> Tensor:
    """Bits that each token of a picture takes, float32 ``[h, w]``; arguments as of ``ActivityModel.code``."""
    found = model.activities(residual.symbols)
    total = torch.zeros(found.shape[:2], device=found.device)
    for half, mine in enumerate(checkerboard(found)):
        if model.has_flags:
            total += mine * _coded_bits(model, found, coded_rows(found, context, half))
    bits = -torch.log2(model.activity_frequencies / 2**PRECISION)
    for half, group, mine, contexts in all_contexts(found, context, of_coded=model.has_flags):
        total[mine] += bits[model.row_of[group, half].long()[contexts], found[..., group][mine]]
    for (at,) in in_parts(active_tokens(found)):
        active, symbols = (x.flatten(0, 1)[at] for x in (found, residual.symbols))
        quartered = residual.quartered.flatten()[at]
        expected = context.envelope.sums_below(at, quartered)
        total.view(-1)[at] += model.splitting.bits(active, expected, model.thresholds, symbols)
        total.view(-1)[at] += _large_bits(model, active, quartered, expected, symbols)
    return total


@torch.no_grad()
def bits_apart(
    model: ActivityModel, symbols: Tensor, quartered: Tensor, expected: Tensor, outer: Tensor
) -> Tensor:
    """About the bits that tokens take whose neighbours are not known yet, float32 ``[n]``.

    Small sums are weighed as if magnitudes fell on channels one by one, as is expected of these: a
    multinomial distribution, which takes a fraction of the time of a walk through their halves.

    Args:
        model: Says what they take.
        symbols: Of each, integers ``[n, C]``.
        quartered: Which of them are, bool ``[n]``.
        expected: What is expected of them, as `envelope.Envelope.sums_below` says it.
        outer: Their contexts, as ``contexts_apart`` says them, ``[n, groups + 1]``.
    """
    found = model.activities(symbols)
    total, tokens = activity_bits_apart(model, found, outer), torch.nonzero(found.any(1)).flatten()
    active, shapes, mine, left = (x[tokens] for x in (found, quartered, expected, symbols))
    total[tokens] += _shared_bits(model, active, mine, left) + _large_bits(model, active, shapes, mine, left)
    return total


def activity_bits_apart(model: ActivityModel, found: Tensor, outer: Tensor) -> Tensor:
    """The same of activities ``[n, groups]`` alone."""
    bits = -torch.log2(model.activity_frequencies / 2**PRECISION)
    groups = torch.arange(model.num_groups, device=found.device)
    contexts = outer[:, :-1] + inner_contexts(found, of_coded=model.has_flags)
    total: Tensor = bits[model.row_of[groups, 0, contexts].long(), found].sum(1)
    if not model.has_flags:
        return total
    return total * found.any(1) + _coded_bits(model, found, outer[:, -1])


def contexts_apart(model: ActivityModel, context: Context) -> Tensor:
    """Contexts of tokens whose neighbours are not known yet, int64 ``[h, w, groups + 1]``.

    Of their activities; last comes the row of what tells whether a token holds something, if it does.
    """
    if calls.serve(context.past.device):
        known = calls.array(context.past.to(torch.uint8)), calls.array(context.classes)
        return torch.from_numpy(kernels.contexts_apart(*known, has_flags=model.has_flags))
    nothing = torch.zeros_like(context.past)
    rows = coded_rows(nothing, context, 0) if model.has_flags else torch.zeros_like(context.classes)
    return torch.cat([outer_contexts(nothing, context, 0), rows[..., None]], -1)


def _coded_bits(model: ActivityModel, found: Tensor, rows: Tensor) -> Tensor:
    """Bits of whether tokens of activities ``[..., groups]`` hold something, float32 ``[...]``."""
    return coded_bits(model)[rows, 2 * found.any(-1).long()]


def coded_bits(model: ActivityModel) -> Tensor:
    """Bits of what tells that, float32 ``[CODED_ROWS, 3]``; nothing where no token tells."""
    if model.coded_frequencies is None:
        return torch.zeros(1, 3)
    return -torch.log2(model.coded_frequencies / 2**PRECISION)


def _shared_bits(model: ActivityModel, activities: Tensor, expected: Tensor, symbols: Tensor) -> Tensor:
    """About the bits of how small sums are shared, and of signs, float32 ``[n]``."""
    is_small = (activities > 0) & (activities <= small_activity(model.thresholds))
    places = torch.nonzero(symbols.flatten()).flatten()
    groups, octaves = model.octaves(places, expected)
    magnitudes, logarithms = symbols.flatten()[places].abs(), log_factorials(symbols.device)
    bits = logarithms[magnitudes.clamp(max=MOST_SUM).long()] - magnitudes * octaves / OCTAVE + 1
    total = torch.zeros_like(activities, dtype=torch.float32)
    total.view(-1).index_add_(0, groups, bits)
    choices = model.thresholds.diff(append=model.thresholds[-1:] + 1)[(activities - 1).clamp(min=0)]
    sums = (symbols.abs().float() @ model.members).clamp(max=MOST_SUM).long()
    total += torch.log2(choices.float()) - logarithms[sums]
    return (total * is_small).sum(1)


def _large_bits(
    model: ActivityModel, activities: Tensor, quartered: Tensor, expected: Tensor, symbols: Tensor
) -> Tensor:
    """Bits of the shapes of tokens with activities ``[n, groups]``, and of large sums' symbols."""
    bits = -torch.log2(model.shape_frequencies / 2**PRECISION)
    total = bits[shape_rows(activities).long(), 2 * quartered.long()]
    places, rows = model.symbol_rows(activities, expected)
    walked = symbols.flatten()[places].long()
    bits = -torch.log2(model.symbol_frequencies / 2**PRECISION)
    taken = bits[rows.long(), walked.clamp(-REACH, REACH) + REACH]
    taken += (walked.abs() >= REACH) * NUMBER_BITS
    return total.index_add_(0, places // len(model.group_of), taken)


def table_bits(model: ActivityModel) -> tuple[Tensor, ...]:
    """Bits of what the tables of activities, symbols, shapes and flags code, float32."""
    tables = model.activity_frequencies, model.symbol_frequencies, model.shape_frequencies
    return *(-torch.log2(table / 2**PRECISION) for table in tables), coded_bits(model)
