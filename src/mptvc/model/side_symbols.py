"""How every block of a picture is predicted: choices and vectors, beside what others say of them."""

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

import torch
from torch import Tensor

from mptvc.model.contexts import looked_up, repeated
from mptvc.model.integer_network import REACH
from mptvc.model.motion import camera_vectors
from mptvc.model.prediction import Blend, scaled
from mptvc.native import calls


class Vector(IntEnum):
    """Which vector a block has."""

    CAMERA = 0  #: that of the whole picture's motion at its place
    STILL = 1  #: none
    OWN = 2  #: one of its own, which is coded
    PARENT = 3  #: that of the parent's block at its place


#: Choices with a vector: ``vector * BLENDS + blend``; the last one is the base alone.
BLENDS = int(Blend.BASE)
BASE_CHOICE = len(Vector) * BLENDS
CHOICES = BASE_CHOICE + 1
#: The blend of each.
_BLENDS = *len(Vector) * tuple(range(BLENDS)), int(Blend.BASE)
#: Farthest that a vector of its own may be from the camera's, in quarter pixels along each axis.
FARTHEST = REACH


@dataclass(frozen=True)
class Side:
    """How a picture is predicted.

    Attributes:
        choices: Of each block, int64 ``[h, w]``, below ``CHOICES``.
        vectors: Its vector in quarter pixels, whichever it is, int64 ``[2, h, w]``.
        coefficients: Of the whole picture's motion, int64 ``[2, 3]``, as `motion.camera_vectors` takes them.
    """

    choices: Tensor
    vectors: Tensor
    coefficients: Tensor

    @cached_property
    def camera(self) -> Tensor:
        """The vectors that the whole picture's motion gives blocks, int64 ``[2, h, w]``."""
        return camera_vectors(self.coefficients, *self.choices.shape)

    @property
    def own(self) -> Tensor:
        """Which blocks have a vector of their own, bool ``[h, w]``."""
        return self.choices // BLENDS == Vector.OWN

    @property
    def is_still(self) -> Tensor:
        """Which blocks do not move whatever the camera does, bool ``[h, w]``."""
        return self.choices // BLENDS == Vector.STILL

    @cached_property
    def moves(self) -> bool:
        """Whether some block or the camera does."""
        return any(bool(calls.array(x.cpu()).any()) for x in (self.vectors, self.coefficients))

    @cached_property
    def blends(self) -> Tensor:
        """Blend of each block, int64 ``[h, w]``."""
        return looked_up(_BLENDS, self.choices)


@dataclass(frozen=True)
class Known:
    """What is known of a picture before its side symbols are.

    Attributes:
        before: Those of the picture of its kind before; None without one.
        parent: Those of its parent, with as many blocks, or half as many on each side; None without one.
        likely: Coefficients int64 ``[2, 3]`` that its own, of which differences are coded, may be near; None
            where they are the parent's, or are coded as they are.
        has_path: Whether vectors of others count from where their cameras lead.
    """

    before: Side | None
    parent: Side | None
    likely: Tensor | None = None
    has_path: bool = False

    def before_on(self, camera: Tensor) -> Side | None:
        """The picture before, as the picture's own camera would see it move, ``[2, h, w]``."""
        if self.before is None or not self.has_path:
            return self.before
        return replace(self.before, vectors=camera + self.before.vectors - self.before.camera)

    def line_on(self, camera: Tensor) -> Tensor:
        """Vectors int64 ``[2, h, w]`` that the parent makes likely beside those of the camera."""
        line, grid = parent_vectors(self.parent, camera), camera.shape[1:]
        if self.parent is None or not self.has_path:
            return line
        return camera + line - camera_vectors(factor_of(self.parent, grid) * self.parent.coefficients, *grid)


def base_alone(grid: Tensor) -> Side:
    """Side symbols of a picture of blocks ``[h, w]`` that is predicted from its base alone."""
    nothing = torch.zeros_like(grid, dtype=torch.int64)
    return Side(nothing + BASE_CHOICE, nothing.expand(2, -1, -1), nothing.new_zeros(2, 3))


def part_of(side: Side, numerator: int, denominator: int) -> Side:
    """Side symbols of a picture that has gone so many times another one's way, less or more."""
    if numerator == denominator or not side.moves:
        return side
    vectors, coefficients = (scaled(x, numerator, denominator) for x in (side.vectors, side.coefficients))
    return Side(side.choices, vectors, coefficients)


def parent_coefficients(parent: Side | None, grid: tuple[int, int]) -> Tensor | None:
    """Coefficients of the whole picture's motion as the parent has them, for a grid of blocks."""
    return None if parent is None else factor_of(parent, grid) * parent.coefficients


def factor_of(parent: Side, grid: tuple[int, ...]) -> int:
    """How many times larger pictures are than their parents."""
    return 1 if tuple(parent.choices.shape) == tuple(grid) else 2


def parent_vectors(parent: Side | None, camera: Tensor) -> Tensor:
    """Vectors of a parent's blocks for a picture's, int64 ``[2, h, w]``; without a parent the camera's.

    Where a block is predicted from no vector, the parent's camera gives one.
    """
    if parent is None:
        return camera
    grid = camera.shape[1:]
    return factor_of(parent, grid) * torch.stack([spread(vectors, grid) for vectors in parent.vectors])


def spread(coarse: Tensor, grid: torch.Size) -> Tensor:
    """A parent's blocks for a grid of as many or twice as many along each side."""
    factor = 1 if coarse.shape == grid else 2
    return repeated(coarse, factor)[: grid[0], : grid[1]]
