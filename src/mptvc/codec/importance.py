"""How much of a clip is built on each block: what many frames are predicted from is quantized more finely.

Every frame counts one for a block. What a block takes less than it would by itself, because it is predicted
from others, it hands on to these, along the motion between them and from the last frame that is known back to
the first. Only an encoder asks, so this may use floating point.

Source: Garrett-Glaser, "A novel macroblock-tree algorithm for high-performance optimization of dependent
video coding in H.264/AVC", 2009.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.loop_rate import CHANGE, TEXTURE
from mptvc.model.motion import BLOCK, UNITS
from mptvc.native import calls

#: Quantization step that is assumed, that of level 1 of the packaged weights. With the one that is used,
#: fineness would change with the gain, and with it what is known of how bits grow with gains.
_STEP = 38.0
#: Octaves of the step for each octave of importance.
_SHARE = 1 / 3
#: Sums are of whole parts of this size, so that no order in which they are added changes them.
_FIXED = 2.0**20
#: Frames that are looked at, and from which on a clip's length says nothing of its opening key.
MOST_FRAMES, _MANY_FRAMES = 97, 16


class Rule(NamedTuple):
    """Fineness of a kind of key: the importance at which it is 0, and its bounds."""

    usual: float
    least: int
    most: int


class Role(Enum):
    """What a key is in its clip.

    By training clips of 97 frames, of still and of moving cameras: wider bounds, other powers than a third,
    and the same strength at the finest level as at others gain less.
    """

    OPENING = Rule(8.0, -2, 1)
    KEY = Rule(5.0, -1, 1)  #: with frames between it and the key before
    CHAIN = Rule(3.0, -1, 1)


@dataclass(frozen=True)
class Flow:
    """Where the blocks of a frame of level 0 come from.

    Attributes:
        texture: Mean absolute difference of neighbouring pixels of luma, float32 ``[h, w]``.
        differences: Mean absolute difference from what is found in the frame before, likewise; without one,
            the texture.
        vectors: Where that is, in quarter pixels, int64 ``[2, h, w]``.
    """

    texture: Tensor
    differences: Tensor
    vectors: Tensor


def importances(flows: Sequence[Flow], count: int) -> list[Tensor]:
    """For how many frames each block of the first ones counts, itself included, float32 ``[h, w]`` each.

    Args:
        flows: Of the frames.
        count: How many are asked for.
    """
    amount = torch.ones_like(flows[-1].texture)
    found = [amount]
    for flow in reversed(flows[1:]):
        amount = 1 + _handed_on(amount * _kept(flow), flow.vectors)
        found.append(amount)
    return found[::-1][:count]


def fineness(importance: Tensor, role: Role, unit: float, frames: int = MOST_FRAMES) -> Tensor:
    """Fineness int64 ``[h, w]`` of a key.

    Args:
        importance: As `importances` tells it.
        role: What the key is.
        unit: Octaves of the step that a unit of fineness is.
        frames: Frames for which it may count: a clip of few is not coarser for that, and a frame alone is as
            fine as one that stays.
    """
    usual, least, most = role.value
    octaves = _SHARE * torch.log2(importance / (usual * min(1.0, frames / _MANY_FRAMES)))
    return (octaves / max(unit, 1e-3)).round_().clamp_(least, most).long()


def _kept(flow: Flow) -> Tensor:
    """Which share of what a block takes by itself it does not take, as it is predicted."""
    alone, left = (
        torch.log2(1 + (x / (least * _STEP)) ** power)
        for x, (least, power) in ((flow.texture, TEXTURE), (flow.differences, CHANGE))
    )
    return (1 - left / (alone + 1e-3)).clamp_(0, 1)


def _handed_on(amounts: Tensor, vectors: Tensor) -> Tensor:
    """Sums over what blocks hand to the four that each is found in, by how much of it lies in them."""
    rows, columns = amounts.shape
    given, motion = (calls.array(x.cpu()) for x in (amounts, vectors))
    at = motion / (BLOCK * UNITS)
    at[0] += np.arange(rows)[:, None]
    at[1] += np.arange(columns)
    first, total = np.floor(at), np.zeros(rows * columns)  # of integers, so that no order of sums matters
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = first[0] + down, first[1] + right
        share = (1 - abs(at[0] - row)) * (1 - abs(at[1] - column))
        target = row.clip(0, rows - 1) * columns + column.clip(0, columns - 1)
        handed = (given * share * _FIXED).round()
        total += np.bincount(target.astype(np.int64).ravel(), handed.ravel(), rows * columns)
    found = (total / _FIXED).reshape(rows, columns).astype(np.float32)
    return torch.from_numpy(found).to(amounts.device)
