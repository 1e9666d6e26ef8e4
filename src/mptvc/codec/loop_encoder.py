"""Frames as they come, to slices and sections of a closed loop.

Memory is bounded by the frames that are held to look ahead and by a clip's packets.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.coder import CodedSection
from mptvc.codec.loop_coder import LoopCoder, picture_tensor
from mptvc.codec.loop_rate import SliceRate, Work
from mptvc.codec.pictures import CodedPicture, Past
from mptvc.codec.rate import Rate
from mptvc.codec.settings import computing
from mptvc.codec.slices import ClipLoop, CodedSlice, LumaPyramid, Motion, Pyramid, SliceMotion
from mptvc.format.bitstream import header_share
from mptvc.format.geometry import LOOP_SLICE, Geometry
from mptvc.format.slices import CHAIN, FRONT_BYTES, MAX_SLICE_GAIN, SlicePacket, joined, kinds_of

#: Bytes of frames that are held to look ahead, and about what a pixel of one takes.
_HELD_BYTES, _HELD_PIXEL = 2**28, 4
#: How often a clip's start is coded to find its gains, if it fits then.
_TRIES = 4
#: Squared steps of error that a bit is worth where slices choose their keys: about the slope of the curves of
#: training clips.
_KIND_PRICE = 0.4
#: Slices from one trial of finer levels to the next.
_TRIALS = 8
#: Gains apart at which another try is not worth it.
_NEAR_GAIN = 2


class LoopEncoder:
    """Codes frames as they come, a slice as soon as enough are there to look ahead.

    Args:
        coder: Weights.
        rate: How finely to quantize, or how many bits to use.
        told: Called after each slice with the number of frames that are coded.
    """

    def __init__(self, coder: LoopCoder, rate: Rate, told: Callable[[int], None] | None = None) -> None:
        self._coder, self._told = coder, told
        self._rate = SliceRate(rate, coder.num_levels)
        self._geometry: Geometry | None = None
        self._lengths: list[int] = []
        self._clip: _ClipEncoder | None = None
        self._clip_length = 0

    @property
    def lengths(self) -> tuple[int, ...]:
        """Frames of each shot so far."""
        return tuple(self._lengths)

    def add(self, frame: np.ndarray, *, is_cut: bool = False) -> list[CodedSection]:
        """Take the next frame, uint8 ``[H, W, 3]``; ``is_cut`` says that it starts a shot.

        Returns:
            The sections of the clip before it, if that ends here; nothing otherwise.

        Raises:
            ValueError: Another shape than the first frame's.
            MptError: The memory is too small.
        """
        is_first = self._geometry is None
        if self._geometry is None:
            self._geometry = self._coder.geometry(frame.shape[1], frame.shape[0])
        elif frame.shape != (self._geometry.height, self._geometry.width, 3):
            raise ValueError(f"a frame of {frame.shape} after frames of another size")
        starts_shot, coded = is_cut or is_first, []
        if starts_shot or self._clip_length == self._coder.clip_frames:
            coded = self.finish()
            self._clip = _ClipEncoder(self._coder, self._geometry, self._rate, self._slice_is_coded)
            share = header_share(self._coder.num_levels, int(starts_shot), is_first=is_first)
            self._rate.arrive(0, share)
        if starts_shot:
            self._lengths.append(0)
        self._lengths[-1] += 1
        self._clip_length += 1
        self._rate.arrive(frame.shape[0] * frame.shape[1])
        if self._clip is not None:
            self._clip.add(frame)
        return coded

    def finish(self) -> list[CodedSection]:
        """Code what is left, and return the sections of the last clip.

        Raises:
            MptError: As for ``add``.
        """
        if self._clip is None:
            return []
        sections = self._clip.finish()
        self._clip, self._clip_length = None, 0
        return [CodedSection(section, 0) for section in sections]

    def _slice_is_coded(self, waiting: int) -> None:
        if self._told is not None:
            self._told(sum(self._lengths) - waiting)


@dataclass(frozen=True)
class _Held:
    """A frame that waits to be coded."""

    pyramid: Pyramid
    motion: Motion


class _ClipEncoder:
    """Codes one clip."""

    def __init__(
        self, coder: LoopCoder, geometry: Geometry, rate: SliceRate, told: Callable[[int], None]
    ) -> None:
        self._coder, self._rate, self._told = coder, rate, told
        self._size = coder.padded(geometry)
        self._loop: ClipLoop = coder.clip(geometry, coder.num_levels)
        self._slices: list[list[SlicePacket]] = [[] for _ in range(coder.num_levels)]
        self._held: deque[_Held] = deque()
        self._luma: LumaPyramid | None = None  # of the last frame
        self._before: Pyramid | None = None  # of the last frame that was coded
        self._opens = True
        self._is_chain, self._since_trial = [False] * coder.num_levels, [-1] * coder.num_levels
        frame_bytes = _HELD_PIXEL * self._size[0] * self._size[1]
        self._ahead = max(1 + LOOP_SLICE, _HELD_BYTES // frame_bytes) if rate.is_planned else 0

    @computing()
    def add(self, frame: np.ndarray) -> None:
        """Take the next frame."""
        picture = picture_tensor(frame, self._size, self._coder.device)
        pyramid = Pyramid(picture, self._coder.config)
        luma = LumaPyramid(pyramid)
        self._held.append(_Held(pyramid, luma.motion_from(self._luma)))
        self._luma = luma
        while len(self._held) > self._ahead and len(self._held) >= sum(self._next()):
            self._code()

    @computing()
    def finish(self) -> list[bytes]:
        """Code what is left; returns every level's section."""
        while self._held:
            self._code()
        return [joined(slices) for slices in self._slices]

    def _next(self) -> tuple[int, ...]:
        """Frames of the slices coded next: at the start two, which together say what bits are needed."""
        if not self._opens:
            return (LOOP_SLICE,)
        return (1, LOOP_SLICE) if self._rate.is_planned else (1,)

    def _left(self) -> Work:
        """What the frames that are held say."""
        frames = len(self._held) - self._opens
        slices = -(-frames // LOOP_SLICE) + self._opens
        return Work(sum(held.motion.change for held in self._held), frames, slices)

    def _code(self) -> None:
        """Code the next slices at all levels."""
        left = self._left()
        motions = [self._taken(min(n, len(self._held))) for n in self._next() if self._held]
        coarser: list[CodedSlice] = []
        for level in range(self._coder.num_levels):
            coarser = self._code_level(level, motions, coarser, left)
            for coded in coarser:
                self._slices[level].append(SlicePacket(coded.packet, coded.gain, coded.kind))
                self._rate.spend(level, FRONT_BYTES + len(coded.packet))
        self._opens = False
        self._told(len(self._held))

    def _taken(self, count: int) -> SliceMotion:
        """The first frames that are held, which wait no longer."""
        frames, before = [self._held.popleft() for _ in range(count)], self._before
        self._before = frames[-1].pyramid
        return SliceMotion([held.pyramid for held in frames], [held.motion for held in frames], before)

    def _code_level(
        self, level: int, motions: list[SliceMotion], coarser: list[CodedSlice], left: Work
    ) -> list[CodedSlice]:
        """Code one level of the next slices, again with other gains until its size is right.

        Args:
            level: The level.
            motions: The frames of each slice, and how they move.
            coarser: The coarser level of these slices; nothing at level 0.
            left: What all frames that are held say, these included.
        """
        opens, past = self._opens, self._loop.past(level)
        works = [_work(motion, opens=opens and not index) for index, motion in enumerate(motions)]
        most = self._rate.most(level, works, left, opens=opens)
        gain, tries = self._rate.gain(level, left, opens=opens), 0
        while True:
            tries += 1
            coded = [
                self._encode(level, motion, coarser[index] if coarser else None, gain)
                for index, motion in enumerate(motions)
            ]
            sizes = [FRONT_BYTES + len(c.packet) for c in coded]
            if not self._rate.is_planned:
                return coded
            self._rate.note(level, gain, sizes, works, opens=opens)
            wanted, fits = self._rate.gain(level, left, opens=opens), sum(sizes) <= most
            is_done = not opens or tries >= _TRIES or abs(wanted - gain) <= _NEAR_GAIN
            if (fits and is_done) or gain == -MAX_SLICE_GAIN:
                return coded
            self._loop.put_back(level, past)
            gain = wanted if fits else max(-MAX_SLICE_GAIN, min(wanted, gain - 2 * tries))

    def _encode(self, level: int, motion: SliceMotion, coarser: CodedSlice | None, gain: int) -> CodedSlice:
        """Code one level of a slice with the best keys.

        Level 0 tries all kinds of slices. Finer levels take the kind of level 0 or are chains: now and then
        both are tried, and what was better is done until the next trial.
        """
        if coarser is None:
            return self._best(level, motion, [], kinds_of(len(motion.pyramids)), gain)
        if coarser.kind == CHAIN:
            return self._best(level, motion, coarser.pictures, [CHAIN], gain)
        self._since_trial[level] = (self._since_trial[level] + 1) % _TRIALS
        if self._since_trial[level]:
            kind = CHAIN if self._is_chain[level] else coarser.kind
            return self._best(level, motion, coarser.pictures, [kind], gain)
        coded = self._best(level, motion, coarser.pictures, [CHAIN, coarser.kind], gain)
        self._is_chain[level] = coded.kind == CHAIN
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
    return Work(motion.change, len(motion.pyramids) - opens, 1)
