"""Moving pictures for tests, and video files of them."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mptvc.format.header import VideoInfo
from mptvc.video.sink import OutputOptions, VideoSink

LOSSLESS = OutputOptions(codec="ffv1")


def moving(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth moving waves, the same motion throughout."""
    y, x, t = np.mgrid[0:height, 0:width, 0:count].astype(np.float32)
    waves = [np.sin((x + t) / (9 + c)) + np.cos((y - t) / (8 - c)) for c in range(3)]
    return (127 + 55 * np.stack(waves, -1)).transpose(2, 0, 1, 3).astype(np.uint8)


def describe(frames: np.ndarray, rate: Fraction = Fraction(25), **changes: Any) -> VideoInfo:
    """Frames uint8 ``[T, H, W, 3]`` at a constant rate, but for what is changed."""
    count, height, width, _ = frames.shape
    return replace(VideoInfo(width, height, count, rate, 1 / rate), **changes)


def write_video(path: Path, frames: np.ndarray, options: OutputOptions = LOSSLESS, **changes: Any) -> Path:
    """A video file of frames, lossless unless the options say otherwise."""
    with VideoSink(path, describe(frames, **changes), options) as sink:
        sink.write(frames)
    return path
