"""Long videos: cut into parts at the borders of clips, and joined again.

A joined film is the file that encoding it in one piece gives, unless a number of bits is asked for.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from itertools import accumulate, chain, pairwise
from typing import BinaryIO

from mptvc.codec.coder import ClipCoder
from mptvc.corpus.storage import open_video
from mptvc.corpus.tokenizer import TokenizerOptions
from mptvc.corpus.units import Unit
from mptvc.errors import FormatError, VideoError
from mptvc.format.bitstream import make_header, read_header, write_header
from mptvc.format.geometry import Shots
from mptvc.format.header import Header, Index, Layout, Section
from mptvc.format.sections import read_section
from mptvc.format.timeline import Timeline
from mptvc.video.source import VideoSource


def is_long(unit: Unit, limit_s: float) -> bool:
    """Whether a unit is clearly longer than a part should be, by what its container says.

    Raises:
        VideoError: It cannot be read.
    """
    if unit.shots is not None:
        return False
    start, end = unit.start_s or 0.0, unit.end_s
    if end is None:
        with open_video(unit.path) as video, VideoSource(video, shot_threshold=None) as source:
            end = float(source.info.expected_frames / source.info.frame_rate)
    return end - start > 1.5 * limit_s


def plan_film(
    unit: Unit, coder: ClipCoder, options: TokenizerOptions, part_s: float
) -> tuple[list[Unit], bytes]:
    """The parts of a long unit, each of whole clips, and the layout of the whole as a header.

    The video is decoded once, to find its cuts: where clips begin depends on them.

    Args:
        unit: The unit.
        coder: Says where clips begin.
        options: How the parts will be coded.
        part_s: Seconds of a part, about.

    Raises:
        VideoError: The video cannot be read.
    """
    start = unit.start_s or 0.0
    with (
        open_video(unit.path) as video,
        VideoSource(
            video,
            shot_threshold=options.shot_threshold,
            duration=unit.end_s,
            force_8bit=options.force_8bit,
            deinterlace=options.deinterlace,
            strict=options.strict,
        ) as source,
    ):
        frames = source.frames()
        cuts = [number for number, frame in enumerate(frames) if frame.is_cut]
        whole = frames.outcome().video
    first, times = whole.times.from_time(start), whole.times
    if first == whole.num_frames:
        raise VideoError(f"{unit.path}: no frame could be decoded after {start} s")
    begins = [first, *(cut for cut in cuts if cut > first), whole.num_frames]
    film = whole.excerpt(first, whole.num_frames, whole.width, whole.height)
    layout = coder.layout(film, tuple(b - a for a, b in pairwise(begins)))
    borders = _borders(layout.shots, film.times, part_s)
    moments = [float(times[first + at - 1] + times[first + at]) / 2 for at in borders[1:-1]]
    spans = zip([unit.start_s, *moments], [*moments, unit.end_s], pairwise(borders), strict=True)
    parts = [
        replace(unit, key=f"{unit.key}/{number:05}", start_s=a, end_s=b, shots=_within(layout.shots, *at))
        for number, (a, b, at) in enumerate(spans)
    ]
    return parts, _head(layout)


def _borders(shots: Shots, times: Timeline, part_s: float) -> list[int]:
    """Frames at which parts of whole clips begin, and the number of frames."""
    borders = [0]
    for clip in range(1, shots.num_clips):
        begin = shots.frames(clip).start
        if times[begin] - times[borders[-1]] >= part_s and times.end - times[begin] >= part_s / 2:
            borders.append(begin)
    return [*borders, shots.num_frames]


def _within(shots: Shots, begin: int, end: int) -> tuple[int, ...]:
    """Frames of each shot between two frames."""
    inside = (at for at in accumulate(shots.lengths) if begin < at < end)
    return tuple(b - a for a, b in pairwise((begin, *inside, end)))


def _head(layout: Layout) -> bytes:
    """A layout as a header without sections, to be read again where the parts are joined."""
    sections = [[Section(0, 0)] * layout.shots.num_clips] * layout.num_levels
    return write_header(make_header(layout, Index.of(sections)))


def join_film(head: bytes, parts: Sequence[BinaryIO], levels: int, out: BinaryIO) -> tuple[Header, str]:
    """Write the file of a film from those of its parts, of which nothing is coded anew.

    Args:
        head: What ``plan_film`` gave with the parts.
        parts: Their files with all levels, open.
        levels: Levels to write.
        out: Binary file.

    Returns:
        The film's header, and the SHA-256 of what was written.

    Raises:
        FormatError: A part is damaged, or does not belong to the film.
    """
    layout = read_header(BytesIO(head))
    headers = [read_header(part) for part in parts]
    clips = [(part, header, i) for part, header in zip(parts, headers, strict=True) for i in _clips(header)]
    if len(clips) != layout.shots.num_clips:
        raise FormatError(f"the parts have {len(clips)} clips, the film {layout.shots.num_clips}")
    ranges = range(layout.num_levels)
    gains = [header.clip_gains(clip) for _, header, clip in clips]
    index = Index.of([[header.index.section(k, clip) for _, header, clip in clips] for k in ranges])
    known = replace(layout, gains=tuple(zip(*gains, strict=True)) if any(map(any, gains)) else ())
    film, digest = make_header(known, index), sha256()
    for data in chain([write_header(film)], (_section(*clip, k) for k in range(levels) for clip in clips)):
        digest.update(data)
        out.write(data)
    return film, digest.hexdigest()


def _clips(header: Header) -> range:
    return range(header.shots.num_clips)


def _section(part: BinaryIO, header: Header, clip: int, level: int) -> bytes:
    data = read_section(part, header, level, clip)
    if data is None:
        raise FormatError(f"a part ends before level {level} of its clip {clip}")
    return data
