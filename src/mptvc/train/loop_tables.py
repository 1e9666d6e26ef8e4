"""Tables of activity and side models, fitted by counting what a level codes."""

import numpy as np
import torch
from torch import Tensor

from mptvc.model.activity import CONTEXTS, MOST, ActivityModel
from mptvc.model.integer_network import ALPHABET, REACH, integer_frequencies
from mptvc.model.side import Side, SideModel, wrapped

#: Weight of the row of all contexts with the same second part, in activities, beside the counts of a context.
_PRIOR_ACTIVITIES = 3.0
#: Weight of a group's symbols of one activity, in symbols, beside those of one of its channels.
_PRIOR_SYMBOLS = 6.0
#: Weight of the rows that a fit starts from, in symbols.
_PRIOR_ROWS = 1000.0
#: How often channels choose their rows, and rows follow.
_ROUNDS = 4


class ActivityCounter:
    """Counts how often an activity model codes what.

    Args:
        model: The model; its tables do not matter until ``fit``.
    """

    def __init__(self, model: ActivityModel) -> None:
        self._model = model
        groups = len(model.groups)
        self._activities = np.zeros((groups, 2, CONTEXTS**2, MOST + 1))
        self._symbols = np.zeros((MOST + 1, sum(model.groups), ALPHABET))

    def add(self, symbols: Tensor, past: Tensor) -> Tensor:
        """Count one picture's symbols ``[h, w, C]`` after one of these activities; returns its own."""
        model = self._model
        found = model.activities(symbols)
        for group in range(len(model.groups)):
            for half in range(2):
                rows, mine = model.contexts(found, past, group, half)
                np.add.at(self._activities[group, half], (rows.numpy(), found[..., group][mine].numpy()), 1)
        of_channel = found[..., model.group_of].flatten(0, 1).numpy()
        channels = np.broadcast_to(np.arange(of_channel.shape[1]), of_channel.shape)
        np.add.at(self._symbols, (of_channel, channels, symbols.flatten(0, 1).long().numpy() + REACH), 1)
        return found

    def fit(self) -> None:
        """Give the model tables that code what was counted in few bits, as far as counts can be trusted."""
        shape = self._model.activity_frequencies.shape
        rows = _smoothed(self._activities, CONTEXTS).reshape(-1, MOST + 1)
        self._model.activity_frequencies.copy_(integer_frequencies(rows).view(shape))
        counts = self._symbols + self._symbols[..., ::-1]  # a symbol is as likely as its negative
        counts += _PRIOR_SYMBOLS * self._group_shares(counts)
        _fit_rows(self._model.symbol_frequencies, self._model.scale_of, counts)

    def _group_shares(self, counts: np.ndarray) -> np.ndarray:
        """How a group's symbols of one activity are distributed, for each of its channels."""
        group_of = self._model.group_of.numpy()
        sums = np.stack([counts[:, group_of == group].sum(1) for group in range(len(self._model.groups))], 1)
        shares: np.ndarray = (sums / sums.sum(-1, keepdims=True).clip(1))[:, group_of]
        return shares


class SideCounter:
    """Counts how often a side model codes what.

    Args:
        model: The model; its tables do not matter until ``fit``.
    """

    def __init__(self, model: SideModel) -> None:
        self._model = model
        self._choices = np.zeros(tuple(model.choice_frequencies.shape))
        self._vectors = np.zeros((*model.scale_of.shape, ALPHABET))

    def add(self, side: Side, camera: Tensor, past: Side | None, coarser: Side | None) -> None:
        """Count one picture; arguments as of ``SideModel.code``."""

        def count(rows: np.ndarray, integers: np.ndarray | None, table: int) -> np.ndarray:
            if integers is None:
                raise ValueError("counting needs side symbols")
            if table < 2:
                np.add.at(self._choices[table], (rows, integers + self._choices.shape[-1] // 2), 1)
            return integers

        self._model.code(count, camera, past, coarser, side)
        for half in range(2):
            likely, sizes, mine = self._model.vector_sizes(side, camera, past, half)
            for apart in wrapped(side.vectors - likely)[:, mine]:
                np.add.at(self._vectors[half], (sizes[mine].numpy(), apart.numpy() + REACH), 1)

    def fit(self) -> None:
        """Give the model tables that code what was counted in few bits, as far as counts can be trusted."""
        shape = self._choices.shape
        kinds = round(shape[1] ** 0.5)
        choices = _smoothed(self._choices, kinds).reshape(-1, shape[-1])
        self._model.choice_frequencies.copy_(integer_frequencies(choices).view(shape))
        counts = self._vectors + self._vectors[..., ::-1]
        _fit_rows(self._model.vector_frequencies, self._model.scale_of, counts)


def _fit_rows(frequencies: Tensor, scale_of: Tensor, counts: np.ndarray) -> None:
    """Let what was counted ``[.., .., ALPHABET]`` choose its rows, and these follow, a few times."""
    flat, start = counts.reshape(-1, ALPHABET), frequencies.double().numpy() / 2**24
    for _ in range(_ROUNDS):
        scales = (flat @ -np.log2(frequencies.double().numpy() / 2**24).T).argmin(1)
        rows = _PRIOR_ROWS * start
        np.add.at(rows, scales, flat)
        frequencies.copy_(integer_frequencies(rows))
    scale_of.copy_(torch.from_numpy(scales.reshape(counts.shape[:2])))


def _smoothed(counts: np.ndarray, contexts: int) -> np.ndarray:
    """Counts ``[..., contexts^2, n]``, with a little of those of all contexts of the same second part."""
    apart = counts.reshape(*counts.shape[:-2], contexts, contexts, -1)
    everything = apart.sum((-3, -2), keepdims=True) + 0.05
    everything /= everything.sum(-1, keepdims=True)
    second = apart.sum(-3, keepdims=True) + _PRIOR_ACTIVITIES * everything
    second /= second.sum(-1, keepdims=True)
    result: np.ndarray = apart + _PRIOR_ACTIVITIES * second
    return result.reshape(counts.shape)
