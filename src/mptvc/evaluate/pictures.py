"""Frames as pictures that browsers and viewers know."""

from fractions import Fraction

import av
import numpy as np

from mptvc.errors import MptError
from mptvc.format.header import Colour
from mptvc.video.colour import FULL, from_rgb

#: JPEG is BT.601 in full range.
_JPEG = Colour(matrix=6, range=FULL)


def png(pixels: np.ndarray) -> bytes:
    """Pixels uint8 ``[H, W, 3]`` as a PNG file."""
    return _encoded(pixels, "png", "rgb24", {})


def jpeg(pixels: np.ndarray) -> bytes:
    """Pixels uint8 ``[H, W, 3]`` as a JPEG file that looks the same."""
    return _encoded(pixels, "mjpeg", "yuvj444p", {"qmin": "2", "qmax": "2"})


def _encoded(pixels: np.ndarray, encoder: str, pix_fmt: str, options: dict[str, str]) -> bytes:
    context = av.CodecContext.create(encoder, "w")
    if not isinstance(context, av.VideoCodecContext):
        raise MptError("FFmpeg has no encoder for pictures")
    context.height, context.width, _ = pixels.shape
    context.pix_fmt, context.time_base, context.options = pix_fmt, Fraction(1), options
    packets = [*context.encode(from_rgb(pixels, pix_fmt, _JPEG)), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
