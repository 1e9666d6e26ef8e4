"""The entropy model of a picture's side symbols: how every block is predicted, and the vectors of its own.

A picture may have a **parent** that says much of it already: the same picture at the coarser level or, at
level 0, the one on whose way it lies. First comes the motion of the whole picture, six coefficients: at level
0, where cameras have a path, as differences from those of the parent or else of the picture of its kind
before, on the same straight line; otherwise as they are, where there is no parent. A block's **choice** says
which vector it has and which blend (see `prediction`). Choices are coded under those of the picture of the
same kind before and, for the second half of a checkerboard, of the four neighbours, or of the parent for the
first. Then come the vectors of blocks that have one of their own, as differences from what the neighbours',
the parent or the picture before make likely. Where cameras have a path, vectors of the last two count from
where their cameras lead, for as many frames as the picture's own. Integers and tables alone, as in
`activity`.
"""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mptvc.model.contexts import checkerboard, sum_of_neighbours
from mptvc.model.exchange import DIGIT, NUMBERS, Exchange, even_frequencies, exchanged, exchanged_numbers
from mptvc.model.integer_network import (
    FRACTIONS,
    PRECISION,
    integer_frequencies,
    logistic_frequencies,
)
from mptvc.model.motion import camera_vectors
from mptvc.model.prediction import Blend
from mptvc.model.side_symbols import (
    BASE_CHOICE,
    BLENDS,
    CHOICES,
    FARTHEST,
    Known,
    Side,
    Vector,
    parent_coefficients,
    spread,
)
from mptvc.native import calls, entropy, walks

#: Kinds of choices that contexts tell apart, and "nothing is known".
KINDS, _UNKNOWN = 11, 10
#: Rows for vectors, and the row of a scale whose mean is 0.
SCALES, CENTRED = 48, 2
#: Rows for differences of cameras: by digit, whether a coefficient is the constant one, and whether any is
#: likely to be anything but 0.
CAMERA_ROWS = 8
#: Degrees of doubt about vectors that contexts tell apart.
_SIZES = 8


class Table(IntEnum):
    """Numbers of the tables of a side model."""

    CHOICES = 0
    VECTORS = 1
    DIGITS = 2
    CAMERA = 3


class SideModel(nn.Module):
    """The entropy model of the side symbols of one kind of picture at one level.

    Attributes:
        choice_frequencies: int32 ``[2 KINDS^2, CHOICES]``, each row summing to 2^24.
        vector_frequencies: int32 ``[SCALES, ALPHABET]``, likewise.
        scale_of: Row of a vector's differences for each half and size, uint8 ``[2, _SIZES]``.
        camera_frequencies: Where cameras are coded as differences, int32 ``[CAMERA_ROWS, DIGIT + 1]``.
    """

    choice_frequencies: Tensor
    vector_frequencies: Tensor
    scale_of: Tensor
    camera_frequencies: Tensor | None
    kinds: Tensor

    def __init__(self, *, has_camera: bool = False) -> None:
        super().__init__()
        even = integer_frequencies(np.ones((2 * KINDS**2, CHOICES)))
        rows = logistic_frequencies(SCALES)[CENTRED::FRACTIONS]
        sizes = torch.arange(_SIZES, dtype=torch.uint8)
        self.register_buffer("choice_frequencies", even)
        self.register_buffer("vector_frequencies", rows.clone())
        self.register_buffer("scale_of", (22 + 3 * sizes).repeat(2, 1))
        self.register_buffer(
            "camera_frequencies", integer_frequencies(usual_cameras()) if has_camera else None
        )
        self.register_buffer("kinds", torch.tensor([_kind(c) for c in range(CHOICES)]), persistent=False)

    def tables(self) -> list[Tensor]:
        """Frequencies of every table that ``code`` names, int32 ``[rows, alphabet]``, by its number."""
        own = [] if self.camera_frequencies is None else [self.camera_frequencies]
        return [self.choice_frequencies, self.vector_frequencies, even_frequencies(), *own]

    @torch.no_grad()
    def code(
        self,
        exchange: Exchange,
        grid: tuple[int, int],
        known: Known,
        side: Side | None = None,
    ) -> Side:
        """Walk through one picture's side symbols in coding order: to encode them, or to decode them.

        Args:
            exchange: Records or returns what is coded.
            grid: Blocks along y and x.
            known: What is known of the picture.
            side: What to encode; nothing to decode.

        Raises:
            ValueError: A vector is farther than ``FARTHEST`` from the camera's.
        """
        _check_vectors(side)
        coefficients = self._code_camera(exchange, grid, known, side)
        camera = camera_vectors(coefficients, *grid)
        choices = self._code_choices(exchange, grid, known, side)
        vectors = torch.where(choices // BLENDS == Vector.STILL, 0, camera)
        line, before = known.line_on(camera), known.before_on(camera)
        vectors = torch.where(choices // BLENDS == Vector.PARENT, line, vectors)
        found = Side(choices, vectors, coefficients)
        for half in range(2):
            likely, sizes, mine = self.vector_sizes(found, line, before, half)
            rows = self.scale_of[half][sizes[mine]]
            given = None if side is None else wrapped(side.vectors - likely)[:, mine].flatten()
            read = exchanged(exchange, rows.repeat(2), given, Table.VECTORS).view(2, -1)
            vectors[:, mine] = camera[:, mine] + wrapped((likely - camera)[:, mine] + read)
        return found

    def _code_camera(
        self, exchange: Exchange, grid: tuple[int, int], known: Known, side: Side | None
    ) -> Tensor:
        """Coefficients of the whole picture's motion, int64 ``[2, 3]``."""
        given, likely = None if side is None else side.coefficients, known.likely
        if likely is None:
            coefficients = parent_coefficients(known.parent, grid)
            if coefficients is None:
                numbers = None if given is None else given.flatten() + NUMBERS // 2
                read = exchanged_numbers(exchange, 6, numbers, Table.DIGITS).to(self.kinds.device)
                coefficients = read.view(2, 3) - NUMBERS // 2
            return coefficients
        apart = None if given is None else wrapped_number(given - likely)
        high = None if apart is None else torch.div(apart + DIGIT // 2, DIGIT, rounding_mode="floor")
        low = None if apart is None or high is None else apart - DIGIT * high
        high, low = (
            exchanged(exchange, camera_rows(likely, digit), None if x is None else x.flatten(), Table.CAMERA)
            for digit, x in enumerate((high, low))
        )
        return wrapped_number(likely + (DIGIT * high + low).view(2, 3))

    def compiled(self, tables: Sequence[entropy.RansTables]) -> walks.SideModel:
        """The model in the form that its kernel takes, with all tables in theirs."""
        return walks.SideModel((BLENDS, FARTHEST), self.kinds.numpy(), self.scale_of.numpy(), tables)

    @staticmethod
    def walked(
        compiled: walks.SideModel,
        packet: entropy.RansDecoder | None,
        grid: tuple[int, int],
        known: Known,
        side: Side | None = None,
    ) -> tuple[walks.Steps, Side]:
        """The same walk as ``code`` by a compiled kernel; with a packet to decode it.

        Raises:
            ValueError: As of ``code``.
        """
        _check_vectors(side)
        before, parent, given = map(_arrays, (known.before, known.parent, side))
        likely = None if known.likely is None else calls.array(known.likely)
        steps, found = compiled.walk(
            packet, grid, before, parent, given, likely=likely, has_path=known.has_path
        )
        return steps, Side(*map(torch.from_numpy, found))

    def bits(self, known: Known, side: Side) -> float:
        """Bits that the side symbols of a picture take."""
        tables, total = [-torch.log2(t / 2**PRECISION).cpu().numpy() for t in self.tables()], 0.0

        def counted(rows: np.ndarray, integers: np.ndarray | None, table: int) -> np.ndarray:
            nonlocal total
            if integers is None:
                raise ValueError("there is nothing to count")
            total += float(tables[table][rows, integers + tables[table].shape[1] // 2].sum())
            return integers

        self.code(counted, (side.choices.shape[0], side.choices.shape[1]), known, side)
        return total

    def choice_bits(self, known: Known, grid: tuple[int, int]) -> Tensor:
        """About what each choice takes, float32 ``[h, w, CHOICES]``: as if no neighbour were known."""
        nothing = torch.zeros(grid, dtype=torch.int64, device=self.kinds.device)
        rows = self.choice_rows(nothing, known, 0)
        return -torch.log2(self.choice_frequencies / 2**PRECISION)[rows]

    def _code_choices(
        self,
        exchange: Exchange,
        grid: tuple[int, int],
        known: Known,
        side: Side | None,
    ) -> Tensor:
        choices = torch.zeros(grid, dtype=torch.int64, device=self.kinds.device)
        for half, mine in enumerate(checkerboard(choices)):
            rows = self.choice_rows(choices, known, half)[mine]
            given = None if side is None else side.choices[mine] - CHOICES // 2
            choices[mine] = exchanged(exchange, rows, given, Table.CHOICES) + CHOICES // 2
        return choices

    def choice_rows(self, choices: Tensor, known: Known, half: int) -> Tensor:
        """Rows ``[h, w]`` of choices; of the second half they depend on those of the first."""
        unknown = torch.full_like(choices, _UNKNOWN)
        before = unknown if known.before is None else self.kinds[known.before.choices]
        if half == 0:
            parent = known.parent
            beside = unknown if parent is None else self.kinds[spread(parent.choices, choices.shape)]
        else:
            beside = self._commonest_beside(self.kinds[choices])
        return (half * KINDS + beside) * KINDS + before

    def _commonest_beside(self, kinds: Tensor) -> Tensor:
        """The kind that most of the four neighbours have ``[h, w]``, the first of several."""
        counts = sum_of_neighbours(F.one_hot(kinds, KINDS))
        return counts.argmax(-1)

    def vector_sizes(
        self, found: Side, line: Tensor, past: Side | None, half: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What own vectors of one half of the checkerboard are likely to be, and how sure that is.

        Args:
            found: Choices of all blocks, and vectors of the first half where the second is asked for.
            line: What ``parent_vectors`` says.
            past: The picture of its kind before.
            half: Which half.

        Returns:
            Likely vectors ``[2, h, w]``; how much is in doubt ``[h, w]``, below ``_SIZES``; which blocks of
            that half have a vector of their own, bool ``[h, w]``.
        """
        halves, camera = checkerboard(found.choices), found.camera
        if half == 0:
            known = (line != camera).any(0)
            likely = line
            if past is not None:
                likely = torch.where(known, line, torch.where(past.own, past.vectors, camera))
                known = known | past.own
            doubt = torch.where(known, 1 + (likely - camera).abs().sum(0), 0)
        else:
            count = sum_of_neighbours(torch.ones_like(found.choices))
            first = found.vectors * halves[0]
            total = torch.stack([sum_of_neighbours(vectors) for vectors in first])
            likely = torch.div(2 * total + count, 2 * count.clamp(min=1), rounding_mode="floor")
            doubt = torch.stack(
                [_spread_of_neighbours(*pair) for pair in zip(found.vectors, likely, strict=True)]
            )
            doubt = doubt.sum(0)
        likely = camera + (likely - camera).clamp(-FARTHEST, FARTHEST)
        sizes = torch.bucketize(doubt, 2 ** torch.arange(_SIZES - 1, device=doubt.device), right=True)
        return likely, sizes, found.own & halves[half]


def _spread_of_neighbours(values: Tensor, mean: Tensor) -> Tensor:
    """Sums of differences of the four neighbours of ``[h, w]`` from a mean; outside lies the mean itself."""
    rows, columns = values.shape
    total = torch.zeros_like(values)
    for y, x in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        mine = (slice(max(0, -y), rows - max(0, y)), slice(max(0, -x), columns - max(0, x)))
        other = (slice(max(0, y), rows - max(0, -y)), slice(max(0, x), columns - max(0, -x)))
        total[mine] += (values[other] - mean[mine]).abs()
    return total


def _arrays(side: Side | None) -> walks.SideArrays | None:
    """Side symbols in the form that kernels take."""
    if side is None:
        return None
    return calls.array(side.choices), calls.array(side.vectors), calls.array(side.coefficients)


def _check_vectors(side: Side | None) -> None:
    """Check that vectors can be coded, if there are some."""
    if side is None:
        return
    vectors, camera, own = (calls.array(x.cpu()) for x in (side.vectors, side.camera, side.own))
    if (abs(vectors - camera).max(0)[own] > FARTHEST).any():
        raise ValueError(f"a vector is more than {FARTHEST} quarter pixels from the camera's")


def _kind(choice: int) -> int:
    """What contexts tell apart: the vector, and whether its neighbours' are blended in; or what has none."""
    blend = choice % BLENDS
    if choice == BASE_CHOICE:
        return 2 * len(Vector)
    if blend == Blend.FAR:
        return 2 * len(Vector) + 1
    return 2 * (choice // BLENDS) + (blend in (Blend.OVERLAPPED, Blend.BOTH_OVERLAPPED))


def wrapped_number(number: Tensor) -> Tensor:
    """Integers that stand for the same coefficients, from -NUMBERS / 2 on and below NUMBERS / 2."""
    return (number + NUMBERS // 2) % NUMBERS - NUMBERS // 2


def camera_rows(likely: Tensor, digit: int) -> Tensor:
    """Rows int64 ``[6]`` of one of the two digits of differences from likely coefficients ``[2, 3]``."""
    is_constant = torch.arange(6, device=likely.device) % 3 == 2
    return 4 * digit + 2 * is_constant.long() + likely.any().long()


def usual_cameras() -> np.ndarray:
    """Probabilities of digits of differences of cameras to start from, ``[CAMERA_ROWS, DIGIT + 1]``."""
    scales = np.array([0.3, 0.3, 0.3, 0.3, 1.5, 3.0, 3.0, 8.0])[:, None]
    usual = np.exp(-np.abs(np.arange(DIGIT + 1) - DIGIT // 2) / scales) + 1e-4
    probabilities: np.ndarray = usual / usual.sum(1, keepdims=True)
    return probabilities


def wrapped(apart: Tensor) -> Tensor:
    """Differences of at most ``FARTHEST`` that name the same vectors, all as near to the camera's."""
    return (apart + FARTHEST) % (2 * FARTHEST + 1) - FARTHEST
