"""Frames as they come, to slices and sections of a closed loop.

Memory is bounded by the frames that are held to look ahead and by a clip's packets.
"""

from collections import deque
from collections.abc import Callable
from functools import partial

import numpy as np

from mptvc.codec.clip_encoder import ClipEncoder
from mptvc.codec.coder import CodedSection
from mptvc.codec.importance import MOST_FRAMES
from mptvc.codec.loop_coder import LoopCoder
from mptvc.codec.loop_rate import SliceRate, no_work
from mptvc.codec.pipeline import Pipeline
from mptvc.codec.rate import Rate
from mptvc.format.bitstream import header_share
from mptvc.format.geometry import LOOP_SLICE, Geometry

#: Bytes of frames that are held to look ahead; about what a pixel of one takes, and a frame beside these.
_HELD_BYTES, _HELD_PIXEL, _HELD_FRAME = 2**28, 4, 2**14
#: What may go on at once: motion search in new frames, coarser levels of a slice, the finest of another.
_BESIDE = 3


class LoopEncoder:
    """Codes frames as they come, a slice as soon as enough are there to look ahead.

    Args:
        coder: Weights.
        rate: How finely to quantize, or how many bits to use.
        told: Called with the number of frames that are coded so far.
    """

    def __init__(self, coder: LoopCoder, rate: Rate, told: Callable[[int], None] | None = None) -> None:
        self._coder, self._told = coder, told
        self._rate = SliceRate(rate, [level.step for level in coder.config.levels])
        self._geometry: Geometry | None = None
        self._lengths: list[int] = []
        self._clips: deque[ClipEncoder] = deque()  # that are not done; the last one may get more frames
        self._pipeline = Pipeline(overlaps=False)
        self._clip_length = self._ahead = self._told_frames = 0

    @property
    def lengths(self) -> tuple[int, ...]:
        """Frames of each shot so far."""
        return tuple(self._lengths)

    def add(self, frame: np.ndarray, *, is_cut: bool = False) -> list[list[CodedSection]]:
        """Take the next frame, uint8 ``[H, W, 3]``; ``is_cut`` says that it starts a shot.

        Returns:
            The sections of each clip that is done.

        Raises:
            ValueError: Another shape than the first frame's.
            MptError: The memory is too small.
        """
        is_first = self._geometry is None
        if self._geometry is None:
            self._geometry = self._coder.geometry(frame.shape[1], frame.shape[0])
            self._pipeline = Pipeline(overlaps=self._coder.overlaps(self._geometry, self._coder.num_levels))
            self._ahead = self._most_held(self._geometry)
        elif frame.shape != (self._geometry.height, self._geometry.width, 3):
            raise ValueError(f"a frame of {frame.shape} after frames of another size")
        starts_shot = is_cut or is_first
        if starts_shot:
            self._lengths.append(0)
        if starts_shot or self._clip_length == self._coder.clip_frames:
            self._start_clip(header_share(self._coder.num_levels, int(starts_shot), is_first=is_first))
        self._lengths[-1] += 1
        self._clip_length += 1
        self._rate.arrive(frame.shape[0] * frame.shape[1])
        self._clips[-1].add(frame)
        return self._coded(self._ahead)

    def finish(self) -> list[list[CodedSection]]:
        """Code what is left, and return the sections of each clip.

        Raises:
            MptError: As for ``add``.
        """
        if self._clips:
            self._clips[-1].end()
        return self._coded(0)

    def _most_held(self, geometry: Geometry) -> int:
        """Frames that are held to look ahead: of later clips only where bits are planned."""
        height, width = self._coder.padded(geometry)
        held = _HELD_BYTES // (_HELD_PIXEL * height * width + _HELD_FRAME)
        if not self._rate.is_planned:
            held = min(held, MOST_FRAMES)
        return max(1 + LOOP_SLICE, held)

    def _start_clip(self, overhead: int) -> None:
        if self._geometry is None:
            raise ValueError("no frame was added")
        if self._clips:
            self._clips[-1].end()
        beside = _BESIDE if self._pipeline.overlaps else 1
        self._clips.append(ClipEncoder(self._coder, self._geometry, self._rate, beside))
        self._clip_length = 0
        self._rate.arrive(0, overhead)

    def _coded(self, ahead: int) -> list[list[CodedSection]]:
        """Code until so many frames are held at most; returns the sections of clips that are done."""
        nothing = no_work(self._coder.num_levels)
        while sum(map(len, self._clips)) > ahead:
            clip = next(clip for clip in self._clips if len(clip))
            if not clip.has_next:
                break
            work = sum((clip.work for clip in self._clips), nothing)
            job = clip.take(self._rate.left(work))
            self._pipeline.add(partial(clip.code_coarse, job), partial(clip.code_finest, job))
            self._tell()
        if not ahead:
            self._pipeline.wait()
            self._tell()
        done = []
        while self._clips and self._clips[0].is_done:
            done.append([CodedSection(section, 0) for section in self._clips.popleft().sections])
        return done

    def _tell(self) -> None:
        """Say how many frames are coded."""
        if self._told is not None:
            count = sum(self._lengths) - sum(clip.num_waiting for clip in self._clips)
            if count != self._told_frames:
                self._told(count)
            self._told_frames = count
