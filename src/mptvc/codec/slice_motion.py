"""The frames of a slice as an encoder sees them: pictures of all levels, and how they move."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.importance import MOST_FRAMES, Flow, Role, fineness, importances
from mptvc.codec.loop_rate import counted
from mptvc.codec.motion_search import Found, Luma, refined, search
from mptvc.codec.plan import fitted_camera
from mptvc.codec.stages import stage
from mptvc.format.slices import BEFORE
from mptvc.model.loop_config import LoopConfig
from mptvc.model.motion import BLOCK, UNITS
from mptvc.model.pyramid import decimated


class Pyramid:
    """The pictures of one frame at every level.

    Args:
        frame: uint8 ``[3, H, W]``, sides of whole tokens of level 0.
        config: Sizes of the levels.
    """

    def __init__(self, frame: Tensor, config: LoopConfig) -> None:
        count = len(config.levels)
        by_shrink = {1: frame}
        for k in reversed(range(count)):
            shrink, size = config.shrink(k), max(by_shrink)
            while size < shrink:
                by_shrink[2 * size] = decimated(by_shrink[size])
                size *= 2
        self.shrinks = [config.shrink(k) for k in range(count)]
        self.pictures = [by_shrink[shrink] for shrink in self.shrinks]


@dataclass(frozen=True)
class Motion:
    """How a frame moves from the one before.

    Attributes:
        vectors: For each level where its blocks are found, int64 ``[2, h, w]``; none without a frame before.
        camera: Coefficients of the whole picture's motion at level 0, int64 ``[2, 3]``.
        change: Differences of luma that are left, as `counted` at each level, ``[levels, sizes]``; those of
            neighbouring pixels where there is no frame before.
        flow: The same of each block of level 0.
    """

    vectors: list[Tensor]
    camera: Tensor
    change: np.ndarray
    flow: Flow


class LumaPyramid:
    """Luma of one frame in all sizes, for motion search.

    Args:
        pyramid: The pictures.
    """

    def __init__(self, pyramid: Pyramid) -> None:
        self._shrinks = pyramid.shrinks
        self._halvings = [shrink.bit_length() - 1 for shrink in pyramid.shrinks]
        self._luma = Luma(pyramid.pictures[-1], self._halvings[0])

    def motion_from(self, before: "LumaPyramid | None") -> Motion:
        """The motion from the frame before; without one, none."""
        if before is None:
            textures = [self._luma.texture(halvings) for halvings in self._halvings]
            still = torch.zeros(2, *textures[0].shape, dtype=torch.int64, device=textures[0].device)
            flow, change = Flow(textures[0], textures[0], still), np.stack(list(map(counted, textures)))
            return Motion([], torch.zeros(2, 3, dtype=torch.int64), change, flow)
        found = [self.found_in(before)]
        for level in range(1, len(self._shrinks)):
            found.append(self.refined_in(before, level, found[-1]))
        camera = fitted_camera(found[-1].vectors, self._shrinks[0])
        change = np.stack([counted(level.differences) for level in found])
        flow = Flow(self._luma.texture(self._halvings[0]), found[0].differences, found[0].vectors)
        return Motion([level.vectors for level in found], camera, change, flow)

    @stage("motion search")
    def found_in(self, other: "LumaPyramid", likely: Tensor | None = None) -> Found:
        """Where another frame shows the blocks of level 0; ``likely`` vectors are tried too."""
        return search(other._luma, self._luma, self._halvings[0], likely)

    @stage("motion search")
    def refined_in(self, other: "LumaPyramid", level: int, coarser: Found) -> Found:
        """Where another frame shows a level's blocks, from where it shows those of the level before."""
        for halvings in reversed(range(self._halvings[level], self._halvings[level - 1])):
            coarser = refined(other._luma, self._luma, halvings, coarser.vectors)
        return coarser


class SliceMotion:
    """The frames of a slice and the motion between them, which is searched where it is asked for.

    Args:
        pyramids: Of the frames.
        motions: Of each frame from the one before, and of frames after the slice that are known.
        before: The frame before the slice, None where there is none.

    Attributes:
        pyramids: The same.
    """

    def __init__(
        self, pyramids: Sequence[Pyramid], motions: Sequence[Motion], before: Pyramid | None
    ) -> None:
        self.pyramids, self._motions = pyramids, motions
        self._frames = dict(enumerate(pyramids))
        if before is not None:
            self._frames[BEFORE] = before
        self._luma: dict[int, LumaPyramid] = {}
        self._found: dict[tuple[int, int, int], Found] = {}

    def vectors(self, level: int, frame: int, reference: int) -> Tensor:
        """Where a frame before or after another one shows its blocks, int64 ``[2, h, w]``."""
        if frame == reference + 1:
            return self._motions[frame].vectors[level]
        return self._search(level, frame, reference).vectors

    def _search(self, level: int, frame: int, reference: int) -> Found:
        place = level, frame, reference
        if place not in self._found:
            looking, other = self._luma_of(frame), self._luma_of(reference)
            if level:
                coarser = self._search(level - 1, frame, reference)
                self._found[place] = looking.refined_in(other, level, coarser)
            else:
                steps = [self._motions[i].vectors[0] for i in range(frame, reference, -1)]
                self._found[place] = looking.found_in(other, _followed(steps) if steps else None)
        return self._found[place]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.pyramids)

    @property
    def change(self) -> np.ndarray:
        """How much the frames differ from those before, as `Motion.change`, summed."""
        motions = self._motions[: len(self)]
        total: np.ndarray = np.stack([motion.change for motion in motions]).sum(0)
        return total

    def fineness(self, frame: int, role: Role, unit: float) -> Tensor:
        """Fineness int64 ``[h, w]`` that a key of level 0 is worth; a unit of it is so much of an octave."""
        known = len(self._motions) if role is Role.OPENING else MOST_FRAMES
        return fineness(self._importances[frame], role, unit, known)

    @cached_property
    def _importances(self) -> list[Tensor]:
        return importances([motion.flow for motion in self._motions[:MOST_FRAMES]], len(self))

    def camera(self, frame: int, reference: int) -> Tensor:
        """Coefficients of the whole picture's motion at level 0, int64 ``[2, 3]``."""
        if frame == reference + 1:
            return self._motions[frame].camera
        return fitted_camera(self.vectors(0, frame, reference))

    def _luma_of(self, frame: int) -> LumaPyramid:
        if frame not in self._luma:
            self._luma[frame] = LumaPyramid(self._frames[frame])
        return self._luma[frame]


def _followed(fields: Sequence[Tensor]) -> Tensor:
    """Vectors ``[2, h, w]`` through several pictures: those of each block found on the way are added."""
    total = fields[0]
    _, rows, columns = total.shape
    y = torch.arange(rows, device=total.device)[:, None] * BLOCK * UNITS
    x = torch.arange(columns, device=total.device) * BLOCK * UNITS
    for field in fields[1:]:
        row, column = (
            (at + v + BLOCK * UNITS // 2) // (BLOCK * UNITS) for at, v in zip((y, x), total, strict=True)
        )
        total = total + field[:, row.clamp(0, rows - 1), column.clamp(0, columns - 1)]
    return total
