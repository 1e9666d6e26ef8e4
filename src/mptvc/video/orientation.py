"""How pictures are turned for display: what a stream says of it, and pictures turned that way."""

from dataclasses import replace
from math import atan2, degrees
from typing import cast

import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame

from mptvc.format.header import VideoInfo


def orientation(frame: VideoFrame) -> tuple[int, bool]:
    """How a stream wants its frames shown.

    Returns:
        Degrees counter-clockwise by which the picture is turned, to the nearest quarter; and whether it is
        mirrored from left to right before.
    """
    try:
        matrix = bytes(cast(SideDataContainer, frame.side_data)[Type.DISPLAYMATRIX])
    except KeyError:
        return 0, False
    a, b, _, c, d = np.frombuffer(matrix, "=i4", 5).tolist()
    mirrored = a * d - b * c < 0
    if mirrored:  # turning what is mirrored already is a rotation alone
        a, b = -a, -b
    return -90 * round(degrees(atan2(b, a)) / 90) % 360, mirrored


def upright_info(video: VideoInfo) -> VideoInfo:
    """What is true of a video whose pictures are turned as they are to be shown."""
    if video.rotation % 180 == 0:
        return replace(video, rotation=0)
    return replace(
        video,
        width=video.height,
        height=video.width,
        pixel_aspect=1 / video.pixel_aspect,
        rotation=0,
    )


def upright(frames: np.ndarray, rotation: int) -> np.ndarray:
    """Frames uint8 ``[..., H, W, 3]`` turned by a rotation of a file's header."""
    return np.ascontiguousarray(np.rot90(frames, rotation // 90, axes=(-3, -2)))
