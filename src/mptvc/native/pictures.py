"""Kernels of pictures: samples between pixels, prediction, pixels of coded tokens, filters, sizes."""

import ctypes
from collections.abc import Sequence

import numpy as np

from mptvc.native.calls import INT, POINTER, at, kernel_of, workers

_ROWS = 4  #: the fewest rows of blocks or tokens that a further thread is worth


def interpolated(picture: np.ndarray, margin: int) -> np.ndarray:
    """Planes uint8 ``[4, C, H + 2 margin, W + 2 margin]`` of a picture ``[C, H, W]``."""
    channels, height, width = picture.shape
    planes = np.empty((4, channels, height + 2 * margin, width + 2 * margin), np.uint8)
    kernel = kernel_of("interpolate", POINTER, *[INT] * 4, POINTER, result=ctypes.c_int)
    if kernel(at(picture, np.uint8), channels, height, width, margin, at(planes, np.uint8)):
        raise MemoryError
    return planes


def extended(picture: np.ndarray, margin: int) -> np.ndarray:
    """The first of these planes alone, uint8 ``[1, C, H + 2 margin, W + 2 margin]``."""
    channels, height, width = picture.shape
    plane = np.empty((1, channels, height + 2 * margin, width + 2 * margin), np.uint8)
    kernel = kernel_of("extend_picture", POINTER, *[INT] * 4, POINTER)
    kernel(at(picture, np.uint8), channels, height, width, margin, at(plane, np.uint8))
    return plane


def expanded(picture: np.ndarray) -> np.ndarray:
    """A picture uint8 ``[C, H, W]`` twice as high and wide."""
    channels, height, width = picture.shape
    out = np.empty((channels, 2 * height, 2 * width), np.uint8)
    kernel = kernel_of("expand", POINTER, *[INT] * 3, POINTER, result=ctypes.c_int)
    if kernel(at(picture, np.uint8), channels, height, width, at(out, np.uint8)):
        raise MemoryError
    return out


def halved(picture: np.ndarray) -> np.ndarray:
    """A picture uint8 ``[C, H, W]`` of even sides half as high and wide."""
    channels, height, width = picture.shape
    out = np.empty((channels, height // 2, width // 2), np.uint8)
    kernel = kernel_of("halve", POINTER, *[INT] * 3, POINTER)
    kernel(at(picture, np.uint8), *out.shape, at(out, np.uint8))
    return out


def decimated(picture: np.ndarray) -> np.ndarray:
    """The same by a longer filter."""
    channels, height, width = picture.shape
    out = np.empty((channels, height // 2, width // 2), np.uint8)
    kernel = kernel_of("decimate", POINTER, *[INT] * 3, POINTER, result=ctypes.c_int)
    if kernel(at(picture, np.uint8), *out.shape, at(out, np.uint8)):
        raise MemoryError
    return out


def luma(picture: np.ndarray) -> np.ndarray:
    """The mean ``[1, H, W]`` of the colours of a picture uint8 ``[3, H, W]``."""
    out = np.empty((1, *picture.shape[1:]), np.uint8)
    kernel_of("luma", POINTER, INT, POINTER)(at(picture, np.uint8), out.size, at(out, np.uint8))
    return out


def separated(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A frame uint8 ``[H, W, 3]`` as a picture ``[3, *size]`` whose last row and column are repeated."""
    out = np.empty((3, *size), np.uint8)
    kernel = kernel_of("separate", POINTER, *[INT] * 4, POINTER)
    kernel(at(frame, np.uint8), *frame.shape[:2], *size, at(out, np.uint8))
    return out


def interleave(picture: np.ndarray, frame: np.ndarray) -> None:
    """Put the upper left of a picture uint8 ``[3, H', W']`` into a frame ``[H, W, 3]``."""
    kernel = kernel_of("interleave", POINTER, *[INT] * 4, POINTER)
    kernel(at(picture, np.uint8), *picture.shape[1:], *frame.shape[:2], at(frame, np.uint8))


def camera_vectors(coefficients: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Vectors of blocks int64 ``[2, *grid]`` that coefficients int64 ``[2, 3]`` of a camera's motion give."""
    found = np.empty((2, *grid), np.int64)
    kernel = kernel_of("camera_vectors", *[INT] * 2, *[POINTER] * 2)
    kernel(*grid, at(coefficients, np.int64), at(found, np.int64))
    return found


def bend(
    to_near: np.ndarray, to_far: np.ndarray, apart: tuple[int, int], grid: tuple[int, int]
) -> np.ndarray | None:
    """How far vectors to another picture are off straight lines, int64 ``[2, *grid]``; None if none is.

    Args:
        to_near: Coefficients of the camera's motion int64 ``[2, 3]``, to the picture near.
        to_far: The same to the other one.
        apart: Frames to both.
        grid: Blocks along y and x.
    """
    straight, found = (np.empty((2, *grid), np.int64) for _ in range(2))
    kernel = kernel_of("bend_of", *[INT] * 2, *[POINTER] * 2, *[INT] * 2, *[POINTER] * 2, result=ctypes.c_int)
    arrays = (at(x, np.int64) for x in (to_near, to_far))
    is_bent = kernel(*grid, *arrays, *apart, at(straight, np.int64), at(found, np.int64))
    return found if is_bent else None


def predicted(
    near: np.ndarray,
    far: np.ndarray | None,
    base: np.ndarray | None,
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
        base: What the coarser level says, None where no block needs it.
        vectors: To ``near``, int64 ``[2, h, w]``.
        further: To ``far``.
        blends: Of each block, uint8 ``[h, w]``.
        margin: Of the planes.
    """
    (rows, columns), (_, channels, *sides) = blends.shape, near.shape
    out = np.empty((channels, *(side - 2 * margin for side in sides)), np.uint8)
    kernel = kernel_of("predict", *[POINTER] * 6, *[INT] * 4, POINTER, *[INT] * 2)
    others = (None if x is None else at(x, np.uint8) for x in (far, base))
    fields = at(vectors, np.int64), at(further, np.int64), at(blends, np.uint8)
    given = at(near, np.uint8), *others, *fields, channels, rows, columns, margin, at(out, np.uint8)
    held = near, far, base, vectors, further, blends, out
    workers.share(rows, _ROWS, lambda first, last: kernel(*given, first, last), *held)
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
    kernel = kernel_of("smooth", POINTER, *[INT] * 4, ctypes.c_int, *[POINTER] * 4)
    sizes = channels, height // patch, width // patch, patch, edge
    kernel(at(picture, np.uint8), *sizes, *(at(limit, np.int16) for limit in limits))


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
    kernel = kernel_of("reconstruct", *[POINTER] * 8, *[INT] * 5)
    shapes = [at(flags.view(np.uint8), np.uint8) for flags in (coded, quartered)]
    given = at(steps, np.float32), *(at(matrix, np.float64) for matrix in matrices)
    start, sizes = at(values, np.int16), (rows, columns, picture.shape[1] // rows)

    def some(first: int, last: int) -> None:
        mine = start + values[:1].nbytes * int(np.count_nonzero(coded[:first]))
        kernel(at(picture, np.uint8), *shapes, mine, *given, *sizes, first, last)

    workers.share(rows, _ROWS, some, picture, coded, quartered, values, steps, matrices)


def restored(
    picture: np.ndarray,
    prediction: np.ndarray,
    coded: np.ndarray,
    units: np.ndarray,
    filters: np.ndarray,
    *,
    strength: int,
) -> np.ndarray:
    """A picture uint8 ``[3, H, W]`` with restored tokens.

    Args:
        picture: What was decoded.
        prediction: What it was predicted from.
        coded: Which tokens hold symbols, bool ``[h, w]``.
        units: Steps of all tokens in 256ths, int32 ``[h, w]``.
        filters: Of every class, int16 ``[classes, taps]``.
        strength: How much of what these give counts, in quarters.
    """
    out, (rows, columns) = picture.copy(), coded.shape
    kernel = kernel_of("restore", *[POINTER] * 6, *[INT] * 3, ctypes.c_int, *[INT] * 2)
    pixels = (at(x, np.uint8) for x in (out, picture, prediction, coded.view(np.uint8)))
    sizes = rows, columns, picture.shape[1] // rows
    given = *pixels, at(units, np.int32), at(filters, np.int16), *sizes, strength
    held = out, picture, prediction, coded, units, filters
    workers.share(rows, _ROWS, lambda first, last: kernel(*given, first, last), *held)
    return out
