"""How the encoder predicts a picture: the choice of every block by rate and distortion.

By luma alone: planning in all colours gains 0.03 dB at level 0 and less elsewhere, at three times the cost.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.stages import stage
from mptvc.model.dct import frequencies
from mptvc.model.exchange import NUMBERS
from mptvc.model.loop_model import LoopLevel
from mptvc.model.motion import BLOCK, MARGIN, UNITS, blocks_of, camera_vectors, differs_nearby, luma_of
from mptvc.model.prediction import Blend, References, mean_of
from mptvc.model.side_symbols import BASE_CHOICE, BLENDS, FARTHEST, Known, Side, Vector, parent_coefficients
from mptvc.native import calls
from mptvc.native import choices as kernels

#: Squared steps of error that a bit is worth.
_BIT_PRICE = 0.15
#: What a latent of one step takes, and each doubling of it, with the error that is left, in squared steps.
_LATENT_COST, _DOUBLING_COST = 0.96, 0.15
#: What vectors and blends usually take, in bits. Costs lie halfway between this and what the tables say:
#: choices by these alone repeat what was chosen before, for 0.1 to 0.3 dB less at 0.02 bits per pixel.
_VECTOR_BITS = {Vector.CAMERA: 1.0, Vector.STILL: 2.0, Vector.OWN: 2.0, Vector.PARENT: 1.0}
_BLEND_BITS = {
    False: {Blend.NEAR: 0.0, Blend.BOTH: 2.0, Blend.OVERLAPPED: 1.0, Blend.NEAR_BASE: 3.0},
    True: {
        Blend.BOTH: 0.0,
        Blend.NEAR: 2.0,
        Blend.FAR: 2.0,
        Blend.BOTH_OVERLAPPED: 1.0,
        Blend.BOTH_BASE: 3.0,
    },
}
_BASE_BITS = 2.0
#: About what the tables take for a vector of its own, and for each doubling of what is unlikely in it.
_OWN_BITS, _FAR_BITS = 3.0, 1.6
_USUAL_BITS = {
    is_between: [_VECTOR_BITS[v] + bits.get(Blend(b), 0.0) for v in Vector for b in range(BLENDS)]
    + [_BASE_BITS]
    for is_between, bits in _BLEND_BITS.items()
}
#: Pixels off a fit at which a block's vector counts half.
_LOOSE_PIXELS = 0.5
_FITS = 8
#: Blocks whose costs are computed at once.
_AT_ONCE = 512
#: Costs up to this are not worth a further try.
_GOOD = 2.0
#: How often vectors a quarter pixel around the best one are tried, while that helps: search knows differences
#: and not costs. On eight training crops once gives 0.04 / 0.10 / 0.03 dB, twice 0.07 / 0.15 / 0.06, four
#: times no more.
_ROUNDS = 3
#: About what each doubling of a difference of coefficients takes.
_CAMERA_BITS = 1.5


def fitted_camera(vectors: Tensor, shrink: int = 1) -> Tensor:
    """Coefficients int64 ``[2, 3]`` of an affine motion near most vectors ``[2, h, w]`` in quarter pixels.

    They are those of a picture ``shrink`` times smaller.
    Least squares, repeated with less weight for what is off, so that things with a motion of their own count
    little.
    """
    _, rows, columns = vectors.shape
    y, x = ((2 * np.arange(n) - n + 1) / n for n in (rows, columns))
    places = np.stack([*np.broadcast_arrays(y[:, None], x), np.ones((rows, columns))]).reshape(3, -1)
    wanted, weight = calls.array(vectors.cpu()).reshape(2, -1).astype(np.float64), np.ones(rows * columns)
    for _ in range(_FITS):
        weighted = places * weight
        solved = np.linalg.solve(weighted @ places.T + 1e-3 * np.eye(3), weighted @ wanted.T)
        apart = np.square(wanted - solved.T @ places).sum(0)
        weight = 1 / (1 + apart / (UNITS * _LOOSE_PIXELS) ** 2)
    most = NUMBERS // 2 - 1
    found = (16 / shrink * solved.T).round().clip(-most, most)
    return torch.from_numpy(found.astype(np.int64)).to(vectors.device)


@stage("planning")
@torch.no_grad()
def planned(
    level: LoopLevel,
    picture: Tensor,
    base: Tensor,
    references_on: Callable[[Tensor], References],
    known: Known,
    vectors: Sequence[Tensor],
    camera: Tensor,
    steps: Tensor,
) -> Side:
    """Choose how to predict each block of a picture.

    Args:
        level: The level.
        picture: The picture, uint8 ``[3, H, W]``.
        base: What the coarser level says.
        references_on: Decoded pictures, where coefficients say how the whole picture moves.
        known: What is known of its side symbols.
        vectors: Where blocks may be found in the picture before and, where it lies between two, in the one
            behind, in quarter pixels, int64 ``[2, h, w]`` each.
        camera: Coefficients of the whole picture's motion, int64 ``[2, 3]``, which are used where they can be
            coded.
        steps: Quantization step of each block, float32 ``[h, w]``.
    """
    grid = steps.shape[0], steps.shape[1]
    coefficients = _chosen_camera(known, camera, vectors[0])
    references = references_on(coefficients)
    moved = camera_vectors(coefficients, *grid)
    bits = level.predicted(references.are_around).side.choice_bits(known, grid).flatten(0, 1)
    bits = (bits + bits.new_tensor(_USUAL_BITS[references.are_around])) / 2  # of each choice, [N, CHOICES]
    wanted, below, references = luma_of(picture), luma_of(base), references.luma
    fields = [vectors[0], *(references.nearer(field) for field in vectors[1:])]
    own = [moved + (field - moved).clamp(-FARTHEST, FARTHEST) for field in fields]
    parent, given = known.line_on(moved), (level, wanted, below, references, bits, steps)
    if calls.serve(picture.device):
        choices, chosen = _chosen_at_once(*given, parent, moved, own)
    else:
        choices, chosen = _Planner(*given).choose(moved, parent, own)
    return Side(choices, chosen, coefficients)


def _chosen_camera(known: Known, camera: Tensor, vectors: Tensor) -> Tensor:
    """Coefficients of the whole picture's motion, which take few bits with its blocks' vectors."""
    grid = vectors.shape[1], vectors.shape[2]
    likely = known.likely
    if likely is None:
        coefficients = parent_coefficients(known.parent, grid)
        return camera if coefficients is None else coefficients
    tried = [likely, torch.zeros_like(likely), camera]
    bits = [
        _CAMERA_BITS * float(torch.log2(1.0 + (one - likely).abs()).sum())
        + float(torch.log2(1.0 + (vectors - camera_vectors(one, *grid)).abs().sum(0)).sum())
        for one in tried
    ]
    return tried[bits.index(min(bits))]


def _chosen_at_once(
    level: LoopLevel,
    picture: Tensor,
    base: Tensor,
    references: References,
    bits: Tensor,
    steps: Tensor,
    parent: Tensor,
    camera: Tensor,
    own: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """Choices ``[h, w]`` and vectors ``[2, h, w]`` of a picture's blocks, by a compiled kernel.

    Args:
        level: The level.
        picture: Luma of what is wanted, uint8 ``[1, H, W]``.
        base: Luma of what the coarser level says.
        references: Decoded pictures in luma.
        bits: Of each block's choices, float32 ``[N, CHOICES]``.
        steps: Quantization step of each block, float32 ``[h, w]``.
        parent: Vectors that the parent makes likely, int64 ``[2, h, w]``.
        camera: Those of the whole picture's motion.
        own: Those that blocks may have of their own.
    """
    kind, far = level.predicted(references.are_around), references.far
    fields = [(Vector.CAMERA, camera), (Vector.STILL, torch.zeros_like(camera)), (Vector.PARENT, parent)]
    fields += [(Vector.OWN, field) for field in own]
    found, chosen = kernels.planned(
        (
            kind.patch,
            MARGIN,
            *references.apart,
            int(references.are_around),
            int(level.index > 0),
            FARTHEST,
            _ROUNDS,
        ),
        (_BIT_PRICE, _GOOD, _OWN_BITS, _FAR_BITS, _LATENT_COST, _DOUBLING_COST),
        (references.near.planes.numpy(), None if far is None else far.planes.numpy()),
        (picture[0].numpy(), base[0].numpy()),
        (calls.array(kind.colours[0].sum() / steps), calls.array(bits), kind.dct.numpy()),
        calls.array(parent),
        None if references.bend is None else calls.array(references.bend),
        [(int(vector), calls.array(field)) for vector, field in fields],
        lambda vectors: calls.array(references.further(torch.from_numpy(vectors))),
    )
    choices, vectors = torch.from_numpy(found), torch.from_numpy(chosen)
    return choices, torch.where(choices == BASE_CHOICE, camera, vectors)


@dataclass
class _Chosen:
    """The best vector of each block so far.

    Attributes:
        numbers: Which kind of vector it is, int64 ``[N]``.
        vectors: The vectors, int64 ``[2, h, w]``.
        blocks: What they find ``[N, C, BLOCK, BLOCK]``.
        costs: Float32 ``[N]``.
        may_improve: Blocks that the last round helped, bool ``[N]``; at first all.
    """

    numbers: Tensor
    vectors: Tensor
    blocks: Tensor
    costs: Tensor

    def __post_init__(self) -> None:
        self.may_improve = torch.ones_like(self.numbers, dtype=torch.bool)


class _Planner:
    """Compares predictions of the blocks of one picture.

    Costs are in squared steps, ``[N]`` for the N blocks.
    """

    def __init__(
        self,
        level: LoopLevel,
        picture: Tensor,
        base: Tensor,
        references: References,
        bits: Tensor,
        steps: Tensor,
    ) -> None:
        kind = level.predicted(references.are_around)
        self._dct, self._patch, self._has_base = kind.dct, kind.patch, level.index > 0
        self._is_between, self._bits = references.are_around, bits
        self._scales = (kind.colours[0].sum() / steps).view(-1, 1, 1, 1)
        self._references = references
        self._wanted, self._below = (blocks_of(x.to(torch.int16)) for x in (picture, base))
        self._plain = Blend.BOTH if self._is_between else Blend.NEAR

    def choose(self, camera: Tensor, parent: Tensor, own: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Choose each block's vector, then how it is blended with what else is there: choices, vectors."""
        found = self._with_vectors(camera, parent, own)
        for _ in range(_ROUNDS):
            if not self._improve(found, camera, parent):
                break
        choice, best = found.numbers * BLENDS + self._plain, found.costs
        extra = self._own_bits(found.vectors, parent) * (found.numbers == Vector.OWN)
        for blend, places, blocks in self._blended(
            found.vectors, found.blocks, torch.nonzero(best > _GOOD).flatten()
        ):
            mixed = BASE_CHOICE if blend == Blend.BASE else found.numbers[places] * BLENDS + blend
            bits = self._bits[places, mixed] + (0 if blend == Blend.BASE else extra[places])
            tried = self._costs(blocks, places) + _BIT_PRICE * bits
            better = tried < best[places]
            choice[places] = torch.where(better, mixed, choice[places])
            best[places] = torch.minimum(tried, best[places])
        choice = choice.view(camera.shape[1:])
        return choice, torch.where(choice == BASE_CHOICE, camera, found.vectors)

    def _with_vectors(self, camera: Tensor, parent: Tensor, own: Sequence[Tensor]) -> _Chosen:
        """The best of some vectors for each block."""
        numbers = torch.zeros(camera[0].numel(), dtype=torch.int64, device=camera.device)
        blocks = self._found(camera, torch.arange(len(numbers), device=camera.device))
        costs = self._costs(blocks) + _BIT_PRICE * self._bits[:, Vector.CAMERA * BLENDS + self._plain]
        found = _Chosen(numbers, camera.clone(), blocks, costs)
        fields = [(Vector.STILL, torch.zeros_like(camera)), (Vector.PARENT, parent)]
        fields += [(Vector.OWN, field) for field in own]
        tried_before = [camera]
        for vector, field in fields:
            differs = torch.stack([(field != other).any(0) for other in tried_before]).all(0)
            self._try(found, vector, field, parent, differs.flatten() & (found.costs > _GOOD))
            tried_before.append(field)
        return found

    def _improve(self, found: _Chosen, camera: Tensor, parent: Tensor) -> bool:
        """Try vectors a quarter pixel around; whether one is better. What none helped is not tried again."""
        start, tried = found.vectors.clone(), found.may_improve & (found.costs > _GOOD)
        found.may_improve = torch.zeros_like(tried)
        for offset in product((-1, 0, 1), repeat=2):
            field = start + start.new_tensor(offset)[:, None, None]
            is_near = ((field - camera).abs() <= FARTHEST).all(0).flatten()
            if any(offset):
                better = self._try(found, Vector.OWN, field, parent, tried & is_near)
                found.may_improve[better] = True
        return bool(found.may_improve.any())

    def _try(self, found: _Chosen, vector: Vector, field: Tensor, parent: Tensor, where: Tensor) -> Tensor:
        """Take vectors for blocks ``where``, bool ``[N]``, they cost less; places of these, int64 ``[n]``."""
        places = torch.nonzero(where).flatten()
        bits = self._bits[places, vector * BLENDS + self._plain]
        if vector == Vector.OWN:
            bits = bits + self._own_bits(field, parent)[places]
        blocks = self._found(field, places)
        tried = self._costs(blocks, places) + _BIT_PRICE * bits
        better = tried < found.costs[places]
        places = places[better]
        found.numbers[places], found.costs[places] = int(vector), tried[better]
        found.blocks[places] = blocks[better]
        found.vectors.flatten(1)[:, places] = field.flatten(1)[:, places]
        return places

    def _found(self, vectors: Tensor, places: Tensor) -> Tensor:
        return self._references.moved(vectors, places, both=self._is_between)

    @staticmethod
    def _own_bits(own: Tensor, likely: Tensor) -> Tensor:
        """About what vectors of their own take ``[N]``."""
        apart = (own - likely).abs().flatten(1).float()
        return _OWN_BITS + _FAR_BITS * torch.log2(1 + apart).sum(0)

    def _blended(
        self, vectors: Tensor, moved: Tensor, places: Tensor
    ) -> Iterator[tuple[Blend, Tensor, Tensor]]:
        """What is worth a try in some places: the blend, where, and the blocks there."""
        references, both = self._references, self._is_between
        differing = places[differs_nearby(vectors).flatten()[places]]
        smooth = Blend.BOTH_OVERLAPPED if both else Blend.OVERLAPPED
        yield smooth, differing, references.overlapped(vectors, differing, both=both)
        plain, below = moved[places], self._below[places]
        if both:
            yield Blend.NEAR, places, references.near.moved_blocks(vectors, places)
            yield Blend.FAR, places, references.beyond(vectors, places)
        elif references.far is not None:
            yield Blend.BOTH, places, mean_of(plain, references.beyond(vectors, places))
        if self._has_base:
            yield Blend.BOTH_BASE if both else Blend.NEAR_BASE, places, mean_of(plain, below)
        yield Blend.BASE, places, below

    def _costs(self, blocks: Tensor, places: Tensor | None = None) -> Tensor:
        """About what is left of blocks ``[N, C, BLOCK, BLOCK]``, or of some, costs once it is coded."""
        wanted, scales = (x if places is None else x[places] for x in (self._wanted, self._scales))
        parts = zip(*(torch.split(x, _AT_ONCE) for x in (wanted, blocks, scales)), strict=True)
        return torch.cat([self._costs_of((mine - found) * scale) for mine, found, scale in parts])

    def _costs_of(self, apart: Tensor) -> Tensor:
        """The same of differences in steps, few enough to stay in the cache."""
        side, patch = BLOCK // self._patch, self._patch
        cells = apart.view(-1, side, patch, side, patch).transpose(2, 3)
        latents = frequencies(cells.reshape(-1, patch, patch), self._dct)
        squares = latents.square_()
        coded = squares.clamp(min=1).log2_().mul_(_DOUBLING_COST).add_(_LATENT_COST)
        return torch.minimum(squares, coded).view(len(apart), BLOCK**2).sum(1)
