"""What a level of the closed loop is made of: transforms of residuals, and tables for what is coded.

The transform is a DCT of each colour. It is sparser on what prediction leaves than the KLT of that: on
eight training clips, at the same steps, 25.4 / 34.7 / 40.5 dB against 24.6 / 33.8 / 39.8 dB for more bits.
And it is two small matrix products, along rows and columns, where a KLT is one large one.
"""

import math

import torch
from torch import Tensor, nn

from mptvc.model.activity import LARGEST, ActivityModel
from mptvc.model.fineness import FINEST, FinenessModel
from mptvc.model.loop_config import LoopConfig, LoopLevelConfig
from mptvc.model.side import SideModel

#: Luma and two differences of colours, orthonormal, from RGB.
COLOURS = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))
#: Frequencies, as sums of both axes over those of a block of 16, at which bands end.
_BANDS = (1.5, 4.5, 8.5, 13.5, 20.0)
#: What is added to magnitudes before they are rounded down: less than half, as larger symbols take more bits.
_ROUNDING = 0.31, 0.27  # of the lowest band, and of the others
#: How much further from zero than its symbol a latent is restored: symbols are rounded towards zero. In the
#: mean of four training clips latents with a symbol of 1 lie 0.04 to 0.13 further out, larger ones 0.02 to
#: 0.17.
_OUTWARD = 0.1
#: A group whose magnitudes sum to at most this is dropped where it is not worth its bits.
_FEW = 5
#: Squared steps of error that a bit is worth there, and about what a magnitude of 1 takes beside its place.
_GROUP_PRICE, _ONE_BITS = 0.12, 1.5


def dct_matrix(size: int) -> Tensor:
    """Orthonormal DCT of ``size`` samples, float32 ``[frequencies, samples]``."""
    k, i = torch.arange(size).double()[:, None], torch.arange(size).double()
    cosine = torch.cos(math.pi * (i + 0.5) * k / size) * (2 / size) ** 0.5
    cosine[0] /= 2**0.5
    matrix: Tensor = cosine.float()
    return matrix


def band_groups(patch: int) -> Tensor:
    """Group of each channel ``[C]``: those of like frequencies, of luma or of the differences of colours."""
    k = torch.arange(patch) * (16 / patch)
    bands = torch.bucketize(k[:, None] + k, torch.tensor(_BANDS))
    return torch.cat([2 * bands.flatten(), *[2 * bands.flatten() + 1] * 2])


def band_order(patch: int) -> Tensor:
    """The channels by their groups, and in each from low to high frequencies, like ones side by side."""
    frequency = torch.arange(patch)
    low, apart = ((frequency[:, None] + sign * frequency).flatten().repeat(3) for sign in (1, -1))
    order = torch.arange(3 * patch**2)
    for key in (apart, low, band_groups(patch)):
        order = order[key[order].argsort(stable=True)]
    return order


class Kind(nn.Module):
    """Transform and entropy model of one kind of picture at one level.

    Args:
        patch: Pixels along a token's side.

    Attributes:
        patch: The same.
        channels: Latents of a token.
    """

    dct: Tensor
    colours: Tensor
    rounding: Tensor

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch, self.channels = patch, 3 * patch * patch
        self.register_buffer("dct", dct_matrix(patch), persistent=False)
        self.register_buffer("colours", torch.tensor(COLOURS), persistent=False)
        self.entropy_model = ActivityModel(band_groups(patch), band_order(patch))
        first, later = _ROUNDING
        is_first = self.entropy_model.group_of < 2
        self.register_buffer("rounding", torch.where(is_first, first, later), persistent=False)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Tokens of a picture of so many pixels, along y and x."""
        return height // self.patch, width // self.patch

    def latents(self, residual: Tensor) -> Tensor:
        """Latents float32 ``[h, w, C]`` of a picture ``[3, H, W]``."""
        _, height, width = residual.shape
        rows, columns = self.grid(height, width)
        mixed = (self.colours @ residual.flatten(1).float()).view(3, rows, self.patch, columns, self.patch)
        cells = mixed.permute(1, 3, 0, 2, 4).reshape(-1, self.patch, self.patch)
        return frequencies(cells, self.dct).view(rows, columns, self.channels)

    def restored(self, symbols: Tensor) -> Tensor:
        """Latents float32 in steps for symbols."""
        latents = symbols.float()
        return latents.add(latents.sign(), alpha=_OUTWARD)

    def pixels(self, latents: Tensor) -> Tensor:
        """Residuals ``[n, 3, patch, patch]`` of the latents ``[n, C]`` of so many tokens."""
        cells = latents.view(-1, self.patch, self.patch)
        mixed = (cells @ self.dct).transpose(1, 2) @ self.dct
        return torch.einsum("dc,ndyx->ncyx", self.colours, mixed.view(-1, 3, self.patch, self.patch))

    def quantized(self, latents: Tensor) -> Tensor:
        """Symbols for latents in steps ``[h, w, C]``, such that error and bits are small together.

        Source: Sullivan and Wiegand, "Rate-Distortion Optimization for Video Compression", 1998.
        """
        flat, members = latents.flatten(0, 1), self.entropy_model.members
        symbols = torch.copysign(self.rounding, flat).add_(flat).trunc_().clamp_(-LARGEST, LARGEST)
        tokens = torch.nonzero(symbols.any(1)).flatten()
        found, exact = symbols[tokens], flat[tokens]
        sums = found.abs() @ members
        restored = self.restored(found)
        saved = exact.mul_(2).sub_(restored).mul_(restored) @ members  # squared error, against none
        bits = sums * (torch.log2(members.sum(0)) + _ONE_BITS) + _ONE_BITS
        kept = (sums > _FEW) | (saved > _GROUP_PRICE * bits)
        symbols[tokens] = found.mul_(kept.float() @ members.T)
        return symbols.view_as(latents)


def frequencies(cells: Tensor, dct: Tensor) -> Tensor:
    """DCT of cells ``[n, y, x]`` along both axes, ``[n, x, y]``."""
    return (cells @ dct.T).transpose(1, 2) @ dct.T


class PredictedKind(Kind):
    """The same of pictures that are predicted, with a model of how."""

    def __init__(self, patch: int) -> None:
        super().__init__(patch)
        self.side = SideModel()


class LoopLevel(nn.Module):
    """One level of the closed loop.

    Args:
        index: The level, 0 the coarsest, which has no base.
        patch: Pixels along a token's side.
        config: Of the level.

    Attributes:
        smoothing: How much borders of tokens are smoothed.
        fineness: The entropy model of fineness, at level 0.
        opening: What an opening key is coded with.
        key: What a key is that is predicted from keys before it.
        between: What a picture is that lies between decoded ones.
    """

    shares: Tensor

    def __init__(self, index: int, patch: int, config: LoopLevelConfig) -> None:
        super().__init__()
        self.index, self.smoothing = index, config.smoothing
        self.fineness = None if index else FinenessModel()
        shares = [2.0 ** (-config.fineness * unit) for unit in range(-FINEST, FINEST + 1)]
        self.register_buffer("shares", torch.tensor(shares), persistent=False)
        self.opening, self.key, self.between = Kind(patch), PredictedKind(patch), PredictedKind(patch)

    def predicted(self, is_between: bool) -> PredictedKind:
        """What a picture is coded with that is predicted."""
        return self.between if is_between else self.key

    def steps(self, step: float, fineness: Tensor, grid: tuple[int, int]) -> Tensor:
        """Quantization steps float32 ``[h, w]`` on a grid of at least as many places as fineness has."""
        factor = grid[0] // fineness.shape[0]
        steps = (step * self.shares)[fineness + FINEST]
        return steps.repeat_interleave(factor, 0).repeat_interleave(factor, 1)


class LoopModel(nn.Module):
    """All levels of the closed loop.

    Args:
        config: Their sizes.
    """

    def __init__(self, config: LoopConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = nn.ModuleList(
            LoopLevel(k, config.patch_side(k), level) for k, level in enumerate(config.levels)
        )

    def level(self, index: int) -> LoopLevel:
        """One level."""
        level = self.levels[index]
        if not isinstance(level, LoopLevel):
            raise TypeError(f"level {index} is a {type(level).__name__}")
        return level
