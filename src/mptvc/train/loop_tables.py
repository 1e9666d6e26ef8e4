"""Tables of activity and side models, fitted by counting what a level codes."""

from abc import ABC, abstractmethod
from math import comb

import numpy as np
import torch
from torch import Tensor

from mptvc.model.activity import (
    MOST,
    ROWS,
    SHAPES,
    ActivityModel,
    Residual,
    active_tokens,
    scale_frequencies,
    shape_rows,
)
from mptvc.model.contexts import (
    CLASSES,
    CODED_ROWS,
    CONTEXTS,
    Context,
    all_contexts,
    checkerboard,
    coded_rows,
)
from mptvc.model.exchange import DIGIT
from mptvc.model.fineness import FINEST, FinenessModel, fineness_rows
from mptvc.model.fineness import KINDS as FINENESS_KINDS
from mptvc.model.integer_network import ALPHABET, PRECISION, REACH, integer_frequencies
from mptvc.model.side import KINDS, SideModel, Table, usual_cameras, wrapped
from mptvc.model.side_symbols import Known, Side
from mptvc.model.splitting import MOST_SUM, RESTS, SHARES, Groups, SplittingModel

#: Weight of the row of all contexts with the same second part, in activities, beside the counts of a context.
_PRIOR_ACTIVITIES = 3.0
#: Weight of shares of larger sums that follow from those of a sum of 1, and of the remainders of all groups.
_PRIOR_SHARES, _PRIOR_RESTS = 8.0, 8.0
#: Weight of the rows that a fit starts from, in symbols.
_PRIOR_ROWS = 1000.0
#: Weight of what cameras usually do, in digits.
_PRIOR_CAMERAS = 30.0
#: How often what shares a row chooses it, and rows follow.
_ROUNDS, _ROW_ROUNDS = 4, 20


class Counter(ABC):
    """Counts how often something is coded."""

    @property
    @abstractmethod
    def counts(self) -> list[np.ndarray]:
        """All that was counted, float64, to be added to; those of several counters of a model add up."""


class ActivityCounter(Counter):
    """Counts how often an activity model codes what.

    Args:
        model: The model; its tables do not matter until ``fit``.
    """

    def __init__(self, model: ActivityModel) -> None:
        self._model = model
        self._activities = np.zeros((*model.row_of.shape, MOST + 1))
        self._symbols = np.zeros(tuple(model.symbol_frequencies.shape))
        self._shapes, self._coded = np.zeros((SHAPES, 2)), np.zeros((CODED_ROWS, 2))
        self._splitting = SplittingCounter(model.splitting)

    @property
    def counts(self) -> list[np.ndarray]:
        """Of activities, symbols, shapes, flags and shares."""
        return [self._activities, self._symbols, self._shapes, self._coded, *self._splitting.counts]

    def add(self, residual: Residual, context: Context) -> None:
        """Count one picture; arguments as of ``ActivityModel.code``."""
        model = self._model
        found = model.activities(residual.symbols)
        for half, mine in enumerate(checkerboard(found)):
            holds = found[mine].any(-1).long()
            np.add.at(self._coded, (coded_rows(found, context, half)[mine].numpy(), holds.numpy()), 1)
        for half, group, mine, rows in all_contexts(found, context, of_coded=model.has_flags):
            np.add.at(self._activities[group, half], (rows.numpy(), found[..., group][mine].numpy()), 1)
        tokens = active_tokens(found)
        some, mine = found.flatten(0, 1)[tokens], residual.symbols.flatten(0, 1)[tokens]
        quartered = residual.quartered.flatten()[tokens]
        np.add.at(self._shapes, (shape_rows(some).numpy(), quartered.long().numpy()), 1)
        expected = context.envelope.sums_below(tokens, quartered)
        model.splitting.walked(self._splitting, some, expected, model.thresholds, mine)
        places, rows = model.symbol_rows(some, expected)
        values = mine.flatten()[places].long().clamp(-REACH, REACH)
        np.add.at(self._symbols, (rows.numpy(), values.numpy() + REACH), 1)

    def fit(self) -> None:
        """Give the model tables that code what was counted in few bits, as far as counts can be trusted."""
        model = self._model
        wanted = self._wanted().reshape(-1, MOST + 1)
        row_of, rows = _shared_rows(wanted, self._activities.reshape(-1, MOST + 1).sum(1), ROWS)
        model.activity_frequencies.copy_(integer_frequencies(rows))
        model.row_of.copy_(torch.from_numpy(row_of.reshape(model.row_of.shape)))
        counts = self._symbols + self._symbols[..., ::-1]  # a symbol is as likely as its negative
        start = scale_frequencies().numpy() / 2**PRECISION
        model.symbol_frequencies.copy_(integer_frequencies(counts + _PRIOR_ROWS * start))
        model.shape_frequencies.copy_(_either(self._shapes))
        if model.coded_frequencies is not None:
            model.coded_frequencies.copy_(_either(self._coded))
        self._splitting.fit()

    def _wanted(self) -> np.ndarray:
        """Counts of every context, with a little of those of all classes together."""
        groups, halves = self._activities.shape[:2]
        apart = self._activities.reshape(groups, halves, CLASSES, CONTEXTS**2, -1)
        together = _smoothed(apart.sum(2), CONTEXTS)
        together /= together.sum(-1, keepdims=True)
        wanted: np.ndarray = apart + _PRIOR_ACTIVITIES * together[:, :, None]
        return wanted


class SplittingCounter(Counter):
    """Counts how often a splitting model codes what; a `Walk`."""

    def __init__(self, model: SplittingModel) -> None:
        self._model = model
        self._shares = np.zeros(tuple(model.share_frequencies.shape))
        self._rests = np.zeros((*model.row_of.shape, SHARES))

    @property
    def counts(self) -> list[np.ndarray]:
        """Of shares and remainders."""
        return [self._shares, self._rests]

    def rest(self, groups: Groups, given: Tensor | None) -> Tensor:
        """Count remainders."""
        return _counted(self._rests, (groups.groups, groups.activities - 1), given)

    def share(self, tokens: Tensor, rows: Tensor, given: Tensor | None) -> Tensor:
        """Count shares."""
        return _counted(self._shares, (rows,), given)

    def fit(self) -> None:
        """Give the model the rows that code what was counted in few bits."""
        by_sum = self._shares.reshape(MOST_SUM, -1, SHARES)
        shares = (by_sum + _PRIOR_SHARES * _even_shares(by_sum)).reshape(self._shares.shape)
        self._model.share_frequencies.copy_(integer_frequencies(shares))
        usual = self._rests.sum(0) + 1e-3
        rests = self._rests + _PRIOR_RESTS * usual / usual.sum(-1, keepdims=True)
        row_of, rows = _shared_rows(rests.reshape(-1, SHARES), self._rests.reshape(-1, SHARES).sum(1), RESTS)
        self._model.rest_frequencies.copy_(integer_frequencies(rows))
        self._model.row_of.copy_(torch.from_numpy(row_of).view_as(self._model.row_of))


def _counted(counts: np.ndarray, where: tuple[Tensor, ...], given: Tensor | None) -> Tensor:
    """Add one to ``[*where, given]`` for each integer, and return these."""
    if given is None:
        raise ValueError("there is nothing to count")
    np.add.at(counts, tuple(x.numpy() for x in (*where, given)), 1)
    return given


def _even_shares(counts: np.ndarray) -> np.ndarray:
    """Distributions ``[sums, odds, SHARES]`` if every 1 of a sum fell into a half as a sum of 1 does."""
    one = (counts[0, :, 1] + 1) / (counts[0, :, :2].sum(-1) + 2)
    sums, shares = np.arange(1, MOST_SUM + 1), np.arange(SHARES)
    ways = np.array([[comb(int(n), int(k)) for k in shares] for n in sums], float)[:, None]
    left = (sums[:, None, None] - shares).clip(0)
    even: np.ndarray = ways * one[:, None] ** shares * (1 - one[:, None]) ** left
    return even


class SideCounter(Counter):
    """Counts how often a side model codes what.

    Args:
        model: The model; its tables do not matter until ``fit``.
    """

    def __init__(self, model: SideModel) -> None:
        self._model = model
        self._choices = np.zeros(tuple(model.choice_frequencies.shape))
        self._vectors = np.zeros((*model.scale_of.shape, ALPHABET))
        own = model.camera_frequencies
        self._cameras = np.zeros((0, 0) if own is None else tuple(own.shape))

    @property
    def counts(self) -> list[np.ndarray]:
        """Of choices, vectors and cameras."""
        return [self._choices, self._vectors, self._cameras]

    def add(self, side: Side, known: Known) -> None:
        """Count one picture; arguments as of ``SideModel.code``."""

        def count(rows: np.ndarray, integers: np.ndarray | None, table: int) -> np.ndarray:
            if integers is None:
                raise ValueError("counting needs side symbols")
            if table == Table.CHOICES:
                np.add.at(self._choices, (rows, integers + self._choices.shape[-1] // 2), 1)
            if table == Table.CAMERA:
                np.add.at(self._cameras, (rows, integers + DIGIT // 2), 1)
            return integers

        rows, columns = side.choices.shape
        self._model.code(count, (rows, columns), known, side)
        line, before = known.line_on(side.camera), known.before_on(side.camera)
        for half in range(2):
            likely, sizes, mine = self._model.vector_sizes(side, line, before, half)
            for apart in wrapped(side.vectors - likely)[:, mine]:
                np.add.at(self._vectors[half], (sizes[mine].numpy(), apart.numpy() + REACH), 1)

    def fit(self) -> None:
        """Give the model tables that code what was counted in few bits, as far as counts can be trusted."""
        by_half = self._choices.reshape(2, KINDS**2, -1)
        choices = _smoothed(by_half, KINDS).reshape(self._choices.shape)
        self._model.choice_frequencies.copy_(integer_frequencies(choices))
        counts = self._vectors + self._vectors[..., ::-1]
        _fit_rows(self._model.vector_frequencies, self._model.scale_of, counts)
        if self._model.camera_frequencies is not None:
            counts = self._cameras + self._cameras[:, ::-1]
            cameras = integer_frequencies(counts + _PRIOR_CAMERAS * usual_cameras())
            self._model.camera_frequencies.copy_(cameras)


class FinenessCounter(Counter):
    """Counts how often a fineness model codes what.

    Args:
        model: The model; its table does not matter until ``fit``.
    """

    def __init__(self, model: FinenessModel) -> None:
        self._model, self._values = model, np.zeros(tuple(model.value_frequencies.shape))

    @property
    def counts(self) -> list[np.ndarray]:
        """Of values."""
        return [self._values]

    def add(self, fineness: Tensor, before: Tensor | None) -> None:
        """Count one key; arguments as of ``FinenessModel.code``."""
        for half, mine in enumerate(checkerboard(fineness)):
            rows = fineness_rows(fineness * ~mine, before, half)
            np.add.at(self._values, (rows[mine].numpy(), fineness[mine].numpy() + FINEST), 1)

    def fit(self) -> None:
        """Give the model a table that codes what was counted in few bits, as far as counts can be trusted."""
        by_half = self._values.reshape(2, FINENESS_KINDS**2, -1)
        values = _smoothed(by_half, FINENESS_KINDS).reshape(self._values.shape)
        self._model.value_frequencies.copy_(integer_frequencies(values))


def _either(counts: np.ndarray) -> Tensor:
    """Frequencies ``[rows, 3]`` of -1 and 1 that came so often ``[rows, 2]``, with a little of all rows."""
    usual = counts.sum(0) + 1
    first, second = (counts + _PRIOR_ACTIVITIES * usual / usual.sum()).T
    return integer_frequencies(np.stack([first, np.zeros_like(first), second], 1))


def _shared_rows(wanted: np.ndarray, weights: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """At most ``count`` rows for distributions ``[n, k]`` that come so often, so that few bits are lost.

    Clusters by the bits that a row takes for what its members hold; the first rows are spread over the
    members in the order of their means, with equal weights. What never came has no say in it.

    Returns:
        Row of each, uint8 ``[n]``, and the rows ``[count, k]``.
    """
    everything = wanted / wanted.sum(1, keepdims=True)
    came = weights > 0 if weights.any() else weights == 0
    shares, weights = everything[came], weights[came] + 1e-3
    order = np.argsort(shares @ np.arange(shares.shape[1]))
    place = np.cumsum(weights[order])
    row_of = np.empty(len(shares), np.int64)
    row_of[order] = np.minimum(count * place / place[-1], count - 1).astype(np.int64)
    for _ in range(_ROW_ROUNDS):
        rows = 1e-4 + _summed(shares * weights[:, None], row_of, count)
        rows /= rows.sum(1, keepdims=True)
        row_of = (shares @ -np.log2(rows).T).argmin(1)
    return (everything @ -np.log2(rows).T).argmin(1).astype(np.uint8), rows


def _summed(counts: np.ndarray, row_of: np.ndarray, rows: int) -> np.ndarray:
    """Sums ``[rows, k]`` of counts ``[n, k]`` that share a row."""
    return np.stack([np.bincount(row_of, column, rows) for column in counts.T], 1)


def _fit_rows(frequencies: Tensor, scale_of: Tensor, counts: np.ndarray) -> None:
    """Let what was counted ``[.., .., ALPHABET]`` choose its rows, and these follow, a few times."""
    flat, start = counts.reshape(-1, ALPHABET), frequencies.double().numpy() / 2**24
    for _ in range(_ROUNDS):
        scales = (flat @ -np.log2(frequencies.double().numpy() / 2**24).T).argmin(1)
        rows = _PRIOR_ROWS * start + _summed(flat, scales, len(start))
        frequencies.copy_(integer_frequencies(rows))
    scale_of.copy_(torch.from_numpy(scales.reshape(scale_of.shape)))


def _smoothed(counts: np.ndarray, contexts: int) -> np.ndarray:
    """Counts ``[..., contexts^2, n]``, with a little of those of all contexts of the same second part."""
    apart = counts.reshape(*counts.shape[:-2], contexts, contexts, -1)
    everything = apart.sum((-3, -2), keepdims=True) + 0.05
    everything /= everything.sum(-1, keepdims=True)
    second = apart.sum(-3, keepdims=True) + _PRIOR_ACTIVITIES * everything
    second /= second.sum(-1, keepdims=True)
    result: np.ndarray = apart + _PRIOR_ACTIVITIES * second
    return result.reshape(counts.shape)
