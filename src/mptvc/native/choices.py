"""Kernels of what an encoder chooses: where blocks are found, what they cost, which symbols they get."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from mptvc.native.calls import INT, POINTER, at, kernel_of, workers
from mptvc.native.entropy import EnvelopeNet

#: The fewest rows of tokens, and blocks, that a further thread is worth.
_ROWS, _BLOCKS = 4, 128
#: Most fields of vectors to try.
_FIELDS = 8
#: What a plan depends on (see `mptvc.codec.plan`), in its kernel's order.
PLAN_SIZES = (
    *("rows", "columns", "patch", "margin", "near_apart", "far_apart"),
    *("is_between", "has_base", "farthest", "rounds", "choices", "num_fields"),
)
PLAN_PRICES = "bit_price", "good", "own_bits", "far_bits", "latent_cost", "doubling_cost"

#: What an encoder's choice of symbols depends on (see `mptvc.codec.quantization`), in its kernel's order.
QUANTIZER_SIZES = (
    *("groups", "channels", "activities", "contexts", "alphabet", "shapes", "small"),
    *("row_of_one", "last_row", "most_sum", "largest", "has_flags"),
)


QUANTIZER_PRICES = (
    *("rounding_low", "rounding", "least_energy", "bit_price"),
    *("few", "group_price", "one_bits", "outward", "digit_bits"),
)


QUANTIZER_BITS = "activity_bits", "symbol_bits", "shape_bits", "coded_bits", "log_factorials"


QUANTIZER_INDEXES = "thresholds", "group_of", "place_of", "starts", "order"


QUANTIZER_MATRICES = "dct", "half_dct", "colours"


class _Blocks(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        ("target", POINTER),
        *((name, INT) for name in ("height", "width", "rows", "columns", "side")),
        *((name, ctypes.c_float) for name in ("price", "most_pixels")),
    ]


class Search:
    """Looks for blocks of a picture in another one.

    Args:
        planes: Of the reference, uint8 ``[1 or 4, 1, H', W']``; one where vectors are of whole pixels.
        margin: Of the planes.
        target: uint8 ``[H, W]``, repeated at its edges.
        side: Of blocks: 4, 8 or 16.
        prices: Of a pixel of distance from vectors around, and the most pixels that count.
    """

    def __init__(
        self, planes: np.ndarray, margin: int, target: np.ndarray, side: int, prices: tuple[float, float]
    ) -> None:
        self._grid = tuple(max(1, size // side) for size in target.shape)
        self._blocks = _Blocks(at(target, np.uint8), *target.shape, *self._grid, side, *prices)
        self._held = planes, target, self._blocks
        reference = at(planes, np.uint8), *planes.shape[2:], margin
        self._given = ctypes.addressof(self._blocks), *reference

    def everywhere(self, reach: int) -> np.ndarray:
        """The best of all vectors of so many whole pixels, in quarter pixels, int64 ``[2, h, w]``."""
        vectors = np.empty((2, *self._grid), np.int64)
        kernel_of("search_everywhere", *[POINTER] * 2, *[INT] * 4, POINTER)(
            *self._given, reach, at(vectors, np.int64)
        )
        return vectors

    def best(self, fields: Sequence[np.ndarray], step: int) -> tuple[np.ndarray, np.ndarray]:
        """The best vectors int64 ``[2, h, w]``, and mean differences that they leave, float32 ``[h, w]``.

        Args:
            fields: One or two of vectors to start from, in quarter pixels, int64 ``[2, h, w]`` each.
            step: How far around the first one's to look; 0 for all of these and those beside them.
        """
        vectors, differences = np.empty((2, *self._grid), np.int64), np.empty(self._grid, np.float32)
        starts = (POINTER * len(fields))(*(at(field, np.int64) for field in fields))
        kernel = kernel_of(
            "best_vectors", *[POINTER] * 2, *[INT] * 3, POINTER, *[INT] * 2, *[POINTER] * 2, *[INT] * 2
        )
        found = at(vectors, np.int64), at(differences, np.float32)
        given = *self._given, starts, len(fields), step, *found
        rows, columns = self._grid
        held = self._held, starts, fields, vectors, differences
        workers.share(rows, max(1, _BLOCKS // columns), lambda *part: kernel(*given, *part), *held)
        return vectors, differences


class _Plan(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        *((name, INT) for name in PLAN_SIZES),
        *((name, ctypes.c_float) for name in PLAN_PRICES),
        *((name, POINTER) for name in ("near", "far", "wanted", "below", "scales", "bits", "dct")),
        *((name, POINTER) for name in ("parent", "bend")),
        *(("kinds", INT * _FIELDS), ("fields", POINTER * _FIELDS)),
        *((name, POINTER) for name in ("numbers", "vectors", "choice", "best", "moved")),
    ]


def planned(
    sizes: Sequence[int],
    prices: Sequence[float],
    references: tuple[np.ndarray, np.ndarray | None],
    pictures: tuple[np.ndarray, np.ndarray],
    costs: tuple[np.ndarray, np.ndarray, np.ndarray],
    parent: np.ndarray,
    bend: np.ndarray | None,
    fields: Sequence[tuple[int, np.ndarray]],
    further: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Choices int64 ``[h, w]`` of a picture's blocks, and their vectors ``[2, h, w]``.

    Args:
        sizes: Those of ``PLAN_SIZES`` from the third on but for the last two.
        prices: In the order of ``PLAN_PRICES``.
        references: Planes of luma of the picture before, and of another one if there is one.
        pictures: Luma of what is wanted and of the base, uint8 ``[H, W]``.
        costs: Steps in a unit of luma float32 ``[h, w]``, bits of choices ``[h w, choices]``, the DCT of a
            token.
        parent: Vectors that the parent makes likely, int64 ``[2, h, w]``.
        bend: What vectors to the other picture are off straight lines, likewise; None where nothing is.
        fields: Vectors to try, likewise, and of which kind they are; those of the camera first.
        further: Says where vectors to the first picture lead to in the other one.
    """
    _, rows, columns = parent.shape
    near, far = at(references[0], np.uint8), None if references[1] is None else at(references[1], np.uint8)
    known = *(at(x, np.uint8) for x in pictures), *(at(x, np.float32) for x in costs), at(parent, np.int64)
    known += (None if bend is None else at(bend, np.int64),)
    kinds = (INT * _FIELDS)(*(kind for kind, _ in fields))
    tried = (POINTER * _FIELDS)(*(at(field, np.int64) for _, field in fields))
    numbers, choice = (np.empty((rows, columns), np.int64) for _ in range(2))
    vectors, best = np.empty((2, rows, columns), np.int64), np.empty((rows, columns), np.float32)
    moved = np.empty((rows, columns, 16, 16), np.uint8)
    found = (at(x, x.dtype) for x in (numbers, vectors, choice, best, moved))
    counts = rows, columns, *sizes, costs[1].shape[1], len(fields)
    plan = _Plan(*counts, *prices, near, far, *known, kinds, tried, *found)
    held = plan, references, pictures, costs, parent, bend, fields, numbers, vectors, choice, best, moved
    place = ctypes.addressof(plan)
    of_vectors = kernel_of("plan_vectors", POINTER, *[INT] * 2)
    workers.share(rows, _ROWS, lambda first, last: of_vectors(place, first, last), *held)
    beyond = vectors if far is None else further(vectors)
    other = at(beyond, np.int64)
    of_blends = kernel_of("plan_blends", *[POINTER] * 2, *[INT] * 2)
    workers.share(rows, _ROWS, lambda first, last: of_blends(place, other, first, last), *held, beyond)
    return choice, vectors


class _Quantizer(ctypes.Structure):
    _fields_: ClassVar[Any] = (
        [(name, INT) for name in QUANTIZER_SIZES]
        + [(name, ctypes.c_float) for name in QUANTIZER_PRICES]
        + [(name, POINTER) for name in (*QUANTIZER_BITS, "row_of", *QUANTIZER_INDEXES, *QUANTIZER_MATRICES)]
    )


class Quantizer:
    """What an encoder's choice of symbols depends on, in the form that its kernel takes.

    Args:
        sizes: In the order of ``QUANTIZER_SIZES``.
        prices: In the order of ``QUANTIZER_PRICES``.
        tables: float32 in the order of ``QUANTIZER_BITS``, the rows of activities uint8, int64 in the order
            of ``QUANTIZER_INDEXES``, float32 in that of ``QUANTIZER_MATRICES``.
        net: The envelope's network.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        prices: Sequence[float],
        tables: Sequence[np.ndarray],
        net: EnvelopeNet,
    ) -> None:
        types = [np.float32] * len(QUANTIZER_BITS) + [np.uint8] + [np.int64] * len(QUANTIZER_INDEXES)
        types += [np.float32] * len(QUANTIZER_MATRICES)
        places = (at(table, dtype) for table, dtype in zip(tables, types, strict=True))
        self._held, self._net, self._quantizer = tables, net, _Quantizer(*sizes, *prices, *places)

    def quantized(self, picture: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Symbols int16 ``[n, C]`` and shapes bool ``[n]`` of the tokens of a picture.

        Args:
            picture: What prediction left, float32 ``[3, H, W]``; luma of the prediction, uint8 ``[H, W]``;
                steps float32 ``[h, w]``; contexts of tokens, int64 ``[n, groups + 1]``.
        """
        rows, columns = picture[2].shape
        symbols = np.empty((rows * columns, self._net.channels), np.int16)
        quartered = np.empty(rows * columns, np.bool_)
        kernel = kernel_of("quantize", *[POINTER] * 6, *[INT] * 2, *[POINTER] * 2, *[INT] * 2)
        types = np.float32, np.uint8, np.float32, np.int64
        given = [at(x, dtype) for x, dtype in zip(picture, types, strict=True)]
        into = at(symbols, np.int16), at(quartered.view(np.uint8), np.uint8)
        whole = ctypes.addressof(self._quantizer), self._net.address, *given, rows, columns, *into
        held = self, picture, symbols, quartered
        workers.share(rows, _ROWS, lambda first, last: kernel(*whole, first, last), *held)
        return symbols, quartered
