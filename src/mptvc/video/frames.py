"""Frames of an opened video in the order in which they are shown, and what is known after the last one."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame

from mptvc.errors import VideoError
from mptvc.format.header import MAX_RATIO, VideoInfo
from mptvc.video.colour import to_rgb
from mptvc.video.cuts import SHOT_THRESHOLD, checked_threshold, pair_with_cuts
from mptvc.video.deinterlace import deinterlaced
from mptvc.video.description import SourceInfo, Warnings, check_depth, promised_s
from mptvc.video.ffmpeg import reason
from mptvc.video.sound import SideData, SideRecorder

#: Seconds by which rounded time stamps are off; Matroska's are whole milliseconds.
_ROUNDING_S = 6e-4
#: Containers whose index says where key frames are; seconds from which to use it, and by which to be early.
_INDEXED = ("mov", "matroska")
_FAR_S, _EARLY_S = 5.0, 1.0
#: Seconds that may be missing at the end of a stream before that is worth a word.
_MISSING_S = 0.5


@dataclass(frozen=True)
class Reading:
    """Which frames of a source to read, and how.

    Attributes:
        shot_threshold: Score from which a frame starts a shot; None looks for no cuts.
        start: Seconds to skip.
        duration: Seconds to read; None reads to the end.
        force_8bit: Accept video of more than 8 bits and round it.
        deinterlace: Turn interlaced frames into whole ones, one for one.

    Raises:
        ValueError: A threshold, start or duration out of range.
    """

    shot_threshold: float | None = SHOT_THRESHOLD
    start: float = 0.0
    duration: float | None = None
    force_8bit: bool = False
    deinterlace: bool = False

    def __post_init__(self) -> None:
        checked_threshold(self.shot_threshold)
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
        VideoError: While frames are read: nothing can be decoded, the size changes on the way, sound cannot
            be stored, or a warning refuses the source.
    """

    def __init__(
        self,
        stream: av.VideoStream,
        packets: "Iterator[Packet[Any]]",
        info: SourceInfo,
        reading: Reading,
        recorder: SideRecorder | None,
        warnings: Warnings,
    ) -> None:
        self._stream, self._packets, self._info, self._reading = stream, packets, info, reading
        self._recorder, self._warnings = recorder, warnings
        self._outcome: SourceOutcome | None = None
        self._has_sought = False
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
        rotation = 0
        for frame, is_cut in pair_with_cuts(self._chosen(), self._stream, self._reading.shot_threshold):
            if not times:
                self._begin(frame)
                rotation = frame.rotation % 360
            times.append(frame.pts)
            yield SourceFrame(to_rgb(frame, self._info.colour), is_cut=is_cut or len(times) == 1)
        if not times:
            late = f" after {self._reading.start} s" if self._reading.start else ""
            raise VideoError(f"{self._info.name}: no frame could be decoded{late}")
        side = self._finished_side()
        video = _video(self._info, times, rotation)
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
        for index, frame in enumerate(self._whole()):
            self._check(frame, index)
            at = frame.time if frame.time is not None else index / float(self._info.frame_rate)
            first_time = at if first_time is None else first_time
            elapsed = at - first_time
            if duration is not None and elapsed >= start + duration - _ROUNDING_S:
                if self._recorder is not None:
                    self._recorder.drain(self._packets)
                break
            if elapsed < start - _ROUNDING_S:
                if self._recorder is not None:
                    self._recorder.skip(_seconds(frame))
                continue
            corrupt += bool(frame.is_corrupt)
            yield frame
        if corrupt:
            self._warnings.add(f"{corrupt} frames are damaged in the source")

    def _check(self, frame: VideoFrame, index: int) -> None:
        name, width, height = self._info.name, self._info.width, self._info.height
        if (frame.width, frame.height) != (width, height):
            raise VideoError(
                f"{name}: frame {index} is {frame.width}x{frame.height} after {width}x{height}; "
                "split the video there"
            )
        check_depth(name, frame.format, self._reading.force_8bit)

    def _whole(self) -> Iterator[VideoFrame]:
        """Decoded frames, without interlacing if that is wanted."""
        decoded = self._decoded()
        return deinterlaced(decoded, self._stream) if self._reading.deinterlace else decoded

    def _decoded(self) -> Iterator[VideoFrame]:
        decoded, end = 0, 0.0
        try:
            for frame in self._shown():
                decoded += 1
                end = max(end, self._end_of(frame))
                yield frame
        except (av.FFmpegError, OSError, IndexError) as error:
            if decoded == 0:
                raise VideoError(f"{self._info.name}: cannot be decoded: {reason(error)}") from error
            self._warnings.add(f"decoding stopped after {decoded} frames: {reason(error)}")
            return
        promised = promised_s(self._stream)
        if self._stream.frames > decoded and not self._has_sought:
            self._warnings.add(f"the source promises {self._stream.frames} frames, {decoded} were decoded")
        elif decoded and promised > end + _MISSING_S:
            self._warnings.add(f"the source promises {promised:.2f} s, it ends at {end:.2f} s")

    def _shown(self) -> Iterator[VideoFrame]:
        """Decoded frames: the first, from which times count, and those from about the start on."""
        frames = self._frames_of_packets()
        far = self._reading.start >= _FAR_S and self._recorder is None and not self._reading.deinterlace
        if far and self._stream.container.format.name.split(",")[0] in _INDEXED:
            first = next(frames, None)
            if first is not None:
                yield first
                frames = self._sought(first)
        yield from frames

    def _sought(self, first: VideoFrame) -> Iterator[VideoFrame]:
        """Frames from the start on, by the container's index; all of them where that leads too far."""
        if first.time is None or first.pts is None:
            yield from self._frames_of_packets()
            return
        self._has_sought, container = True, cast(InputContainer, self._stream.container)
        goal = first.time + self._reading.start
        container.seek(int((goal - _EARLY_S) / self._info.time_base), stream=self._stream)
        frames = self._frames_of_packets()
        is_near = False  # whether the last frame was before the goal, so that none is left out
        for frame in frames:
            if frame.time is not None and frame.time < goal - _ROUNDING_S:
                is_near = True
                continue
            if is_near and frame.time is not None and not frame.is_corrupt:
                yield frame
                yield from frames
            else:
                container.seek(first.pts, stream=self._stream)
                yield from self._frames_of_packets()
            return

    def _frames_of_packets(self) -> Iterator[VideoFrame]:
        """Decode the video's packets and hand the others on."""
        for packet in self._packets:
            if packet.stream.index == self._stream.index:
                yield from packet.decode()
            elif self._recorder is not None:
                self._recorder.add(packet)

    def _end_of(self, frame: VideoFrame) -> float:
        shown = float((frame.duration or 0) * self._info.time_base)
        return (frame.time or 0.0) + max(shown, 1 / float(self._info.frame_rate))

    def _finished_side(self) -> SideData | None:
        if self._recorder is None:
            return None
        side = self._recorder.finish()
        for warning in self._recorder.warnings:
            self._warnings.add(warning)
        return side


def _video(info: SourceInfo, times: list[int | None], rotation: int) -> VideoInfo:
    """The video with these time stamps; containers do not state the mean of an uneven rate reliably."""
    video = VideoInfo(
        info.width,
        info.height,
        num_frames=len(times),
        frame_rate=info.frame_rate,
        time_base=info.time_base,
        pixel_aspect=info.pixel_aspect,
        rotation=0 if rotation % 90 else rotation,
        colour=info.colour,
    )
    return video.with_times(info.time_base, _time_steps(times, info))


def _time_steps(times: list[int | None], info: SourceInfo) -> tuple[int, ...]:
    """Differences between time stamps, or nothing if they are those of a constant rate."""
    if any(time is None for time in times):
        return ()
    stamps = [time for time in times if time is not None]
    period = 1 / (info.frame_rate * info.time_base)
    rounding = min(Fraction(1), period / 2)
    if all(abs(t - stamps[0] - i * period) <= rounding for i, t in enumerate(stamps)):
        return ()
    steps = [b - a for a, b in pairwise(stamps)]
    if min(steps) < 0:  # AVI stores no display times: what FFmpeg guesses for reordered frames is no use
        return ()
    return (0, *(min(step, MAX_RATIO) for step in steps))


def _seconds(frame: VideoFrame) -> Fraction:
    """Time stamp of a frame, 0 where it has none."""
    return Fraction(0) if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
