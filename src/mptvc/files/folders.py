"""Folders of videos: find them, name their outputs, and work through them whatever happens to one."""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from mptvc.errors import MptError, VideoError

#: The ending of files of the format.
CODED = ".mpt"
#: Endings of files that are meant as videos, whatever is in them.
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".y4m", ".m4v", ".mpg", ".ts", ".yuv")


@dataclass(frozen=True)
class FolderReport:
    """What became of the files of a folder.

    Attributes:
        done: Outputs that were written.
        skipped: Outputs that were there already.
        failed: What went wrong, by source.
        warnings: What a user should know of those done, by source.
    """

    done: tuple[Path, ...]
    skipped: tuple[Path, ...]
    failed: dict[Path, Exception]
    warnings: dict[Path, tuple[str, ...]]


class StoppedError(MptError):
    """A job was stopped because the whole run is."""


def find_videos(sources: Iterable[Path], *, recursive: bool = True) -> list[Path]:
    """Video files among paths and, for folders, inside them, as `sort_files` finds them."""
    return sort_files(sources, recursive=recursive)[0]


def sort_files(sources: Iterable[Path], *, recursive: bool = True) -> tuple[list[Path], list[Path]]:
    """Video files among paths and, for folders, inside them; one that has several names by the first.

    In a folder a file is a video by its ending, or where FFmpeg finds moving pictures in it. Hidden files and
    folders are left out.

    Returns:
        The videos, and the other files of the folders.

    Raises:
        VideoError: None is found, or a path does not exist.
    """
    from mptvc.video.source import is_video  # the endings above serve commands that need no PyAV

    found: dict[Path, Path] = {}  # by what a name leads to: folders overlap and links lead elsewhere
    others: list[Path] = []
    for source in sources:
        if not source.exists():
            raise VideoError(f"{source}: no such file or folder")
        pattern = "**/*" if recursive else "*"
        inside = sorted(source.glob(pattern)) if source.is_dir() else [source]
        for path in inside:
            if not path.is_file() or _is_hidden(path, source):
                continue
            if path == source or path.suffix.lower() in VIDEO_SUFFIXES or is_video(path):
                found.setdefault(path.resolve(), path)
            else:
                others.append(path)
    if not found:
        raise VideoError("no video files found")
    return [*found.values()], others


def coded_files(folder: Path, *, recursive: bool = True) -> list[Path]:
    """The ``.mpt`` files of a folder; hidden files and folders are left out.

    Raises:
        MptError: There are none.
    """
    found = sorted(folder.glob("**/*" if recursive else "*"))
    coded = [p for p in found if p.suffix.lower() == CODED and p.is_file() and not _is_hidden(p, folder)]
    if not coded:
        raise MptError(f"{folder}: the folder holds no {CODED} files")
    return coded


def _is_hidden(path: Path, source: Path) -> bool:
    """Whether a file that was found below a source is hidden, or in a hidden folder."""
    return path != source and any(part.startswith(".") for part in path.relative_to(source).parts)


def mirrored(videos: list[Path], source: Path, target: Path, suffix: str = CODED) -> dict[Path, Path]:
    """The output of each video, with an ending, in a tree that mirrors the source's.

    ``a/b.mp4`` becomes ``a/b.mpt``; where ``a/b.mkv`` exists too, they become ``a/b.mp4.mpt`` and
    ``a/b.mkv.mpt``.
    """
    taken = Counter(videos) + Counter(video.with_suffix("") for video in videos)
    names = {v: v.stem if taken[v.with_suffix("")] == 1 else v.name for v in videos}
    return {v: target / v.relative_to(source).parent / f"{names[v]}{suffix}" for v in videos}


def work_through(
    outputs: dict[Path, Path],
    job: Callable[[Path, Path, Event], tuple[str, ...]],
    *,
    skip_existing: bool,
    jobs: int,
    progress: Callable[[int, int], None] | None = None,
) -> FolderReport:
    """Run a job for each source and output, several at a time; one that fails does not stop the rest.

    Args:
        outputs: Output of each source; its folder is made.
        job: Called with source, output and an event, returns warnings; it raises ``StoppedError`` soon after
            the event is set.
        skip_existing: Leave out sources whose output is there.
        jobs: Jobs at a time.
        progress: Called with the sources that are finished and all of them.
    """
    skipped = {source: out for source, out in outputs.items() if skip_existing and out.exists()}
    todo = {source: out for source, out in outputs.items() if source not in skipped}
    failed: dict[Path, Exception] = {}
    warnings: dict[Path, tuple[str, ...]] = {}
    stop = Event()

    def run(source: Path, out: Path) -> None:
        if stop.is_set():
            raise StoppedError("stopped")
        out.parent.mkdir(parents=True, exist_ok=True)
        if found := job(source, out, stop):
            warnings[source] = found

    with ThreadPoolExecutor(jobs) as pool:
        try:
            running = {pool.submit(run, source, out): source for source, out in todo.items()}
            for count, future in enumerate(as_completed(running), start=len(skipped) + 1):
                error = future.exception()
                if isinstance(error, Exception):
                    failed[running[future]] = error
                if progress is not None:
                    progress(count, len(outputs))
        except BaseException:
            stop.set()
            raise
    done = tuple(out for source, out in todo.items() if source not in failed)
    return FolderReport(done, tuple(skipped.values()), failed, warnings)
