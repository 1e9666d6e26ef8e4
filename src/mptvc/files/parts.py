"""A video whose size changes on the way, as parts of one size each: when they start, and their files."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from mptvc.errors import SizeChangeError, VideoError
from mptvc.files.encoding import EncodeReport, Progress
from mptvc.format.target import atomic_output, refuse_existing, refuse_same
from mptvc.video.source import VideoSource


@dataclass(frozen=True)
class Part:
    """A part of a video.

    Attributes:
        start: Seconds of the source before it.
        duration: Seconds that it takes; None for all that is left.
    """

    start: float
    duration: float | None


def encode_parts(
    source: object,
    target: Path,
    whole: Part,
    opened: Callable[[Part, None, bool], VideoSource],
    encoded: Callable[[Part, BinaryIO, Progress | None], EncodeReport],
    *,
    force: bool,
    progress: Progress | None,
) -> EncodeReport:
    """Encode each part of one size to a file of its own; all files appear, or none.

    Args:
        source: The source, which no part may replace.
        target: Path of the first file.
        whole: What to read of the source.
        opened: Opens a part of the source, without looking for cuts, with or without its sound.
        encoded: Encodes a part.
        force: Replace existing files.
        progress: Called after each frame.

    Returns:
        The report of the first file, with those of the others, and with the warnings of all.

    Raises:
        VideoError: The source cannot be read.
        MptError: One of the files exists or cannot be written.
        ValueError: One of them is the source.
    """
    lengths = _parts_of_one_size(whole, opened, progress)
    total, done = sum(lengths.values()), 0
    reports: dict[Path, EncodeReport] = {}

    def tell(count: int, _expected: int) -> None:
        if progress is not None:
            progress(done + count, total)

    paths = [part_path(target, number) for number in range(1, len(lengths) + 1)]
    for path in paths:
        refuse_same(source, path)
    with _open_all(paths, force) as files:
        for (part, length), (path, file) in zip(lengths.items(), files.items(), strict=True):
            reports[path] = encoded(part, file, tell)
            done += length
    first, *others = reports
    warnings = [warning for report in reports.values() for warning in report.warnings]
    if others:
        warnings.insert(0, f"the size changes on the way: there are {len(paths)} files, up to {paths[-1]}")
    return replace(
        reports[first],
        warnings=tuple(dict.fromkeys(warnings)),
        others={path: reports[path] for path in others},
    )


def _parts_of_one_size(
    whole: Part, opened: Callable[[Part, None, bool], VideoSource], progress: Progress | None
) -> dict[Part, int]:
    """The parts and their numbers of frames; the source is read once for that, without coding anything."""
    lengths: dict[Part, int] = {}
    left = whole
    while True:
        count = 0
        try:
            with opened(left, None, False) as source:
                for _ in source.frames():
                    count += 1
                    if progress is not None:  # which may stop all
                        progress(0, sum(lengths.values()) + count)
        except SizeChangeError as change:
            if change.at <= left.start:
                raise VideoError(
                    f"{source.info.name}: the size changes after {change.at:.2f} s, where times go back and "
                    'tell no part from the other; on_size_change="scale" makes one size'
                ) from change
            elapsed = change.at - left.start
            lengths[Part(left.start, elapsed)] = count
            left = Part(change.at, None if left.duration is None else left.duration - elapsed)
        else:
            return lengths | {left: count}


def part_path(target: Path, number: int) -> Path:
    """Path of a part: the first has the target's name, ``out.mpt``, the second is ``out-2.mpt``."""
    return target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")


@contextmanager
def _open_all(paths: list[Path], force: bool) -> Iterator[dict[Path, BinaryIO]]:
    """A binary file for each path; they take their names when the block ends, the first one last.

    Raises:
        MptError: One of the paths exists and ``force`` is not set, or it cannot be written.
    """
    for path in paths:
        refuse_existing(path, force)
    with ExitStack() as stack:
        yield {path: stack.enter_context(atomic_output(path, force=force)) for path in paths}
        for path in paths:  # before the first takes its name: all or none
            refuse_existing(path, force)
