"""Frequency tables fitted to what a trained level really codes."""

import numpy as np
import torch
from torch import Tensor

from mptvc.model.entropy_model import EntropyModel
from mptvc.model.integer_network import ALPHABET, FRACTIONS, REACH, integer_frequencies, logistic_frequencies
from mptvc.model.model import fresh_slices

#: Weight of the logistic start, in symbols, beside the counts of a row.
_PRIOR_SYMBOLS = 1000.0


class TableCounter:
    """Counts how often each row of an entropy model codes each difference."""

    def __init__(self, model: EntropyModel) -> None:
        self._model = model
        self.counts = np.zeros((model.config.scales * FRACTIONS, ALPHABET))

    def add(self, y: Tensor, parent: Tensor | None, shots: Tensor) -> None:
        """Count one batch.

        Args:
            y: Latents ``[B, T, H, W, C]``, or symbols.
            parent: Symbols of the coarser level ``[B, T, h, w, C']`` or None.
            shots: Shot number of each slice ``[B, T]``.
        """
        self._model.choose(y, parent, fresh_slices(shots), self._count)

    def _count(self, rows: np.ndarray, symbols: np.ndarray | None, _means: np.ndarray) -> np.ndarray:
        if symbols is None:
            raise ValueError("counting needs symbols")
        index = rows.astype(np.int64) * ALPHABET + symbols + REACH
        self.counts += np.bincount(index, minlength=self.counts.size).reshape(self.counts.shape)
        return symbols

    def frequencies(self) -> Tensor:
        """The fitted tables, int32 ``[rows, ALPHABET]``: mirrored counts over a logistic prior."""
        counts = self.counts.reshape(-1, FRACTIONS, ALPHABET)
        mirrored = counts[..., ::-1]
        both = counts.copy()
        both[:, 1] += mirrored[:, 3]  # means of -1/4 and 1/4 mirror each other
        both[:, 3] += mirrored[:, 1]
        both[:, 2] += mirrored[:, 2]
        both[:, 0] += np.roll(mirrored[:, 0], -1, axis=-1)  # a mean of -1/2 mirrors about -1/2
        prior = logistic_frequencies(len(counts)).numpy().reshape(both.shape).astype(np.float64)
        prior *= _PRIOR_SYMBOLS / prior.sum(-1, keepdims=True)
        return integer_frequencies((both + prior).reshape(-1, ALPHABET))


def estimated_bits(counts: np.ndarray, frequencies: Tensor) -> float:
    """Bits that tables spend on counted symbols."""
    table = frequencies.double()
    bits = torch.log2(table.sum(1, keepdim=True)) - torch.log2(table)
    return float((torch.from_numpy(counts) * bits).sum())
