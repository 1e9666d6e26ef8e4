"""Kernels that walk through all that is coded of a picture, for an encoder and for a decoder."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mptvc.native.calls import INT, POINTER, at, kernel_of
from mptvc.native.entropy import EnvelopeNet, NumberedTables, RansDecoder, RansTables, numbered

#: What a walk through what prediction left depends on, in its kernel's order; tables are numbered as in
#: `mptvc.model.activity` and `mptvc.model.splitting`.
RESIDUAL_SIZES = (
    *("groups", "channels", "contexts", "most", "shapes", "small", "row_of_one", "last_row"),
    *("odds", "odds_step", "odds_lowest", "has_flags"),
)


RESIDUAL_INDEXES = "thresholds", "group_of", "place_of", "starts", "order"


_ACTIVITIES, _RESTS, _VECTORS = 0, 5, 1


#: What a walk ends with where what is decoded does not fit.
_FAULTS = {
    2: "a token has no shape",
    3: "a sum is larger than its activity says",
    4: "a part of a group is larger than the group",
    5: "a symbol has no sign",
    6: "a token has no flag",
}


def _require_rows(*pairs: tuple[np.ndarray, RansTables]) -> None:
    """Check that rows that weights name exist."""
    if any(int(rows.max(initial=0)) >= len(table.below) for rows, table in pairs):
        raise ValueError("a row is outside the table")


class _ResidualModel(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        *((name, INT) for name in RESIDUAL_SIZES),
        *((name, POINTER) for name in ("row_of", "rest_row_of", *RESIDUAL_INDEXES)),
        *(("most_sum", INT), ("tables", NumberedTables)),
    ]


class _SideModel(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        *((name, INT) for name in ("blends", "farthest")),
        *((name, POINTER) for name in ("kinds", "scale_of")),
        ("tables", NumberedTables),
    ]


class _Known(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        *((name, INT) for name in ("rows", "columns", "parent_rows", "parent_columns", "factor", "has_path")),
        *((f"{name}_before", POINTER) for name in ("choices", "vectors", "coefficients")),
        *((f"parent_{name}", POINTER) for name in ("choices", "vectors", "coefficients")),
        ("likely", POINTER),
    ]


class _Picture(ctypes.Structure):
    _fields_: ClassVar[Any] = [("rows", INT), ("columns", INT)] + [
        (name, POINTER) for name in ("past", "classes", "luma", "steps", "net")
    ]


class _Walk(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        *(("rows", POINTER), ("symbols", POINTER), ("count", INT), ("room", INT)),
        *(("steps", POINTER), ("num_steps", INT), ("room_for_steps", INT)),
        *(("values", POINTER), ("num_values", INT)),
    ]


#: Choices int64 ``[h, w]``, vectors ``[2, h, w]`` and coefficients ``[2, 3]`` of a picture.
SideArrays = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Steps:
    """What was coded on a walk.

    Attributes:
        rows: Of all steps, one after the other, uint8.
        symbols: Likewise, int16; none of a decoder's.
        counts: Number of each step's table, and how many symbols it has, int64 ``[steps, 2]``; likewise.
    """

    rows: np.ndarray
    symbols: np.ndarray
    counts: np.ndarray

    def fit(self, lengths: Sequence[int], alphabets: Sequence[int]) -> bool:
        """Whether all are in tables of so many rows, and symbols, which are counted from the middle."""
        kernel = kernel_of("steps_fit", *(POINTER,) * 3, INT, *(POINTER,) * 2, result=ctypes.c_int)
        sizes = [np.array(x, np.int64) for x in (lengths, alphabets)]
        coded = at(self.rows, np.uint8), at(self.symbols, np.int16), at(self.counts, np.int64)
        return bool(kernel(*coded, len(self.counts), *(at(x, np.int64) for x in sizes)))


def _walked(name: str, decoder: RansDecoder | None, *given: Any) -> tuple[Steps, np.ndarray]:
    """Walk with a kernel: the steps, and symbols int16 of tokens that hold something."""
    walk, kernel = _Walk(), kernel_of(name, *[POINTER] * (len(given) + 1), result=ctypes.c_int)
    try:
        end = kernel(*given, ctypes.addressof(walk))
        if end in _FAULTS:
            raise ValueError(_FAULTS[end])
        if end:
            raise MemoryError
        told = decoder is None  # or the packet says it
        counts = _copied(walk.steps, np.int64, 2 * walk.num_steps * told).reshape(-1, 2)
        rows, symbols = (
            _copied(walk.rows, np.uint8, walk.count),
            _copied(walk.symbols, np.int16, walk.count * told),
        )
        return Steps(rows, symbols, counts), _copied(walk.values, np.int16, walk.num_values)
    finally:
        kernel_of("end_walk", POINTER)(ctypes.addressof(walk))


class ResidualModel:
    """The entropy model of what prediction leaves, with its envelope, in the form that its kernel takes.

    Args:
        sizes: In the order of ``RESIDUAL_SIZES``.
        row_of: Row of each group, half of the checkerboard and context, uint8 ``[groups, 2, contexts]``.
        rest_row_of: Row of the remainders of each group and activity, uint8 ``[groups, most sum]``.
        indexes: int64 in the order of ``RESIDUAL_INDEXES``.
        tables: All tables by their numbers.
        net: The envelope's network.

    Raises:
        ValueError: A row does not exist.
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
        _require_rows((row_of, tables[_ACTIVITIES]), (rest_row_of, tables[_RESTS]))
        self._held = row_of, rest_row_of, *indexes, *tables, net
        self._groups, self._channels, self._net = sizes[0], sizes[1], net
        self._model = _ResidualModel(
            *sizes,
            *(at(rows, np.uint8) for rows in (row_of, rest_row_of)),
            *(at(index, np.int64) for index in indexes),
            rest_row_of.shape[1],
            numbered(tables),
        )

    def walk(
        self,
        decoder: RansDecoder | None,
        past: np.ndarray,
        classes: np.ndarray,
        luma: np.ndarray,
        steps: np.ndarray,
        given: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> tuple[Steps, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Walk through one picture in coding order: to decode it, or to say what is to be encoded.

        Args:
            decoder: The packet; None to encode.
            past: Activities of the picture before, uint8 ``[h, w, groups]``.
            classes: Of tokens, int64 ``[h, w]``.
            luma: Of the prediction, uint8 ``[H, W]``.
            steps: Quantization steps of tokens, float32 ``[h, w]``.
            given: To encode, symbols of tokens int16 ``[h, w, C]``, and which are quartered, bool ``[h, w]``.

        Returns:
            The steps; then which tokens hold something, bool ``[h, w]``, decoded symbols of these, int16
            ``[n, C]``, which tokens are quartered, and activities uint8 ``[h, w, groups]``.

        Raises:
            ValueError: What is decoded does not fit.
        """
        rows, columns = classes.shape
        known = (past, np.uint8), (classes, np.int64), (luma, np.uint8), (steps, np.float32)
        picture = _Picture(rows, columns, *(at(x, dtype) for x, dtype in known), self._net.address)
        activities, coded = (
            np.zeros((rows, columns, self._groups), np.uint8),
            np.empty(classes.shape, np.bool_),
        )
        quartered = np.zeros((rows, columns), np.bool_) if given is None else given[1].copy()
        steps_taken, values = _walked(
            "walk_residual",
            decoder,
            ctypes.addressof(self._model),
            ctypes.addressof(picture),
            None if decoder is None else decoder.address,
            None if given is None else at(given[0], np.int16),
            at(activities, np.uint8),
            at(coded, np.bool_),
            at(quartered, np.bool_),
        )
        return steps_taken, (coded, values.reshape(-1, self._channels), quartered, activities)


class SideModel:
    """The entropy model of side symbols in the form that its kernel takes.

    Args:
        sizes: Number of blends with a vector, and how far a vector of its own may be from the camera's.
        kinds: Of each choice, int64.
        scale_of: Row of a vector's differences for each half and size, uint8 ``[2, sizes]``.
        tables: All tables by their numbers.

    Raises:
        ValueError: A row does not exist.
    """

    def __init__(
        self, sizes: tuple[int, int], kinds: np.ndarray, scale_of: np.ndarray, tables: Sequence[RansTables]
    ) -> None:
        _require_rows((scale_of, tables[_VECTORS]))
        self._held = kinds, scale_of, *tables
        rows = at(kinds, np.int64), at(scale_of, np.uint8)
        self._model = _SideModel(*sizes, *rows, numbered(tables))

    def walk(
        self,
        decoder: RansDecoder | None,
        grid: tuple[int, int],
        before: SideArrays | None,
        parent: SideArrays | None,
        given: SideArrays | None = None,
        *,
        likely: np.ndarray | None = None,
        has_path: bool = False,
    ) -> tuple[Steps, SideArrays]:
        """Walk through one picture's side symbols in coding order.

        Args:
            decoder: The packet; None to encode.
            grid: Blocks along y and x.
            before: Of the picture of its kind before.
            parent: Of the parent, with as many blocks, or half as many on each side.
            given: What to encode.
            likely: Coefficients from which differences are coded; None where they are not.
            has_path: Whether vectors of others count from where their cameras lead.

        Returns:
            The steps; then choices, vectors and coefficients.
        """
        shapes = grid, (2, *grid), (2, 3)
        choices, vectors, coefficients = (
            [np.zeros(shape, np.int64) for shape in shapes] if given is None else [x.copy() for x in given]
        )
        parent_grid = grid if parent is None else parent[0].shape
        arrays = *(before or (None,) * 3), *(parent or (None,) * 3), likely
        known = _Known(
            *grid,
            *parent_grid,
            1 if parent_grid == grid else 2,
            has_path,
            *(None if x is None else at(x, np.int64) for x in arrays),
        )
        steps, _ = _walked(
            "walk_side",
            decoder,
            ctypes.addressof(self._model),
            ctypes.addressof(known),
            None if decoder is None else decoder.address,
            *(at(x, np.int64) for x in (coefficients, choices, vectors)),
        )
        return steps, (choices, vectors, coefficients)


class FinenessModel:
    """The entropy model of fineness in the form that its kernel takes.

    Args:
        table: Its only one.
    """

    def __init__(self, table: RansTables) -> None:
        self._held, self._tables = table, numbered([table])

    def walk(
        self,
        decoder: RansDecoder | None,
        grid: tuple[int, int],
        before: np.ndarray | None,
        given: np.ndarray | None = None,
    ) -> tuple[Steps, np.ndarray]:
        """Walk through one key's fineness in coding order.

        Args:
            decoder: The packet; None to encode.
            grid: Blocks along y and x.
            before: Of the key before, int64 ``[h, w]``; None without one.
            given: What to encode, likewise.

        Returns:
            The steps; then fineness.
        """
        values, sizes = np.zeros(grid, np.int64) if given is None else given.copy(), np.array(grid, np.int64)
        steps, _ = _walked(
            "walk_fineness",
            decoder,
            ctypes.addressof(self._tables),
            None if decoder is None else decoder.address,
            at(sizes, np.int64),
            None if before is None else at(before, np.int64),
            at(values, np.int64),
        )
        return steps, values


def _copied(start: Any, dtype: Any, count: int) -> np.ndarray:
    """An array of so many values from some place on."""
    copy = np.empty(count, dtype)
    if count:
        ctypes.memmove(at(copy, dtype), start, copy.nbytes)
    return copy
