"""Videos to array shards: one ``.npy`` of uint8 ``[T, H, W, 3]`` per shot, made once through PyAV."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mptvc.errors import VideoError
from mptvc.format.target import atomic_output
from mptvc.video.source import VideoSource

#: Shots shorter than this teach nothing about time.
_SHORTEST = 8
#: Longer shots are divided: one has to fit the memory.
_LONGEST = 256
#: For each name of a video whose shards are all there, its size, its time of change and how many they are.
_INDEX = "videos.json"


@dataclass(frozen=True)
class Prepared:
    """What became of videos.

    Attributes:
        shards: Names of the shards of each video, in order.
        failures: What went wrong with each video that has none.
    """

    shards: dict[Path, tuple[str, ...]]
    failures: dict[Path, str]


def prepare_shards(
    videos: list[Path], folder: Path, progress: Callable[[int, int], None] | None = None
) -> Prepared:
    """Cut videos into shots and store them, leaving out videos whose shards exist.

    Args:
        videos: Video files.
        folder: Where the shards go; those of other videos stay there.
        progress: Called after each video.

    Raises:
        OSError: The folder cannot be written; videos that were finished before are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _INDEX
    index: dict[str, list[int]] = json.loads(path.read_text()) if path.exists() else {}
    prepared = Prepared({}, {})
    for done, (video, name) in enumerate(_names(videos).items(), start=1):
        try:
            found = video.stat()
            if index.get(name, [])[:2] != [found.st_size, found.st_mtime_ns]:
                index[name] = [found.st_size, found.st_mtime_ns, _store(video, folder, name)]
                with atomic_output(path, force=True) as out:
                    out.write(json.dumps(index, indent=1).encode())
            prepared.shards[video] = tuple(_shard(name, number) for number in range(index[name][2]))
        except VideoError as error:
            prepared.failures[video] = str(error)
        if progress is not None:
            progress(done, len(videos))
    return prepared


def _shard(name: str, number: int) -> str:
    return f"{name}.{number:02d}"


def _names(videos: list[Path]) -> dict[Path, str]:
    """A name for the shards of each video: its stem, or its path where several share it."""
    stems = Counter(video.stem for video in videos)
    root = os.path.commonpath([video.absolute().parent for video in videos])
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for video in videos:
        name = "_".join(video.absolute().relative_to(root).parts)
        name = video.stem if stems[video.stem] == 1 else name
        while name in taken:
            name += "_"
        names[video] = name
        taken.add(name)
    return names


def _store(video: Path, folder: Path, name: str) -> int:
    """Store the shots of a video, which appear when all are written; returns their number."""
    with TemporaryDirectory(prefix=".", dir=folder) as part:
        parts: list[Path] = []
        for frames in _shots(video):
            parts.append(Path(part) / f"{_shard(name, len(parts))}.npy")
            np.save(parts[-1], np.stack(frames))
        if not parts:
            raise VideoError(f"{video}: no shot has {_SHORTEST} frames")
        for path in parts:
            os.replace(path, folder / path.name)
    return len(parts)


def _shots(video: Path) -> Iterator[list[np.ndarray]]:
    """The frames of each shot that is long enough."""
    frames: list[np.ndarray] = []
    with VideoSource(video, force_8bit=True) as source:
        for frame in source.frames():
            if frame.is_cut or len(frames) == _LONGEST:
                if len(frames) >= _SHORTEST:
                    yield frames
                frames = []
            frames.append(frame.pixels)
    if len(frames) >= _SHORTEST:
        yield frames
