"""Frames as they come, to slices and sections of a closed loop.

Memory is bounded by the frames that are held to look ahead and by a clip's packets.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from mptvc.codec.clip_encoder import ClipEncoder, Coded, Job
from mptvc.codec.coder import CodedSection
from mptvc.codec.loop_coder import LoopCoder
from mptvc.codec.loop_rate import Arrived, SliceRate, no_work
from mptvc.codec.overlap import Levels
from mptvc.codec.rate import Rate
from mptvc.format.bitstream import header_share
from mptvc.format.geometry import LOOP_SLICE, Geometry

#: Bytes of frames that are held to look ahead, and about what a pixel of one takes.
_HELD_BYTES, _HELD_PIXEL = 2**28, 4
#: Slices that run while frames are looked at.
_RUNNING = 2


class LoopEncoder:
    """Codes frames as they come, a slice as soon as enough are there to look ahead.

    Args:
        coder: Weights.
        rate: How finely to quantize, or how many bits to use.
        told: Called after each slice with the number of frames that are coded.
    """

    def __init__(self, coder: LoopCoder, rate: Rate, told: Callable[[int], None] | None = None) -> None:
        self._coder, self._told = coder, told
        self._rate, self._arrived = SliceRate(rate, [level.step for level in coder.config.levels]), Arrived()
        self._geometry: Geometry | None = None
        self._levels: Levels[Coded]
        self._lengths: list[int] = []
        self._clips: deque[ClipEncoder] = deque()  # that are not done; the last one may get more frames
        self._running: deque[tuple[Job, list[Future[Coded]]]] = deque()
        self._clip_length = self._ahead = self._done = 0

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
            self._start_video(frame)
        elif frame.shape != (self._geometry.height, self._geometry.width, 3):
            raise ValueError(f"a frame of {frame.shape} after frames of another size")
        starts_shot = is_cut or is_first
        if starts_shot:
            self._lengths.append(0)
        if starts_shot or self._clip_length == self._coder.clip_frames:
            self._start_clip(header_share(self._coder.num_levels, int(starts_shot), is_first=is_first))
        self._lengths[-1] += 1
        self._clip_length += 1
        self._arrived += Arrived(frame.shape[0] * frame.shape[1])
        with self._levels.sharing():
            self._clips[-1].add(frame)
        return self._coded(self._ahead, _RUNNING if self._levels.overlap else 0)

    def finish(self) -> list[list[CodedSection]]:
        """Code what is left, and return the sections of each clip.

        Raises:
            MptError: As for ``add``.
        """
        if not self._clips:
            return []
        self._clips[-1].end()
        done = self._coded(0, 0)
        self._levels.close()
        return done

    def _start_video(self, frame: np.ndarray) -> None:
        height, width, _ = frame.shape
        self._geometry = self._coder.geometry(width, height)
        self._levels = Levels(self._coder.num_levels, self._coder.device, height * width)
        if self._rate.is_planned:
            self._ahead = max(1 + LOOP_SLICE, _HELD_BYTES // (_HELD_PIXEL * height * width))

    def _start_clip(self, overhead: int) -> None:
        if self._geometry is None:
            raise ValueError("no frame was added")
        if self._clips:
            self._clips[-1].end()
        self._clips.append(ClipEncoder(self._coder, self._geometry, self._rate))
        self._clip_length = 0
        self._arrived += Arrived(overhead=overhead)

    def _coded(self, ahead: int, running: int) -> list[list[CodedSection]]:
        """Code until only so many frames wait and slices run; returns the sections of clips that are done."""
        try:
            while job := self._next_job(ahead):
                self._running.append((job, self._levels.submit(job)))
                self._keep(running)
            self._keep(running)
        except BaseException:
            self._levels.close()
            raise
        done = []
        while self._clips and self._clips[0].is_done:
            done.append([CodedSection(section, 0) for section in self._clips.popleft().sections])
        return done

    def _next_job(self, ahead: int) -> Job | None:
        """The next slices, if more than so many frames wait."""
        clip = next((clip for clip in self._clips if not clip.is_taken), None)
        if clip is None or not clip.has_next or sum(map(len, self._clips)) <= ahead:
            return None
        left = sum((clip.work for clip in self._clips), no_work(self._coder.num_levels))
        return clip.next_job(left, self._arrived)

    def _keep(self, running: int) -> None:
        """Wait until only so many slices run, and keep what the others came to."""
        while len(self._running) > running:
            job, levels = self._running.popleft()
            job.clip.keep([level.result() for level in levels])
            self._done += sum(map(len, job.motions))
            if self._told is not None:
                self._told(self._done)
