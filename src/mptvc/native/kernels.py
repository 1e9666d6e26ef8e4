"""The kernels by name, on arrays in the processor's memory.

All arrays are contiguous and of the stated type. What kernels compute is explained in the modules where they
stand in; those are what they have to agree with.
"""

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from mptvc.native.library import library

#: What an encoder's choice of symbols depends on (see `mptvc.codec.quantization`), in its kernel's order.
QUANTIZER_SIZES = (
    *("groups", "channels", "activities", "contexts", "alphabet", "shapes", "small"),
    *("row_of_one", "last_row", "most_sum", "largest"),
)
QUANTIZER_PRICES = (
    *("rounding_low", "rounding", "least_energy", "bit_price"),
    *("few", "group_price", "one_bits", "outward", "digit_bits"),
)
QUANTIZER_BITS = "activity_bits", "symbol_bits", "shape_bits", "log_factorials"
QUANTIZER_INDEXES = "thresholds", "group_of", "place_of", "starts", "order"
QUANTIZER_MATRICES = "dct", "half_dct", "colours"

#: Pixels along sides of windows.
SIDES = (4, 8, 16)
#: The fewest rows, blocks and tokens that a further thread is worth.
_ROWS, _BLOCKS, _TOKENS = 4, 128, 64

_INT, _POINTER = ctypes.c_int64, ctypes.c_void_p


def serve(device: Any) -> bool:
    """Whether kernels do the work for tensors on a torch device."""
    return device.type == "cpu" and is_available()


def array(tensor: Any) -> np.ndarray:
    """The values of a torch tensor on the processor, contiguous; in place where they are so already."""
    values: np.ndarray = tensor.contiguous().numpy()
    return values


def is_available() -> bool:
    """Whether there is a library."""
    return library() is not None


@cache
def _kernel(name: str, *types: Any, result: Any = None) -> Callable[..., Any]:
    """A function of the library."""
    loaded = library()
    if loaded is None:
        raise RuntimeError("there are no compiled kernels")
    function = loaded[name]
    function.argtypes, function.restype = types, result
    return function


def _at(array: np.ndarray, dtype: Any) -> Any:
    """Where an array lies; it has to be of a type, and contiguous."""
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise TypeError(f"a kernel takes contiguous {np.dtype(dtype)}, found {array.dtype}")
    return array.ctypes.data


class _Threads:
    """Those that share work; made when they are first needed, and anew in a forked process."""

    def __init__(self) -> None:
        self.count = 1
        self._pool: ThreadPoolExecutor | None = None

    def share(self, count: int, least: int, run: Callable[[int, int], Any]) -> None:
        """Call ``run(first, last)`` for parts of at least so many of ``count`` things."""
        parts = max(1, min(self.count, count // least))
        bounds = [count * part // parts for part in range(parts + 1)]
        if parts > 1 and self._pool is None:
            self._pool = ThreadPoolExecutor(thread_name_prefix="mptvc")
        waiting = [] if self._pool is None else [self._pool.submit(run, *p) for p in pairwise(bounds[1:])]
        run(bounds[0], bounds[1])
        for part in waiting:
            part.result()

    def forget(self) -> None:
        """Have no threads."""
        self._pool = None


_threads = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.forget)


def use_threads(count: int) -> None:
    """Share the work of one call between at most so many threads."""
    _threads.count = count


def interpolated(picture: np.ndarray, margin: int) -> np.ndarray:
    """Planes uint8 ``[4, C, H + 2 margin, W + 2 margin]`` of a picture ``[C, H, W]``."""
    channels, height, width = picture.shape
    planes = np.empty((4, channels, height + 2 * margin, width + 2 * margin), np.uint8)
    kernel = _kernel("interpolate", _POINTER, *[_INT] * 4, _POINTER, result=ctypes.c_int)
    if kernel(_at(picture, np.uint8), channels, height, width, margin, _at(planes, np.uint8)):
        raise MemoryError
    return planes


def extended(picture: np.ndarray, margin: int) -> np.ndarray:
    """The first of these planes alone, uint8 ``[1, C, H + 2 margin, W + 2 margin]``."""
    channels, height, width = picture.shape
    plane = np.empty((1, channels, height + 2 * margin, width + 2 * margin), np.uint8)
    kernel = _kernel("extend_picture", _POINTER, *[_INT] * 4, _POINTER)
    kernel(_at(picture, np.uint8), channels, height, width, margin, _at(plane, np.uint8))
    return plane


def expanded(picture: np.ndarray) -> np.ndarray:
    """A picture uint8 ``[C, H, W]`` twice as high and wide."""
    channels, height, width = picture.shape
    out = np.empty((channels, 2 * height, 2 * width), np.uint8)
    kernel = _kernel("expand", _POINTER, *[_INT] * 3, _POINTER, result=ctypes.c_int)
    if kernel(_at(picture, np.uint8), channels, height, width, _at(out, np.uint8)):
        raise MemoryError
    return out


def interleave(picture: np.ndarray, frame: np.ndarray) -> None:
    """Put the upper left of a picture uint8 ``[3, H', W']`` into a frame ``[H, W, 3]``."""
    kernel = _kernel("interleave", _POINTER, *[_INT] * 4, _POINTER)
    kernel(_at(picture, np.uint8), *picture.shape[1:], *frame.shape[:2], _at(frame, np.uint8))


def predicted(
    near: np.ndarray,
    far: np.ndarray | None,
    base: np.ndarray,
    vectors: np.ndarray,
    further: np.ndarray,
    blends: np.ndarray,
    margin: int,
) -> np.ndarray:
    """The prediction uint8 ``[C, H, W]`` of a picture.

    Args:
        near: Planes of the picture before, as ``interpolated`` returns them; the first is enough where all
            vectors are of whole pixels.
        far: Those of another one, None where no block needs it.
        base: What the coarser level says.
        vectors: To ``near``, int64 ``[2, h, w]``.
        further: To ``far``.
        blends: Of each block, uint8 ``[h, w]``.
        margin: Of the planes.
    """
    out, (rows, columns) = np.empty_like(base), blends.shape
    kernel = _kernel("predict", *[_POINTER] * 6, *[_INT] * 4, _POINTER, *[_INT] * 2)
    planes = _at(near, np.uint8), None if far is None else _at(far, np.uint8)
    fields = _at(vectors, np.int64), _at(further, np.int64), _at(blends, np.uint8)
    given = *planes, _at(base, np.uint8), *fields, len(base), rows, columns, margin, _at(out, np.uint8)
    _threads.share(rows, _ROWS, lambda first, last: kernel(*given, first, last))
    return out


def windows(planes: np.ndarray, margin: int, top: np.ndarray, left: np.ndarray, side: int) -> np.ndarray:
    """Windows int16 ``[n, C, side, side]`` at quarter pixels int64 ``[n]``; ``side`` is 4, 8 or 16."""
    _, channels, height, width = planes.shape
    out = np.empty((len(top), channels, side, side), np.int16)
    kernel = _kernel("windows", _POINTER, *[_INT] * 4, *[_POINTER] * 2, *[_INT] * 2, _POINTER)
    places = _at(top, np.int64), _at(left, np.int64), len(top)
    kernel(_at(planes, np.uint8), channels, height, width, margin, *places, side, _at(out, np.int16))
    return out


def overlapped(
    planes: np.ndarray, margin: int, vectors: np.ndarray, places: np.ndarray, block: int
) -> np.ndarray:
    """Blocks int16 ``[n, C, block, block]`` of places int64 ``[n]`` where vectors' windows overlap."""
    channels, (_, rows, columns) = planes.shape[1], vectors.shape
    out = np.empty((len(places), channels, block, block), np.int16)
    kernel = _kernel("overlap", _POINTER, *[_INT] * 4, *[_POINTER] * 2, _INT, _POINTER)
    given = _at(vectors, np.int64), _at(places, np.int64), len(places)
    kernel(_at(planes, np.uint8), channels, rows, columns, margin, *given, _at(out, np.int16))
    return out


def differences(
    planes: np.ndarray, margin: int, target: np.ndarray, side: int, vectors: np.ndarray
) -> np.ndarray:
    """Sums of absolute differences int32 ``[n, h, w]`` of a target's blocks from what vectors find.

    Args:
        planes: Of the reference, uint8 ``[1 or 4, 1, H', W']``; one where vectors are of whole pixels.
        margin: Of the planes.
        target: uint8 ``[h side, w side]``.
        side: Of blocks: 4, 8 or 16.
        vectors: In quarter pixels, int64 ``[n, 2, h, w]``.
    """
    tries, _, rows, columns = vectors.shape
    out = np.empty((tries, rows, columns), np.int32)
    kernel = _kernel("differences", _POINTER, *[_INT] * 3, _POINTER, *[_INT] * 3, _POINTER, _INT, _POINTER)
    reference = _at(planes, np.uint8), *planes.shape[2:], margin
    wanted = _at(target, np.uint8), rows, columns, side
    start, into, size = _at(vectors, np.int64), _at(out, np.int32), rows * columns

    def some(first: int, last: int) -> None:
        tried = start + 16 * first * size, last - first, into + 4 * first * size
        kernel(*reference, *wanted, *tried)

    _threads.share(tries, max(1, _BLOCKS // size), some)
    return out


def block_costs(
    wanted: np.ndarray, blocks: np.ndarray, scales: np.ndarray, dct: np.ndarray, costs: tuple[float, float]
) -> np.ndarray:
    """About what blocks cost instead of those that are wanted, float32 ``[n]``.

    Args:
        wanted: int16 ``[n, 16, 16]``.
        blocks: Likewise.
        scales: Steps in a unit of luma, float32 ``[n]``.
        dct: Of a token, float32 ``[patch, patch]``.
        costs: What a latent of one step costs, and each doubling of it.
    """
    out = np.empty(len(wanted), np.float32)
    kernel = _kernel("block_costs", *[_POINTER] * 3, *[_INT] * 2, _POINTER, *[ctypes.c_float] * 2, _POINTER)
    one, two, scale, into = (_at(x, x.dtype) for x in (wanted, blocks, scales, out))
    size = wanted[:1].nbytes

    def some(first: int, last: int) -> None:
        given = one + size * first, two + size * first, scale + 4 * first, last - first, len(dct)
        kernel(*given, _at(dct, np.float32), *costs, into + 4 * first)

    _threads.share(len(out), _BLOCKS, some)
    return out


def smooth(picture: np.ndarray, patch: int, edge: int, limits: Sequence[np.ndarray]) -> None:
    """Smooth a picture uint8 ``[C, H, W]`` in place.

    Args:
        picture: The picture.
        patch: Pixels along a token's side, at least 8.
        edge: Over so many times the largest change, a difference is an edge.
        limits: int16: the largest change at borders between columns ``[h, w - 1]``, 0 where they are left
            alone; the curvature from which they are; the same two of those between rows ``[h - 1, w]``.
    """
    channels, height, width = picture.shape
    kernel = _kernel("smooth", _POINTER, *[_INT] * 4, ctypes.c_int, *[_POINTER] * 4)
    sizes = channels, height // patch, width // patch, patch, edge
    kernel(_at(picture, np.uint8), *sizes, *(_at(limit, np.int16) for limit in limits))


def reconstruct(
    picture: np.ndarray,
    coded: np.ndarray,
    quartered: np.ndarray,
    values: np.ndarray,
    steps: np.ndarray,
    matrices: Sequence[np.ndarray],
) -> None:
    """Add what symbols stand for to a picture uint8 ``[3, H, W]`` in place.

    Args:
        picture: The picture.
        coded: Which tokens hold symbols, bool ``[h, w]``.
        quartered: Which of them are.
        values: Symbols of the coded ones, int16 ``[n, C]``.
        steps: Of all tokens, float32 ``[h, w]``.
        matrices: Exact transforms of whole and of quartered tokens and of colours, float64.
    """
    rows, columns = coded.shape
    kernel = _kernel("reconstruct", *[_POINTER] * 8, *[_INT] * 5)
    shapes = [_at(flags.view(np.uint8), np.uint8) for flags in (coded, quartered)]
    given = _at(steps, np.float32), *(_at(matrix, np.float64) for matrix in matrices)
    start, sizes = _at(values, np.int16), (rows, columns, picture.shape[1] // rows)

    def some(first: int, last: int) -> None:
        mine = start + values[:1].nbytes * int(np.count_nonzero(coded[:first]))
        kernel(_at(picture, np.uint8), *shapes, mine, *given, *sizes, first, last)

    _threads.share(rows, _ROWS, some)


class _EnvelopeNet(ctypes.Structure):
    _fields_: ClassVar[Any] = [("patch", _INT), ("channels", _INT), ("least", ctypes.c_double)] + [
        (name, _POINTER)
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
        self._held = *transforms, *weights, frequency_of
        arrays = [_at(x, np.float64) for x in transforms] + [_at(x, np.float32) for x in weights]
        self._net = _EnvelopeNet(patch, self.channels, least, *arrays, _at(frequency_of, np.int64))

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
        kernel = _kernel("expect", *[_POINTER] * 5, *[_INT] * 2, _POINTER)
        into, shapes = _at(below, np.int32), quartered.view(np.uint8)

        def some(first: int, last: int) -> None:
            mine = (
                _at(tokens[first:last], np.int64),
                _at(shapes[first:last], np.uint8),
                _at(steps, np.float32),
            )
            place = into + below[:1].nbytes * first
            kernel(self.address, _at(luma, np.uint8), *mine, last - first, steps.shape[1], place)

        _threads.share(len(tokens), _TOKENS, some)
        return below


class _Quantizer(ctypes.Structure):
    _fields_: ClassVar[Any] = (
        [(name, _INT) for name in QUANTIZER_SIZES]
        + [(name, ctypes.c_float) for name in QUANTIZER_PRICES]
        + [(name, _POINTER) for name in (*QUANTIZER_BITS, "row_of", *QUANTIZER_INDEXES, *QUANTIZER_MATRICES)]
    )


def quantized(
    sizes: Sequence[int],
    prices: Sequence[float],
    tables: Sequence[np.ndarray],
    net: EnvelopeNet,
    picture: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Symbols int16 ``[n, C]`` and shapes bool ``[n]`` of the tokens of a picture.

    Args:
        sizes: In the order of ``QUANTIZER_SIZES``.
        prices: In the order of ``QUANTIZER_PRICES``.
        tables: float32 in the order of ``QUANTIZER_BITS``, the rows of activities uint8, int64 in the order
            of ``QUANTIZER_INDEXES``, float32 in that of ``QUANTIZER_MATRICES``.
        net: The envelope's network.
        picture: What prediction left, float32 ``[3, H, W]``; luma of the prediction, uint8 ``[H, W]``; steps
            float32 ``[h, w]``; contexts of activities, int64 ``[n, groups]``.
    """
    rows, columns = picture[2].shape
    types = [np.float32] * len(QUANTIZER_BITS) + [np.uint8] + [np.int64] * len(QUANTIZER_INDEXES)
    types += [np.float32] * len(QUANTIZER_MATRICES)
    held = (_at(table, dtype) for table, dtype in zip(tables, types, strict=True))
    quantizer = _Quantizer(*sizes, *prices, *held)
    symbols = np.empty((rows * columns, net.channels), np.int16)
    quartered = np.empty(rows * columns, np.bool_)
    kernel = _kernel("quantize", *[_POINTER] * 6, *[_INT] * 2, *[_POINTER] * 2, *[_INT] * 2)
    given = [_at(x, t) for x, t in zip(picture, (np.float32, np.uint8, np.float32, np.int64), strict=True)]
    into = _at(symbols, np.int16), _at(quartered.view(np.uint8), np.uint8)
    whole = ctypes.addressof(quantizer), net.address, *given, rows, columns, *into
    _threads.share(rows, _ROWS, lambda first, last: kernel(*whole, first, last))
    return symbols, quartered


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


class _Decoder(ctypes.Structure):
    _fields_: ClassVar[Any] = [("state", ctypes.c_uint64), ("left", _INT), ("words", _POINTER)]


class RansDecoder:
    """Reads the steps of a packet.

    Args:
        words: uint32, in the order in which they are read.
    """

    def __init__(self, words: np.ndarray) -> None:
        self._words = np.ascontiguousarray(words[::-1], np.uint32)
        self._decoder = _Decoder(0, len(words), self._words.ctypes.data)
        types = [*[_POINTER] * 2, _INT, *[_POINTER] * 2, _INT, _POINTER]
        self._kernel = _kernel("rans_decode", *types, result=ctypes.c_int)

    def step(self, rows: np.ndarray, tables: RansTables) -> np.ndarray:
        """Integers int16 of rows uint8 ``[n]``, all below the number of the tables' rows."""
        out = np.empty(len(rows), np.int16)
        table = tables.below.ctypes.data, tables.first.ctypes.data, tables.alphabet
        if self._kernel(self.address, _at(rows, np.uint8), len(rows), *table, _at(out, np.int16)):
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
        types = [_POINTER] * 3 + [_INT, _POINTER, _INT, _POINTER]
        self._kernel = _kernel("rans_encode", *types, result=_INT)

    def step(self, rows: np.ndarray, symbols: np.ndarray, tables: RansTables) -> None:
        """Write integers int16 ``[n]`` of rows uint8 ``[n]``, all of them in the tables."""
        words = np.empty(len(rows), np.uint32)
        given = _at(rows, np.uint8), _at(symbols, np.int16), len(rows)
        state, table = ctypes.byref(self._state), (tables.below.ctypes.data, tables.alphabet)
        written = self._kernel(state, *given, *table, _at(words, np.uint32))
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


#: What a walk through what prediction left depends on, in its kernel's order; tables are numbered as in
#: `mptvc.model.activity` and `mptvc.model.splitting`.
RESIDUAL_SIZES = (
    *("groups", "channels", "contexts", "most", "shapes", "small", "row_of_one", "last_row"),
    *("odds", "odds_step", "odds_lowest"),
)
RESIDUAL_INDEXES = "thresholds", "group_of", "place_of", "starts", "order"
_TABLES = 7
#: What a walk ends with where what is decoded does not fit.
_FAULTS = {
    2: "a token has no shape",
    3: "a sum is larger than its activity says",
    4: "a part of a group is larger than the group",
    5: "a symbol has no sign",
}


class _Tables(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        ("below", _POINTER * _TABLES),
        ("first", _POINTER * _TABLES),
        ("alphabets", _INT * _TABLES),
    ]


def _tables(tables: Sequence[RansTables]) -> _Tables:
    """All tables of a model by their numbers."""
    parts = zip(*((table.below, table.first) for table in tables), strict=True)
    places = ((_POINTER * _TABLES)(*(_at(part, part.dtype) for part in some)) for some in parts)
    return _Tables(*places, (_INT * _TABLES)(*(table.alphabet for table in tables)))


class _ResidualModel(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        *((name, _INT) for name in RESIDUAL_SIZES),
        *((name, _POINTER) for name in ("row_of", "rest_row_of", *RESIDUAL_INDEXES)),
        *(("most_sum", _INT), ("tables", _Tables)),
    ]


class _SideModel(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        *((name, _INT) for name in ("blends", "farthest")),
        *((name, _POINTER) for name in ("kinds", "scale_of")),
        ("tables", _Tables),
    ]


class _Known(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        *((name, _INT) for name in ("rows", "columns")),
        *((name, _POINTER) for name in ("choices_before", "vectors_before", "parent_choices", "line")),
    ]


class _Picture(ctypes.Structure):
    _fields_: ClassVar[Any] = [("rows", _INT), ("columns", _INT)] + [
        (name, _POINTER) for name in ("past", "classes", "luma", "steps", "net")
    ]


class _Walk(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        ("rows", ctypes.POINTER(ctypes.c_uint8)),
        ("symbols", ctypes.POINTER(ctypes.c_int16)),
        *(("count", _INT), ("room", _INT)),
        ("steps", ctypes.POINTER(_INT)),
        *(("num_steps", _INT), ("room_for_steps", _INT)),
        ("values", ctypes.POINTER(ctypes.c_int16)),
        ("num_values", _INT),
    ]


@dataclass(frozen=True)
class Steps:
    """What was coded on a walk.

    Attributes:
        rows: Of all steps, one after the other, uint8.
        symbols: Likewise, int16.
        counts: Number of each step's table, and how many symbols it has.
    """

    rows: np.ndarray
    symbols: np.ndarray
    counts: list[list[int]]


def _walked(name: str, *given: Any) -> tuple[Steps, np.ndarray]:
    """Walk with a kernel: the steps, and symbols int16 of tokens that hold something."""
    walk, kernel = _Walk(), _kernel(name, *[_POINTER] * (len(given) + 1), result=ctypes.c_int)
    try:
        end = kernel(*given, ctypes.addressof(walk))
        if end in _FAULTS:
            raise ValueError(_FAULTS[end])
        if end:
            raise MemoryError
        counts = _copied(walk.steps, 2 * walk.num_steps).reshape(-1, 2).tolist()
        steps = Steps(_copied(walk.rows, walk.count), _copied(walk.symbols, walk.count), counts)
        return steps, _copied(walk.values, walk.num_values)
    finally:
        _kernel("end_walk", _POINTER)(ctypes.addressof(walk))


class ResidualModel:
    """The entropy model of what prediction leaves, with its envelope, in the form that its kernel takes.

    Args:
        sizes: In the order of ``RESIDUAL_SIZES``.
        row_of: Row of each group, half of the checkerboard and context, uint8 ``[groups, 2, contexts]``.
        rest_row_of: Row of the remainders of each group and activity, uint8 ``[groups, most sum]``.
        indexes: int64 in the order of ``RESIDUAL_INDEXES``.
        tables: All tables by their numbers.
        net: The envelope's network.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        row_of: np.ndarray,
        rest_row_of: np.ndarray,
        indexes: Sequence[np.ndarray],
        tables: Sequence[RansTables],
        net: EnvelopeNet,
    ) -> None:
        self._held = row_of, rest_row_of, *indexes, *tables, net
        self._groups, self._channels, self._net = sizes[0], sizes[1], net
        self._model = _ResidualModel(
            *sizes,
            *(_at(rows, np.uint8) for rows in (row_of, rest_row_of)),
            *(_at(index, np.int64) for index in indexes),
            rest_row_of.shape[1],
            _tables(tables),
        )

    def walk(
        self,
        decoder: RansDecoder | None,
        past: np.ndarray,
        classes: np.ndarray,
        luma: np.ndarray,
        steps: np.ndarray,
        given: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> tuple[Steps, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Walk through one picture in coding order: to decode it, or to say what is to be encoded.

        Args:
            decoder: The packet; None to encode.
            past: Activities of the picture before, uint8 ``[h, w, groups]``.
            classes: Of tokens, int64 ``[h, w]``.
            luma: Of the prediction, uint8 ``[H, W]``.
            steps: Quantization steps of tokens, float32 ``[h, w]``.
            given: To encode, symbols of tokens int16 ``[h, w, C]``, and which are quartered, bool ``[h, w]``.

        Returns:
            The steps; then symbols of tokens that hold something, int16 ``[n, C]``, which tokens are
            quartered, bool ``[h, w]``, and activities uint8 ``[h, w, groups]``.

        Raises:
            ValueError: What is decoded does not fit.
        """
        rows, columns = classes.shape
        known = (past, np.uint8), (classes, np.int64), (luma, np.uint8), (steps, np.float32)
        picture = _Picture(rows, columns, *(_at(x, dtype) for x, dtype in known), self._net.address)
        activities = np.zeros((rows, columns, self._groups), np.uint8)
        quartered = np.zeros((rows, columns), np.bool_) if given is None else given[1].copy()
        steps_taken, values = _walked(
            "walk_residual",
            ctypes.addressof(self._model),
            ctypes.addressof(picture),
            None if decoder is None else decoder.address,
            None if given is None else _at(given[0], np.int16),
            _at(activities, np.uint8),
            _at(quartered.view(np.uint8), np.uint8),
        )
        return steps_taken, (values.reshape(-1, self._channels), quartered, activities)


class SideModel:
    """The entropy model of side symbols in the form that its kernel takes.

    Args:
        sizes: Number of blends with a vector, and how far a vector of its own may be from the camera's.
        kinds: Of each choice, int64.
        scale_of: Row of a vector's differences for each half and size, uint8 ``[2, sizes]``.
        tables: All tables by their numbers.
    """

    def __init__(
        self, sizes: tuple[int, int], kinds: np.ndarray, scale_of: np.ndarray, tables: Sequence[RansTables]
    ) -> None:
        self._held = kinds, scale_of, *tables
        rows = _at(kinds, np.int64), _at(scale_of, np.uint8)
        self._model = _SideModel(*sizes, *rows, _tables(tables))

    def walk(
        self,
        decoder: RansDecoder | None,
        grid: tuple[int, int],
        before: tuple[np.ndarray, np.ndarray] | None,
        parent: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
        given: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    ) -> tuple[Steps, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Walk through one picture's side symbols in coding order; all arrays are int64.

        Args:
            decoder: The packet; None to encode.
            grid: Blocks along y and x.
            before: Choices ``[h, w]`` and vectors ``[2, h, w]`` of the picture of its kind before.
            parent: Coefficients ``[2, 3]``, choices of the parent's blocks and their vectors, on the grid.
            given: To encode, choices, vectors and coefficients.

        Returns:
            The steps; then choices, vectors and coefficients.
        """
        shapes = grid, (2, *grid), (2, 3)
        found = (
            [np.zeros(shape, np.int64) for shape in shapes] if given is None else [x.copy() for x in given]
        )
        choices, vectors, coefficients = found
        if parent is not None:
            coefficients[:] = parent[0]
        arrays = *(before or (None, None)), *((None, None) if parent is None else parent[1:])
        known = _Known(*grid, *(None if x is None else _at(x, np.int64) for x in arrays))
        steps, _ = _walked(
            "walk_side",
            ctypes.addressof(self._model),
            ctypes.addressof(known),
            None if decoder is None else decoder.address,
            *(_at(x, np.int64) for x in (coefficients, choices, vectors)),
        )
        return steps, (choices, vectors, coefficients)


def _copied(start: Any, count: int) -> np.ndarray:
    """An array of so many values from some place on."""
    return np.ctypeslib.as_array(start, (count,)).copy() if count else np.empty(0, start._type_)
