"""Trains the network that says where symbols are (see `envelope`) on what a closed loop has coded."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mptvc.model.activity import ActivityModel, Residual, active_tokens
from mptvc.model.contexts import Context
from mptvc.model.envelope import OCTAVE, EnvelopeModel
from mptvc.model.splitting import MOST_SUM

#: Tokens of a picture that are kept at most, of all of them spread evenly.
_FROM_EACH = 200
#: Steps of training at most, and passes over the tokens; tokens of each step.
_STEPS, _PASSES, _BATCH = 2000, 20, 1024
#: The first rate, in units of weights, which falls to nothing.
_RATE = 0.3
#: Largest magnitude that is kept.
_MOST = 255
#: Levels, shapes and magnitudes of some tokens of each picture, uint8, bool and uint8.
Tokens = list[tuple[np.ndarray, np.ndarray, np.ndarray]]


class EnvelopeTrainer:
    """Collects tokens of one level and trains the network with them.

    Args:
        model: The network.
        tables: An entropy model of the level, all of which have the same groups and order of channels.

    Attributes:
        tokens: What was collected.
    """

    def __init__(self, model: EnvelopeModel, tables: ActivityModel) -> None:
        self._model, self._order = model, tables.splitting.order
        self._group_of = tables.group_of[self._order]
        self._members = F.one_hot(self._group_of).float()
        self.tokens: Tokens = []

    def add(self, residual: Residual, context: Context) -> None:
        """Keep some tokens of a picture; arguments as of ``ActivityModel.code``."""
        tokens = active_tokens(residual.symbols)
        tokens = tokens[:: len(tokens) // _FROM_EACH + 1]
        quartered = residual.quartered.flatten()[tokens]
        levels = context.envelope.levels(tokens, quartered).to(torch.uint8)
        symbols = residual.symbols.flatten(0, 1)[tokens][:, self._order]
        magnitudes = symbols.abs().clamp(max=_MOST).to(torch.uint8)
        self.tokens.append((levels.numpy(), quartered.numpy(), magnitudes.numpy()))

    @torch.enable_grad()
    def train(self) -> None:
        """Make what is expected of channels like what they hold, beside the others of their group."""
        parts = (np.concatenate(some) for some in zip(*self.tokens, strict=True))
        levels, quartered, magnitudes = map(torch.from_numpy, parts)
        if not len(levels):
            return
        optimizer = torch.optim.Adam(self._model.parameters(), lr=_RATE)
        rng = torch.Generator().manual_seed(0)
        steps = min(_STEPS, math.ceil(_PASSES * len(levels) / _BATCH))
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = _RATE * (1 + math.cos(math.pi * step / steps)) / 2
            some = torch.randint(len(levels), (_BATCH,), generator=rng)
            outcome = self._model(levels[some].float(), quartered[some])
            loss = self._bits(outcome, magnitudes[some].float())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def _bits(self, outcome: Tensor, magnitudes: Tensor) -> Tensor:
        """Bits that each magnitude of 1 takes for its channel, in groups of at most ``MOST_SUM`` of them."""
        sums = magnitudes @ self._members
        weights = magnitudes * (MOST_SUM / sums.clamp(min=MOST_SUM))[:, self._group_of]
        octaves = (outcome / OCTAVE).floor().detach()
        expected = torch.exp2(octaves) * (1 + outcome / OCTAVE - octaves)  # as `magnitudes` has it
        shares = expected / (expected @ self._members)[:, self._group_of]
        return -(weights * torch.log2(shares)).sum() / weights.sum().clamp(min=1)
