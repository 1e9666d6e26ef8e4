"""Symbols and table rows to one rANS packet and back.

A packet is a stack of steps. In each step a list of integers is coded, each under the table row that
its neighbour in a list of rows names; within a step symbols go in the order of their row, equal rows
in their given order, because one fixed distribution at a time is several times faster than one per
symbol. The decoder needs the rows of a step only when it gets there, so they may depend on all
earlier steps.

The coder is constriction's ANS coder: 64 bit state, 32 bit words, 24 bit probabilities. A row is a list
of integer frequencies, each at least 1, that sum to 2^24; ``frequency - 1`` goes in as a float64, from
which the coder's formula restores the frequency exactly. ``tests/reference_rans.py`` defines a packet
in 20 lines of integer arithmetic. A packet is a check value and the words in the order in which the decoder
reads them, all little-endian. The check value is the CRC-32 of each step's rows and then of its means, the
integers that what is coded is counted from, one byte each.

The check value tells a decoder whose rows or means differ from the encoder's, for whatever reason, that what
it has decoded is noise. Damage of the words shows only in words left over: check a packet's CRC first.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeVar
from zlib import crc32

import constriction
import numpy as np

from mptvc.native import calls, entropy, walks

_PRECISION = 24
_CHECK_BYTES = 4
_NO_MEANS = np.empty(0, np.int8)
T = TypeVar("T")
#: Steps that a kernel takes, to encode or with a packet to decode, and what it finds.
Walk = Callable[[entropy.RansDecoder | None], tuple[walks.Steps, T]]


class Tables:
    """The distributions of all rows.

    Args:
        frequencies: Integers ``[rows, alphabet]``, odd alphabet, each at least 1, each row summing
            to 2^24. Symbol ``i - alphabet // 2`` has frequency ``[row, i]``.

    Raises:
        ValueError: The frequencies break one of these rules.
    """

    def __init__(self, frequencies: np.ndarray) -> None:
        counts = np.ascontiguousarray(frequencies, dtype=np.int64)
        if counts.ndim != 2 or counts.shape[1] not in range(3, 256, 2) or not 1 <= counts.shape[0] <= 256:
            raise ValueError(f"frequencies need shape [1..256, odd 3..255], found {counts.shape}")
        if counts.min() < 1 or (counts.sum(1) != 2**_PRECISION).any():
            raise ValueError("every frequency must be at least 1 and every row sum to 2^24")
        self.reach = counts.shape[1] // 2
        self._counts = counts
        self._models: dict[int, Any] = {}

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._counts)

    @cached_property
    def compiled(self) -> entropy.RansTables:
        """The form of all rows that kernels take."""
        return entropy.RansTables(self._counts)

    def model(self, row: int) -> Any:
        """The coder's form of a row, made when it is first needed: of many tables few rows are."""
        if row not in self._models:
            shares = (self._counts[row] - 1).astype(np.float64)
            self._models[row] = constriction.stream.model.Categorical(shares, perfect=False)
        return self._models[row]


class PacketWriter:
    """Collects the steps of a packet; calling it records one.

    Args:
        tables: Those of all steps that name no others.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._steps: list[tuple[walks.Steps, Sequence[Tables]]] = []
        self._check = 0

    def __call__(
        self,
        rows: np.ndarray,
        symbols: np.ndarray | None,
        means: np.ndarray = _NO_MEANS,
        tables: Tables | None = None,
    ) -> np.ndarray:
        """Record a step.

        Args:
            rows: Table row of each symbol, uint8 ``[n]``.
            symbols: Integers ``[n]``.
            means: What they are counted from, int8 ``[n]``; only the check value depends on it.
            tables: Tables of this step.

        Returns:
            The symbols, unchanged.

        Raises:
            ValueError: A symbol is outside the table or a row does not exist.
        """
        if symbols is None or symbols.shape != rows.shape:
            raise ValueError("an encoder needs one symbol per row")
        tables = self._tables if tables is None else tables
        if rows.max(initial=0) >= len(tables) or np.abs(symbols).max(initial=0) > tables.reach:
            raise ValueError("a symbol or row is outside the table")
        self._check = crc32(means.data, crc32(rows.data, self._check))
        counts = np.array([[0, len(rows)]], np.int64)
        self._steps.append((walks.Steps(rows, symbols.astype(np.int16), counts), [tables]))
        return symbols

    def walk(self, tables: Sequence[Tables], run: Walk[T]) -> T:
        """Record all steps of a walk by a kernel, which numbers these tables; returns what it finds.

        Raises:
            ValueError: As of a step.
        """
        steps, found = run(None)
        if not steps.fit(*zip(*((len(table), 2 * table.reach + 1) for table in tables), strict=True)):
            raise ValueError("a symbol or row is outside the table")
        self._check = crc32(steps.rows.data, self._check)
        self._steps.append((steps, tables))
        return found

    def finish(self) -> bytes:
        """Return the packet of all recorded steps."""
        coder: _Encoder = _KernelEncoder() if calls.is_available() else _LibraryEncoder()
        for steps, tables in reversed(self._steps):
            coder.write(steps, tables)
        return self._check.to_bytes(_CHECK_BYTES, "little") + coder.words().astype("<u4").tobytes()


class PacketReader:
    """Decodes a packet step by step; calling it decodes one.

    Args:
        tables: Those of all steps that name no others.
        packet: The bytes.

    Raises:
        ValueError: The bytes cannot be a packet.
    """

    def __init__(self, tables: Tables, packet: bytes) -> None:
        if len(packet) % 4 or len(packet) < _CHECK_BYTES:
            raise ValueError(f"a packet is one or more 32-bit words, found {len(packet)} bytes")
        self._expected, self._check = int.from_bytes(packet[:_CHECK_BYTES], "little"), 0
        words = np.frombuffer(packet[_CHECK_BYTES:], dtype="<u4").astype(np.uint32)
        if len(words) and words[0] == 0:
            raise ValueError("a packet never starts with a zero word")
        self._tables = tables
        self._coder: _Decoder = _KernelDecoder(words) if calls.is_available() else _LibraryDecoder(words)

    def __call__(
        self,
        rows: np.ndarray,
        symbols: np.ndarray | None = None,
        means: np.ndarray = _NO_MEANS,
        tables: Tables | None = None,
    ) -> np.ndarray:
        """Decode a step.

        Args:
            rows: Table row of each symbol, uint8 ``[n]``.
            symbols: Nothing; present so that encoder and decoder share one signature.
            means: As in ``PacketWriter``.
            tables: Tables of this step.

        Returns:
            Integers int16 ``[n]``.
        """
        tables = self._tables if tables is None else tables
        if rows.max(initial=0) >= len(tables):
            raise ValueError("a row is outside the table")
        self._check = crc32(means.data, crc32(rows.data, self._check))
        return self._coder.step(rows, tables)

    def walk(self, tables: Sequence[Tables], run: Walk[T]) -> T:
        """Decode all steps of a walk by a kernel; returns what it finds.

        Raises:
            ValueError: What is decoded does not fit.
        """
        if not isinstance(self._coder, _KernelDecoder):
            raise TypeError("kernels walk through packets that kernels read")
        steps, found = run(self._coder.decoder)
        self._check = crc32(steps.rows.data, self._check)
        return found

    def finish(self) -> None:
        """Check that the packet is used up and that rows and means were the encoder's.

        Raises:
            ValueError: Words are left over, or rows or means differ.
        """
        if not self._coder.is_empty:
            raise ValueError("words are left over")
        if self._check != self._expected:
            raise ValueError("its table rows or means are not the encoder's")


class _Encoder(Protocol):
    """Writes the steps of a packet, the last one first."""

    def write(self, steps: walks.Steps, tables: Sequence[Tables]) -> None:
        """Write steps under tables that they number."""

    def words(self) -> np.ndarray:
        """All words in the order in which a decoder reads them."""


class _Decoder(Protocol):
    """Reads the steps of a packet."""

    @property
    def is_empty(self) -> bool:
        """Whether all is read."""

    def step(self, rows: np.ndarray, tables: Tables) -> np.ndarray:
        """The integers int16 ``[n]`` of a step of rows uint8 ``[n]``."""


class _LibraryEncoder:
    """Writes with constriction."""

    def __init__(self) -> None:
        self._coder = constriction.stream.stack.AnsCoder()

    def write(self, steps: walks.Steps, tables: Sequence[Tables]) -> None:
        ends = steps.counts[:, 1].cumsum()
        for (table, count), end in zip(reversed(steps.counts.tolist()), reversed(ends.tolist()), strict=True):
            mine = slice(end - count, end)
            self._step(steps.rows[mine], steps.symbols[mine], tables[table])

    def _step(self, rows: np.ndarray, symbols: np.ndarray, tables: Tables) -> None:
        indexes = (symbols + tables.reach)[np.argsort(rows, kind="stable")].astype(np.int32)
        end = len(rows)
        for row, count in reversed(_counted(rows)):
            self._coder.encode_reverse(indexes[end - count : end], tables.model(row))
            end -= count

    def words(self) -> np.ndarray:
        found: np.ndarray = self._coder.get_compressed()[::-1]
        return found


class _LibraryDecoder:
    """Reads with constriction."""

    def __init__(self, words: np.ndarray) -> None:
        self._coder = constriction.stream.stack.AnsCoder(words[::-1].copy())

    def step(self, rows: np.ndarray, tables: Tables) -> np.ndarray:
        ordered, start = np.empty(len(rows), dtype=np.int16), 0
        for row, count in _counted(rows):
            ordered[start : start + count] = self._coder.decode(tables.model(row), count)
            start += count
        out = np.empty_like(ordered)
        out[np.argsort(rows, kind="stable")] = ordered - tables.reach
        return out

    @property
    def is_empty(self) -> bool:
        return bool(self._coder.is_empty())


class _KernelEncoder:
    """Writes with a compiled kernel."""

    def __init__(self) -> None:
        self._coder = entropy.RansEncoder()

    def write(self, steps: walks.Steps, tables: Sequence[Tables]) -> None:
        compiled = [table.compiled for table in tables]
        self._coder.steps(steps.rows, steps.symbols, steps.counts, compiled)

    def words(self) -> np.ndarray:
        return self._coder.words()


class _KernelDecoder:
    """Reads with a compiled kernel."""

    def __init__(self, words: np.ndarray) -> None:
        self.decoder = entropy.RansDecoder(words)

    def step(self, rows: np.ndarray, tables: Tables) -> np.ndarray:
        return self.decoder.step(rows, tables.compiled)

    @property
    def is_empty(self) -> bool:
        return self.decoder.is_empty


def _counted(rows: np.ndarray) -> list[tuple[int, int]]:
    """The rows that there are, in their order, and how often each is."""
    counts = np.bincount(rows)
    return [(int(row), int(counts[row])) for row in np.flatnonzero(counts)]
