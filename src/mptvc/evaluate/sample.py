"""A generated sample video and a contact sheet, so that the codec can be tried with nothing at hand."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from mptvc.evaluate.pictures import png
from mptvc.format.header import VideoInfo
from mptvc.format.target import atomic_output
from mptvc.video.sink import OutputOptions, VideoSink

#: Shape of the sample: frames, height, width; its first cut is at frame 28.
SAMPLE_SHAPE = (48, 288, 512)
SAMPLE_CUT = 28


def sample_frames() -> np.ndarray:
    """Two shots of moving shapes over textures, uint8 ``[48, 288, 512, 3]``."""
    count, height, width = SAMPLE_SHAPE
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    noise = rng.normal(size=(height + 64, width + 192, 1)).astype(np.float32)
    texture = np.mean([np.roll(noise, (i, j), (0, 1)) for i in range(6) for j in range(6)], axis=0)
    frames = np.empty((*SAMPLE_SHAPE, 3), dtype=np.uint8)
    for t in range(count):
        first = t < SAMPLE_CUT
        shift = 2 * t
        ground = texture[t // 2 : t // 2 + height, shift : shift + width] * 40
        tint = (120, 150, 190) if first else (170, 130, 90)
        picture = ground + np.array(tint, np.float32) + 40 * np.sin(x / 90 + y / 70)[..., None]
        for k, colour in enumerate(((230, 60, 50), (250, 210, 70), (60, 190, 120))):
            phase = t / 9 + 2.1 * k + (0 if first else 1.3)
            centre = (height * (0.5 + 0.3 * np.sin(phase)), width * (0.5 + 0.35 * np.cos(phase)))
            distance = np.hypot(y - centre[0], x - centre[1]) - 26 - 8 * k
            cover = np.clip(0.5 - distance / 2, 0, 1)[..., None]
            stripes = 0.8 + 0.2 * np.sign(np.sin((x + 3 * t) / 5))[..., None]
            picture = picture * (1 - cover) + np.array(colour, np.float32) * stripes * cover
        frames[t] = picture.clip(0, 255)
    return frames


def write_sample(target: Path, *, force: bool = False) -> None:
    """Write the sample as lossless FFV1 in MKV.

    Raises:
        VideoError: The target cannot be written.
        MptError: It exists and ``force`` is not set.
    """
    frames = sample_frames()
    rate = Fraction(24)
    info = VideoInfo(frames.shape[2], frames.shape[1], len(frames), rate, 1 / rate)
    with VideoSink(target, info, OutputOptions("mkv", "ffv1"), force=force) as sink:
        sink.write(frames)


def write_contact_sheet(target: Path, rows: list[np.ndarray], *, force: bool = False) -> None:
    """Write frames as one PNG, a row for each entry.

    Args:
        target: Path of the PNG.
        rows: For each row frames uint8 ``[N, H, W, 3]``, side by side.
        force: Replace an existing target.

    Raises:
        MptError: The target exists and ``force`` is not set, or it cannot be written.
    """
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    with atomic_output(target, force=force) as file:
        file.write(png(sheet))
