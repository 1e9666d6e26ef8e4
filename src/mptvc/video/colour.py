"""Colour: from a stream's pixels to RGB and back, the same way for every reader and writer.

Both conversions use the matrix and range that a stream names; where it names no matrix, BT.601 up to 576
lines and BT.709 above, as players do, so that a round trip keeps the colours. Chroma is interpolated and
rounded as accurately as FFmpeg can.
"""

from dataclasses import replace

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation

from mptvc.format.header import Colour

#: Matrix codes of H.273 that the converter knows, and the converter's own code.
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
LIMITED, FULL = 1, 2
_UNSPECIFIED = 2
_BT601, _BT709 = 5, 1
_OPAQUE = 255
#: Lines up to which video without a matrix is taken for BT.601.
_MOST_BT601_LINES = 576
_ACCURATE = int(
    Interpolation.BICUBIC
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
)


def stream_colour(context: av.VideoCodecContext) -> Colour:
    """The colour description that a stream names."""
    full = context.color_range == FULL or (context.pix_fmt or "").startswith("yuvj")
    return Colour(
        primaries=_tag(context.color_primaries),
        transfer=_tag(context.color_trc),
        matrix=_tag(context.colorspace),
        range=FULL if full else int(context.color_range),
    )


def carried_colour(colour: Colour, pix_fmt: str) -> Colour:
    """The tags that are true of a frame that ``from_rgb`` makes."""
    if _is_rgb(pix_fmt):
        return replace(colour, matrix=_UNSPECIFIED, range=0)
    return colour if colour.matrix in MATRICES else replace(colour, matrix=_UNSPECIFIED)


def has_alpha(pixel_format: VideoFormat) -> bool:
    """Whether pixels of a format may be transparent: by themselves, or by a palette."""
    return pixel_format.has_palette or any(component.is_alpha for component in pixel_format.components)


def to_rgb(frame: VideoFrame, colour: Colour) -> tuple[np.ndarray, bool]:
    """Pixels of a decoded frame, on black where they are transparent.

    Args:
        frame: The frame, of any pixel format.
        colour: How its stream describes it.

    Returns:
        uint8 RGB ``[H, W, 3]``, full range; and whether any pixel is transparent.
    """
    alpha = has_alpha(frame.format)
    rgb = frame.reformat(
        format="rgba" if alpha else "rgb24",
        src_colorspace=_matrix_code(colour, frame.height),
        src_color_range=ColorRange(colour.range or LIMITED),
        dst_color_range=ColorRange(FULL),
        interpolation=_ACCURATE,
    ).to_ndarray()
    pixels = rgb.astype(np.uint8, copy=False)
    if not alpha:
        return pixels, False
    if pixels[..., 3].min() == _OPAQUE:
        return np.ascontiguousarray(pixels[..., :3]), False
    shown = pixels[..., :3].astype(np.uint16) * pixels[..., 3:] + _OPAQUE // 2
    return (shown // _OPAQUE).astype(np.uint8), True


def from_rgb(pixels: np.ndarray, pix_fmt: str, colour: Colour) -> VideoFrame:
    """A frame of RGB pixels, the reverse of ``to_rgb``.

    Args:
        pixels: uint8 RGB ``[H, W, 3]``, full range.
        pix_fmt: Pixel format of FFmpeg.
        colour: Matrix and range to convert to and to tag the frame with, where the format is not RGB itself.
    """
    rgb = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    if pix_fmt == "rgb24":
        return rgb
    if _is_rgb(pix_fmt):
        return rgb.reformat(format=pix_fmt)
    frame = rgb.reformat(
        format=pix_fmt,
        dst_colorspace=_matrix_code(colour, rgb.height),
        src_color_range=ColorRange(FULL),
        dst_color_range=ColorRange(colour.range or LIMITED),
        interpolation=_ACCURATE,
    )
    frame.colorspace, frame.color_range = colour.matrix, colour.range
    return frame


def _matrix_code(colour: Colour, height: int) -> int:
    """The converter's code for the matrix that a stream names, or the usual one for its height."""
    return MATRICES.get(colour.matrix, _BT709 if height > _MOST_BT601_LINES else _BT601)


def _is_rgb(pix_fmt: str) -> bool:
    return pix_fmt.startswith(("rgb", "bgr", "gbr"))


def _tag(code: int) -> int:
    """A colour code as one byte; FFmpeg's own codes beyond H.273 are unspecified."""
    return int(code) if code < 256 else _UNSPECIFIED
