"""What the tests of the command line share: its exit codes, its results, and files to try it on."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from mptvc.format.header import VideoInfo
from mptvc.video.sink import OutputOptions, VideoSink

FAILED, USAGE, DAMAGED, WEIGHTS, INTERRUPTED = 1, 2, 3, 4, 130
COMMAND = [sys.executable, "-m", "mptvc"]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


def moving(count: int, height: int, width: int) -> np.ndarray:
    y, x, t = np.mgrid[0:height, 0:width, 0:count].astype(np.float32)
    waves = [np.sin((x + t) / (9 + c)) + np.cos((y - t) / (8 - c)) for c in range(3)]
    return (127 + 55 * np.stack(waves, -1)).transpose(2, 0, 1, 3).astype(np.uint8)


def write_video(path: Path, frames: np.ndarray) -> None:
    rate = Fraction(25)
    info = VideoInfo(frames.shape[2], frames.shape[1], len(frames), rate, 1 / rate)
    with VideoSink(path, info, OutputOptions("mkv", "ffv1")) as sink:
        sink.write(frames)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_one_error(result: Result) -> bool:
    return result.out == "" and result.err.startswith("error: ") and result.err.count("\n") == 1


def spoil(kind: str, data: bytes) -> bytes:
    if kind == "text":
        return b"no video at all\n"
    if kind == "cut header":
        return data[:100]
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
