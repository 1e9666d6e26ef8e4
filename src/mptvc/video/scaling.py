"""Frames in a smaller size, in which nothing is left of the block grid of the codec that made them."""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

#: FFmpeg's bicubic filter grows as wide as what it makes one pixel of, so that nothing aliases.
_FILTER = int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND)


def checked_scale(scale: float) -> float:
    """The scale, if it is one.

    Raises:
        ValueError: It is not above 0 and at most 1.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale= is above 0 and at most 1, found {scale}")
    return scale


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width of a scaled picture: rounded, and at least one pixel."""
    return max(1, round(scale * height)), max(1, round(scale * width))


def scaled(pixels: np.ndarray, scale: float) -> np.ndarray:
    """A picture in a smaller size.

    Each colour is resized by itself, so that no other colour space rounds it.

    Args:
        pixels: uint8 RGB ``[H, W, 3]``.
        scale: Its new sides by its own, above 0 and at most 1.

    Returns:
        uint8 RGB of `scaled_size`; the same array where that is its own size.
    """
    size = height, width = scaled_size(pixels.shape[0], pixels.shape[1], scale)
    if size == pixels.shape[:2]:
        return pixels
    smaller, reformatter = np.empty((height, width, 3), np.uint8), VideoReformatter()
    for colour in range(3):
        plane = VideoFrame.from_ndarray(np.ascontiguousarray(pixels[..., colour]), format="gray")
        resized = reformatter.reformat(plane, width=width, height=height, interpolation=_FILTER)
        smaller[..., colour] = resized.to_ndarray()
    return smaller
