"""Fineness of keys: how much more finely than the rest of a picture some of its blocks are quantized.

What many later frames are predicted from is worth more bits than what is soon covered or changes. Every block
of a key of level 0 has a small integer, its **fineness**; the same place has it at finer levels. Each unit is
a part of an octave of the quantization step, which the configuration says for each level. Frames between keys
have none, as little is built on them.

Values are coded under that of the key before, and for the second half of a checkerboard under the mean of the
four neighbours'. Integers and tables alone, as in `activity`.
"""

from enum import IntEnum
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from mptvc.model.contexts import checkerboard, sum_of_neighbours
from mptvc.model.exchange import Exchange, exchanged
from mptvc.model.integer_network import PRECISION, integer_frequencies
from mptvc.native import calls, entropy, walks

#: Largest absolute fineness.
FINEST = 3
VALUES = 2 * FINEST + 1
#: What contexts tell apart: every value, and "nothing is known".
KINDS, _UNKNOWN = VALUES + 1, VALUES


class Table(IntEnum):
    """Number of the only table of a fineness model."""

    VALUES = 0


class FinenessModel(nn.Module):
    """The entropy model of fineness.

    Attributes:
        value_frequencies: int32 ``[2 KINDS^2, VALUES]``, each row summing to 2^24.
    """

    value_frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value_frequencies", integer_frequencies(np.ones((2 * KINDS**2, VALUES))))

    def tables(self) -> list[Tensor]:
        """Frequencies of the table that ``code`` names, int32 ``[rows, alphabet]``."""
        return [self.value_frequencies]

    @torch.no_grad()
    def code(
        self, exchange: Exchange, before: Tensor | None, grid: tuple[int, int], values: Tensor | None = None
    ) -> Tensor:
        """Walk through one picture's fineness in coding order: to encode it, or to decode it.

        Args:
            exchange: Records or returns what is coded.
            before: Fineness of the key before, int64 ``[h, w]``; None without one.
            grid: Blocks along y and x.
            values: What to encode; nothing to decode.

        Returns:
            Fineness int64 ``[h, w]``.
        """
        found = torch.zeros(grid, dtype=torch.int64, device=self.value_frequencies.device)
        for half, mine in enumerate(checkerboard(found)):
            rows = fineness_rows(found, before, half)[mine]
            given = None if values is None else values[mine]
            found[mine] = exchanged(exchange, rows, given, Table.VALUES)
        return found

    @staticmethod
    def walked(
        compiled: walks.FinenessModel,
        packet: entropy.RansDecoder | None,
        before: Tensor | None,
        grid: tuple[int, int],
        values: Tensor | None = None,
    ) -> tuple[walks.Steps, Tensor]:
        """The same walk as ``code`` by a compiled kernel; with a packet to decode it."""
        past, given = (None if x is None else calls.array(x) for x in (before, values))
        steps, found = compiled.walk(packet, grid, past, given)
        return steps, torch.from_numpy(found)

    def bits(self, before: Tensor | None, values: Tensor) -> float:
        """Bits that one picture's fineness takes; arguments as of ``code``."""
        bits, total = -torch.log2(self.value_frequencies / 2**PRECISION), 0.0
        for half, mine in enumerate(checkerboard(values)):
            rows = fineness_rows(values * ~mine, before, half)[mine]
            total += float(bits[rows, values[mine] + FINEST].sum())
        return total


@lru_cache(maxsize=16)  # a clip has one
def no_fineness(grid: tuple[int, int], device: torch.device) -> Tensor:
    """That of pictures that have none: zeros int64 ``[h, w]``, the same ones each time."""
    return torch.zeros(grid, dtype=torch.int64, device=device)


def fineness_rows(found: Tensor, before: Tensor | None, half: int) -> Tensor:
    """Rows ``[h, w]`` of values; of the second half they depend on those of the first."""
    past = torch.full_like(found, _UNKNOWN) if before is None else before + FINEST
    if half == 0:
        beside = torch.full_like(found, _UNKNOWN)
    else:
        count = sum_of_neighbours(torch.ones_like(found)).clamp_(min=1)
        mean = torch.div(2 * sum_of_neighbours(found) + count, 2 * count, rounding_mode="floor")
        beside = mean + FINEST
    return (half * KINDS + beside) * KINDS + past
