"""Frames as they come, to slices and sections of a closed loop.

Memory is bounded by the frames that are held to look ahead and by a clip's packets.
"""

from collections import deque

import numpy as np
from torch import Tensor

from mptvc.codec.coder import CodedSection, within_memory
from mptvc.codec.loop_coder import LoopCoder, picture_tensor
from mptvc.codec.loop_rate import SliceRate
from mptvc.codec.rate import Rate
from mptvc.codec.slices import ClipLoop, CodedSlice, Pyramid
from mptvc.format.bitstream import header_share
from mptvc.format.geometry import LOOP_SLICE, Geometry
from mptvc.format.slices import FRONT_BYTES, MAX_SLICE_GAIN, SlicePacket, joined

#: Bytes of frames that are held to look ahead.
_HELD_BYTES = 2**27
#: How often a clip's start is coded to find its gains, and any slice until it fits.
_TRIES = 4
#: Gains apart at which another try is not worth it.
_NEAR_GAIN = 2


class LoopEncoder:
    """Codes frames as they come, a slice as soon as enough are there to look ahead.

    Args:
        coder: Weights.
        rate: How finely to quantize, or how many bits to use.
    """

    def __init__(self, coder: LoopCoder, rate: Rate) -> None:
        self._coder = coder
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
            self._clip = _ClipEncoder(self._coder, self._geometry, self._rate)
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


class _ClipEncoder:
    """Codes one clip."""

    def __init__(self, coder: LoopCoder, geometry: Geometry, rate: SliceRate) -> None:
        self._coder, self._rate = coder, rate
        self._size = coder.padded(geometry)
        self._loop: ClipLoop = coder.clip(geometry, coder.num_levels)
        self._slices: list[list[SlicePacket]] = [[] for _ in range(coder.num_levels)]
        self._held: deque[np.ndarray] = deque()
        self._before: Pyramid | None = None
        frame_bytes = 3 * geometry.width * geometry.height
        self._ahead = max(1 + LOOP_SLICE, _HELD_BYTES // frame_bytes) if rate.is_planned else 0

    def add(self, frame: np.ndarray) -> None:
        """Take the next frame."""
        self._held.append(frame.copy())
        while len(self._held) > self._ahead and len(self._held) >= sum(self._next()):
            self._code()

    def finish(self) -> list[bytes]:
        """Code what is left; returns every level's section."""
        while self._held:
            self._code()
        return [joined(slices) for slices in self._slices]

    def _next(self) -> tuple[int, ...]:
        """Frames of the slices that are coded next, so far as they are held: at the start two, else one."""
        if self._before is not None:
            return (LOOP_SLICE,)
        return (1, LOOP_SLICE) if self._rate.is_planned else (1,)

    @within_memory()
    def _code(self) -> None:
        """Code the next slices at all levels."""
        opens, held = self._before is None, len(self._held)
        pyramids: list[list[Pyramid]] = []
        vectors: list[list[list[Tensor]]] = []
        for count in self._next():
            frames = [self._held.popleft() for _ in range(min(count, len(self._held)))]
            if frames:
                pyramids.append([])
                vectors.append([])
            for frame in frames:
                pyramid = Pyramid(picture_tensor(frame, self._size, self._coder.device), self._coder.config)
                vectors[-1].append([] if self._before is None else pyramid.vectors_from(self._before))
                pyramids[-1].append(pyramid)
                self._before = pyramid
        coarser: list[CodedSlice] = []
        for level in range(self._coder.num_levels):
            coarser = self._code_level(level, pyramids, vectors, coarser, held, opens=opens)
            for coded in coarser:
                self._slices[level].append(SlicePacket(coded.packet, coded.gain))
                self._rate.spend(level, FRONT_BYTES + len(coded.packet))

    def _code_level(
        self,
        level: int,
        pyramids: list[list[Pyramid]],
        vectors: list[list[list[Tensor]]],
        coarser: list[CodedSlice],
        held: int,
        *,
        opens: bool,
    ) -> list[CodedSlice]:
        """Code one level of the next slices, again with other gains until its size is right."""
        frames = tuple(map(len, pyramids))
        most = self._rate.most(level, held if opens else sum(frames), held)
        past, gain = self._loop.past(level), self._rate.gain(level, held, opens=opens)
        tries = 0
        while True:
            tries += 1
            coded = [
                self._loop.encode(level, pyramids[i], vectors[i], coarser[i].keys if coarser else [], gain)
                for i in range(len(frames))
            ]
            sizes = tuple(FRONT_BYTES + len(c.packet) for c in coded)
            self._rate.note(level, gain, sizes, frames, opens=opens)
            wanted, fits = self._rate.gain(level, held, opens=opens), sum(sizes) <= most
            is_done = not opens or tries >= _TRIES or abs(wanted - gain) <= _NEAR_GAIN
            if (fits and is_done) or gain == -MAX_SLICE_GAIN or not self._rate.is_planned:
                return coded
            self._loop.put_back(level, past)
            gain = wanted if fits else max(-MAX_SLICE_GAIN, min(wanted, gain - tries))
