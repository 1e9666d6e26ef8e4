"""Where the camera is at every frame of a slice, and what vectors follow from that.

A pose is the six coefficients (see `motion.camera_vectors`) of the camera's motion from the last frame before
the slice, int64 ``[2, 3]`` in pixels of level 0. Level 0 codes the motion of each frame, so finer levels know
it between any two.
"""

from dataclasses import replace

import torch
from torch import Tensor

from mptvc.codec.pictures import CodedPicture
from mptvc.format.slices import BEFORE, LONG_BEFORE, Turn
from mptvc.model.motion import camera_vectors
from mptvc.model.prediction import References, scaled
from mptvc.model.side_symbols import Side, part_of
from mptvc.native import calls, pictures


class CameraPath:
    """The camera's path through one level of a slice.

    Args:
        scale: How many times larger the level's pictures are than those of level 0.
        long_before: Pose of the opening key; None where that is the last frame before the slice.
        device: Where tensors are.
    """

    def __init__(self, scale: int, long_before: Tensor | None, device: torch.device) -> None:
        self._scale, self._still = scale, torch.zeros(2, 3, dtype=torch.int64, device=device)
        far = self._still if long_before is None else long_before
        self._poses = {BEFORE: self._still, LONG_BEFORE: far}

    def add(self, index: int, pose: Tensor) -> None:
        """Note the pose of a frame."""
        self._poses[index] = pose

    def seen_from(self, index: int, other: int) -> Tensor:
        """Pose of one frame where another one is the last before a slice."""
        return self._poses[index] - self._poses[other]

    def pose(self, turn: Turn, coefficients: Tensor, coarser: CodedPicture | None) -> Tensor:
        """Pose of a frame that moves so from the one near it, as level 0 says."""
        if coarser is not None and coarser.pose is not None:
            return coarser.pose
        return self._poses[turn.near] + coefficients

    def likely(self, before: Side | None, whole: Side | None) -> Tensor:
        """Coefficients of a picture of level 0 if the camera goes straight on, or straight through."""
        if whole is not None:
            return whole.coefficients
        return self._still if before is None else before.coefficients

    def bent(self, references: References, turn: Turn, coefficients: Tensor, pose: Tensor) -> References:
        """References of a picture with that pose, with what vectors to the far one are off straight lines."""
        grid, to_far = references.near.grid, self._scale * (pose - self._poses[turn.far])
        if calls.serve(to_far.device):
            ways = calls.array(coefficients), calls.array(to_far)
            moves = ways[0].any() or ways[1].any()  # else nothing is off
            found = pictures.bend(*ways, references.apart, grid) if moves else None
            bend = None if found is None else torch.from_numpy(found)
        else:
            apart = camera_vectors(to_far, *grid) - references.further(camera_vectors(coefficients, *grid))
            bend = apart if bool(apart.any()) else None
        return references if bend is None else replace(references, bend=bend)

    def followed(self, coarser: CodedPicture, turn: Turn) -> Side | None:
        """How a picture is predicted at the coarser level, as if from the same frame as at this one."""
        side, pose = coarser.side, coarser.pose
        if side is None or pose is None:
            return None
        scale = side.choices.shape[0] // coarser.fineness.shape[0]  # of the coarser level
        coefficients = scale * (pose - self._poses[turn.near])
        is_as_far = turn.apart == coarser.apart or not side.moves
        if is_as_far and torch.equal(coefficients, side.coefficients):
            return side
        camera = camera_vectors(coefficients, *side.choices.shape)
        own = scaled(side.vectors - side.camera, turn.apart, coarser.apart)
        return Side(side.choices, torch.where(side.is_still, 0, camera + own), coefficients)


def as_far(other: CodedPicture | None, turn: Turn) -> Side | None:
    """How another picture is predicted, its vectors as if it were as far from where they lead as this one."""
    if other is None or other.side is None:
        return None
    return part_of(other.side, turn.apart, other.apart)
