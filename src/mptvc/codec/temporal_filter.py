"""Noise kept out of the loop: an opening key is averaged with what later frames show of it.

All of a clip is predicted from its opening key. Noise in it would be taken on by every frame where nothing
moves, and be wrong in each; the mean over some frames is nearer to all of them. Of training clips with real,
nearly still cameras some gain 0.2 to 0.8 dB, others and those that move 0 to 0.1. Only an encoder asks, so
this uses floating point.

Source: Wennersten, Enhorn and Sjöberg, "Encoder-only GOP-based temporal filter", JVET-O0549, 2019.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mptvc.codec.slice_motion import LumaPyramid, Pyramid
from mptvc.codec.stages import stage
from mptvc.model.loop_config import LoopConfig
from mptvc.model.motion import Reference
from mptvc.model.prediction import Blend, References, predicted

#: Later frames that are looked at, at most and of so many that there are.
_MOST, _APART = 8, 8
#: Root of the mean squared difference around a pixel at which another frame counts 0.6, and pixels to a side
#: over which that mean is: noise averages out in it, what moves otherwise does not.
_DEVIATION, _AROUND = 2.0, 5


@torch.no_grad()
def filtered(frames: Sequence[Pyramid], config: LoopConfig) -> Pyramid:
    """The first frame without some of its noise.

    Args:
        frames: Of one shot.
        config: Sizes of the levels.
    """
    others = frames[1 : 1 + min(_MOST, len(frames) // _APART)]
    if not others:
        return frames[0]
    picture, luma = frames[0].pictures[-1], LumaPyramid(frames[0])
    total, weights, likely = picture.float(), torch.ones(picture.shape[1:], device=picture.device), None
    for other in others:
        found = luma.found_in(there := LumaPyramid(other), likely)
        likely = found.vectors
        for level in range(1, len(frames[0].pictures)):
            found = luma.refined_in(there, level, found)
        _add(other.pictures[-1], found.vectors, picture, total, weights)
    return Pyramid((total / weights).round_().clamp_(0, 255).to(torch.uint8), config)


@stage("motion search")
def _add(other: Tensor, vectors: Tensor, picture: Tensor, total: Tensor, weights: Tensor) -> None:
    """Add what another frame shows of a picture, where it does, to a weighted sum and its weights."""
    blends = torch.full_like(vectors[0], Blend.NEAR)
    shown = predicted(References(Reference(other), None, (1, 0)), None, vectors, blends)
    apart = torch.zeros_like(weights)
    for theirs, mine in zip(shown, picture, strict=True):  # one by one, as floats take memory
        apart += (theirs.float() - mine).square_()
    around = F.avg_pool2d(apart[None, None], _AROUND, 1, _AROUND // 2, count_include_pad=False)[0, 0]
    weight = around.mul_(-1 / (2 * len(shown) * _DEVIATION**2)).exp_()
    weights += weight
    for into, theirs in zip(total, shown, strict=True):
        into += weight * theirs
