import math

import numpy as np
import pytest

from mptvc.evaluate.metrics import QualityMeter


def test_psnr_of_a_constant_error():
    reference = np.full((3, 4, 5, 3), 100, np.uint8)
    meter = QualityMeter()
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
        meter = QualityMeter()
        meter.add(reference, other)
        scores.append(meter.luma)
    assert scores[1] < scores[0] < scores[2]
    assert math.isclose(scores[1], 20 * math.log10(255 / (50 * 0.7152)), rel_tol=1e-5)


def test_mean_is_over_squared_errors_not_decibels():
    reference = np.zeros((2, 2, 2, 3), np.uint8)
    other = reference.copy()
    other[1] = 10
    meter = QualityMeter()
    meter.add(reference, other)
    assert math.isclose(meter.rgb, 10 * math.log10(255**2 / 50), rel_tol=1e-6)


def test_equal_frames_have_no_error():
    meter = QualityMeter()
    meter.add(np.ones((1, 2, 2, 3), np.uint8), np.ones((1, 2, 2, 3), np.uint8))
    assert meter.rgb == math.inf


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        QualityMeter().add(np.ones((1, 2, 2, 3), np.uint8), np.ones((1, 2, 3, 3), np.uint8))


def test_quality_counts_all_bytes_and_keeps_every_frame():
    reference = np.zeros((4, 20, 10, 3), np.uint8)
    other = reference.copy()
    other[2] = 255
    meter = QualityMeter()
    meter.add(reference, other)
    quality = meter.quality("x", 1000)
    assert quality.bpp == 10.0
    assert quality.frames_rgb == (math.inf, math.inf, 0.0, math.inf)
    assert math.isclose(quality.psnr_y, 10 * math.log10(4), rel_tol=1e-6)
    assert quality.ssim is quality.ms_ssim is None


def test_ssim_of_equal_and_of_unrelated_frames():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 176, 176, 3), dtype=np.uint8)
    scores = []
    for other in (frames, frames[::-1]):
        meter = QualityMeter(ssim=True)
        meter.add(frames, other)
        quality = meter.quality("x", 1)
        scores.append((quality.ssim, quality.ms_ssim))
    assert np.allclose(scores[0], 1)
    assert scores[1][0] < 0.1
    assert scores[1][1] < 0.3


def test_small_frames_have_no_ms_ssim():
    meter = QualityMeter(ssim=True)
    meter.add(np.zeros((1, 160, 160, 3), np.uint8), np.ones((1, 160, 160, 3), np.uint8))
    assert meter.quality("x", 1).ms_ssim is None


def test_nothing_has_no_quality():
    meter = QualityMeter()
    for measure in (lambda: meter.rgb, lambda: meter.luma, lambda: meter.quality("x", 1)):
        with pytest.raises(ValueError, match="no frames were compared"):
            measure()
