"""The entropy model of what prediction leaves: activities of channel groups, then symbols, from tables alone.

Most of a predicted picture needs nothing, and where something is left, how much there is says more about a
symbol than its value elsewhere does. So a token first tells whether it holds something, if the configuration
says so, and then the **activity** of each of its channel groups, a coarse logarithm of the sum of magnitudes,
0 for nothing. Activities are coded under contexts that a decoder
has: those of the picture before, those of the groups before, for the second half of a checkerboard the four
neighbours', and what the coarser level and the prediction say of the token. Then tokens with something in
them tell whether they are quartered (see `dct`). Then come the symbols of groups with little in them, as
`splitting` tells them; then those of the others, each under the row of the magnitude that its activity and
the prediction (see `envelope`) let expect, and last what the few largest are beyond their table. A token
without anything costs a fraction of a bit a group and nothing else. Symbols of so many tokens at a time come
one after the other.

Everything is integers: sums, thresholds, shifts and table look-ups, and the tables are fitted by counting.
Contexts that count alike share a row, so that a step has few.

Sources: Said and Pearlman, "A New, Fast, and Efficient Image Codec Based on Set Partitioning in Hierarchical
Trees", 1996 (magnitudes of sets before values); Yoo, Ortega and Yu, "Image Subband Coding Using Context-Based
Classification and Adaptive Quantization", 1999.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mptvc.model.contexts import (
    CLASSES,
    CODED_ROWS,
    CONTEXTS,
    Context,
    checkerboard,
    coded_rows,
    inner_context,
    outer_contexts,
)
from mptvc.model.envelope import eighths
from mptvc.model.exchange import (
    NUMBERS,
    Exchange,
    even_frequencies,
    exchanged,
    exchanged_numbers,
)
from mptvc.model.integer_network import REACH, integer_frequencies
from mptvc.model.splitting import MOST_SUM, ODDS, SplittingModel, small_activity
from mptvc.native import entropy, walks

#: Activities are 0 to this.
MOST = 16
#: Rows for activities, and for symbols.
ROWS, SCALES = 64, 64
#: Rows for what tells quartered tokens, one for each sum of a token's activities.
SHAPES = 32
#: Expected magnitudes by quarters of octaves: the row of those from 1 on.
_ROW_OF_ONE = 28
#: Tokens whose symbols are dealt with at once, in the order of their numbers: all at once would take memory.
_AT_ONCE = 2**13
#: Largest magnitude of a symbol: the end of its table, and a number beyond it.
LARGEST = REACH + NUMBERS - 1


class Table(IntEnum):
    """Numbers of the tables of an activity model."""

    ACTIVITIES = 0
    SYMBOLS = 1
    DIGITS = 2
    SHAPES = 3
    SPLITTING = 4  #: and on: those of how small sums are shared
    CODED = 7


@dataclass(frozen=True)
class Residual:
    """What prediction left of a picture.

    Attributes:
        symbols: Of all tokens, integers ``[h, w, C]``.
        quartered: Which tokens are four transforms of their quarters, bool ``[h, w]``; none without symbols.
    """

    symbols: Tensor
    quartered: Tensor


def scale_frequencies() -> Tensor:
    """Rows of symbols to start from, int32 ``[SCALES, ALPHABET]``: geometric, of the magnitudes expected."""
    mean = 2.0 ** ((np.arange(SCALES) + 0.5 - _ROW_OF_ONE) / 4)
    ratio = (np.sqrt(1 + mean**2) - 1) / mean
    return integer_frequencies(ratio[:, None] ** np.abs(np.arange(-REACH, REACH + 1)))


def activity_thresholds() -> Tensor:
    """Smallest sum of each activity from 1 on: 1 + floor(1.5 log2(sum)), by integer arithmetic alone."""
    return torch.tensor([next(s for s in range(1, 2**12) if s**3 >= 4**k) for k in range(MOST)])


class ActivityModel(nn.Module):
    """The entropy model of one kind of picture at one level.

    Args:
        group_of: Group of each channel; activities are coded in the order of the groups' numbers.
        order: The channels by their groups, and each group's in the order of their frequencies.
        has_flags: Whether each token tells whether it holds something.

    Attributes:
        num_groups: Number of groups.
        splitting: The model of groups whose sums of magnitudes are small.
        activity_frequencies: int32 ``[ROWS, MOST + 1]``, each row summing to 2^24.
        row_of: Row of each group, half of the checkerboard and context, uint8
            ``[groups, 2, CLASSES CONTEXTS^2]``.
        symbol_frequencies: int32 ``[SCALES, ALPHABET]``, as the other.
        shape_frequencies: Of -1 for whole tokens, of 0, which does not come, and of 1 for quartered ones,
            int32 ``[SHAPES, 3]``.
        coded_frequencies: Of -1 for tokens that hold nothing, of 0, which does not come, and of 1 for others,
            int32 ``[CODED_ROWS, 3]``; None where no token tells.
    """

    activity_frequencies: Tensor
    row_of: Tensor
    symbol_frequencies: Tensor
    shape_frequencies: Tensor
    coded_frequencies: Tensor | None
    thresholds: Tensor
    group_of: Tensor
    members: Tensor
    place_of: Tensor

    def __init__(self, group_of: Tensor, order: Tensor, *, has_flags: bool = False) -> None:
        super().__init__()
        self.splitting = SplittingModel(order, group_of)
        self.num_groups = int(group_of.max()) + 1
        self.register_buffer("activity_frequencies", integer_frequencies(np.ones((ROWS, MOST + 1))))
        self.register_buffer(
            "row_of", torch.zeros(self.num_groups, 2, CLASSES * CONTEXTS**2, dtype=torch.uint8)
        )
        self.register_buffer("symbol_frequencies", scale_frequencies())
        self.register_buffer("shape_frequencies", integer_frequencies(np.tile([0.7, 0.0, 0.3], (SHAPES, 1))))
        even = integer_frequencies(np.tile([0.5, 0.0, 0.5], (CODED_ROWS, 1)))
        self.register_buffer("coded_frequencies", even if has_flags else None)
        self.register_buffer("thresholds", activity_thresholds(), persistent=False)
        self.register_buffer("group_of", group_of, persistent=False)
        self.register_buffer("place_of", order.argsort(), persistent=False)
        self.register_buffer("members", F.one_hot(group_of).float(), persistent=False)

    @property
    def has_flags(self) -> bool:
        """Whether each token tells whether it holds something."""
        return self.coded_frequencies is not None

    def activities(self, symbols: Tensor) -> Tensor:
        """Activities int64 ``[..., groups]`` of symbols ``[..., C]`` of at most ``LARGEST``."""
        most, parts = int(self.thresholds[-1]), in_parts(symbols.flatten(0, -2))
        sums = torch.cat([part.abs().clamp_(max=most).float() @ self.members for (part,) in parts])
        found = torch.bucketize(sums.to(torch.int32), self.thresholds, right=True)  # exact: below 2^24
        return found.view(*symbols.shape[:-1], self.num_groups)

    def tables(self) -> list[Tensor]:
        """Frequencies of every table that ``code`` names, int32 ``[rows, alphabet]``, by its number."""
        mine = self.activity_frequencies, self.symbol_frequencies, even_frequencies(), self.shape_frequencies
        flags = [] if self.coded_frequencies is None else [self.coded_frequencies]
        return [*mine, *self.splitting.tables(), *flags]

    @torch.no_grad()
    def code(
        self, exchange: Exchange, context: Context, given: Residual | None = None
    ) -> tuple[Residual, Tensor]:
        """Walk through one picture in coding order: to encode what was left of it, or to decode that.

        Args:
            exchange: Records or returns what is coded.
            context: What is known of the picture.
            given: What to encode, symbols of at most ``LARGEST``; nothing to decode.

        Returns:
            What was left, symbols int16, and its activities uint8 ``[h, w, groups]``.

        Raises:
            ValueError: What is decoded does not fit.
        """
        known = None if given is None else self.activities(given.symbols)
        found = self._code_activities(exchange, context, known)
        tokens = active_tokens(found)
        some = found.flatten(0, 1)[tokens]
        quartered = torch.zeros_like(found[..., 0], dtype=torch.bool)
        wanted = None if given is None else given.quartered.flatten()[tokens]
        mine = quartered.view(-1)[tokens] = self._code_shapes(exchange, some, wanted)
        walked = torch.zeros(*found.shape[:2], len(self.group_of), dtype=torch.int16, device=found.device)
        for at, active, shapes in in_parts(tokens, some, mine):
            left = None if given is None else given.symbols.flatten(0, 1)[at]
            expected = context.envelope.sums_below(at, shapes)
            walked.flatten(0, 1)[at] = self._code_groups(exchange, active, expected, left)
        return Residual(walked, quartered), found.to(torch.uint8)

    def _code_shapes(self, exchange: Exchange, activities: Tensor, quartered: Tensor | None) -> Tensor:
        """Which tokens of activities ``[n, groups]`` are quartered, bool ``[n]``."""
        given = None if quartered is None else 2 * quartered.long() - 1
        read = exchanged(exchange, shape_rows(activities), given, Table.SHAPES)
        if not bool(read.all()):
            raise ValueError("a token has no shape")
        return read > 0

    def _code_groups(
        self, exchange: Exchange, activities: Tensor, expected: Tensor, symbols: Tensor | None
    ) -> Tensor:
        """Symbols int16 ``[n, C]`` of tokens of activities ``[n, groups]``."""
        walked = torch.zeros(len(activities), len(self.group_of), dtype=torch.int16, device=activities.device)
        places, values = self.splitting.code(
            lambda rows, integers, table: exchange(rows, integers, Table.SPLITTING + table),
            activities,
            expected,
            self.thresholds,
            symbols,
        )
        walked.view(-1)[places] = values.to(torch.int16)
        places, rows = self.symbol_rows(activities, expected)
        large = None if symbols is None else symbols.flatten()[places]
        walked.view(-1)[places] = self._code_symbols(exchange, rows, large)
        return walked

    def _code_activities(self, exchange: Exchange, context: Context, known: Tensor | None) -> Tensor:
        """Activities int64 ``[h, w, groups]``, group by group in arrays: steps are many, and small."""
        found = torch.zeros_like(context.past, dtype=torch.int64)
        row_of = self.row_of.cpu().numpy()
        for half in range(2):
            told = self._code_coded(exchange, context, half, found, known)
            outer = outer_contexts(found, context, half)[told].T.to(torch.int16).cpu().numpy()
            given = None if known is None else (known[told].T - MOST // 2).to(torch.int16).cpu().numpy()
            read = np.zeros((self.num_groups, outer.shape[1]), np.int16)
            for group in range(self.num_groups):
                inner = inner_context(read, group, of_coded=self.has_flags)
                integers = None if given is None else given[group]
                rows = row_of[group, half][outer[group] + inner]
                read[group] = exchange(rows, integers, Table.ACTIVITIES) + MOST // 2
            found[told] = torch.from_numpy(read.T).to(found)
        return found

    def _code_coded(
        self, exchange: Exchange, context: Context, half: int, found: Tensor, known: Tensor | None
    ) -> Tensor:
        """Which tokens of a half tell their activities, bool ``[h, w]``: those that hold some, or all."""
        mine = checkerboard(found)[half]
        if not self.has_flags:
            return mine
        given = None if known is None else 2 * known[mine].any(-1).long() - 1
        read = exchanged(exchange, coded_rows(found, context, half)[mine], given, Table.CODED)
        if not bool(read.all()):
            raise ValueError("a token has no flag")
        told = torch.zeros_like(mine)
        told[mine] = read > 0
        return told

    def _code_symbols(self, exchange: Exchange, rows: Tensor, symbols: Tensor | None) -> Tensor:
        """Symbols int16 ``[n]`` of rows ``[n]``; what the largest are beyond ``REACH`` follows them."""
        given = None if symbols is None else symbols.clamp(-REACH, REACH)
        coded = exchanged(exchange, rows, given, Table.SYMBOLS)
        ends = coded.abs() == REACH
        if ends.any():
            beyond = None if symbols is None else symbols[ends].abs() - REACH
            numbers = exchanged_numbers(exchange, int(ends.sum()), beyond, Table.DIGITS)
            coded[ends] += coded[ends].sign() * numbers.to(coded.device)
        return coded.to(torch.int16)

    def symbol_rows(self, activities: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
        """Which symbols of tokens with activities ``[n, groups]`` are coded by themselves, under which rows.

        Args:
            activities: Of the tokens.
            expected: What is expected of them, as `envelope.Envelope.sums_below` says it.

        Returns:
            Places of the symbols in ``[n C]``, int64, and the row of each, uint8.
        """
        is_large = activities > small_activity(self.thresholds)
        places = torch.nonzero(is_large[:, self.group_of].flatten()).flatten()
        groups, octaves = self.octaves(places, expected)
        least = eighths(self.thresholds[(activities - 1).clamp(min=0)]).flatten()
        rows = octaves.add_(least[groups]).bitwise_right_shift_(1).add_(_ROW_OF_ONE).clamp_(0, SCALES - 1)
        return places, rows.to(torch.uint8)

    @property
    def channel_indexes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Group of each channel, its place in the order, and first places of groups, and the end, int64."""
        return self.group_of, self.place_of, self.splitting.starts

    def compiled(self, tables: Sequence[entropy.RansTables], net: entropy.EnvelopeNet) -> walks.ResidualModel:
        """The model in the form that its kernel takes, with all tables in theirs."""
        counts = self.num_groups, len(self.group_of), self.row_of.shape[2], MOST, SHAPES
        sizes = *counts, small_activity(self.thresholds), _ROW_OF_ONE, SCALES - 1, *ODDS, int(self.has_flags)
        indexes = self.thresholds, *self.channel_indexes, self.splitting.order
        rows = self.row_of.numpy(), self.splitting.row_of.numpy()
        return walks.ResidualModel(sizes, *rows, [index.numpy() for index in indexes], tables, net)

    @property
    def sizes(self) -> tuple[int, ...]:
        """What the choice of symbols takes, in the order of ``choices.QUANTIZER_SIZES``."""
        contexts, alphabet = self.row_of.shape[2], self.symbol_frequencies.shape[1]
        counts = self.num_groups, len(self.group_of), MOST + 1, contexts, alphabet, SHAPES
        others = small_activity(self.thresholds), _ROW_OF_ONE, SCALES - 1, MOST_SUM, LARGEST
        return *counts, *others, int(self.has_flags)

    def octaves(self, places: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
        """How much is expected at places of ``[n C]``, in eighths of octaves over their groups' expectation.

        Returns:
            The places' groups in ``[n groups]``, int64, and what is asked for, int32.
        """
        tokens, channels = places // len(self.group_of), places % len(self.group_of)
        groups = tokens * self.num_groups + self.group_of[channels]
        flat, starts = expected.flatten(), tokens * expected.shape[1] + self.place_of[channels]
        totals = eighths(expected[:, self.splitting.starts].diff()).flatten()
        return groups, eighths(flat[starts + 1] - flat[starts]) - totals[groups]


def in_parts(*given: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Rows of tensors, ``_AT_ONCE`` of them at a time."""
    return zip(*(torch.split(x, _AT_ONCE) for x in given), strict=True)


def shape_rows(activities: Tensor) -> Tensor:
    """Row of what tells whether tokens of activities ``[n, groups]`` are quartered, uint8 ``[n]``."""
    return activities.sum(-1).clamp(max=SHAPES - 1).to(torch.uint8)


def active_tokens(activities: Tensor) -> Tensor:
    """Numbers of the tokens of a picture ``[h, w, groups]`` that hold something, int64 ``[n]``."""
    return torch.nonzero(activities.any(-1).flatten()).flatten()
