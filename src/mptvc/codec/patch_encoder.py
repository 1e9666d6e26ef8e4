"""Frames as they come, to clips of patches."""

from collections.abc import Callable

import numpy as np

from mptvc.codec.patches import CodedLevel, PatchCoder
from mptvc.codec.rate import Rate, RateControl
from mptvc.format.bitstream import header_share
from mptvc.format.geometry import Geometry


class PatchEncoder:
    """Codes frames as they come, a clip as soon as it is full.

    Args:
        coder: Codes the clips.
        rate: How finely to quantize, or how many bits to use.
        told: Called after each clip with the number of frames that are coded.
        packs: Whether packets are wanted, and not symbols alone.
        levels: Levels that are wanted; all by default.
    """

    def __init__(
        self,
        coder: PatchCoder,
        rate: Rate,
        told: Callable[[int], None] | None = None,
        *,
        packs: bool = True,
        levels: int | None = None,
    ) -> None:
        self._coder, self._patch, self._told = coder, coder.config.patch_frames, told
        self._coded = 0
        self._control = RateControl(rate, len(coder.config.levels), packs=packs, wanted=levels)
        self._geometry: Geometry | None = None
        self._lengths: list[int] = []
        self._buffer = np.empty((0, 0, 0, 3), dtype=np.uint8)
        self._filled = self._padding = self._charged_shots = 0
        self._slice_shots: list[int] = []
        self._is_first = True

    @property
    def lengths(self) -> tuple[int, ...]:
        """Frames of each shot so far."""
        return tuple(self._lengths)

    def add(self, frame: np.ndarray, *, is_cut: bool = False) -> list[list[CodedLevel]]:
        """Take the next frame, uint8 ``[H, W, 3]``; ``is_cut`` says that it starts a shot.

        Returns:
            The levels of the clip before it, if that is full.

        Raises:
            ValueError: Another shape than the first frame's.
            MptError: A network returned a number that is not finite, or the memory is too small.
        """
        if self._geometry is None:
            self._geometry = self._coder.geometry(frame.shape[1], frame.shape[0])
            self._buffer = np.empty((self._coder.config.clip_frames, *frame.shape), dtype=np.uint8)
        if is_cut or not self._lengths:
            self._pad_shot()
            self._lengths.append(0)
        self._lengths[-1] += 1
        if frame.shape != self._buffer.shape[1:]:
            raise ValueError(f"a frame of {frame.shape} after frames of {self._buffer.shape[1:]}")
        coded = [self._code_clip()] if self._filled == len(self._buffer) else []
        self._put(frame)
        return coded

    def finish(self) -> list[list[CodedLevel]]:
        """Code what is left, and return the levels of that clip.

        Raises:
            MptError: As for ``add``.
        """
        self._pad_shot()
        return [self._code_clip()]

    def _put(self, frame: np.ndarray) -> None:
        if self._filled % self._patch == 0:
            self._slice_shots.append(len(self._lengths) - 1)
        self._buffer[self._filled] = frame
        self._filled += 1

    def _pad_shot(self) -> None:
        """Repeat the last frame until the shot fills its last slice, which a clip always has room for."""
        while self._filled % self._patch:
            self._padding += 1
            self._put(self._buffer[self._filled - 1])

    def _code_clip(self) -> list[CodedLevel]:
        """Code the clip that the buffer holds."""
        if self._geometry is None:
            raise ValueError("no frame was added")
        shots, frames = tuple(self._slice_shots), self._buffer[: self._filled]
        new_shots = shots[-1] + 1 - self._charged_shots
        overhead = header_share(self._geometry.num_levels, new_shots, is_first=self._is_first)
        self._control.start_clip(frames[self._padding :].size // 3, overhead)
        coded = self._coder.encode_clip(frames, self._geometry, shots, self._control)
        self._charged_shots, self._is_first = shots[-1] + 1, False
        self._coded += self._filled - self._padding
        if self._told is not None:
            self._told(self._coded)
        self._filled, self._padding, self._slice_shots = 0, 0, []
        return coded
