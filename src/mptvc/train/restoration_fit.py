"""Fits the filters that restore coded tokens (see `restoration`) to what a closed loop loses."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mptvc.model.restoration import (
    CELL,
    CLASSES,
    FILTER_BITS,
    MOST_FILTER,
    STEP_UNITS,
    TAPS,
    Restoration,
    classes,
    differences,
    step_units,
    windows,
)
from mptvc.train.loop_tables import Counter

#: Of the tokens that say how strong restoration should be, one of so many is looked at.
_APART = 2
#: Weights of tokens by the square of a level's step over theirs: in parts of one, and at most.
_PARTS, _MOST_WEIGHT = 16, 255
#: What other kinds of pictures say of a class counts as much as so much of an average class of a kind.
_SHARED = 0.3
#: What is added to each tap's own square, over the mean of all: taps that say the same share their weight.
_RIDGE = 0.01


class RestorationCounter(Counter):
    """Sums up products of what filters take and what they should give, over tokens of one kind of picture.

    Args:
        restoration: The filters.
        step: Quantization step of the level.
    """

    def __init__(self, restoration: Restoration, step: float) -> None:
        self.restoration, self._step = restoration, step
        self._products = np.zeros((CLASSES, TAPS, TAPS + 1))  # whole numbers: their order changes nothing
        self._tokens = 0

    @property
    def counts(self) -> list[np.ndarray]:
        """Of every class, products of each two taps, and of each tap and what is wanted."""
        return [self._products]

    def add(self, given: Sequence[Tensor], wanted: Tensor) -> None:
        """Count some tokens of a picture.

        Args:
            given: What the filters were given: a picture, its prediction, coded tokens, steps.
            wanted: The picture as it should be.
        """
        picture, prediction, coded, steps = given
        places = coded.nonzero()
        first, self._tokens = -self._tokens % _APART, self._tokens + len(places)
        units = step_units(steps)
        found = windows(picture, prediction, units, places[first::_APART])
        if not len(found.units):
            return
        goal = windows(wanted, wanted, units, places[first::_APART]).inner - found.inner
        taken = torch.stack([*differences(found), goal], -1)
        ratios = (self._step * STEP_UNITS / found.units.double()).square()
        weights = (_PARTS * ratios).round().clamp(1, _MOST_WEIGHT)
        for number, products in _products(classes(found), taken, weights):
            self._products[number] += products

    @staticmethod
    def fit(counters: Sequence["RestorationCounter"]) -> None:
        """Give filters to the kinds of a level."""
        together = np.sum([counter._products for counter in counters], axis=0)
        for counter in counters:
            filters = _solved(counter._products, together)
            counter.restoration.filters.copy_(torch.from_numpy(filters))


def _products(number: Tensor, taken: Tensor, weights: Tensor) -> list[tuple[int, np.ndarray]]:
    """Weighted sums ``[TAPS, TAPS + 1]`` of each class that is there.

    Args:
        number: Of each pixel's class, ``[n, p, p]``.
        taken: What taps take of it and what is wanted, ``[n, 3, p, p, TAPS + 1]``.
        weights: Of tokens, ``[n]``.
    """
    tokens, _, size, _, _ = taken.shape
    cells = size // CELL
    blocks = taken.view(tokens, 3, cells, CELL, cells, CELL, TAPS + 1).permute(0, 2, 4, 1, 3, 5, 6)
    blocks = blocks.reshape(tokens * cells**2, -1, TAPS + 1).double()
    of_block = number[:, ::CELL, ::CELL].flatten()
    scale = weights.repeat_interleave(cells**2)
    found = []
    for one in torch.unique(of_block).tolist():
        mine = of_block == one
        rows, scaled = (x.flatten(0, 1) for x in (blocks[mine], blocks[mine] * scale[mine, None, None]))
        found.append((one, (rows[:, :TAPS].T @ scaled).numpy()))
    return found


def _solved(mine: np.ndarray, together: np.ndarray) -> np.ndarray:
    """Filters int16 ``[CLASSES, TAPS]`` that leave the smallest squares.

    Args:
        mine: Products of a kind.
        together: Of all kinds.
    """
    if not _size(mine.sum(0)):
        return np.zeros((CLASSES, TAPS), np.int16)
    weight = _SHARED * _size(mine.sum(0)) / CLASSES
    usual = together.sum(0)
    shared = together + usual * (weight / _size(usual))
    shares = np.minimum(1.0, weight / np.array([_size(products) for products in shared]))
    products = mine + shared * shares[:, None, None]
    squares = products[..., :TAPS] + _RIDGE * _sizes(products)[:, None, None] * np.eye(TAPS)
    solved = np.linalg.solve(squares, products[..., TAPS:])[..., 0]
    filters: np.ndarray = np.round(solved * 2**FILTER_BITS).clip(-MOST_FILTER, MOST_FILTER).astype(np.int16)
    return filters


def _sizes(products: np.ndarray) -> np.ndarray:
    """Mean square of taps of each class."""
    sizes: np.ndarray = np.trace(products[..., :TAPS], axis1=-2, axis2=-1) / TAPS
    return sizes


def _size(products: np.ndarray) -> float:
    """The same of one class."""
    return float(_sizes(products))
