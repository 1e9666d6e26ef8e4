"""How the encoder predicts a key: the choice of every block by rate and distortion."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mptvc.model.loop_model import Kind, quantized
from mptvc.model.motion import UNITS, Reference, blocks_of, camera_vectors
from mptvc.model.prediction import Blend, predict_key, with_low_band
from mptvc.model.side import BASE_CHOICE, BLENDS, FARTHEST, Side, Vector

#: Squared steps of error that a bit is worth.
_BIT_PRICE = 0.15
#: About what the tables take for a vector of a kind, and for a blend, in bits.
_VECTOR_BITS = {Vector.CAMERA: 1.0, Vector.STILL: 2.0, Vector.OWN: 9.0}
_BLEND_BITS = {Blend.NEAR: 0.0, Blend.BOTH: 2.0, Blend.NEAR_LOW: 2.0, Blend.NEAR_BASE: 3.0}
_BASE_BITS = 2.0
#: Pixels off a fit at which a block's vector counts half.
_LOOSE_PIXELS = 0.5
_FITS = 8
#: Largest coefficient of camera motion.
_MOST = 2**13 - 1


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
    return (16 * solved.T).round().clamp(-_MOST, _MOST).long()


class _Costs:
    """Squared error and price of bits of every block, for a prediction of it.

    Args:
        kind: Transform of what prediction leaves.
        picture: The picture, uint8 ``[3, H, W]``.
        step: Quantization step.
    """

    def __init__(self, kind: Kind, picture: Tensor, step: float) -> None:
        self._kind, self._step = kind, step
        self._wanted = blocks_of(picture.to(torch.int16))

    def __call__(self, blocks: Tensor, bits: float) -> Tensor:
        """Costs ``[N]`` in squared steps of predictions ``[N, 3, BLOCK, BLOCK]`` that take so many bits."""
        latents = self._kind.latents(self._wanted - blocks) / self._step
        symbols = quantized(latents)
        coded = (symbols != 0) * (6 + 2 * torch.log2(symbols.abs().clamp(min=1)))
        return ((latents - symbols).square() + _BIT_PRICE * coded).sum((1, 2)) + _BIT_PRICE * bits


def planned(
    kind: Kind,
    picture: Tensor,
    base: Tensor,
    references: tuple[Reference, Reference | None],
    vectors: Tensor,
    step: float,
    *,
    has_base: bool,
) -> KeyPlan:
    """Choose how to predict each block of a key.

    Args:
        kind: Transform of what prediction leaves.
        picture: The picture, uint8 ``[3, H, W]``.
        base: What the coarser level says.
        references: The decoded picture before, and the one before that.
        vectors: Where blocks are found in the former, in quarter pixels, int64 ``[2, h, w]``.
        step: Quantization step.
        has_base: Whether the base says anything of this picture: it does not at level 0.
    """
    _, rows, columns = vectors.shape
    camera = fitted_camera(vectors)
    fields = _fields(vectors, camera_vectors(camera, rows, columns))
    costs, below = _Costs(kind, picture, step), blocks_of(base.to(torch.int16))
    tried = list(_candidates(costs, below, references, fields, has_base=has_base))
    best = torch.stack([cost for _, cost in tried]).argmin(0)
    choices = torch.tensor([choice for choice, _ in tried])[best].view(rows, columns)
    side = Side(choices, _chosen_vectors(choices, fields))
    return KeyPlan(camera, _overlapped(costs, below, references, side, base, has_base=has_base))


def _fields(vectors: Tensor, camera: Tensor) -> dict[Vector, Tensor]:
    own = camera + (vectors - camera).clamp(-FARTHEST, FARTHEST)
    return {Vector.CAMERA: camera, Vector.STILL: torch.zeros_like(camera), Vector.OWN: own}


def _candidates(
    costs: _Costs,
    below: Tensor,
    references: tuple[Reference, Reference | None],
    fields: dict[Vector, Tensor],
    *,
    has_base: bool,
) -> Iterator[tuple[int, Tensor]]:
    """Choices without overlapping, each with the costs ``[N]`` of all blocks."""
    near, far = references
    yield BASE_CHOICE, costs(below, _BASE_BITS)
    for vector, field in fields.items():
        moved, bits = near.moved_blocks(field), _VECTOR_BITS[vector]
        tried = {Blend.NEAR: moved}
        if far is not None:
            tried[Blend.BOTH] = (moved + far.moved_blocks(2 * field) + 1) >> 1
        if has_base:
            tried[Blend.NEAR_LOW] = with_low_band(moved, below)
            tried[Blend.NEAR_BASE] = (moved + below + 1) >> 1
        for blend, blocks in tried.items():
            yield vector * BLENDS + blend, costs(blocks, bits + _BLEND_BITS[blend])


def _chosen_vectors(choices: Tensor, fields: dict[Vector, Tensor]) -> Tensor:
    vectors = fields[Vector.CAMERA].clone()
    for vector in (Vector.STILL, Vector.OWN):
        mine = choices // BLENDS == vector
        vectors[:, mine] = fields[vector][:, mine]
    return vectors


def _overlapped(
    costs: _Costs,
    below: Tensor,
    references: tuple[Reference, Reference | None],
    side: Side,
    base: Tensor,
    *,
    has_base: bool,
) -> Side:
    """Blend blocks with what their neighbours' vectors find where that is better than what was chosen."""
    near, far = references
    chosen = blocks_of(predict_key(near, far, base, side.vectors, side.blends).to(torch.int16))
    smooth = blocks_of(near.overlapped(side.vectors))
    tried = [costs(chosen, 0.0), costs(smooth, 1.0)]
    if has_base:
        tried.append(costs(with_low_band(smooth, below), 2.0))
    best = torch.stack(tried).argmin(0).view(side.choices.shape)
    vector = torch.where(side.choices == BASE_CHOICE, int(Vector.CAMERA), side.choices // BLENDS)
    choices = torch.where(best == 1, vector * BLENDS + Blend.OVERLAPPED, side.choices)
    choices = torch.where(best == 2, vector * BLENDS + Blend.OVERLAPPED_LOW, choices)
    return Side(choices, side.vectors)
