"""The discrete cosine transform of whole and quartered tokens.

A **whole** token is one transform; a **quartered** one is four of its quarters, whose latents of one
frequency lie side by side where those of a whole token have frequencies near to it. So both are coded alike.
"""

import math

import torch
from torch import Tensor

#: Fractional bits of the exact transforms' coefficients.
MATRIX_BITS = 13


def dct_matrix(size: int) -> Tensor:
    """Orthonormal DCT of ``size`` samples, float64 ``[frequencies, samples]``."""
    k, i = torch.arange(size).double()[:, None], torch.arange(size).double()
    cosine = torch.cos(math.pi * (i + 0.5) * k / size) * (2 / size) ** 0.5
    cosine[0] /= 2**0.5
    matrix: Tensor = cosine
    return matrix


def exact(matrix: Tensor) -> Tensor:
    """A matrix times ``2^MATRIX_BITS`` in integers, float64."""
    scaled: Tensor = matrix * 2**MATRIX_BITS
    return scaled.round()


def frequencies(cells: Tensor, dct: Tensor) -> Tensor:
    """DCT of cells ``[n, y, x]`` along both axes, ``[n, x, y]``."""
    return (cells @ dct.T).transpose(1, 2) @ dct.T


def quartered_frequencies(cells: Tensor, half_dct: Tensor) -> Tensor:
    """The same of the quarters of cells, side by side."""
    half = len(half_dct)
    quarters = cells.view(-1, 2, half, 2, half).transpose(2, 3)
    found = frequencies(quarters.reshape(-1, half, half), half_dct)
    side_by_side = found.view(-1, 2, 2, half, half).permute(0, 3, 2, 4, 1)  # kx, x, ky, y
    return side_by_side.reshape(cells.shape)


def samples(latents: Tensor, dct: Tensor) -> Tensor:
    """The inverse: cells ``[..., y, x]`` of latents ``[..., x, y]``."""
    return (latents @ dct).transpose(-1, -2) @ dct
