"""Kernels of what tokens are coded under, as `mptvc.model.contexts` explains it."""

import ctypes

import numpy as np

from mptvc.native.calls import INT, POINTER, at, kernel_of

#: Rows of tokens that a kernel needs room for, as in residual.h.
_ROWS_OF_CONTEXTS = 6


def token_classes(parents: np.ndarray | None, kinds: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Classes of tokens int64 ``[h, w]``.

    Args:
        parents: Activities of the coarser level's tokens, uint8 ``[h', w', groups]``; None without one.
        kinds: How blocks are predicted, int64 ``[h'', w'']``.
        grid: Tokens along y and x.
    """
    classes, groups = np.empty(grid, np.int64), 1 if parents is None else parents.shape[2]
    kernel = kernel_of("token_classes", *(POINTER, INT) * 2, *(INT,) * 3, POINTER)
    mine = at(kinds, np.int64), _covered(grid, kinds.shape)
    coarser = (None, 1) if parents is None else (at(parents, np.uint8), _covered(grid, parents.shape))
    kernel(*mine, *coarser, groups, *grid, at(classes, np.int64))
    return classes


def contexts_apart(past: np.ndarray, classes: np.ndarray, *, has_flags: bool) -> np.ndarray:
    """Contexts int64 ``[h, w, groups + 1]`` of tokens whose neighbours are not known yet.

    Args:
        past: Activities of the picture before, uint8 ``[h, w, groups]``.
        classes: Of tokens, int64 ``[h, w]``.
        has_flags: Whether tokens tell whether they hold something.
    """
    rows, columns, groups = past.shape
    space = np.zeros((_ROWS_OF_CONTEXTS, columns + 2, groups), np.int16)
    contexts = np.empty((rows, columns, groups + 1), np.int64)
    kernel = kernel_of("contexts_apart", *(POINTER,) * 2, *(INT,) * 3, ctypes.c_int, *(POINTER,) * 2)
    known = at(past, np.uint8), at(classes, np.int64), *past.shape
    kernel(*known, has_flags, at(space, np.int16), at(contexts, np.int64))
    return contexts


def _covered(grid: tuple[int, ...], coarse: tuple[int, ...]) -> int:
    """How many places of a grid each of a coarser one covers along both axes."""
    factor = grid[0] // coarse[0]
    if (coarse[0] * factor, coarse[1] * factor) != grid:
        raise ValueError(f"a grid of {coarse[:2]} covers none of {grid}")
    return factor
