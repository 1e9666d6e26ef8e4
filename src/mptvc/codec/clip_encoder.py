"""The slices of one clip, coded in a closed loop: which frames are keys, and with which gains."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.loop_coder import LoopCoder, picture_tensor
from mptvc.codec.loop_rate import Arrived, SliceRate, Work, no_work
from mptvc.codec.pictures import CodedPicture, Past
from mptvc.codec.settings import computing
from mptvc.codec.slice_motion import LumaPyramid, Motion, Pyramid, SliceMotion
from mptvc.codec.slices import ClipLoop, CodedSlice
from mptvc.format.geometry import LOOP_SLICE, Geometry
from mptvc.format.slices import CHAIN, FRONT_BYTES, MAX_SLICE_GAIN, SlicePacket, joined, kinds_of

#: How often a clip's start is coded to find its gains, if it fits then.
_TRIES = 4
#: Squared steps of error that a bit is worth where slices choose their keys: about the slope of the curves of
#: training clips.
_KIND_PRICE = 0.4
#: Slices from one trial of kinds to the next, at level 0 and at finer levels.
_TRIALS, _FINER_TRIALS = 4, 8
#: Gains apart at which another try is not worth it.
_NEAR_GAIN = 2


@dataclass(frozen=True)
class _Held:
    """A frame that waits to be coded."""

    pyramid: Pyramid
    motion: Motion


@dataclass(frozen=True)
class Coded:
    """One level of slices that are coded together.

    Attributes:
        slices: They.
        prefix: Bytes of this level and coarser ones, of all slices so far.
    """

    slices: list[CodedSlice]
    prefix: int


@dataclass(frozen=True)
class Job:
    """The next slices of a clip.

    Attributes:
        clip: The clip.
        motions: The frames of each slice, and how they move.
        opens: Whether the first is an opening key.
        left: What all frames say that wait, these included.
        arrived: All frames so far.
    """

    clip: "ClipEncoder"
    motions: list[SliceMotion]
    opens: bool
    left: Work
    arrived: Arrived

    @property
    def works(self) -> list[Work]:
        """What each slice says."""
        return [_work(motion, opens=self.opens and not index) for index, motion in enumerate(self.motions)]

    def __call__(self, level: int, coarser: Coded | None) -> Coded:
        """Code a level of them."""
        return self.clip.code(level, self, coarser)


class ClipEncoder:
    """Codes one clip; as long as the frames of it that wait. Jobs touch nothing that has no level."""

    def __init__(self, coder: LoopCoder, geometry: Geometry, rate: SliceRate) -> None:
        self._coder, self._rate = coder, rate
        self._size = coder.padded(geometry)
        self._loop: ClipLoop = coder.clip(geometry, coder.num_levels)
        self._slices: list[list[SlicePacket]] = [[] for _ in range(coder.num_levels)]
        self._held: deque[_Held] = deque()
        self._luma: LumaPyramid | None = None  # of the last frame
        self._before: Pyramid | None = None  # of the last frame that was coded
        self._opens, self._has_all, self._is_running = True, False, 0
        # Which of its kinds each level took in its last trial, and slices since then.
        self._usual, self._since_trial = [0] * coder.num_levels, [-1] * coder.num_levels

    @computing()
    def add(self, frame: np.ndarray) -> None:
        """Take the next frame."""
        picture = picture_tensor(frame, self._size, self._coder.device)
        pyramid = Pyramid(picture, self._coder.config)
        luma = LumaPyramid(pyramid)
        self._held.append(_Held(pyramid, luma.motion_from(self._luma)))
        self._luma = luma

    def end(self) -> None:
        """No frame follows."""
        self._luma, self._has_all = None, True

    def __len__(self) -> int:
        return len(self._held)

    @property
    def is_taken(self) -> bool:
        """Whether no frame waits, and none will."""
        return self._has_all and not self._held

    @property
    def is_done(self) -> bool:
        """Whether all is coded."""
        return self.is_taken and not self._is_running

    @property
    def has_next(self) -> bool:
        """Whether the frames of the next slices are there."""
        return self._has_all or len(self._held) >= sum(self._next(self._opens))

    @property
    def sections(self) -> list[bytes]:
        """Every level's section."""
        return [joined(slices) for slices in self._slices]

    @property
    def work(self) -> Work:
        """What the frames that wait say."""
        nothing, opening = no_work(self._coder.num_levels), self._opens and bool(self._held)
        changes = [held.motion.change for held in self._held]
        texture, changes = (changes[0], changes[1:]) if opening else (nothing.texture, changes)
        slices = -(-len(changes) // LOOP_SLICE) + opening
        return Work(sum(changes, nothing.change), texture, len(changes), slices)

    def _next(self, opens: bool) -> tuple[int, ...]:
        """Frames of the slices coded next: at the start two, which together say what bits are needed."""
        if not opens:
            return (LOOP_SLICE,)
        return (1, LOOP_SLICE) if self._rate.is_planned else (1,)

    def next_job(self, left: Work, arrived: Arrived) -> Job:
        """The next slices, whose frames wait no longer.

        Args:
            left: What all frames say that wait, those of later clips too.
            arrived: All frames so far.
        """
        opens, self._opens = self._opens, False
        motions = [self._taken(min(n, len(self._held))) for n in self._next(opens) if self._held]
        self._is_running += 1
        return Job(self, motions, opens, left, arrived)

    def _taken(self, count: int) -> SliceMotion:
        frames, before = [self._held.popleft() for _ in range(count)], self._before
        self._before = frames[-1].pyramid
        return SliceMotion([held.pyramid for held in frames], [held.motion for held in frames], before)

    def keep(self, levels: list[Coded]) -> None:
        """Take all levels of the next slices."""
        self._is_running -= 1
        for packets, coded in zip(self._slices, levels, strict=True):
            packets.extend(SlicePacket(one.packet, one.gain, one.kind) for one in coded.slices)

    @computing()
    def code(self, level: int, job: Job, coarser: Coded | None) -> Coded:
        """Code one level of the next slices, again with other gains until its size is right.

        Args:
            level: The level.
            job: The slices.
            coarser: The coarser level of these slices, None at level 0.
        """
        past, works, before = self._loop.past(level), job.works, coarser.prefix if coarser else 0
        room = self._rate.room(level, job.arrived, before)
        gain, tries = self._rate.gain(level, job.left, room), 0
        while True:
            tries += 1
            coded = [
                self._encode(level, motion, coarser.slices[index] if coarser else None, gain)
                for index, motion in enumerate(job.motions)
            ]
            sizes = [FRONT_BYTES + len(c.packet) for c in coded]
            if not self._rate.is_planned:
                return Coded(coded, 0)
            self._rate.note(level, gain, sizes, works)
            wanted = self._rate.gain(level, job.left, room, again=job.opens)
            fits = sum(sizes) <= self._rate.most(level, works, job.left, room)
            is_done = not job.opens or tries >= _TRIES or abs(wanted - gain) <= _NEAR_GAIN
            if (fits and is_done) or gain == -MAX_SLICE_GAIN:
                return Coded(coded, self._rate.spend(level, sum(sizes), before))
            self._loop.put_back(level, past)
            gain = wanted if fits else max(-MAX_SLICE_GAIN, min(wanted, gain - 2 * tries))

    def _encode(self, level: int, motion: SliceMotion, coarser: CodedSlice | None, gain: int) -> CodedSlice:
        """Code one level of a slice with the best keys.

        Level 0 may have all kinds of slices, finer levels the kind of level 0 or chains. Now and then all
        that a level may have are tried, and what was best is done until the next trial.
        """
        if coarser is None:
            pictures, kinds, pause = list[CodedPicture](), [*kinds_of(len(motion.pyramids))], _TRIALS
        else:
            pictures, kinds, pause = coarser.pictures, sorted({CHAIN, coarser.kind}), _FINER_TRIALS
        if len(kinds) == 1:
            return self._best(level, motion, pictures, kinds, gain)
        self._since_trial[level] = (self._since_trial[level] + 1) % pause
        if self._since_trial[level]:
            usual = kinds[min(self._usual[level], len(kinds) - 1)]
            return self._best(level, motion, pictures, [usual], gain)
        coded = self._best(level, motion, pictures, kinds, gain)
        self._usual[level] = kinds.index(coded.kind)
        return coded

    def _best(
        self,
        level: int,
        motion: SliceMotion,
        coarser: Sequence[CodedPicture],
        kinds: Sequence[int],
        gain: int,
    ) -> CodedSlice:
        """Code one level of a slice with the kind of which error and bits together are least."""
        if len(kinds) == 1:
            return self._loop.encode(level, motion, coarser, kinds[0], gain)
        tried: list[tuple[float, CodedSlice, Past | None]] = []
        past, price = self._loop.past(level), _KIND_PRICE * self._loop.step(level, gain) ** 2
        for kind in kinds:
            self._loop.put_back(level, past)
            coded = self._loop.encode(level, motion, coarser, kind, gain)
            pairs = zip(coded.pictures, motion.pyramids, strict=True)
            error = sum(_squared_error(mine.picture, frame.pictures[level]) for mine, frame in pairs)
            tried.append((error + 8 * price * len(coded.packet), coded, self._loop.past(level)))
        _, coded, past = min(tried, key=lambda one: one[0])
        self._loop.put_back(level, past)
        return coded


def _squared_error(a: Tensor, b: Tensor) -> float:
    """Sum of squared differences of two pictures uint8."""
    return float((a.to(torch.int16) - b).float().square_().sum())


def _work(motion: SliceMotion, *, opens: bool) -> Work:
    """What one slice says."""
    nothing = np.zeros_like(motion.change)
    if opens:
        return Work(nothing, motion.change, 0, 1)
    return Work(motion.change, nothing, len(motion.pyramids), 1)
