"""The entropy model of what prediction leaves: activities of channel groups, then symbols, from tables alone.

Most of a predicted picture needs nothing, and where something is left, how much there is says more about a
symbol than its value elsewhere does. So a token first tells the **activity** of each of its channel groups, a
coarse logarithm of the sum of magnitudes, 0 for nothing. Activities are coded under contexts that a decoder
has: those of the picture before, those of the groups before, and, for the second half of a checkerboard, the
four neighbours'. Then come the symbols of groups that are not empty, each under a row that its activity and
channel name. A token without anything costs a fraction of a bit a group and nothing else.

Everything is integers: sums, thresholds, shifts and table look-ups. There is no network, and the tables are
fitted by counting.

Sources: Said and Pearlman, "A New, Fast, and Efficient Image Codec Based on Set Partitioning in Hierarchical
Trees", 1996 (magnitudes of sets before values); Yoo, Ortega and Yu, "Image Subband Coding Using Context-Based
Classification and Adaptive Quantization", 1999.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mptvc.model.integer_network import FRACTIONS, integer_frequencies, logistic_frequencies

#: Activities are 0 to this.
MOST = 16
#: Values of each of the two parts of a context.
CONTEXTS = 16
#: Rows for symbols.
SCALES = 48
#: Row of a scale whose mean is the symbol 0.
CENTRED = 2

#: Turns ``(rows uint8 [n], integers int16 [n] or None, number of a table)`` into the integers: an encoder
#: records what it is given, a decoder reads. They are counted from the middle of the table's alphabet.
Exchange = Callable[[np.ndarray, np.ndarray | None, int], np.ndarray]


def activity_thresholds() -> Tensor:
    """Smallest sum of each activity from 1 on: 1 + floor(1.5 log2(sum)), by integer arithmetic alone."""
    return torch.tensor([next(s for s in range(1, 2**12) if s**3 >= 4**k) for k in range(MOST)])


class ActivityModel(nn.Module):
    """The entropy model of one kind of picture at one level.

    Args:
        groups: Sizes of the channel groups, in the order in which their activities are coded.

    Attributes:
        activity_frequencies: int32 ``[groups, 2, CONTEXTS^2, MOST + 1]``, each row summing to 2^24.
        symbol_frequencies: int32 ``[SCALES, ALPHABET]``, likewise.
        scale_of: Row of each activity's symbols in each channel, uint8 ``[MOST + 1, C]``.
    """

    activity_frequencies: Tensor
    symbol_frequencies: Tensor
    scale_of: Tensor
    thresholds: Tensor
    group_of: Tensor

    def __init__(self, groups: tuple[int, ...]) -> None:
        super().__init__()
        self.groups = groups
        group_of = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups))
        even = integer_frequencies(np.ones((2 * len(groups) * CONTEXTS**2, MOST + 1)))
        self.register_buffer("activity_frequencies", even.view(len(groups), 2, CONTEXTS**2, MOST + 1))
        self.register_buffer("symbol_frequencies", logistic_frequencies(SCALES)[CENTRED::FRACTIONS].clone())
        self.register_buffer("scale_of", torch.full((MOST + 1, sum(groups)), 20, dtype=torch.uint8))
        self.register_buffer("thresholds", activity_thresholds(), persistent=False)
        self.register_buffer("group_of", group_of, persistent=False)

    def activities(self, symbols: Tensor) -> Tensor:
        """Activities int64 ``[h, w, groups]`` of symbols ``[h, w, C]``."""
        sums = symbols.new_zeros(*symbols.shape[:2], len(self.groups), dtype=torch.int64)
        sums.index_add_(2, self.group_of, symbols.long().abs())
        return torch.bucketize(sums, self.thresholds, right=True)

    @torch.no_grad()
    def code(self, exchange: Exchange, past: Tensor, symbols: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Walk through one picture in coding order: to encode its symbols, or to decode them.

        Args:
            exchange: Records or returns what is coded.
            past: Activities of the picture before, int64 ``[h, w, groups]``; zeros where there is none.
            symbols: What to encode, ``[h, w, C]``; nothing to decode.

        Returns:
            Symbols int8 ``[h, w, C]`` and activities int64 ``[h, w, groups]``.
        """
        known = None if symbols is None else self.activities(symbols)
        found = torch.zeros_like(past)
        for group in range(len(self.groups)):
            for half in range(2):
                rows, mine = self.contexts(found, past, group, half)
                given = None if known is None else known[..., group][mine] - MOST // 2
                read = exchanged(exchange, rows, given, 2 * group + half)
                found[..., group][mine] = read + MOST // 2
        live, rows = self.symbol_rows(found)
        coded = torch.zeros(live.shape, dtype=torch.int8, device=live.device)
        given = None if symbols is None else symbols[live]
        coded[live] = exchanged(exchange, rows, given, 2 * len(self.groups)).to(torch.int8)
        return coded, found

    def tables(self) -> list[Tensor]:
        """Frequencies of every table that ``code`` names, int32 ``[rows, alphabet]``, by its number."""
        return [*self.activity_frequencies.flatten(0, 1), self.symbol_frequencies]

    def symbol_rows(self, activities: Tensor) -> tuple[Tensor, Tensor]:
        """Which symbols are coded, bool ``[h, w, C]``, and the row of each of these."""
        of_channel = activities[..., self.group_of]
        live = of_channel > 0
        channels = torch.arange(len(self.group_of), device=live.device).expand_as(of_channel)
        return live, self.scale_of[of_channel[live], channels[live]]

    def contexts(self, found: Tensor, past: Tensor, group: int, half: int) -> tuple[Tensor, Tensor]:
        """Rows of one half of a group's activities, and which tokens are in it.

        Args:
            found: Activities of the groups before it, and of the other half, ``[h, w, groups]``.
            past: Activities of the picture before.
            group: The group.
            half: 0 for the first tokens of a checkerboard, 1 for those between them.

        Returns:
            Rows ``[n]`` and a mask bool ``[h, w]`` with n tokens.
        """
        height, width, _ = past.shape
        parity = torch.arange(height, device=past.device)[:, None] + torch.arange(width, device=past.device)
        mine = parity % 2 == half
        before = past[..., group]
        around = 18 * before + _sum_3x3(before)
        if half == 0:
            outside = (3 * around + 27) // 54
        else:
            outside = (27 * sum_of_neighbours(found[..., group]) + 2 * around + 54) // 108
        inside = found[..., max(0, group - 2) : group].amax(-1) if group else torch.zeros_like(before)
        rows = outside.clamp(max=CONTEXTS - 1) * CONTEXTS + inside.clamp(max=CONTEXTS - 1)
        return rows[mine], mine


def exchanged(exchange: Exchange, rows: Tensor, given: Tensor | None, table: int) -> Tensor:
    """Hand one step to whoever codes it, and return its integers, int64 ``[n]``."""
    integers = None if given is None else given.to(torch.int16).cpu().numpy()
    read = exchange(rows.to(torch.uint8).cpu().numpy(), integers, table)
    return torch.from_numpy(read).to(rows.device).long()


def _sum_3x3(x: Tensor) -> Tensor:
    """Sums over 3 x 3 tokens of ``[h, w]``; nothing lies outside."""
    x = F.pad(x, (1, 1, 1, 1))
    x = x[:-2] + x[1:-1] + x[2:]
    return x[:, :-2] + x[:, 1:-1] + x[:, 2:]


def sum_of_neighbours(x: Tensor) -> Tensor:
    """Sums over the four neighbours of ``[h, w]``; nothing lies outside."""
    x = F.pad(x, (1, 1, 1, 1))
    return x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:]
