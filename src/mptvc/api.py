"""File to file: encode a video, decode a file, check a file's symbols."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mptvc.bitstream import DEFAULT_LIMITS, Limits, read_header
from mptvc.clip import level_size
from mptvc.codec import Codec
from mptvc.cuts import SCENE_THRESHOLD
from mptvc.files import Source, open_source, open_target, refuse_existing, refuse_same
from mptvc.header import Header, VideoInfo, availability
from mptvc.streaming import Compressor, Decompressor
from mptvc.video_input import VideoSource
from mptvc.video_output import OutputOptions, VideoSink
from mptvc.weights import load_codec

#: Called with the frames done and the frames expected.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EncodeReport:
    """What ``encode_file`` wrote.

    Attributes:
        header: The file's header.
        warnings: What a user should know about the source.
    """

    header: Header
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class DecodeReport:
    """What ``decode_file`` wrote.

    Attributes:
        video: The video as written.
        levels: Levels that were decoded.
        complete: Whether these are all levels of the file, for all of its clips.
    """

    video: VideoInfo
    levels: int
    complete: bool


def encode_file(
    source: str | Path | BinaryIO,
    target: str | Path | BinaryIO,
    *,
    codec: Codec | None = None,
    scene_threshold: float | None = SCENE_THRESHOLD,
    start: float = 0.0,
    duration: float | None = None,
    force_8bit: bool = False,
    strict: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> EncodeReport:
    """Encode a video file to an ``.mpt`` file; memory does not grow with its length.

    Args:
        source: Any file that FFmpeg reads, or a binary file object.
        target: Path or binary file object of the result.
        codec: Codec to use; by default one with the packaged weights.
        scene_threshold: Score of ``scdet`` from which a frame starts a shot; None for no cuts.
        start: Seconds of the source to skip.
        duration: Seconds to encode; None for all.
        force_8bit: Round video of more than 8 bits instead of refusing it.
        strict: Refuse what otherwise is a warning.
        force: Replace an existing target.
        progress: Called after each frame, and at the end with the true number of frames.

    Raises:
        VideoError: The source cannot be read.
        MptError: The target exists or cannot be written.
        ValueError: Source and target are the same file.
    """
    if isinstance(target, str | Path):
        refuse_same(source, target)
        refuse_existing(Path(target), force)
    with VideoSource(
        source,
        scene_threshold=scene_threshold,
        start=start,
        duration=duration,
        force_8bit=force_8bit,
        strict=strict,
    ) as video:
        with Compressor((codec or load_codec()).clips) as compressor:
            for count, frame in enumerate(video.frames(), start=1):
                compressor.add(frame.pixels, is_cut=frame.is_cut)
                if progress is not None:
                    progress(count, max(count, video.info.frames))
            with open_target(target, force=force) as out:
                header = compressor.finish(video.info, out)
        if progress is not None:
            progress(header.video.frames, header.video.frames)
        return EncodeReport(header, tuple(video.warnings))


def decode_file(
    source: Source,
    target: str | Path | BinaryIO,
    *,
    codec: Codec | None = None,
    levels: int | None = None,
    allow_partial: bool = False,
    source_size: bool = True,
    start: float = 0.0,
    duration: float | None = None,
    output: OutputOptions | None = None,
    force: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress | None = None,
) -> DecodeReport:
    """Decode an ``.mpt`` file, or a prefix of one, to a video file.

    Args:
        source: Path, bytes or a binary file object.
        target: Path, or a binary file object for y4m and mkv.
        codec: Codec with the file's weights; by default one with the packaged weights.
        levels: Levels to decode; by default all that are complete.
        allow_partial: Also use the clips of the next level that are there; where not even the first
            level is complete, the video ends with the last clip that is.
        source_size: Enlarge to the source's size; otherwise the last level's own size.
        start: Seconds to skip, rounded to a frame by the frame rate.
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
    """
    if isinstance(target, str | Path):
        refuse_same(source, target)
        target = Path(target)
    with open_source(source) as (file, size):
        header = read_header(file, limits)
        reader = Decompressor(
            (codec or load_codec()).clips,
            file,
            size,
            levels=levels,
            allow_partial=allow_partial,
            header=header,
        )
        there = availability(header, size)
        arrived = header.video.frames if there.levels else header.plan(there.clips).frames[0]
        first, last = _frame_range(header.video, arrived, start, duration)
        height, width = level_size(header, header.levels if source_size else reader.levels)
        steps = header.video.time_steps[first:last]
        info = replace(
            header.video,
            width=width,
            height=height,
            frames=last - first,
            time_steps=(0, *steps[1:]) if steps else (),
        )
        with VideoSink(target, info, output or OutputOptions(), force=force) as sink:
            for clip in range(header.clip_at(first), header.clip_at(last - 1) + 1):
                frames = reader.frames(clip, source_size=source_size)
                at = header.plan(clip).frames[0]
                sink.write(_enlarged(frames, height, width)[max(0, first - at) : last - at])
                if progress is not None:
                    progress(min(last, at + len(frames)) - first, last - first)
    return DecodeReport(info, reader.levels, min(reader.levels, there.levels) == header.levels)


def symbol_digests(
    source: Source, *, codec: Codec | None = None, limits: Limits = DEFAULT_LIMITS
) -> list[str]:
    """Decode all symbols of a file or prefix, and return a SHA-256 for each complete level.

    The digest is over the symbols as uint8 in the order clip, slice, row, column, channel; it is the
    same on every machine.

    Raises:
        FormatError: The file is damaged.
        WeightsError: It was made with other weights.
    """
    codec = codec or load_codec()
    with open_source(source) as (file, size):
        reader = Decompressor(codec.clips, file, size, header=read_header(file, limits))
        hashers = [hashlib.sha256() for _ in range(reader.levels)]
        for clip in range(reader.header.clips):
            for level, symbols in enumerate(reader.symbols(clip)):
                fsq = codec.model.level(level).fsq
                counted = fsq.to_symbols(symbols.to(codec.clips.device)).cpu().numpy()
                hashers[level].update(np.ascontiguousarray(counted).tobytes())
        return [hasher.hexdigest() for hasher in hashers]


def _enlarged(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames of a clip that has fewer levels than the others, at their size by repetition."""
    if frames.shape[1:3] == (height, width):
        return frames
    rows = np.arange(height) * frames.shape[1] // height
    columns = np.arange(width) * frames.shape[2] // width
    return frames[:, rows[:, None], columns]


def _frame_range(video: VideoInfo, arrived: int, start: float, duration: float | None) -> tuple[int, int]:
    """First frame and the frame after the last that are shown in the chosen time, of those arrived."""
    times = np.cumsum(video.time_steps) * float(video.time_base) if video.time_steps else None
    if times is None:
        times = np.arange(video.frames) / float(video.frame_rate)
    times = times[:arrived]
    end = float("inf") if duration is None else start + duration
    chosen = np.flatnonzero((times >= start - 1e-6) & (times < end - 1e-6))
    if len(chosen) == 0:
        raise ValueError(f"no frame between {start} s and {end} s; the last is at {times[-1]:.3f} s")
    return int(chosen[0]), int(chosen[-1]) + 1
