"""File to file: encode a video, decode a file."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mptvc.codec.codec import Codec
from mptvc.codec.decoder import Decompressor
from mptvc.codec.encoder import Compressor, checked_rate
from mptvc.codec.rate import DEFAULT_RATE, Rate
from mptvc.codec.weights import load_codec
from mptvc.errors import FormatError
from mptvc.files.encoding import EncodeReport, Progress, encode_source
from mptvc.files.parts import Part, encode_parts
from mptvc.format.bitstream import read_header
from mptvc.format.header import Header, VideoInfo, availability
from mptvc.format.limits import DEFAULT_LIMITS, Limits
from mptvc.format.sections import open_side
from mptvc.format.source import Source, open_source, seekable
from mptvc.format.target import refuse_existing, refuse_same
from mptvc.video.cuts import SHOT_THRESHOLD
from mptvc.video.description import USUAL_RATE, SourceInfo
from mptvc.video.raw import RawVideo
from mptvc.video.sink import OutputOptions, VideoSink
from mptvc.video.sound import SidePlayer
from mptvc.video.source import VideoSource


@dataclass(frozen=True)
class DecodeReport:
    """What ``decode_file`` wrote.

    Attributes:
        video: The video as written.
        levels: Levels that were decoded.
        complete: Whether these are all levels of the file, for all of its clips.
        damage: What was left out because it was damaged, with ``best_effort``.
        warnings: What a user should know about the target.
    """

    video: VideoInfo
    levels: int
    complete: bool
    damage: tuple[FormatError, ...] = ()
    warnings: tuple[str, ...] = ()


def encode_file(
    source: str | Path | RawVideo | BinaryIO,
    target: str | Path | BinaryIO,
    *,
    codec: Codec | None = None,
    rate: Rate = DEFAULT_RATE,
    shot_threshold: float | None = SHOT_THRESHOLD,
    shots: Sequence[int] | None = None,
    start: float = 0.0,
    duration: float | None = None,
    force_8bit: bool = False,
    deinterlace: bool = False,
    sound: bool = True,
    strict: bool = False,
    stream: int | None = None,
    on_size_change: str = "stop",
    frame_rate: Fraction | float = USUAL_RATE,
    scale: float = 1.0,
    force: bool = False,
    progress: Progress | None = None,
) -> EncodeReport:
    """Encode a video file to an ``.mpt`` file; memory does not grow with its length.

    Args:
        source: Any file that FFmpeg reads, a folder of PNG or JPEG pictures, an array uint8
            ``[T, H, W, 3]`` in a ``.npy`` file, raw video, or a binary file object.
        target: Path or binary file object of the result.
        codec: Codec to use; by default one with the packaged weights.
        rate: How finely to quantize, or how many bits to use.
        shot_threshold: Score of ``scdet`` from which a frame starts a shot; None for no cuts.
        shots: Frames of each shot where they are known, instead of looking for cuts.
        start: Seconds of the source to skip.
        duration: Seconds to encode; None for all.
        force_8bit: Round video of more than 8 bits instead of refusing it.
        deinterlace: Turn interlaced frames into whole ones.
        sound: Copy sound and subtitles into the file.
        strict: Refuse what otherwise is a warning.
        stream: Number of the video stream in the source; None takes the default one, or the largest, and no
            cover picture.
        on_size_change: ``stop`` where the size changes on the way, ``scale`` to the first one, or ``split``:
            each part goes to a file of its own, the first to ``target`` and the others beside it, with
            numbers: ``out.mpt``, ``out-2.mpt``. All appear, or none.
        frame_rate: Frames a second of a folder or an array.
        scale: Sides of the coded pictures by those of the source's, above 0 and at most 1.
        force: Replace an existing target.
        progress: Called after each frame with the frames that are coded, and at the end with all.

    Raises:
        VideoError: The source cannot be read.
        MptError: The target exists or cannot be written.
        ValueError: Source and target are the same file, ``stream`` is no video stream, ``shots`` do not add
            up to the frames, ``frame_rate`` or ``scale`` is out of range, or a file object is to be split.

    Example:
        >>> import mptvc
        >>> report = mptvc.encode_file("in.mp4", "coded.mpt", duration=0.5)
        >>> report.header.video.num_frames, report.warnings
        (12, ())
    """
    if isinstance(target, str | Path):
        refuse_same(str(source) if isinstance(source, RawVideo) else source, target)
        refuse_existing(Path(target), force)
    elif on_size_change == "split":
        raise ValueError(
            'on_size_change="split" makes several files, standard output or a file object is one'
        )
    with ExitStack() as stack:
        if isinstance(source, str | Path) and Path(source).is_fifo():
            source = stack.enter_context(open(source, "rb"))
        if not isinstance(source, str | Path | RawVideo):  # MP4's index may come last: a pipe is stored first
            source = stack.enter_context(seekable(source))

        def opened(part: Part, shot_threshold: float | None, sound: bool) -> VideoSource:
            if not isinstance(source, str | Path | RawVideo):
                source.seek(0)
            return VideoSource(
                source,
                shot_threshold=shot_threshold,
                start=part.start,
                duration=part.duration,
                force_8bit=force_8bit,
                deinterlace=deinterlace,
                sound=sound,
                strict=strict,
                stream=stream,
                on_size_change=on_size_change,
                frame_rate=checked_rate(frame_rate),
                scale=scale,
            )

        def encoded(part: Part, out: str | Path | BinaryIO, progress: Progress | None) -> EncodeReport:
            with opened(part, shot_threshold if shots is None else None, sound) as video:
                steps = _Steps(progress, _expected(video.info, part))
                with Compressor((codec or load_codec()).coder, rate, steps.code) as compressor:
                    report = encode_source(
                        video, compressor, out, rate, shots=shots, strict=strict, force=force, read=steps.read
                    )
            if progress is not None:
                progress(report.header.video.num_frames, report.header.video.num_frames)
            return report

        whole = Part(start, duration)
        if on_size_change == "split" and isinstance(target, str | Path):
            named = str(source) if isinstance(source, RawVideo) else source
            return encode_parts(named, Path(target), whole, opened, encoded, force=force, progress=progress)
        return encoded(whole, target, progress)


def _expected(info: SourceInfo, part: Part) -> int:
    """About how many frames of a source are read."""
    left = info.expected_frames - round(Fraction(part.start) * info.frame_rate)
    wanted = left if part.duration is None else min(left, round(Fraction(part.duration) * info.frame_rate))
    return max(1, wanted)


class _Steps:
    """Reports frames as done when they are coded, and looks in after each frame that is read."""

    def __init__(self, progress: Progress | None, expected: int) -> None:
        self._progress, self._expected, self._coded, self._read = progress, expected, 0, 0

    def code(self, count: int) -> None:
        """Take note that so many frames are coded."""
        self._coded = count
        self._tell()

    def read(self, count: int) -> None:
        """Take note that so many frames are read."""
        self._read = count
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._coded, max(self._read, self._expected))


def decode_file(
    source: Source,
    target: str | Path | BinaryIO,
    *,
    codec: Codec | None = None,
    levels: int | None = None,
    allow_partial: bool = False,
    best_effort: bool = False,
    source_size: bool = True,
    sound: bool = True,
    start: float = 0.0,
    duration: float | None = None,
    output: OutputOptions | None = None,
    force: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress | None = None,
) -> DecodeReport:
    """Decode an ``.mpt`` file, or a prefix of one, to a video file.

    Args:
        source: Path, ``http(s)://`` address, bytes or a binary file object.
        target: Path, or a binary file object for y4m and mkv.
        codec: Codec with the file's weights; by default one with the packaged weights.
        levels: Levels to decode; by default all that are complete.
        allow_partial: Also use the clips of the next level that are there; where not even the first
            level is complete, the video ends with the last clip that is.
        best_effort: Leave out damaged sections instead of stopping: a clip shows its coarser levels, or
            the last picture before it where its first level is damaged.
        source_size: Enlarge to the source's size; otherwise the last level's own size.
        sound: Write the sound and subtitles that the file holds, in mp4 and mkv.
        start: Seconds to skip: the first frame is the first that is shown then or later.
        duration: Seconds to write; None for all.
        output: Format and codec of the target.
        force: Replace an existing target.
        limits: What to accept.
        progress: Called after each clip.

    Raises:
        FormatError: The source is damaged, or no level is complete.
        WeightsError: The source was made with other weights.
        VideoError: The target cannot be written.
        MptError: The source cannot be opened, or the target exists.
        ValueError: A wrong number of levels, an empty time range, or target equal to source.

    Example:
        >>> import mptvc
        >>> options = mptvc.OutputOptions(codec="ffv1")
        >>> report = mptvc.decode_file("out.mpt", "part.mkv", levels=1, duration=0.2, output=options)
        >>> report.video.num_frames, report.levels, report.complete
        (5, 1, False)
    """
    if isinstance(target, str | Path):
        refuse_same(source, target)
        target = Path(target)
    with open_source(source) as (file, size):
        header = read_header(file, limits)
        coder = (codec or load_codec()).coder_of(header)
        reader = Decompressor(
            coder,
            file,
            size,
            levels=levels,
            allow_partial=allow_partial,
            best_effort=best_effort,
            header=header,
        )
        there = availability(header, size)
        arrived = header.video.num_frames if there.levels else header.shots.frames(there.clips).start
        first, last = _frame_range(header.video, arrived, start, duration)
        height, width = coder.picture_size(
            header.geometry, header.num_levels if source_size else reader.levels
        )
        info = header.video.excerpt(first, last, width, height)
        damage: list[FormatError] = []
        with ExitStack() as stack:
            side = _side_player(file, header, first, last, damage if best_effort else None) if sound else None
            if side is not None:
                stack.enter_context(side)
            sink = stack.enter_context(
                VideoSink(target, info, output or OutputOptions(), side=side, force=force)
            )
            previous = np.full((height, width, 3), 127, np.uint8)
            for clip in range(header.shots.clip_at(first), header.shots.clip_at(last - 1) + 1):
                shown = header.shots.frames(clip)
                at = shown.start
                for found in reader.frames(clip, source_size=source_size):
                    frames = _enlarged(found, height, width)
                    sink.write(frames[max(0, first - at) : max(0, last - at)])
                    previous, at = frames[-1].copy(), at + len(frames)
                    if progress is not None:
                        progress(max(0, min(last, at) - first), last - first)
                    if at >= last:
                        break
                while at < min(last, shown.stop):  # damaged from here on: one picture at a time in memory
                    if at >= first:
                        sink.write(previous[None])
                    at += 1
    damage += reader.damage.values()
    complete = min(reader.levels, there.levels) == header.num_levels and not damage
    warnings = () if side is None else tuple(side.warnings)
    return DecodeReport(sink.info, reader.levels, complete, tuple(damage), warnings)


def _side_player(
    file: BinaryIO, header: Header, first: int, last: int, damage: list[FormatError] | None
) -> SidePlayer | None:
    """The sound of some frames; None where there is none, or it is damaged and ``damage`` takes that."""
    try:
        section = open_side(file, header)
    except FormatError as error:
        if damage is None:
            raise
        damage.append(error)
        return None
    if section is None or header.side is None:
        return None
    start = header.video.times[first]
    end = None if last == header.video.num_frames else header.video.times[last]
    return SidePlayer(section, header.side.lead_s, start, end, trimmed=first > 0)


def _enlarged(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames of a clip that has fewer levels than the others, at their size by repetition."""
    if frames.shape[1:3] == (height, width):
        return frames
    rows = np.arange(height) * frames.shape[1] // height
    columns = np.arange(width) * frames.shape[2] // width
    return frames[:, rows[:, None], columns]


def _frame_range(video: VideoInfo, arrived: int, start: float, duration: float | None) -> tuple[int, int]:
    """First frame and the frame after the last that are shown in the chosen time, of those arrived."""
    end = float("inf") if duration is None else start + duration
    first, last = (min(video.times.from_time(time), arrived) for time in (start, end))
    if first >= last:
        span = f"from {start} s on" if duration is None else f"between {start} s and {end} s"
        raise ValueError(f"no frame {span}; the last is at {float(video.times[arrived - 1]):.3f} s")
    return first, last
