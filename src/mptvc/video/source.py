"""Video files read through PyAV: frames, time stamps, colour, rotation.

Frames are uint8 RGB ``[H, W, 3]``. The conversion to RGB uses the matrix and range that the stream
names; where it names no matrix, BT.601 up to 576 lines and BT.709 above, as players do. `video_output`
follows the same rule, so a round trip keeps the colours.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Self

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation

from mptvc.errors import VideoError
from mptvc.format.header import MAX_RATIO, Colour, VideoInfo
from mptvc.video.cuts import SHOT_THRESHOLD, checked_threshold, pair_with_cuts
from mptvc.video.deinterlace import deinterlaced
from mptvc.video.raw import RawVideo
from mptvc.video.sound import SideData, SideRecorder

ACCURATE = (
    Interpolation.BICUBIC
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
)
#: Matrix codes of H.273 that the converter knows, and the converter's own code.
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
LIMITED, FULL = 1, 2
#: Seconds by which rounded time stamps are off; Matroska's are whole milliseconds.
_ROUNDING_S = 6e-4
#: Seconds that may be missing at the end of a stream before that is worth a word.
_MISSING_S = 0.5


@dataclass(frozen=True)
class SourceFrame:
    """One frame of a source.

    Attributes:
        pixels: uint8 RGB ``[H, W, 3]``.
        time: Time stamp in units of the source's time base, or None.
        is_cut: Whether it starts a new shot; the first frame always does.
    """

    pixels: np.ndarray
    time: int | None
    is_cut: bool


class VideoSource:
    """Frames of a video file's first video stream.

    Args:
        source: Path, raw video or binary file.
        shot_threshold: Score from which a frame starts a shot; None looks for no cuts.
        start: Seconds to skip.
        duration: Seconds to read; None reads to the end.
        force_8bit: Accept video of more than 8 bits and round it.
        deinterlace: Turn interlaced frames into whole ones, one for one.
        sound: Keep the packets of sound and subtitles for ``side``.
        strict: Refuse what otherwise is a warning.

    Attributes:
        info: What is known so far; the number of frames and the time steps are right once ``frames``
            is exhausted.
        warnings: What a user should know, complete once ``frames`` is exhausted.

    Raises:
        VideoError: The file cannot be read, has no video, or needs an option that is not set.
        ValueError: A threshold, start or duration out of range.
    """

    def __init__(
        self,
        source: str | Path | RawVideo | BinaryIO,
        *,
        shot_threshold: float | None = SHOT_THRESHOLD,
        start: float = 0.0,
        duration: float | None = None,
        force_8bit: bool = False,
        deinterlace: bool = False,
        sound: bool = False,
        strict: bool = False,
    ) -> None:
        self.name = str(source) if isinstance(source, str | Path | RawVideo) else "standard input"
        if not start >= 0 or not (duration is None or duration > 0):
            raise ValueError(f"start is 0 or more and duration above 0, found {start} and {duration}")
        self._threshold, self._strict = checked_threshold(shot_threshold), strict
        self._start, self._duration = start, duration
        self._deinterlace, self._force_8bit = deinterlace, force_8bit
        self.warnings: list[str] = []
        self._recorder: SideRecorder | None = None
        if isinstance(source, str | Path | RawVideo) and not Path(self.name).exists():
            raise VideoError(f"{self.name}: no such file")
        try:
            if isinstance(source, RawVideo):
                self._container = av.open(self.name, "r", "rawvideo", options=source.options)
            else:
                opened = str(source) if isinstance(source, Path) else source
                self._container = av.open(opened, mode="r", metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoError(f"{self.name}: cannot be read as video: {reason(error)}") from error
        if not self._container.streams.video:
            self.close()
            raise VideoError(f"{self.name}: no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._check_format()
        if sound:
            self._recorder = SideRecorder(self._container)
        others = () if self._recorder is None else self._recorder.streams
        self._packets = self._container.demux(self._stream, *others)
        self.info = self._describe()
        if isinstance(source, RawVideo) and (rest := source.left_over()):
            self._warn(f"{rest} bytes are left over after the last whole frame: is the size right?")

    def _check_format(self) -> None:
        context = self._stream.codec_context
        pixel_format = context.format if context else None  # there is none for an unknown codec
        if pixel_format is None:
            self.close()
            raise VideoError(f"{self.name}: no decodable video stream")
        self._check_depth(pixel_format)
        self._alpha = any(component.is_alpha for component in pixel_format.components)
        if self._alpha:
            self._warn("the alpha channel is composited on black")
        matrix = int(context.colorspace)
        if not pixel_format.is_rgb and matrix not in (0, 2, *MATRICES):
            self._warn(f"the colour matrix {matrix} is unknown, the usual one is taken")

    def _check_depth(self, pixel_format: VideoFormat) -> None:
        bits = max(component.bits for component in pixel_format.components)
        if bits > 8 and not self._force_8bit:
            self.close()
            raise VideoError(
                f"{self.name}: {bits}-bit video; --force-8bit converts it to 8 bits, which loses "
                "precision and keeps the colour tags"
            )

    def _describe(self) -> VideoInfo:
        stream, context = self._stream, self._stream.codec_context
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        aspect = stream.sample_aspect_ratio
        full = context.color_range == FULL or (context.pix_fmt or "").startswith("yuvj")
        return VideoInfo(
            width=context.width,
            height=context.height,
            frames=stream.frames or self._estimate(rate),
            frame_rate=Fraction(rate).limit_denominator(2**31),
            time_base=Fraction(stream.time_base or 1 / rate),
            pixel_aspect=Fraction(aspect) if aspect else Fraction(1),
            colour=Colour(
                primaries=_tag(context.color_primaries),
                transfer=_tag(context.color_trc),
                matrix=_tag(context.colorspace),
                range=FULL if full else int(context.color_range),
            ),
        )

    def _estimate(self, rate: Fraction) -> int:
        seconds = float(self._container.duration or 0) / 1e6
        return max(1, round(seconds * float(rate)))

    def _warn(self, message: str) -> None:
        if self._strict:
            self.close()
            raise VideoError(f"{self.name}: {message}; --strict refuses that")
        self.warnings.append(message)

    def frames(self) -> Iterator[SourceFrame]:
        """Yield all frames in the order in which they are shown.

        Raises:
            VideoError: Nothing can be decoded, or the size changes on the way.
        """
        times: list[int | None] = []
        for frame, is_cut in pair_with_cuts(self._selected(), self._stream, self._threshold):
            if not times:
                self._learn_from(frame)
            pixels = self._to_rgb(frame)
            yield SourceFrame(pixels, frame.pts, is_cut or not times)
            times.append(frame.pts)
        if not times:
            late = f" after {self._start} s" if self._start else ""
            raise VideoError(f"{self.name}: no frame could be decoded{late}")
        steps = _time_steps(times, self.info)
        # Containers do not state the mean of an uneven rate reliably.
        self.info = replace(self.info, frames=len(times)).with_times(self.info.time_base, steps)

    def _learn_from(self, frame: VideoFrame) -> None:
        """Take from the first frame what the container did not say."""
        if frame.interlaced_frame:
            self._warn("interlaced video is coded as it is; --deinterlace makes whole frames of it")
        if self._recorder is not None:
            duration = None if self._duration is None else Fraction(self._duration)
            self._recorder.start(_seconds(frame), duration, trimmed=self._start > 0)
        rotation = frame.rotation % 360
        if rotation % 90 == 0:
            self.info = replace(self.info, rotation=rotation)

    def _selected(self) -> Iterator[VideoFrame]:
        """Decoded frames inside the chosen time, checked for damage and a change of size."""
        corrupt = 0
        first_time: float | None = None
        decoded = deinterlaced(self._decoded(), self._stream) if self._deinterlace else self._decoded()
        for index, frame in enumerate(decoded):
            if (frame.width, frame.height) != (self.info.width, self.info.height):
                raise VideoError(
                    f"{self.name}: frame {index} is {frame.width}x{frame.height} after "
                    f"{self.info.width}x{self.info.height}; split the video there"
                )
            self._check_depth(frame.format)
            at = frame.time if frame.time is not None else index / float(self.info.frame_rate)
            first_time = at if first_time is None else first_time
            elapsed = at - first_time
            if self._duration is not None and elapsed >= self._start + self._duration - _ROUNDING_S:
                if self._recorder is not None:
                    self._recorder.drain(self._packets)
                break
            if elapsed < self._start - _ROUNDING_S:
                continue
            corrupt += bool(frame.is_corrupt)
            yield frame
        if corrupt:
            self._warn(f"{corrupt} frames are damaged in the source")

    def _decoded(self) -> Iterator[VideoFrame]:
        decoded, end = 0, 0.0
        try:
            for frame in self._frames_of_packets():
                decoded += 1
                end = max(end, self._end_of(frame))
                yield frame
        except (av.FFmpegError, OSError, IndexError) as error:
            if decoded == 0:
                raise VideoError(f"{self.name}: cannot be decoded: {reason(error)}") from error
            self._warn(f"decoding stopped after {decoded} frames: {reason(error)}")
            return
        if self._stream.frames > decoded:
            self._warn(f"the source promises {self._stream.frames} frames, {decoded} were decoded")
        elif decoded and self._promised_s() > end + _MISSING_S:
            self._warn(f"the source promises {self._promised_s():.2f} s, it ends at {end:.2f} s")

    def _frames_of_packets(self) -> Iterator[VideoFrame]:
        """Decode the video's packets and hand the others on."""
        for packet in self._packets:
            if packet.stream.index == self._stream.index:
                yield from packet.decode()  # type: ignore[misc]
            elif self._recorder is not None:
                self._recorder.add(packet)

    def side(self) -> SideData | None:
        """Sound and subtitles that were kept, once ``frames`` is exhausted.

        Raises:
            VideoError: They cannot be stored, or ``strict`` refuses to leave a stream out.
        """
        if self._recorder is None:
            return None
        data = self._recorder.finish()
        for warning in self._recorder.warnings:
            self._warn(warning)
        return data

    def _end_of(self, frame: VideoFrame) -> float:
        shown = float((frame.duration or 0) * self.info.time_base)
        return (frame.time or 0.0) + max(shown, 1 / float(self.info.frame_rate))

    def _promised_s(self) -> float:
        """Length that Matroska states of the stream, in seconds; 0 if it does not."""
        match = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", self._stream.metadata.get("DURATION", ""))
        if match is None:
            return 0.0
        hours, minutes, seconds = map(float, match.groups())
        return 3600 * hours + 60 * minutes + seconds

    def _to_rgb(self, frame: VideoFrame) -> np.ndarray:
        colour = self.info.colour
        rgb = frame.reformat(
            format="rgba" if self._alpha else "rgb24",
            src_colorspace=matrix_code(colour, self.info.height),
            src_color_range=ColorRange(colour.range or LIMITED),
            dst_color_range=ColorRange(FULL),
            interpolation=int(ACCURATE),
        ).to_ndarray()
        if not self._alpha:
            return rgb.astype(np.uint8, copy=False)
        rgba = rgb.astype(np.uint8, copy=False)
        opaque = rgba[..., :3].astype(np.uint16) * rgba[..., 3:] + 127
        return (opaque // 255).astype(np.uint8)

    def close(self) -> None:
        """Close the file, and drop the sound that was kept."""
        self._container.close()
        if self._recorder is not None:
            self._recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _time_steps(times: list[int | None], info: VideoInfo) -> tuple[int, ...]:
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


def _tag(code: int) -> int:
    """A colour code as one byte; FFmpeg's own codes beyond H.273 are unspecified."""
    return int(code) if code < 256 else 2


def matrix_code(colour: Colour, height: int) -> int:
    """The converter's code for the matrix that a stream names, or the usual one for its height."""
    return MATRICES.get(colour.matrix, 1 if height > 576 else 5)


def reason(error: Exception) -> str:
    """One line that says what went wrong."""
    if isinstance(error, IndexError):  # how PyAV fails where a stream appears that it has not announced
        return "a new stream starts"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
