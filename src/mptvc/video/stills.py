"""Videos that are no containers: arrays of frames, and folders with a picture for each frame."""

import re
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet

from mptvc.errors import VideoError
from mptvc.video.ffmpeg import local
from mptvc.video.packets import AnyPacket

#: Pictures that a folder may hold, and what FFmpeg calls a row of them.
_PICTURES = {".png": "png_pipe", ".jpg": "jpeg_pipe", ".jpeg": "jpeg_pipe"}
#: What ends the name of an array.
ARRAY = ".npy"


def pictures_of(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names, numbers in them by their value.

    They are all of the kind of the first one; hidden files are left out.
    """
    return _sorted_pictures(folder)[0]


def other_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder that are of another kind than the first one."""
    return _sorted_pictures(folder)[1]


def _sorted_pictures(folder: Path) -> tuple[list[Path], list[Path]]:
    found = [p for p in folder.iterdir() if p.suffix.lower() in _PICTURES and not p.name.startswith(".")]
    found = [path for path in found if not path.is_dir()]
    found.sort(key=lambda path: [(len(part), part) if part.isdecimal() else (0, part)
                                 for part in re.split(r"0*(\d+)", path.name)])  # fmt: skip
    kinds = [_PICTURES[path.suffix.lower()] for path in found]
    alike = [path for path, kind in zip(found, kinds, strict=True) if kind == kinds[0]]
    return alike, [path for path, kind in zip(found, kinds, strict=True) if kind != kinds[0]]


def open_pictures(folder: Path, frame_rate: Fraction) -> av.container.InputContainer:
    """A folder's first picture as a video, which says what the others are; see `packets_of`.

    Raises:
        VideoError: It holds none.
        av.FFmpegError: FFmpeg does not read the first one.
    """
    paths = pictures_of(folder)
    if not paths:
        raise VideoError(f"{folder}: the folder holds no {', '.join(_PICTURES)}")
    kind = _PICTURES[paths[0].suffix.lower()]
    return av.open(local(paths[0]), "r", format=kind, options={"framerate": str(frame_rate)})


def packets_of(paths: list[Path], stream: av.VideoStream) -> Iterator[AnyPacket]:
    """Pictures as packets of a stream, one after the other; one that cannot be read cannot be decoded."""
    for number, path in enumerate(paths):
        data = b""
        with suppress(OSError):
            data = path.read_bytes()
        packet: AnyPacket = Packet(data or b"\0")  # an empty one would stand for no frame
        packet.stream, packet.time_base = stream, stream.time_base or Fraction(1)
        packet.pts = packet.dts = number
        packet.duration, packet.is_keyframe = 1, True  # otherwise it would change the one before
        yield packet


def open_array(path: Path, frame_rate: Fraction) -> av.container.InputContainer:
    """The frames of a ``.npy`` file, uint8 ``[T, H, W, 3]``, as a video.

    Raises:
        VideoError: It is no such array.
    """
    try:
        array = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise VideoError(f"{path}: no array: {error}") from error
    if not isinstance(array, np.memmap):
        raise VideoError(f"{path}: no array but an archive of arrays")
    if array.dtype != np.uint8 or array.ndim != 4 or not array.size:
        raise VideoError(f"{path}: frames are uint8 [T, H, W, 3], found {array.dtype} {array.shape}")
    if array.shape[3] != 3 or not array.flags.c_contiguous:
        raise VideoError(f"{path}: frames are uint8 [T, H, W, 3] in the order of C, found {array.shape}")
    options = {
        "video_size": f"{array.shape[2]}x{array.shape[1]}",
        "framerate": str(frame_rate),
        "pixel_format": "rgb24",
        "skip_initial_bytes": str(array.offset),
    }
    return av.open(local(path), "r", format="rawvideo", options=options)
