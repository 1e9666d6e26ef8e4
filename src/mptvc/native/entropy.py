"""Kernels of the entropy coder, and of what a prediction lets expect."""

import ctypes
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mptvc.native.calls import INT, POINTER, at, kernel_of, workers

_TOKENS = 64  #: the fewest tokens that a further thread is worth
_TABLES = 8  #: the most of a model
_WIDE = 32  #: channels of which a kernel computes what is expected at once


class _EnvelopeNet(ctypes.Structure):
    _fields_: ClassVar[Any] = [("patch", INT), ("channels", INT), ("least", ctypes.c_double)] + [
        (name, POINTER)
        for name in [
            "dct",
            "half_dct",
            "inner",
            "inner_bias",
            "outer",
            "outer_bias",
            "own",
            "shape_bias",
            "frequency_of",
        ]
    ]


class EnvelopeNet:
    """The network of an envelope in the form that its kernel takes.

    Args:
        patch: Pixels along a token's side.
        least: Units of a step from which a magnitude says something.
        transforms: Exact ones of whole and of quartered tokens, float64.
        weights: Of the hidden layer ``[inputs, hidden]`` and its biases, of the outer one ``[hidden, C]`` and
            its biases, of a channel's own frequency, and biases of quartered tokens: integers in float32.
        frequency_of: Of each channel, int64 ``[C]``.
    """

    def __init__(
        self,
        patch: int,
        least: float,
        transforms: Sequence[np.ndarray],
        weights: Sequence[np.ndarray],
        frequency_of: np.ndarray,
    ) -> None:
        self.channels = len(frequency_of)
        inner, inner_bias, outer, *others = weights
        blocks = outer.reshape(len(outer), -1, _WIDE).swapaxes(0, 1)
        weights = inner, inner_bias, np.ascontiguousarray(blocks), *others
        self._held = *transforms, *weights, frequency_of
        arrays = [at(x, np.float64) for x in transforms] + [at(x, np.float32) for x in weights]
        self._net = _EnvelopeNet(patch, self.channels, least, *arrays, at(frequency_of, np.int64))

    @property
    def address(self) -> int:
        """Where it lies."""
        return ctypes.addressof(self._net)

    def expected(
        self, luma: np.ndarray, tokens: np.ndarray, quartered: np.ndarray, steps: np.ndarray
    ) -> np.ndarray:
        """What is expected before each place of the order of channels, int32 ``[n, C + 1]``.

        Args:
            luma: Of the prediction, uint8 ``[H, W]``.
            tokens: Their numbers, int64 ``[n]``.
            quartered: Which of them are, bool ``[n]``.
            steps: Of all tokens, float32 ``[h, w]``.
        """
        below = np.empty((len(tokens), self.channels + 1), np.int32)
        kernel = kernel_of("expect", *[POINTER] * 5, *[INT] * 2, POINTER)
        into, shapes = at(below, np.int32), quartered.view(np.uint8)

        def some(first: int, last: int) -> None:
            mine = (
                at(tokens[first:last], np.int64),
                at(shapes[first:last], np.uint8),
                at(steps, np.float32),
            )
            place = into + below[:1].nbytes * first
            kernel(self.address, at(luma, np.uint8), *mine, last - first, steps.shape[1], place)

        workers.share(len(tokens), _TOKENS, some, self, luma, tokens, quartered, steps, below)
        return below


class RansTables:
    """Frequencies in the form that kernels take.

    Args:
        frequencies: Integers ``[rows, alphabet]``, each row summing to 2^24.
    """

    def __init__(self, frequencies: np.ndarray) -> None:
        rows, self.alphabet = frequencies.shape
        self.below = np.zeros((rows, self.alphabet + 1), np.uint32)
        np.cumsum(frequencies, 1, out=self.below[:, 1:])
        starts = np.arange(256) << 16
        self.first = np.stack([np.searchsorted(b, starts, "right") - 1 for b in self.below]).astype(np.uint8)


class NumberedTables(ctypes.Structure):
    """All tables of a model by their numbers, as kernels take them."""

    _fields_: ClassVar[Any] = [
        ("below", POINTER * _TABLES),
        ("first", POINTER * _TABLES),
        ("alphabets", INT * _TABLES),
    ]


def numbered(tables: Sequence[RansTables]) -> NumberedTables:
    """Tables in that form, which have to be held as long as it is used."""
    parts = zip(*((table.below, table.first) for table in tables), strict=True)
    places = ((POINTER * _TABLES)(*(at(part, part.dtype) for part in some)) for some in parts)
    return NumberedTables(*places, (INT * _TABLES)(*(table.alphabet for table in tables)))


class _Decoder(ctypes.Structure):
    _fields_: ClassVar[Any] = [("state", ctypes.c_uint64), ("left", INT), ("words", POINTER)]


class RansDecoder:
    """Reads the steps of a packet.

    Args:
        words: uint32, in the order in which they are read.
    """

    def __init__(self, words: np.ndarray) -> None:
        self._words = np.ascontiguousarray(words[::-1], np.uint32)
        self._decoder = _Decoder(0, len(words), self._words.ctypes.data)
        types = [*[POINTER] * 2, INT, *[POINTER] * 2, INT, POINTER]
        self._kernel = kernel_of("rans_decode", *types, result=ctypes.c_int)

    def step(self, rows: np.ndarray, tables: RansTables) -> np.ndarray:
        """Integers int16 of rows uint8 ``[n]``, all below the number of the tables' rows."""
        out = np.empty(len(rows), np.int16)
        table = tables.below.ctypes.data, tables.first.ctypes.data, tables.alphabet
        if self._kernel(self.address, at(rows, np.uint8), len(rows), *table, at(out, np.int16)):
            raise MemoryError
        return out

    @property
    def address(self) -> int:
        """Where it lies."""
        return ctypes.addressof(self._decoder)

    @property
    def is_empty(self) -> bool:
        """Whether all is read."""
        return not self._decoder.state and not self._decoder.left


class RansEncoder:
    """Writes the steps of a packet, the last one first."""

    def __init__(self) -> None:
        self._state, self._words = ctypes.c_uint64(0), list[np.ndarray]()
        types = [POINTER] * 3 + [INT, POINTER, INT, *[POINTER] * 2]
        self._kernel = kernel_of("encode_steps", *types, result=INT)

    def steps(
        self, rows: np.ndarray, symbols: np.ndarray, counts: np.ndarray, tables: Sequence[RansTables]
    ) -> None:
        """Write steps, as in `walks.Steps`, whose symbols are all in the tables."""
        words, known = np.empty(len(rows), np.uint32), numbered(tables)
        given = at(rows, np.uint8), at(symbols, np.int16), len(rows), at(counts, np.int64), len(counts)
        table = ctypes.addressof(known)
        written = self._kernel(ctypes.byref(self._state), *given, table, at(words, np.uint32))
        if written < 0:
            raise MemoryError
        self._words.append(words[:written])

    def words(self) -> np.ndarray:
        """uint32, in the order in which a decoder reads them."""
        state = self._state.value
        last = [part for part in (state & 0xFFFFFFFF, state >> 32) if state]
        while last and not last[-1]:
            last.pop()
        return np.concatenate([*self._words, np.array(last, np.uint32)])[::-1].astype(np.uint32)
