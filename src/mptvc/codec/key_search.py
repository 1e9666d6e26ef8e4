"""How the encoder predicts a key: the choice of every block by rate and distortion, in luma."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mptvc.codec.stages import stage
from mptvc.model.activity import NUMBERS
from mptvc.model.loop_model import LoopLevel, frequencies
from mptvc.model.motion import BLOCK, UNITS, Reference, blocks_of, camera_vectors, differs_nearby, luma_of
from mptvc.model.prediction import Blend, mean_of, with_low_band
from mptvc.model.side import BASE_CHOICE, BLENDS, FARTHEST, Side, Vector

#: Squared steps of error that a bit is worth.
_BIT_PRICE = 0.15
#: What a latent of one step takes, and each doubling of it, with the error that is left, in squared steps.
_LATENT_COST, _DOUBLING_COST = 0.96, 0.15
#: About what the tables take for a vector of a kind, and for a blend, in bits.
_VECTOR_BITS = {Vector.CAMERA: 1.0, Vector.STILL: 2.0, Vector.OWN: 9.0}
_BLEND_BITS = {
    Blend.NEAR: 0.0,
    Blend.BOTH: 2.0,
    Blend.OVERLAPPED: 1.0,
    Blend.NEAR_LOW: 2.0,
    Blend.OVERLAPPED_LOW: 2.0,
    Blend.NEAR_BASE: 3.0,
}
_BASE_BITS = 2.0
#: Pixels off a fit at which a block's vector counts half.
_LOOSE_PIXELS = 0.5
_FITS = 8


@dataclass(frozen=True)
class KeyPlan:
    """How a key is predicted.

    Attributes:
        camera: Coefficients of the whole picture's motion, int64 ``[2, 3]``.
        side: Choices and vectors.
    """

    camera: Tensor
    side: Side


def fitted_camera(vectors: Tensor) -> Tensor:
    """Coefficients int64 ``[2, 3]`` of an affine motion near most vectors ``[2, h, w]`` in quarter pixels.

    Least squares, repeated with less weight for what is off, so that things with a motion of their own count
    little.
    """
    device, vectors = vectors.device, vectors.cpu()
    _, rows, columns = vectors.shape
    y = ((2 * torch.arange(rows) - rows + 1) / rows)[:, None].expand(rows, columns)
    x = ((2 * torch.arange(columns) - columns + 1) / columns).expand(rows, columns)
    places = torch.stack([y, x, torch.ones(rows, columns)]).flatten(1).double()  # [3, N]
    wanted, weight = vectors.flatten(1).double(), torch.ones(1, rows * columns).double()
    solved = torch.zeros(3, 2).double()
    for _ in range(_FITS):
        weighted = places * weight
        solved = torch.linalg.solve(weighted @ places.T + 1e-3 * torch.eye(3), weighted @ wanted.T)
        apart = (wanted - solved.T @ places).norm(dim=0, keepdim=True) / (UNITS * _LOOSE_PIXELS)
        weight = 1 / (1 + apart.square())
    most = NUMBERS // 2 - 1
    return (16 * solved.T).round().clamp(-most, most).long().to(device)


@stage("planning")
@torch.no_grad()
def planned(
    level: LoopLevel,
    picture: Tensor,
    base: Tensor,
    references: tuple[Reference, Reference | None],
    vectors: Tensor,
    step: float,
) -> KeyPlan:
    """Choose how to predict each block of a key.

    Args:
        level: The level.
        picture: The picture, uint8 ``[3, H, W]``.
        base: What the coarser level says.
        references: The decoded picture before, and the one before that.
        vectors: Where blocks are found in the former, in quarter pixels, int64 ``[2, h, w]``.
        step: Quantization step.
    """
    camera = fitted_camera(vectors)
    planner = _Planner(level, picture, base, references, step)
    return KeyPlan(camera, planner.side(camera_vectors(camera, *vectors.shape[1:]), vectors))


class _Planner:
    """Compares predictions of the blocks of one picture.

    Costs are in squared steps, ``[N]`` for the N blocks.
    """

    def __init__(
        self,
        level: LoopLevel,
        picture: Tensor,
        base: Tensor,
        references: tuple[Reference, Reference | None],
        step: float,
    ) -> None:
        near, far = references
        self._near, self._far = near.luma, None if far is None else far.luma
        self._dct, self._patch, self._has_base = level.key.dct, level.key.patch, level.index > 0
        self._step = step / 3**0.5  # of the mean of three colours
        self._wanted = blocks_of(luma_of(picture).to(torch.int16))
        self._below = blocks_of(luma_of(base).to(torch.int16))

    def side(self, camera: Tensor, vectors: Tensor) -> Side:
        """Choose each block's vector, then how it is blended with what else is there."""
        vector, chosen, moved, cost = self._with_vectors(camera, vectors)
        grid = vectors.shape[1:]
        best, choice = cost, vector * BLENDS
        for blend, blocks in self._blended(chosen, moved).items():
            bits = torch.where(vector == Vector.OWN, _VECTOR_BITS[Vector.OWN], 1.0) + _BLEND_BITS[blend]
            tried = self._costs(blocks) + _BIT_PRICE * bits
            choice = torch.where(tried < best, vector * BLENDS + blend, choice)
            best = torch.minimum(tried, best)
        alone = self._costs(self._below) + _BIT_PRICE * _BASE_BITS
        choice = torch.where(alone < best, BASE_CHOICE, choice).view(grid)
        return Side(choice, torch.where(choice == BASE_CHOICE, camera, chosen), camera)

    def _with_vectors(self, camera: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Number of each block's vector ``[N]``, the vectors ``[2, h, w]``, what they find, and its cost."""
        number = torch.zeros(camera[0].numel(), dtype=torch.int64, device=camera.device)
        chosen, moved = camera.flatten(1).clone(), self._near.moved_blocks(camera)
        best = self._costs(moved) + _BIT_PRICE * _VECTOR_BITS[Vector.CAMERA]
        own = camera + (vectors - camera).clamp(-FARTHEST, FARTHEST)
        for vector, field in ((Vector.STILL, torch.zeros_like(camera)), (Vector.OWN, own)):
            differs = (field != camera).any(0)
            places = torch.nonzero(differs.flatten()).flatten()
            found = self._near.moved_blocks(field, places)
            tried = self._costs(found, places) + _BIT_PRICE * _VECTOR_BITS[vector]
            better = tried < best[places]
            places = places[better]
            number[places], best[places], moved[places] = int(vector), tried[better], found[better]
            chosen[:, places] = field.flatten(1)[:, places]
        return number, chosen.view_as(camera), moved, best

    def _blended(self, vectors: Tensor, moved: Tensor) -> dict[Blend, Tensor]:
        smooth, places = moved.clone(), torch.nonzero(differs_nearby(vectors).flatten()).flatten()
        smooth[places] = self._near.overlapped_blocks(vectors, places)
        tried = {Blend.OVERLAPPED: smooth}
        if self._far is not None:
            tried[Blend.BOTH] = mean_of(moved, self._far.moved_blocks(2 * vectors))
        if self._has_base:
            tried[Blend.NEAR_LOW] = with_low_band(moved, self._below)
            tried[Blend.OVERLAPPED_LOW] = with_low_band(smooth, self._below)
            tried[Blend.NEAR_BASE] = mean_of(moved, self._below)
        return tried

    def _costs(self, blocks: Tensor, places: Tensor | None = None) -> Tensor:
        """About what is left of blocks ``[N, 1, BLOCK, BLOCK]``, or of some, costs once it is coded."""
        wanted = self._wanted if places is None else self._wanted[places]
        side, patch = BLOCK // self._patch, self._patch
        cells = (wanted - blocks).view(-1, side, patch, side, patch).transpose(2, 3)
        latents = frequencies(cells.reshape(-1, patch, patch).float(), self._dct)
        squares = latents.mul_(1 / self._step).square_()
        coded = squares.clamp(min=1).log2_().mul_(_DOUBLING_COST).add_(_LATENT_COST)
        return torch.minimum(squares, coded).view(len(wanted), BLOCK**2).sum(1)
