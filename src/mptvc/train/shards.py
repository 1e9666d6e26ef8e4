"""Videos to array shards: one ``.npy`` of uint8 ``[T, H, W, 3]`` per shot, made once through PyAV."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mptvc.errors import VideoError
from mptvc.video_input import VideoSource

#: Shots shorter than this teach nothing about time.
_SHORTEST = 8


def prepare_shards(
    videos: list[Path], folder: Path, progress: Callable[[int, int], None] | None = None
) -> list[str]:
    """Cut videos into shots and store them, leaving out videos whose shards exist.

    Args:
        videos: Video files.
        folder: Where the shards go.
        progress: Called after each video.

    Returns:
        One line for each video that could not be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for done, video in enumerate(videos, start=1):
        if not (folder / f"{video.stem}.00.npy").exists():
            try:
                _store(video, folder)
            except VideoError as error:
                failures.append(str(error))
        if progress is not None:
            progress(done, len(videos))
    return failures


def _store(video: Path, folder: Path) -> None:
    shots: list[list[np.ndarray]] = []
    with VideoSource(video, force_8bit=True) as source:
        for frame in source.frames():
            if frame.is_cut:
                shots.append([])
            shots[-1].append(frame.pixels)
    for index, shot in enumerate(shots):
        if len(shot) >= _SHORTEST or len(shots) == 1:
            np.save(folder / f"{video.stem}.{index:02d}.npy", np.stack(shot))
