"""One clip to slices of a closed loop: at each level the gain and the keys of every slice are chosen."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.loop_coder import LoopCoder, picture_tensor
from mptvc.codec.loop_rate import Left, SliceRate, Work, no_work
from mptvc.codec.pictures import CodedPicture, Past
from mptvc.codec.settings import computing
from mptvc.codec.slice_motion import LumaPyramid, Motion, Pyramid, SliceMotion
from mptvc.codec.slices import ClipLoop, CodedSlice
from mptvc.codec.temporal_filter import filtered
from mptvc.format.gain import GAIN_OCTAVE
from mptvc.format.geometry import LOOP_SLICE, Geometry
from mptvc.format.slices import CHAIN, FRONT_BYTES, MAX_SLICE_GAIN, SlicePacket, joined, kinds_of

#: How often a clip's start is coded to find its gains, if it fits then.
_TRIES = 4
#: Squared steps of error that a bit is worth where slices choose their keys: about the slope of the curves of
#: training clips.
_KIND_PRICE = 0.4
#: Slices from one trial of kinds to the next.
_TRIALS = 4
#: Gains apart at which another try is not worth it.
_NEAR_GAIN = 2


@dataclass(frozen=True)
class _Held:
    """A frame that waits to be coded."""

    pyramid: Pyramid
    motion: Motion


@dataclass(frozen=True)
class _Tried:
    """One level of a slice, coded with some kind."""

    cost: float
    coded: CodedSlice
    past: Past | None


@dataclass
class Job:
    """The next slices of a clip.

    Attributes:
        motions: The frames of each slice, and how they move.
        opens: Whether the first one is the opening key.
        left: What is left before the level that comes next.
        coarser: The level before that one; nothing at level 0.
    """

    motions: list[SliceMotion]
    opens: bool
    left: Left
    coarser: list[CodedSlice] = field(default_factory=list)


class ClipEncoder:
    """Codes one clip; as long as the frames of it that were not taken.

    Args:
        coder: Weights.
        geometry: Of the video.
        rate: Chooses gains.
        beside: How many of its methods may run at once.
    """

    def __init__(self, coder: LoopCoder, geometry: Geometry, rate: SliceRate, beside: int) -> None:
        self._coder, self._rate, self._beside = coder, rate, beside
        self._size = coder.padded(geometry)
        self._loop: ClipLoop = coder.clip(geometry, coder.num_levels)
        self._slices: list[list[SlicePacket]] = [[] for _ in range(coder.num_levels)]
        self._held: deque[_Held] = deque()
        self._luma: LumaPyramid | None = None  # of the last frame
        self._before: Pyramid | None = None  # of the last frame that was coded
        self._opens, self._has_all = True, False
        self._num_taken = self._num_coded = 0  # frames; each is written by one thread alone
        # Which of its kinds each level took in its last trial, and slices since then.
        self._usual, self._since_trial = [0] * coder.num_levels, [-1] * coder.num_levels

    def add(self, frame: np.ndarray) -> None:
        """Take the next frame."""
        with computing(by_kernels=True, beside=self._beside):
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
    def is_done(self) -> bool:
        """Whether all is coded."""
        return self._has_all and not self.num_waiting

    @property
    def num_waiting(self) -> int:
        """Frames that are not coded yet."""
        return len(self._held) + self._num_taken - self._num_coded

    @property
    def has_next(self) -> bool:
        """Whether the frames of the next slices are there."""
        return self._has_all or len(self._held) >= sum(self._next())

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

    def _next(self) -> tuple[int, ...]:
        """Frames of the slices coded next: at the start two, which together say what bits are needed."""
        if not self._opens:
            return (LOOP_SLICE,)
        return (1, LOOP_SLICE) if self._rate.is_planned else (1,)

    def take(self, left: Left) -> Job:
        """Take the frames of the next slices, to be coded at all levels before others are.

        Args:
            left: What is left of the whole video.
        """
        motions = [self._taken(min(n, len(self._held))) for n in self._next() if self._held]
        job, self._opens = Job(motions, self._opens, left), False
        self._num_taken += sum(map(len, motions))
        return job

    def code_coarse(self, job: Job) -> None:
        """Code all levels of slices but the finest."""
        for level in range(self._coder.num_levels - 1):
            self._code_level(level, job)

    def code_finest(self, job: Job) -> None:
        """Code the finest level of slices."""
        self._code_level(self._coder.num_levels - 1, job)
        self._num_coded += sum(map(len, job.motions))

    def _code_level(self, level: int, job: Job) -> None:
        """Code the next level of slices."""
        with computing(by_kernels=True, beside=self._beside):
            job.coarser = self._coded(level, job)
        for coded in job.coarser:
            self._slices[level].append(SlicePacket(coded.packet, coded.gain, coded.kind))
            self._rate.spend(level, FRONT_BYTES + len(coded.packet))
        job.left = self._rate.finer(level, job.left)

    def _taken(self, count: int) -> SliceMotion:
        """The first frames that are held, which wait no longer."""
        motions, before = [held.motion for held in self._held], self._before
        if before is None:
            self._held[0] = replace(self._held[0], pyramid=self._opening())
        pyramids = [self._held.popleft().pyramid for _ in range(count)]
        self._before = pyramids[-1]
        return SliceMotion(pyramids, motions, before)

    def _opening(self) -> Pyramid:
        """The opening key, with less noise."""
        with computing(by_kernels=True, beside=self._beside):
            return filtered([held.pyramid for held in self._held], self._coder.config)

    def _coded(self, level: int, job: Job) -> list[CodedSlice]:
        """One level of slices, coded again with other gains until its size is right."""
        motions, coarser, opens, left = job.motions, job.coarser, job.opens, job.left
        past = self._loop.past(level)
        works = [_work(motion, opens=opens and not index) for index, motion in enumerate(motions)]
        planned = gain = self._rate.gain(level, left)
        tries = 0
        while True:
            tries += 1
            coded = [
                self._encode(level, motion, coarser[index] if coarser else None, gain)
                for index, motion in enumerate(motions)
            ]
            sizes = [FRONT_BYTES + len(c.packet) for c in coded]
            if not self._rate.is_planned:
                return coded
            self._rate.note(level, gain, sizes, works)
            wanted = self._rate.gain(level, left, again=opens)
            fits = sum(sizes) <= self._rate.most(level, works, left, 0 if opens else planned - gain)
            is_done = not opens or tries >= _TRIES or abs(wanted - gain) <= _NEAR_GAIN
            is_last_try = is_done if fits else gain == -MAX_SLICE_GAIN
            if is_last_try:
                return coded
            self._loop.put_back(level, past)
            tried, gain = gain, wanted if fits else max(-MAX_SLICE_GAIN, min(wanted, gain - 2 * tries))
            if abs(gain - tried) >= GAIN_OCTAVE:  # other kinds may be better there
                self._since_trial[level] = -1

    def _encode(self, level: int, motion: SliceMotion, coarser: CodedSlice | None, gain: int) -> CodedSlice:
        """Code one level of a slice with the best keys.

        Level 0 may have all kinds of slices, finer levels the kind of level 0 or chains. Now and then all
        that a level may have are tried, and what was best is done until the next trial.
        """
        if coarser is None:
            pictures, kinds = list[CodedPicture](), [*kinds_of(len(motion.pyramids))]
        else:
            pictures, kinds = coarser.pictures, sorted({CHAIN, coarser.kind})
        if len(kinds) == 1:
            return self._best(level, motion, pictures, kinds, gain)
        self._since_trial[level] = (self._since_trial[level] + 1) % _TRIALS
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
        past = self._loop.past(level)
        best = self._tried(level, motion, coarser, kinds[0], gain)
        for kind in kinds[1:]:  # one after the other: of what is not the best nothing is kept
            self._loop.put_back(level, past)
            best = min(best, self._tried(level, motion, coarser, kind, gain), key=lambda one: one.cost)
        self._loop.put_back(level, best.past)
        return best.coded

    def _tried(
        self, level: int, motion: SliceMotion, coarser: Sequence[CodedPicture], kind: int, gain: int
    ) -> _Tried:
        """Code one level of a slice with some kind."""
        coded = self._loop.encode(level, motion, coarser, kind, gain)
        pairs = zip(coded.pictures, motion.pyramids, strict=True)
        error = sum(_squared_error(mine.picture, frame.pictures[level]) for mine, frame in pairs)
        bits = 8 * len(coded.packet)
        cost = error + _KIND_PRICE * self._loop.step(level, gain) ** 2 * bits
        return _Tried(cost, coded, self._loop.past(level))


def _squared_error(a: Tensor, b: Tensor) -> float:
    """Sum of squared differences of two pictures uint8."""
    return float((a.to(torch.int16) - b).float().square_().sum())


def _work(motion: SliceMotion, *, opens: bool) -> Work:
    """What one slice says."""
    nothing = np.zeros_like(motion.change)
    if opens:
        return Work(nothing, motion.change, 0, 1)
    return Work(motion.change, nothing, len(motion.pyramids), 1)
