import math

import numpy as np
import pytest

from mptvc.metrics import PsnrMeter, bits_per_pixel


def test_psnr_of_a_constant_error():
    reference = np.full((3, 4, 5, 3), 100, np.uint8)
    meter = PsnrMeter()
    meter.add(reference[:1], reference[:1] + 10)
    meter.add(reference[1:], reference[1:] + 10)
    assert math.isclose(meter.rgb, 20 * math.log10(25.5), rel_tol=1e-6)
    assert math.isclose(meter.luma, 20 * math.log10(25.5), rel_tol=1e-5)


def test_luma_weighs_green_most():
    reference = np.zeros((1, 4, 4, 3), np.uint8)
    scores = []
    for channel in range(3):
        other = reference.copy()
        other[..., channel] = 50
        meter = PsnrMeter()
        meter.add(reference, other)
        scores.append(meter.luma)
    assert scores[1] < scores[0] < scores[2]
    assert math.isclose(scores[1], 20 * math.log10(255 / (50 * 0.7152)), rel_tol=1e-5)


def test_mean_is_over_squared_errors_not_decibels():
    reference = np.zeros((2, 2, 2, 3), np.uint8)
    other = reference.copy()
    other[1] = 10
    meter = PsnrMeter()
    meter.add(reference, other)
    assert math.isclose(meter.rgb, 10 * math.log10(255**2 / 50), rel_tol=1e-6)


def test_equal_frames_have_no_error():
    meter = PsnrMeter()
    meter.add(np.ones((1, 2, 2, 3), np.uint8), np.ones((1, 2, 2, 3), np.uint8))
    assert meter.rgb == math.inf


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        PsnrMeter().add(np.ones((1, 2, 2, 3), np.uint8), np.ones((1, 2, 3, 3), np.uint8))


def test_bits_per_pixel_counts_all_bytes():
    assert bits_per_pixel(1000, 10, 20, 4) == 10.0
