"""Kernels of what an encoder chooses: where blocks are found, what they cost, which symbols they get."""

import ctypes
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mptvc.native.calls import INT, POINTER, at, kernel_of, threads
from mptvc.native.entropy import EnvelopeNet

#: The fewest rows of tokens, and blocks, that a further thread is worth.
_ROWS, _BLOCKS = 4, 128

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
    kernel = kernel_of("differences", POINTER, *[INT] * 3, POINTER, *[INT] * 3, POINTER, INT, POINTER)
    reference = at(planes, np.uint8), *planes.shape[2:], margin
    wanted = at(target, np.uint8), rows, columns, side
    start, into, size = at(vectors, np.int64), at(out, np.int32), rows * columns

    def some(first: int, last: int) -> None:
        tried = start + 16 * first * size, last - first, into + 4 * first * size
        kernel(*reference, *wanted, *tried)

    threads.share(tries, max(1, _BLOCKS // size), some)
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
    kernel = kernel_of("block_costs", *[POINTER] * 3, *[INT] * 2, POINTER, *[ctypes.c_float] * 2, POINTER)
    one, two, scale, into = (at(x, x.dtype) for x in (wanted, blocks, scales, out))
    size = wanted[:1].nbytes

    def some(first: int, last: int) -> None:
        given = one + size * first, two + size * first, scale + 4 * first, last - first, len(dct)
        kernel(*given, at(dct, np.float32), *costs, into + 4 * first)

    threads.share(len(out), _BLOCKS, some)
    return out


class _Quantizer(ctypes.Structure):
    _fields_: ClassVar[Any] = (
        [(name, INT) for name in QUANTIZER_SIZES]
        + [(name, ctypes.c_float) for name in QUANTIZER_PRICES]
        + [(name, POINTER) for name in (*QUANTIZER_BITS, "row_of", *QUANTIZER_INDEXES, *QUANTIZER_MATRICES)]
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
    held = (at(table, dtype) for table, dtype in zip(tables, types, strict=True))
    quantizer = _Quantizer(*sizes, *prices, *held)
    symbols = np.empty((rows * columns, net.channels), np.int16)
    quartered = np.empty(rows * columns, np.bool_)
    kernel = kernel_of("quantize", *[POINTER] * 6, *[INT] * 2, *[POINTER] * 2, *[INT] * 2)
    given = [at(x, t) for x, t in zip(picture, (np.float32, np.uint8, np.float32, np.int64), strict=True)]
    into = at(symbols, np.int16), at(quartered.view(np.uint8), np.uint8)
    whole = ctypes.addressof(quantizer), net.address, *given, rows, columns, *into
    threads.share(rows, _ROWS, lambda first, last: kernel(*whole, first, last))
    return symbols, quartered
