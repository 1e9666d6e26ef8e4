"""Frames in as they come, an ``.mpt`` file out at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import inf
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from av.video.frame import VideoFrame

from mptvc.codec.codec import Codec
from mptvc.codec.encoder import Compressor, checked_rate, describe
from mptvc.codec.rate import DEFAULT_RATE, Rate
from mptvc.codec.weights import load_codec
from mptvc.format.frames import as_frames
from mptvc.format.header import MAX_RATIO, Header, VideoInfo
from mptvc.format.target import open_target, refuse_existing
from mptvc.video.cuts import SHOT_THRESHOLD, CutDetector, checked_threshold

#: Unit of time stamps that a caller gives; exact for all usual frame rates.
TIME_BASE = Fraction(1, 90000)
_FINISHED = "the file is finished"
_CLOSED = "the writer is closed: its frames were dropped"
_FAILED = "the writer has failed before: its frames were dropped"


class VideoWriter:
    """Writes an ``.mpt`` file from frames that come one at a time; use it in a ``with`` block.

    The file appears, complete, when the block ends without an error. Memory does not grow with the number of
    frames.

    Args:
        target: Path or binary file object.
        frame_rate: Frames a second, where frames have no times of their own.
        codec: Codec to use; by default one with the packaged weights.
        rate: How finely to quantize, or how many bits to use.
        shot_threshold: Score of ``scdet`` from which a frame starts a shot; None for no cuts.
        force: Replace an existing target.

    Attributes:
        header: The file's header, once it is written.

    Raises:
        MptError: The target exists or cannot be written.
        ValueError: A threshold or frame rate that is no number or out of range.

    Example:
        >>> import io, mptvc, numpy as np
        >>> out = io.BytesIO()
        >>> with mptvc.VideoWriter(out, frame_rate=30) as writer:
        ...     for level in range(5):
        ...         writer.add(np.full((48, 64, 3), 40 * level, dtype=np.uint8))
        >>> mptvc.probe(out.getvalue()).header.video.num_frames
        5
    """

    def __init__(
        self,
        target: str | Path | BinaryIO,
        *,
        frame_rate: Fraction | float = Fraction(25),
        codec: Codec | None = None,
        rate: Rate = DEFAULT_RATE,
        shot_threshold: float | None = SHOT_THRESHOLD,
        force: bool = False,
    ) -> None:
        if isinstance(target, str | Path):
            refuse_existing(Path(target), force)
        self._target, self._force = target, force
        self._frame_rate = checked_rate(frame_rate)
        self._detector = CutDetector(checked_threshold(shot_threshold))
        self._compressor = Compressor((codec or load_codec()).coder, rate)
        self._video: VideoInfo | None = None
        self._times: list[Fraction] = []
        self._count = 0
        self._end = ""  # why no more frames are taken
        self.header: Header | None = None

    def add(self, frame: np.ndarray, *, time: Fraction | float | None = None) -> None:
        """Take the next frame.

        Args:
            frame: uint8 RGB ``[H, W, 3]``.
            time: When it is shown, in seconds, not before the frame before it; for all frames or for none.

        Raises:
            ValueError: Another shape or dtype than the first frame's, a time that does not fit, or the writer
                is finished, closed or failed before.
            MptError: A network returned a number that is not finite; nothing is written then.
        """
        self._check_open()
        (frame,) = frames = as_frames(frame[None] if hasattr(frame, "ndim") else [frame])
        video = describe(frames, self._frame_rate)
        if self._video is None:
            self._video = video
        if (video.width, video.height) != (self._video.width, self._video.height):
            raise ValueError(f"a frame of {frame.shape} in a video of another size")
        self._note_time(time)
        with self._dropping():
            self._compress(self._detector.push(VideoFrame.from_ndarray(frame, format="rgb24")))
        self._count += 1

    def _note_time(self, time: Fraction | float | None) -> None:
        if self._count and (time is not None) != bool(self._times):
            raise ValueError("give a time for every frame or for none")
        if time is None:
            return
        if not -inf < time < inf:
            raise ValueError(f"time is a finite number of seconds, found {time}")
        if self._times and time < self._times[-1]:
            raise ValueError(f"a frame at {float(time)} s after one at {float(self._times[-1])} s")
        self._times.append(Fraction(time))

    def _compress(self, decided: list[tuple[VideoFrame, bool]]) -> None:
        for frame, is_cut in decided:
            self._compressor.add(frame.to_ndarray(), is_cut=is_cut)

    def finish(self) -> Header:
        """Write the file and return its header; the end of the ``with`` block does this if nobody has.

        Raises:
            ValueError: There is no frame, or the writer was closed or failed before.
            MptError: The target has appeared in the meantime or cannot be written.
        """
        if self.header is not None:
            return self.header
        self._check_open()
        if self._video is None:
            raise ValueError("no frame was added")
        with self._dropping():
            self._compress(self._detector.finish())
            with open_target(self._target, force=self._force) as out:
                header = self._compressor.finish(self._timed(self._video), out)
        self._end, self.header = _FINISHED, header
        return header

    def _timed(self, video: VideoInfo) -> VideoInfo:
        if not self._times:
            return replace(video, num_frames=self._count)
        gap = max((b - a for a, b in pairwise(self._times)), default=0)
        base = TIME_BASE * (1 + int(gap / TIME_BASE / MAX_RATIO))  # coarser where a gap would not fit
        ticks = [round((time - self._times[0]) / base) for time in self._times]
        steps = (0, *(b - a for a, b in pairwise(ticks)))
        return replace(video, num_frames=self._count).with_times(base, steps)

    def close(self) -> None:
        """Drop what is not written; the ``with`` block does this."""
        self._end = self._end or _CLOSED
        self._compressor.close()

    def _check_open(self) -> None:
        if self._end:
            raise ValueError(self._end)

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        """After an error within, frames are missing: there is no file to be made any more."""
        try:
            yield
        except BaseException:
            self._end = _FAILED
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish, or on an error leave nothing behind; nothing to do after ``close``."""
        try:
            if kind is None and self._end != _CLOSED:
                self.finish()
        finally:
            self.close()
