"""Building blocks of the integer entropy model: tables of frequencies, and exact layers.

Activations are integers of at most 127 where 16 stands for 1.0, weights integers of at most 127 where 128
stands for 1.0, both carried in float32. See `entropy_model` for why that is exact.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mptvc.model.config import MAX_HALF
from mptvc.model.fsq import floor_ste, round_ste

#: Frequencies of a row sum to 2^PRECISION.
PRECISION = 24
#: A coded difference lies in [-REACH, REACH].
REACH = 2 * MAX_HALF + 1
ALPHABET = 2 * REACH + 1
#: Rows per scale: the fractional part of the mean in quarters, -2 to 1.
FRACTIONS = 4

WEIGHT_ONE = 128.0
ACTIVATION_ONE = 16.0
LIMIT = 127.0
_SCALE_STEPS = 4.0  # table scales for an output of 1.0
GATE_ONE = 64.0


def whole_part(mean: Tensor) -> Tensor:
    """The integers nearest to means in quarters, which symbols are coded as differences from."""
    return torch.floor((mean + 2) / 4)


def table_rows(mean: Tensor, whole: Tensor, scale: Tensor) -> Tensor:
    """Table rows of means in quarters, with their whole parts, and of scale indexes."""
    return scale * FRACTIONS + (mean - 4 * whole + 2)


def table_index(row: Tensor, difference: Tensor) -> Tensor:
    """Where a row's entry for a difference stands in a flat table, int32."""
    return (row * ALPHABET + (difference + REACH)).to(torch.int32)


class TableBits(torch.autograd.Function):
    """Bits of integers under table rows; gradients are differences between table entries."""

    @staticmethod
    def forward(ctx, bits, q, mean, scale):  # type: ignore[no-untyped-def]
        """Look up bits ``[rows, ALPHABET]`` for symbols, means in quarters and scale indexes."""
        whole = whole_part(mean)
        index = table_index(table_rows(mean, whole, scale), q - whole)
        flat = bits.flatten()
        ctx.save_for_backward(flat, index, scale)
        ctx.scales = bits.shape[0] // FRACTIONS
        return flat[index]

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        """Central differences along the symbol and across the scales."""
        flat, index, scale = ctx.saved_tensors
        slope = (flat[index + 1] - flat[index - 1]) / 2 * grad
        stride = FRACTIONS * ALPHABET
        wider = flat[index + stride * (scale < ctx.scales - 1)]
        narrower = flat[index - stride * (scale > 0)]
        return None, slope, -slope / 4, (wider - narrower) / 2 * grad


class ClampInward(torch.autograd.Function):
    """Clamp whose gradient passes where it leads back into the range."""

    @staticmethod
    def forward(ctx, x, low, high):  # type: ignore[no-untyped-def]
        """Clamp to [low, high]."""
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        """Stop the gradient only where it leads further out."""
        (x,) = ctx.saved_tensors
        stuck = ((x < ctx.low) & (grad > 0)) | ((x > ctx.high) & (grad < 0))
        return grad.masked_fill(stuck, 0.0), None, None


def clamp_inward(x: Tensor, high: float) -> Tensor:
    """Clamp to [0, high] with a gradient that leads back into the range."""
    out: Tensor = ClampInward.apply(x, 0, high)  # type: ignore[no-untyped-call]
    return out


class IntegerLinear(nn.Module):
    """A linear map with integer weights and biases; returns the raw accumulator.

    In training the integers are rounded from ``weight`` and ``bias`` with a straight-through
    gradient; loaded weights are integers already, in the same units.
    """

    def __init__(self, n_in: int, n_out: int, gain: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) * (gain / n_in**0.5 * WEIGHT_ONE))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Integers ``[..., n_in]`` to accumulators ``[..., n_out]`` in units of 1/2048."""
        return F.linear(x, integer_weight(self.weight)) + round_ste(self.bias)

    def accumulator_bound(self) -> float:
        """Largest absolute value that any partial sum can reach."""
        rows = integer_weight(self.weight.detach()).abs().double().sum(1) * LIMIT
        return float((rows + self.bias.detach().round().abs().double()).max())


def integer_weight(weight: Tensor) -> Tensor:
    """Weights rounded to integers in [-127, 127], with a straight-through gradient."""
    return round_ste(weight.clamp(-LIMIT, LIMIT))


class GroupMixer(nn.Module):
    """Scale and gate of one channel group from the integer context."""

    def __init__(self, n_in: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.inner = IntegerLinear(n_in, hidden, gain=1.0)
        self.outer = IntegerLinear(hidden, 2 * channels, gain=0.3)
        # Weights of the channel's own past: its magnitude, and that of its 3 x 3 neighbourhood.
        self.own = nn.Parameter(torch.tensor([[40.0], [60.0]]).repeat(1, channels))
        with torch.no_grad():
            self.outer.bias[:channels] = 2.5 * WEIGHT_ONE * ACTIVATION_ONE

    def forward(self, context: Tensor, own: Tensor, around: Tensor, scales: int) -> tuple[Tensor, Tensor]:
        """Return the scale index and the gate, each ``[..., channels]``, integers in float32."""
        hidden = floor_ste(self.inner(context) / WEIGHT_ONE).clamp(0, LIMIT)
        scale, gate = self.outer(hidden).split(self.channels, dim=-1)
        weights = integer_weight(self.own)
        scale = scale + weights[0] * own + weights[1] * around
        scale = floor_ste(scale * (_SCALE_STEPS / (WEIGHT_ONE * ACTIVATION_ONE)))
        gate = floor_ste(gate / WEIGHT_ONE)
        return clamp_inward(scale, scales - 1), clamp_inward(gate, GATE_ONE)

    def accumulator_bound(self) -> float:
        """Largest absolute value that any partial sum of the group can reach."""
        own = float(integer_weight(self.own.detach()).abs().double().sum(0).max()) * LIMIT
        return max(self.inner.accumulator_bound(), self.outer.accumulator_bound() + own)


def logistic_frequencies(scales: int) -> Tensor:
    """Tables of the discretised logistic distribution to start from.

    Scale s is 0.05 * 2^(s / 5), in quantization steps; the four rows of a scale have means of -1/2,
    -1/4, 0 and 1/4.

    Returns:
        int32 ``[4 scales, ALPHABET]``; every entry is at least 1 and every row sums to 2^24.
    """
    widths = 0.05 * 2.0 ** (np.arange(scales) / 5)
    means = (np.arange(FRACTIONS) - 2) / 4
    edges = np.arange(ALPHABET + 1) - REACH - 0.5
    x = (edges[None, None] - means[None, :, None]) / widths[:, None, None]
    cdf = 0.5 * (1 + np.tanh(x / 2))
    return integer_frequencies(np.diff(cdf, axis=-1).reshape(-1, ALPHABET))


def integer_frequencies(probabilities: np.ndarray) -> Tensor:
    """Round probabilities ``[rows, alphabet]`` to int32 frequencies of at least 1 that sum to 2^24."""
    free = 2**PRECISION - probabilities.shape[1]
    shares = probabilities / probabilities.sum(1, keepdims=True) * free
    whole = np.floor(shares).astype(np.int64)
    whole[np.arange(len(whole)), shares.argmax(1)] += free - whole.sum(1)
    return torch.from_numpy((whole + 1).astype(np.int32))
