"""Videos to array shards: one ``.npy`` of uint8 ``[T, H, W, 3]`` per shot, made once through PyAV."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mptvc.errors import VideoError
from mptvc.video_input import VideoSource

#: Shots shorter than this teach nothing about time.
_SHORTEST = 8
#: Longer shots are divided: one has to fit the memory.
_LONGEST = 256


def prepare_shards(
    videos: list[Path], folder: Path, progress: Callable[[int, int], None] | None = None
) -> dict[Path, str]:
    """Cut videos into shots and store them, leaving out videos whose shards exist.

    Args:
        videos: Video files.
        folder: Where the shards go.
        progress: Called after each video.

    Returns:
        What went wrong with each video that has no shards.

    Raises:
        OSError: The folder cannot be written; it holds the shards of whole videos only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failures = {}
    for done, (video, name) in enumerate(_names(videos).items(), start=1):
        if not (folder / f"{name}.00.npy").exists():
            try:
                _store(video, folder, name)
            except VideoError as error:
                failures[video] = str(error)
        if progress is not None:
            progress(done, len(videos))
    return failures


def _names(videos: list[Path]) -> dict[Path, str]:
    """A name for the shards of each video: its stem, or its path where several share it."""
    stems = Counter(video.stem for video in videos)
    root = os.path.commonpath([video.absolute().parent for video in videos])
    return {
        video: video.stem if stems[video.stem] == 1 else "_".join(video.absolute().relative_to(root).parts)
        for video in videos
    }


def _store(video: Path, folder: Path, name: str) -> None:
    with TemporaryDirectory(prefix=".", dir=folder) as part:
        parts: list[Path] = []
        for frames in _shots(video):
            parts.append(Path(part) / f"{name}.{len(parts):02d}.npy")
            np.save(parts[-1], np.stack(frames))
        if not parts:
            raise VideoError(f"{video}: no shot has {_SHORTEST} frames")
        for path in reversed(parts):  # the first says that all are there
            os.replace(path, folder / path.name)


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
