"""Finite scalar quantization: latents to centred integers and back to symbols from zero.

Source: Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple", 2023, with a clamp as the
bounding function: the scale of a channel belongs to the linear layer in front of it, and a linear
bound keeps the reconstruction points equally spaced.
"""

from bisect import bisect_right

import torch
from torch import Tensor, nn

from mptvc.format.gain import MAX_GAIN, gain_factor

#: Energy that the clamp may take away, in that of rounding.
_CLAMPED = 0.1


def round_ste(x: Tensor) -> Tensor:
    """Round to the nearest integer, with the gradient of the identity."""
    return x + (x.round() - x).detach() if torch.is_grad_enabled() else x.round()


def floor_ste(x: Tensor) -> Tensor:
    """Round down to an integer, with the gradient of the identity."""
    return x + (x.floor() - x).detach() if torch.is_grad_enabled() else x.floor()


class FSQ(nn.Module):
    """Quantizes each channel to an odd number of integers centred on zero.

    Args:
        halves: Largest absolute value of each channel.
    """

    halves: Tensor

    def __init__(self, halves: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("halves", torch.tensor(halves, dtype=torch.float32), persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        """Bound and round latents ``[..., C]`` to centred integers in a float tensor.

        Applying it twice changes nothing. The gradient passes straight through where the latent is
        inside the channel's range.
        """
        y = y.float()
        return round_ste(torch.minimum(torch.maximum(y, -self.halves), self.halves))

    def finest_gain(self, y: Tensor) -> int:
        """The largest gain (see `gain`), from 0, at which hardly a latent ``[..., C]`` leaves its range.

        What the clamp takes away may have at most a tenth of the energy of rounding.
        """

        def clamped(gain: int) -> float:
            factor = gain_factor(gain)  # one slice at a time, for memory
            excess = [(part.abs() * factor).sub_(self.halves).clamp_min_(0).square_().sum() for part in y]
            return float(sum(excess)) / y.numel()

        return bisect_right(range(1, MAX_GAIN + 1), _CLAMPED / 12, key=clamped)

    def to_symbols(self, y_hat: Tensor) -> Tensor:
        """Centred integers ``[..., C]`` to symbols counted from zero, uint8."""
        return (y_hat + self.halves).to(torch.uint8)

    def from_symbols(self, symbols: Tensor) -> Tensor:
        """Symbols counted from zero ``[..., C]`` to centred integers, float32."""
        return symbols.to(torch.float32) - self.halves
