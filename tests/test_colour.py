"""One conversion between RGB and what streams hold, in both directions."""

import numpy as np
import pytest
from av.video.frame import VideoFrame
from patterns import moving

from mptvc.format.header import Colour
from mptvc.video.colour import FULL, LIMITED, MATRICES, carried_colour, from_rgb, has_alpha, to_rgb

#: Every channel at its ends and between, next to each other.
COLOURS = np.stack(np.meshgrid(*[np.arange(0, 256, 17)] * 3), -1).reshape(64, 64, 3).astype(np.uint8)


@pytest.mark.parametrize("matrix", [2, *MATRICES])
@pytest.mark.parametrize(("range_", "bias"), [(0, 0.3), (LIMITED, 0.3), (FULL, 1)])
def test_colours_come_back(matrix: int, range_: int, bias: float) -> None:
    """FFmpeg is itself biased where full range becomes limited or the reverse."""
    colour = Colour(matrix=matrix, range=range_)
    back, _ = to_rgb(from_rgb(COLOURS, "yuv444p", colour), colour)
    error = back.astype(int) - COLOURS
    assert np.abs(error).max() <= 3
    assert np.abs(error.mean((0, 1))).max() < bias


def test_smooth_pictures_survive_subsampling() -> None:
    colour, (picture,) = Colour(matrix=1, range=LIMITED), moving(1, 96, 128)
    error = to_rgb(from_rgb(picture, "yuv420p", colour), colour)[0].astype(int) - picture
    assert np.abs(error[4:-4, 4:-4]).max() <= 5
    assert np.abs(error.mean((0, 1))).max() < 0.3


@pytest.mark.parametrize("pix_fmt", ["rgb24", "bgr24", "bgr0", "gbrp"])
def test_formats_of_rgb_are_not_converted(pix_fmt: str) -> None:
    colour = Colour(matrix=1, range=LIMITED)
    assert np.array_equal(
        to_rgb(from_rgb(COLOURS, pix_fmt, colour), carried_colour(colour, pix_fmt))[0], COLOURS
    )


def test_frames_are_tagged_as_they_were_converted() -> None:
    frame = from_rgb(COLOURS, "yuv420p", Colour(matrix=6, range=FULL))
    assert (frame.colorspace, frame.color_range) == (6, FULL)


@pytest.mark.parametrize(
    ("pix_fmt", "given", "carried"),
    [
        ("yuv420p", Colour(9, 16, 9, 1), Colour(9, 16, 9, 1)),
        ("yuv420p", Colour(9, 16, 14, 1), Colour(9, 16, 2, 1)),
        ("bgr0", Colour(9, 16, 9, 1), Colour(9, 16, 2, 0)),
    ],
)
def test_a_frame_carries_what_is_true_of_it(pix_fmt: str, given: Colour, carried: Colour) -> None:
    assert carried_colour(given, pix_fmt) == carried


def test_transparent_pixels_show_black() -> None:
    pixels = np.full((2, 2, 4), (200, 100, 50, 255), np.uint8)
    pixels[0, :, 3] = (0, 51)
    frame = VideoFrame.from_ndarray(pixels, format="rgba")
    assert has_alpha(frame.format)
    assert to_rgb(frame, Colour())[0][0].tolist() == [[0, 0, 0], [40, 20, 10]]
    assert to_rgb(frame, Colour())[0][1].tolist() == [[200, 100, 50]] * 2
