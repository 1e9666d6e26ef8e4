"""What a level of the closed loop is made of: linear transforms of residuals, and tables for what is coded.

The transforms start as a DCT of each colour, which is sparser on what prediction leaves than the KLT of that:
on eight training clips, at the same steps, 25.4 / 34.7 / 40.5 dB against 24.6 / 33.8 / 39.8 dB for more bits.
They are parameters, so that training may go on from there.
"""

import math

import torch
from torch import Tensor, nn

from mptvc.model.activity import ActivityModel
from mptvc.model.motion import BLOCK
from mptvc.model.side import SideModel

#: Luma and two differences of colours, orthonormal, from RGB.
_COLOURS = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))
#: Frequencies, as sums of both axes over those of a block of 16, at which bands end.
_BANDS = (1.5, 4.5, 8.5, 13.5, 20.0, 99.0)
#: Latents of at most this size are coded.
LARGEST = 63
_DEAD_ZONE = 0.33


def dct_basis(patch: int) -> tuple[Tensor, tuple[int, ...]]:
    """Orthonormal DCT of patches of three colours, in groups of like frequencies.

    Args:
        patch: Pixels of a side.

    Returns:
        Rows of basis functions ``[P, P]`` for patches ``[3, patch, patch]``, and the sizes of the groups: of
        each band first luma, then both differences of colours.
    """
    k, i = torch.arange(patch).double()[:, None], torch.arange(patch).double()
    cosine = torch.cos(math.pi * (i + 0.5) * k / patch) * (2 / patch) ** 0.5
    cosine[0] /= 2**0.5
    colours = torch.tensor(_COLOURS).double()
    basis = torch.einsum("dc,ai,bj->dabcij", colours, cosine, cosine).reshape(3, patch * patch, -1)
    frequency = (k + k.T).flatten() * (16 / patch)
    bands = torch.bucketize(frequency, torch.tensor(_BANDS).double())
    rows, sizes = [], []
    for band in range(len(_BANDS)):
        mine = torch.nonzero(bands == band).flatten()
        mine = mine[frequency[mine].argsort(stable=True)]
        if len(mine):
            rows += [basis[0, mine], basis[1:, mine].flatten(0, 1)]
            sizes += [len(mine), 2 * len(mine)]
    return torch.cat(rows).float(), tuple(sizes)


class Kind(nn.Module):
    """Transforms and entropy model of one kind of picture at one level.

    Args:
        patch: Pixels along a token's side.
    """

    def __init__(self, patch: int) -> None:
        super().__init__()
        basis, groups = dct_basis(patch)
        self.patch = patch
        self.analysis, self.synthesis = nn.Parameter(basis), nn.Parameter(basis.clone())
        self.entropy_model = ActivityModel(groups)

    def latents(self, blocks: Tensor) -> Tensor:
        """Latents ``[N, n, C]`` of the n tokens of residual blocks ``[N, 3, BLOCK, BLOCK]``."""
        side, patch = BLOCK // self.patch, self.patch
        cells = blocks.reshape(-1, 3, side, patch, side, patch).permute(0, 2, 4, 1, 3, 5)
        return cells.reshape(len(blocks), side * side, -1).float() @ self.analysis.T

    def blocks(self, latents: Tensor) -> Tensor:
        """Residual blocks ``[N, 3, BLOCK, BLOCK]`` of latents ``[N, n, C]``."""
        side, patch = BLOCK // self.patch, self.patch
        cells = (latents @ self.synthesis).view(-1, side, side, 3, patch, patch)
        return cells.permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, BLOCK, BLOCK)


def quantized(latents: Tensor) -> Tensor:
    """Latents in steps to integers, small ones to 0: that saves more bits than the error is worth."""
    return (latents.sign() * torch.floor(latents.abs() + _DEAD_ZONE)).clamp(-LARGEST, LARGEST)


class LoopLevel(nn.Module):
    """One level of the closed loop.

    Args:
        index: The level, 0 the coarsest, which has no base.
        patch: Pixels along a token's side.
    """

    def __init__(self, index: int, patch: int) -> None:
        super().__init__()
        self.index = index
        self.opening, self.key = Kind(patch), Kind(patch)
        self.side = SideModel()
