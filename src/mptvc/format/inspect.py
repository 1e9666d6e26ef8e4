"""Files of the format without any network: look inside, check, truncate.

Needs neither torch nor PyAV, so these commands start at once.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import BinaryIO

from mptvc.errors import FormatError, MptError
from mptvc.format.bitstream import read_header
from mptvc.format.geometry import LoopShots
from mptvc.format.header import Availability, Header, availability
from mptvc.format.limits import DEFAULT_LIMITS, Limits
from mptvc.format.sections import open_side, read_section
from mptvc.format.slices import section_fronts
from mptvc.format.source import Source, open_source
from mptvc.format.target import open_target, refuse_same

_COPY_BYTES = 2**20
#: Slices by what is in them: an opening key, keys alone, or frames between keys, one or three at a time.
SLICES = ("opening", "keys", "one between", "three between")


@dataclass(frozen=True)
class FileReport:
    """What a file, or a prefix of one, holds.

    Attributes:
        header: The header.
        size_bytes: Bytes that are there.
        available: Complete levels and the share of the next.
        slice_bytes: Where it was asked for, bytes of the slices of each kind of each complete level: of the
            kinds of `SLICES`. None for a level that breaks a rule; empty for weights without prediction.
    """

    header: Header
    size_bytes: int
    available: Availability
    slice_bytes: tuple[tuple[int, ...] | None, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length of the video in seconds, to the end of its last frame."""
        return float(self.header.video.times.end)

    def level_bytes(self, level: int) -> int:
        """Bytes of one level's sections."""
        return sum(self.header.index.lengths(level))


def probe(source: Source, *, limits: Limits = DEFAULT_LIMITS, slices: bool = False) -> FileReport:
    """Read the header of a file or of a prefix of one.

    Args:
        source: Path, ``http(s)://`` address, bytes or a binary file object.
        limits: What to accept.
        slices: With prediction, read too what slices of each kind take: a few bytes of each.

    Raises:
        FormatError: Not an ``.mpt``, or its header is cut or damaged.
        LimitExceededError: The video is larger than the limits.
        MptError: The file cannot be opened.

    Example:
        >>> import mptvc
        >>> report = mptvc.probe("out.mpt", limits=mptvc.Limits(max_frames=1000))
        >>> report.header.video.width, report.header.video.colour.range, report.available.levels
        (512, 0, 3)
    """
    with open_source(source) as (file, size):
        header = read_header(file, limits)
        there = availability(header, size)
        return FileReport(header, size, there, _slice_bytes(file, header, there.levels) if slices else ())


def _slice_bytes(file: BinaryIO, header: Header, levels: int) -> tuple[tuple[int, ...] | None, ...]:
    if not isinstance(header.shots, LoopShots):
        return ()
    return tuple(_slice_bytes_of(file, header, level) for level in range(levels))


def _slice_bytes_of(file: BinaryIO, header: Header, level: int) -> tuple[int, ...] | None:
    total = dict.fromkeys(SLICES, 0)
    for clip in range(header.shots.num_clips):
        at = header.offset(level, clip)
        fronts = section_fronts(file, at, at + header.index.section(level, clip).length)
        try:
            for number, (kind, length) in enumerate(fronts):
                total[SLICES[kind + 1 if number else 0]] += length
        except ValueError:
            return None
    return tuple(total.values())


def verify(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> FileReport:
    """Check every checksum of a file or of a prefix of one.

    Args:
        source: Path, ``http(s)://`` address, bytes or a binary file object.
        limits: What to accept.

    Raises:
        FormatError: The first damage that is found; `CorruptPacketError` names level and clip.
        MptError: The file cannot be opened.

    Example:
        >>> import mptvc, pathlib
        >>> data = bytearray(pathlib.Path("out.mpt").read_bytes())
        >>> data[-1] ^= 1
        >>> try:
        ...     mptvc.verify(bytes(data))
        ... except mptvc.CorruptPacketError as error:
        ...     print(error.level)
        2
    """
    with open_source(source) as (file, size):
        header = read_header(file, limits)
        open_side(file, header)
        for level in range(header.num_levels):
            for clip in header.index.filled(level):
                read_section(file, header, level, clip)
        report = FileReport(header, size, availability(header, size))
        if size > header.prefix_bytes(header.num_levels):
            end = header.prefix_bytes(header.num_levels)
            raise FormatError(f"{size - end} bytes follow the last section", offset=end)
        return report


def truncate(
    source: Source,
    target: str | Path | BinaryIO,
    *,
    levels: int | None = None,
    max_bytes: int | None = None,
    max_bitrate: float | None = None,
    force: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> FileReport:
    """Copy the longest prefix that ends with a whole level and keeps to the limit.

    Args:
        source: Path, ``http(s)://`` address, bytes or a binary file object.
        target: Path or a binary file object.
        levels: Levels to keep.
        max_bytes: Largest size of the result.
        max_bitrate: Largest mean bit rate in bits a second.
        force: Replace an existing target.
        limits: What to accept.

    Returns:
        What the target holds.

    Raises:
        FormatError: The source is no ``.mpt``, or lacks the levels.
        MptError: Not even the first level fits, or the target cannot be written.
        ValueError: Not exactly one limit, or one out of range.

    Example:
        >>> import mptvc
        >>> mptvc.truncate("out.mpt", "preview.mpt", levels=1).available.levels
        1
    """
    if sum(limit is not None for limit in (levels, max_bytes, max_bitrate)) != 1:
        raise ValueError("give exactly one of levels=, max_bytes= and max_bitrate=")
    for name, limit in (("max_bytes", max_bytes), ("max_bitrate", max_bitrate)):
        if limit is not None and not 0 < limit < inf:
            raise ValueError(f"{name}= is a finite number above 0, found {limit}")
    with open_source(source) as (file, size):
        header = read_header(file, limits)
        report = FileReport(header, size, availability(header, size))
        if levels is None:
            levels = _fitting_levels(report, max_bytes, max_bitrate)
        if not 1 <= levels <= header.num_levels:
            raise ValueError(f"levels is 1 to {header.num_levels}, found {levels}")
        if levels > report.available.levels:
            raise FormatError(
                f"the file is cut: it has {report.available.levels} complete levels", offset=size
            )
        length = header.prefix_bytes(levels)
        file.seek(0)
        if isinstance(target, str | Path):
            refuse_same(source, target)
        with open_target(target, force=force) as out:
            _copy(file, out, length)
    return FileReport(header, length, availability(header, length))


def _fitting_levels(report: FileReport, max_bytes: int | None, max_bitrate: float | None) -> int:
    header, video = report.header, report.header.video
    duration = video.num_frames / video.frame_rate  # exact: a float has no room for every limit
    limit = int(max_bytes if max_bytes is not None else Fraction(max_bitrate or 0) * duration / 8)
    fitting = sum(header.prefix_bytes(k + 1) <= limit for k in range(report.available.levels))
    if report.available.levels == 0:
        raise FormatError("the file is cut: it has no complete level", offset=report.size_bytes)
    if fitting == 0:
        sound = f" ({header.side_bytes} of them sound)" if header.side_bytes else ""
        needed = f"level 0 needs {header.prefix_bytes(1)} bytes{sound}"
        raise MptError(f"{needed}, the limit allows {limit}: raise it")
    return fitting


def _copy(source: BinaryIO, target: BinaryIO, length: int) -> None:
    while length > 0:
        chunk = source.read(min(_COPY_BYTES, length))
        if not chunk:
            raise FormatError("the file became shorter while it was read")
        target.write(chunk)
        length -= len(chunk)
