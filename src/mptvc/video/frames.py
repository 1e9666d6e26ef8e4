"""Frames of an opened video in the order in which they are shown, and what is known after the last one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np
from av.video.frame import VideoFrame

from mptvc.errors import SizeChangeError, VideoError
from mptvc.format.header import VideoInfo
from mptvc.video.colour import to_rgb
from mptvc.video.cuts import SHOT_THRESHOLD, checked_threshold, pair_with_cuts
from mptvc.video.decoding import Decoding
from mptvc.video.deinterlace import deinterlaced
from mptvc.video.description import SourceInfo, Warnings, check_depth
from mptvc.video.orientation import orientation, upright, upright_info
from mptvc.video.packets import AnyPacket
from mptvc.video.scaling import checked_scale, scaled, scaled_size
from mptvc.video.sound import SideData, SideRecorder
from mptvc.video.timing import timed

#: Seconds by which rounded time stamps are off; Matroska's are whole milliseconds.
_ROUNDING_S = 6e-4


@dataclass(frozen=True)
class Reading:
    """Which frames of a source to read, and how.

    Attributes:
        shot_threshold: Score from which a frame starts a shot; None looks for no cuts.
        start: Seconds to skip.
        duration: Seconds to read; None reads to the end.
        force_8bit: Accept video of more than 8 bits and round it.
        deinterlace: Turn interlaced frames into whole ones, one for one.
        upright: Give pictures as they are to be shown, not as they are stored.
        on_size_change: ``scale`` to the first size; ``stop`` and ``split`` raise an error that says when.
        scale: Sides of the pictures by those of the source's, above 0 and at most 1.

    Raises:
        ValueError: A threshold, start, duration or scale out of range, or another word for the size.
    """

    shot_threshold: float | None = SHOT_THRESHOLD
    start: float = 0.0
    duration: float | None = None
    force_8bit: bool = False
    deinterlace: bool = False
    upright: bool = False
    on_size_change: str = "stop"
    scale: float = 1.0

    def __post_init__(self) -> None:
        checked_threshold(self.shot_threshold)
        checked_scale(self.scale)
        if self.on_size_change not in ("stop", "scale", "split"):
            raise ValueError(f"on_size_change is stop, scale or split, found {self.on_size_change}")
        if not self.start >= 0 or not (self.duration is None or self.duration > 0):
            raise ValueError(
                f"start is 0 or more and duration above 0, found {self.start} and {self.duration}"
            )


@dataclass(frozen=True)
class SourceFrame:
    """One frame of a source.

    Attributes:
        pixels: uint8 RGB ``[H, W, 3]``.
        is_cut: Whether it starts a new shot; the first frame always does.
    """

    pixels: np.ndarray
    is_cut: bool


@dataclass(frozen=True)
class SourceOutcome:
    """What is known of a source once its frames are read.

    Attributes:
        video: The video as it was read: the number of its frames, their times, their mean rate.
        side: Sound and subtitles, readable while the source is open; None where there are none, or
            none were asked for.
        warnings: What a user should know.
    """

    video: VideoInfo
    side: SideData | None
    warnings: tuple[str, ...]


class SourceFrames(Iterator[SourceFrame]):
    """Yields the chosen frames of a video stream once; then ``outcome`` says what they were.

    Args:
        stream: The stream.
        packets: Packets of the stream and of those that ``recorder`` keeps.
        info: Describes the stream.
        reading: Which frames, and how.
        recorder: Takes sound and subtitles.
        warnings: Takes what a user should know.

    Raises:
        SizeChangeError: While frames are read: the size changes on the way.
        VideoError: While frames are read: nothing can be decoded, sound cannot be stored, or a warning
            refuses the source.
    """

    def __init__(
        self,
        stream: av.VideoStream,
        packets: Iterator[AnyPacket],
        info: SourceInfo,
        reading: Reading,
        recorder: SideRecorder | None,
        warnings: Warnings,
    ) -> None:
        self._stream, self._packets, self._info, self._reading = stream, packets, info, reading
        self._recorder, self._warnings = recorder, warnings
        self._outcome: SourceOutcome | None = None
        self._resized = False
        self._last = 0  # how long the newest frame is shown
        self._frames = self._read()

    def __next__(self) -> SourceFrame:
        return next(self._frames)

    def outcome(self) -> SourceOutcome:
        """What is known after the last frame.

        Raises:
            ValueError: Frames are left to read.
        """
        if self._outcome is None:
            raise ValueError(
                f"{self._info.name}: frames are left to read; what they are is known after the last"
            )
        return self._outcome

    def _read(self) -> Iterator[SourceFrame]:
        times: list[int | None] = []
        rotation, mirrored, warned = 0, False, False
        for frame, is_cut in pair_with_cuts(self._chosen(), self._stream, self._reading.shot_threshold):
            if not times:
                self._begin(frame)
                rotation, mirrored = orientation(frame)
            times.append(frame.pts)
            pixels, is_transparent = to_rgb(frame, self._info.colour)
            if is_transparent and not warned:
                self._warnings.add("transparent pixels are composited on black")
                warned = True
            if mirrored:
                pixels = np.ascontiguousarray(pixels[:, ::-1])
            pixels = scaled(pixels, self._reading.scale)
            if self._reading.upright:
                pixels = upright(pixels, rotation)
            yield SourceFrame(pixels, is_cut=is_cut or len(times) == 1)
        if not times:
            late = f" after {self._reading.start} s" if self._reading.start else ""
            raise VideoError(f"{self._info.name}: no frame could be decoded{late}")
        side = self._finished_side()
        height, width = scaled_size(self._info.height, self._info.width, self._reading.scale)
        info = replace(self._info, height=height, width=width)
        video = _video(info, times, self._last, rotation)
        if self._reading.upright:
            video = upright_info(video)
        self._outcome = SourceOutcome(video, side, tuple(self._warnings.found))

    def _begin(self, frame: VideoFrame) -> None:
        """Take from the first frame what the container did not say."""
        if frame.interlaced_frame:
            self._warnings.add(
                "interlaced video is coded as it is; deinterlace=True makes whole frames of it"
            )
        if self._recorder is not None:
            duration = None if self._reading.duration is None else Fraction(self._reading.duration)
            self._recorder.start(_seconds(frame), duration, trimmed=self._reading.start > 0)

    def _chosen(self) -> Iterator[VideoFrame]:
        """Decoded frames inside the chosen time, checked for damage and a change of size."""
        start, duration = self._reading.start, self._reading.duration
        corrupt = 0
        first_time: float | None = None
        newest = 0.0
        begun = not start  # from then on times may go back, as they do in files that were joined
        for index, frame in enumerate(self._whole()):
            at = frame.time if frame.time is not None else index / float(self._info.frame_rate)
            first_time = at if first_time is None else first_time
            elapsed = at - first_time
            if duration is not None and elapsed >= start + duration - _ROUNDING_S:
                self._last = self._ticks_between(newest, min(at, first_time + start + duration))
                if self._recorder is not None:
                    self._recorder.drain(self._packets)
                break
            if not begun and elapsed < start - _ROUNDING_S:
                if self._recorder is not None:
                    self._recorder.skip(_seconds(frame))
                continue
            if not begun or not index:
                self._info = replace(self._info, width=frame.width, height=frame.height)
            begun, newest, self._last = True, at, frame.duration or 0
            corrupt += bool(frame.is_corrupt)
            yield self._checked(frame, index, elapsed)
        if corrupt:
            self._warnings.add(f"{corrupt} frames are damaged in the source")

    def _ticks_between(self, first: float, second: float) -> int:
        return max(0, round(Fraction(second - first) / self._info.time_base))

    def _checked(self, frame: VideoFrame, index: int, at: float) -> VideoFrame:
        """The frame, so many seconds after the source's first one, in the size of the first that is read."""
        name, width, height = self._info.name, self._info.width, self._info.height
        check_depth(name, frame.format, self._reading.force_8bit)
        if (frame.width, frame.height) == (width, height):
            return frame
        change = f"frame {index} is {frame.width}x{frame.height} after {width}x{height}"
        if self._reading.on_size_change != "scale":
            raise SizeChangeError(
                f'{name}: {change}; on_size_change="scale" makes one size, on_size_change="split" a file of '
                f"each, as with duration={at - self._reading.start:.3f} and start={at:.3f}",
                at=at,
            )
        if not self._resized:
            self._warnings.add(f"{change}, and scaled to it like all of another size")
        self._resized = True
        return frame.reformat(width=width, height=height)

    def _whole(self) -> Iterator[VideoFrame]:
        """Decoded frames, without interlacing if that is wanted."""
        decoding = Decoding(self._stream, self._packets, self._info, self._hand_on)
        decoded = decoding.frames(self._reading.start)
        yield from deinterlaced(decoded, self._stream) if self._reading.deinterlace else decoded
        for loss in decoding.losses():
            self._warnings.add(loss)
        self._last = decoding.last_step() or self._last

    def _hand_on(self, packet: AnyPacket) -> None:
        if self._recorder is not None:
            self._recorder.add(packet)

    def _finished_side(self) -> SideData | None:
        if self._recorder is None:
            return None
        side = self._recorder.finish()
        for warning in self._recorder.warnings:
            self._warnings.add(warning)
        return side


def _video(info: SourceInfo, times: list[int | None], last: int, rotation: int) -> VideoInfo:
    """The video with these time stamps, its last frame shown for so long."""
    video = VideoInfo(
        info.width,
        info.height,
        num_frames=len(times),
        frame_rate=info.frame_rate,
        time_base=info.time_base,
        pixel_aspect=info.pixel_aspect,
        rotation=rotation,
        colour=info.colour,
    )
    return timed(video, times, last)


def _seconds(frame: VideoFrame) -> Fraction:
    """Time stamp of a frame, 0 where it has none."""
    return Fraction(0) if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
