"""The entropy model of groups with small sums of magnitudes: sums are halved until each channel has its own.

How large the magnitudes of a group are in sum is known from its activity, exactly once a remainder is told.
Then comes how much of that lies in the first half of its channels, how much of that in the first half of
these, and so on; halves without anything are not looked at. What is left is the magnitude of a channel, and
its sign takes a bit. Symbols coded one by one would tell the sum once more, which is one or two bits of the
five that a symbol takes where there are few.

Channels of a group stand in the order of their frequencies, so that halves differ in what they usually hold,
and what the prediction says of each channel (see `envelope`) tells which half may be expected to hold more:
the row of a share is that of the sum and of the odds. Integers and tables alone, as in `activity`.

Sources: Said and Pearlman, "A New, Fast, and Efficient Image Codec Based on Set Partitioning in Hierarchical
Trees", 1996; Fischer, "A Pyramid Vector Quantizer", 1986 (vectors whose magnitudes have a known sum).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import log
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mptvc.model.envelope import eighths
from mptvc.model.exchange import Exchange, exchanged
from mptvc.model.integer_network import PRECISION, integer_frequencies

#: Largest sum of a group that is halved, and values of the table of shares, an odd number.
MOST_SUM, SHARES = 15, 17
#: Rows for odds of the first half, how many eighths of an octave each spans, and where the first one begins.
ODDS = _ODDS, _STEP, _LOWEST = 16, 6, -48
#: Rows of shares, and of remainders.
ROWS, RESTS = MOST_SUM * _ODDS, 32
#: Probabilities of -1, 0 and 1 as a sign.
_SIGN = np.array([[0.5, 0.0, 0.5]])


class Table(IntEnum):
    """Numbers of the tables of a splitting model."""

    SHARES = 0
    RESTS = 1
    SIGNS = 2


@dataclass(frozen=True)
class Groups:
    """Groups of tokens whose sums are small.

    Attributes:
        tokens: Number of each group's token, int64 ``[n]``.
        groups: Number of the group.
        activities: Its activity.
        least: Smallest sum that this means.
        choices: How many sums it means.
    """

    tokens: Tensor
    groups: Tensor
    activities: Tensor
    least: Tensor
    choices: Tensor

    def where(self, wanted: Tensor) -> "Groups":
        """Those where bool ``[n]`` holds."""
        which = torch.nonzero(wanted).flatten()
        fields = self.tokens, self.groups, self.activities, self.least, self.choices
        return Groups(*(x[which] for x in fields))


@dataclass(frozen=True)
class Parts:
    """Runs of channels that hold something.

    Attributes:
        tokens: Number of each part's token, int64 ``[n]``.
        first: Its first place in the order of channels.
        last: The place behind its last one.
        sums: Of its magnitudes, 1 to ``MOST_SUM``.
    """

    tokens: Tensor
    first: Tensor
    last: Tensor
    sums: Tensor

    def where(self, wanted: Tensor) -> "Parts":
        """Those where bool ``[n]`` holds."""
        which = torch.nonzero(wanted).flatten()
        return Parts(self.tokens[which], self.first[which], self.last[which], self.sums[which])

    @property
    def middle(self) -> Tensor:
        """Where they are halved."""
        return (self.first + self.last + 1) >> 1


def _joined(several: Sequence[Parts]) -> Parts:
    """All parts together."""
    fields = zip(*((p.tokens, p.first, p.last, p.sums) for p in several), strict=True)
    return Parts(*map(torch.cat, fields))


class Walk(Protocol):
    """Takes or gives each integer on the way: an encoder is given it, a decoder gives it."""

    def rest(self, groups: Groups, given: Tensor | None) -> Tensor:
        """By how much the sums of groups are above the least that they may be."""

    def share(self, tokens: Tensor, rows: Tensor, given: Tensor | None) -> Tensor:
        """What the first halves of parts have of their sums, given each one's token and row."""


class SplittingModel(nn.Module):
    """The tables of how sums are shared.

    Args:
        order: The channels in their order, those of a group side by side.
        group_of: Group of each channel.

    Attributes:
        share_frequencies: int32 ``[ROWS, SHARES]``, each row summing to 2^24.
        rest_frequencies: Of remainders, int32 ``[RESTS, SHARES]``, likewise.
        row_of: Row of the remainders of each group and activity, uint8 ``[groups, MOST_SUM]``.
    """

    share_frequencies: Tensor
    rest_frequencies: Tensor
    row_of: Tensor
    order: Tensor
    starts: Tensor

    def __init__(self, order: Tensor, group_of: Tensor) -> None:
        super().__init__()
        counts = torch.bincount(group_of)
        self.register_buffer("share_frequencies", integer_frequencies(np.ones((ROWS, SHARES))))
        self.register_buffer("rest_frequencies", integer_frequencies(np.ones((RESTS, SHARES))))
        self.register_buffer("row_of", torch.zeros(len(counts), MOST_SUM, dtype=torch.uint8))
        self.register_buffer("order", order, persistent=False)
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        self.register_buffer("starts", starts, persistent=False)

    def tables(self) -> list[Tensor]:
        """Frequencies of every table that ``code`` names, int32 ``[rows, alphabet]``, by its number."""
        return [self.share_frequencies, self.rest_frequencies, integer_frequencies(_SIGN)]

    def code(
        self,
        exchange: Exchange,
        activities: Tensor,
        expected: Tensor,
        thresholds: Tensor,
        symbols: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Walk through the groups of small sums in coding order: to encode symbols, or to decode them.

        Args:
            exchange: Records or returns what is coded.
            activities: Of the tokens, int64 ``[n, groups]``.
            expected: What is expected of their channels before each place of the order, int32 ``[n, C + 1]``.
            thresholds: Smallest sum of each activity from 1 on.
            symbols: What to encode, integers ``[n, C]``; nothing to decode.

        Returns:
            Places in ``[n C]`` of symbols other than 0, and these, int64.

        Raises:
            ValueError: What is decoded does not fit.
        """
        found = self.walked(_Exchanging(self, exchange), activities, expected, thresholds, symbols)
        places = found.tokens * len(self.order) + self.order[found.first]
        given = None if symbols is None else symbols.flatten()[places].sign()
        signs = exchanged(exchange, torch.zeros_like(places), given, Table.SIGNS)
        if not bool(signs.all()):
            raise ValueError("a symbol has no sign")
        return places, found.sums * signs

    def bits(self, activities: Tensor, expected: Tensor, thresholds: Tensor, symbols: Tensor) -> Tensor:
        """Bits that each token takes, float32 ``[n]``; arguments as of ``code``."""
        walk = _Weighing(self, len(activities))
        found = self.walked(walk, activities, expected, thresholds, symbols)
        return walk.total + torch.bincount(found.tokens, minlength=len(activities))

    def walked(
        self,
        walk: Walk,
        activities: Tensor,
        expected: Tensor,
        thresholds: Tensor,
        symbols: Tensor | None = None,
    ) -> Parts:
        """The channels that hold something, in the order in which they are found; as for ``code``."""
        groups = _small(activities, thresholds)
        first, last = self.starts[groups.groups], self.starts[groups.groups + 1]
        below = None if symbols is None else _sums_below(symbols[:, self.order].abs())
        several, sums, given = groups.choices > 1, groups.least.clone(), None
        if below is not None:
            sums = (below[groups.tokens, last] - below[groups.tokens, first]).long()
            given = (sums - groups.least)[several]
        rest = walk.rest(groups.where(several), given)
        if bool((rest >= groups.choices[several]).any()):
            raise ValueError("a sum is larger than its activity says")
        sums[several] = groups.least[several] + rest
        return _halved(Parts(groups.tokens, first, last, sums), walk, expected, below)

    def rest_rows(self, groups: Groups) -> Tensor:
        """Row of each group's remainder, uint8 ``[n]``."""
        return self.row_of[groups.groups, groups.activities - 1]


class _Exchanging:
    """Hands integers to a coder."""

    def __init__(self, model: SplittingModel, exchange: Exchange) -> None:
        self._model, self._exchange = model, exchange

    def rest(self, groups: Groups, given: Tensor | None) -> Tensor:
        return self._exchanged(self._model.rest_rows(groups), given, Table.RESTS)

    def share(self, tokens: Tensor, rows: Tensor, given: Tensor | None) -> Tensor:
        return self._exchanged(rows, given, Table.SHARES)

    def _exchanged(self, rows: Tensor, given: Tensor | None, table: Table) -> Tensor:
        middle = SHARES // 2
        return middle + exchanged(self._exchange, rows, None if given is None else given - middle, table)


class _Weighing:
    """Sums the bits of integers for each token."""

    def __init__(self, model: SplittingModel, tokens: int) -> None:
        self._model = model
        tables = model.share_frequencies, model.rest_frequencies
        self._share_bits, self._rest_bits = (-torch.log2(table / 2**PRECISION) for table in tables)
        self.total = self._share_bits.new_zeros(tokens)

    def rest(self, groups: Groups, given: Tensor | None) -> Tensor:
        return self._added(groups.tokens, self._rest_bits, self._model.rest_rows(groups), given)

    def share(self, tokens: Tensor, rows: Tensor, given: Tensor | None) -> Tensor:
        return self._added(tokens, self._share_bits, rows, given)

    def _added(self, tokens: Tensor, bits: Tensor, rows: Tensor, given: Tensor | None) -> Tensor:
        if given is None:
            raise ValueError("there is nothing to count")
        self.total.index_add_(0, tokens, bits[rows.long(), given])
        return given


def share_rows(parts: Parts, expected: Tensor) -> Tensor:
    """Row of each part's share, uint8 ``[n]``; ``expected`` as of ``SplittingModel.code``."""
    starts, flat = parts.tokens * expected.shape[1], expected.flatten()
    first, middle, last = (flat[starts + place] for place in (parts.first, parts.middle, parts.last))
    octaves = eighths(middle - first) - eighths(last - middle) - _LOWEST
    odds = torch.div(octaves, _STEP, rounding_mode="floor").clamp_(0, _ODDS - 1)
    return ((parts.sums - 1) * _ODDS + odds).to(torch.uint8)


def small_activity(thresholds: Tensor) -> int:
    """The largest activity of which every sum is small; ``thresholds`` as of ``SplittingModel.code``."""
    return int((thresholds <= MOST_SUM + 1).sum()) - 1


def log_factorials(device: torch.device) -> Tensor:
    """Binary logarithms of factorials up to that of ``MOST_SUM``, float32."""
    return torch.lgamma(torch.arange(1.0, MOST_SUM + 2, device=device)) / log(2)


def _small(activities: Tensor, thresholds: Tensor) -> Groups:
    """The groups whose sums are small."""
    is_small = (activities > 0) & (activities <= small_activity(thresholds))
    tokens, groups = torch.nonzero(is_small, as_tuple=True)
    mine = activities[tokens, groups].long()
    least = thresholds[mine - 1]
    return Groups(tokens, groups, mine, least, thresholds[mine] - least)


def _halved(parts: Parts, walk: Walk, expected: Tensor, below: Tensor | None) -> Parts:
    """Halve parts until each is one channel, given the sums ``below`` each place to encode."""
    done: list[Parts] = []
    while True:
        is_one = parts.last - parts.first == 1
        done.append(parts.where(is_one))
        parts = parts.where(~is_one)
        if not len(parts.sums):
            return _joined(done)
        given = None
        if below is not None:
            middle, first = (below[parts.tokens, at] for at in (parts.middle, parts.first))
            given = (middle - first).long()
        share = walk.share(parts.tokens, share_rows(parts, expected), given)
        if bool((share > parts.sums).any()):
            raise ValueError("a part of a group is larger than the group")
        left = Parts(parts.tokens, parts.first, parts.middle, share)
        right = Parts(parts.tokens, parts.middle, parts.last, parts.sums - share)
        both = _joined([left, right])
        parts = both.where(both.sums > 0)


def _sums_below(magnitudes: Tensor) -> Tensor:
    """Sums before each place, int16 ``[n, C + 1]``, of magnitudes ``[n, C]`` in the order of channels.

    In groups whose sums are not small they are wrong, and not asked for.
    """
    small = magnitudes.clamp(max=MOST_SUM + 1)
    below = small.new_zeros(len(small), small.shape[1] + 1, dtype=torch.int16)
    torch.cumsum(small, 1, dtype=torch.int16, out=below[:, 1:])
    return below
