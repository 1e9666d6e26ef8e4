"""What `bench` codes: generated scenes that differ in how fast they move, and the first frames of a video."""

from itertools import islice
from pathlib import Path

import numpy as np

from mptvc.errors import VideoError
from mptvc.video.source import VideoSource

#: Pixels a frame by which the camera moves; things move twice as fast, against it.
SPEEDS = {"still": 0.0, "slow": 0.7, "fast": 12.3}
_COLOURS = ((230, 60, 50), (250, 210, 70), (60, 190, 120))
#: Of the texture: its standard deviation, that of its colours over its luma's, and how steeply it falls.
_CONTRAST, _COLOURFUL, _SLOPE = 40, 0.3, 1.4


def scene_frames(scene: str, count: int, height: int, width: int) -> np.ndarray:
    """Frames of a generated scene: texture such as pictures have, and striped discs in front of it.

    Args:
        scene: Of ``SPEEDS``.
        count: Frames.
        height: Of the pictures.
        width: Of the pictures.

    Returns:
        uint8 ``[T, H, W, 3]``, the same on every call.
    """
    texture, speed = _texture(height, width), SPEEDS[scene]
    radius = min(height, width) / 7
    frames = np.empty((count, height, width, 3), np.uint8)
    for t, frame in enumerate(frames):
        picture = _panned(texture, 0.3 * speed * t, speed * t)
        for k, colour in enumerate(_COLOURS):
            y, x = height * (0.2 + 0.3 * k) + speed * t * (k - 1), width * (0.8 - 0.25 * k) - 2 * speed * t
            _draw(picture, y % height, x % width, radius * (1 + 0.2 * k), colour)
        frame[:] = picture.clip(0, 255)
    return frames


def first_frames(video: Path, count: int) -> np.ndarray:
    """The first frames of a video, uint8 ``[T, H, W, 3]``.

    Raises:
        VideoError: It cannot be read, or has fewer.
    """
    with VideoSource(video, shot_threshold=None, force_8bit=True) as source:
        frames = [frame.pixels for frame in islice(source.frames(), count)]
    if len(frames) < count:
        raise VideoError(f"{video} has {len(frames)} frames, frames= asks for {count}")
    return np.stack(frames)


def _texture(height: int, width: int) -> np.ndarray:
    """Noise float32 ``[H, W, 3]`` whose amplitude falls with frequency, as that of pictures; seamless."""
    rng = np.random.default_rng(7)
    noise = rng.normal(size=(height, width, 1)) + _COLOURFUL * rng.normal(size=(height, width, 3))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)).astype(np.float32)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(noise.astype(np.float32), axes=(0, 1)) / frequency[..., None] ** _SLOPE
    texture = np.fft.irfft2(spectrum, (height, width), axes=(0, 1)).astype(np.float32)
    result: np.ndarray = 127 + _CONTRAST * texture / max(float(texture.std()), 1e-6)
    return result


def _panned(texture: np.ndarray, y: float, x: float) -> np.ndarray:
    """Texture as seen from another place, in parts of pixels."""
    (top, down), (left, across) = divmod(y, 1), divmod(x, 1)
    picture = np.roll(texture, (-int(top), -int(left)), (0, 1))
    for axis, share in enumerate((down, across)):
        if share:
            picture = picture + np.float32(share) * (np.roll(picture, -1, axis) - picture)
    return picture


def _draw(picture: np.ndarray, y: float, x: float, radius: float, colour: tuple[int, int, int]) -> None:
    """Draw a disc whose stripes move with it."""
    height, width, _ = picture.shape
    rows = slice(max(0, int(y - radius) - 1), min(height, int(y + radius) + 2))
    columns = slice(max(0, int(x - radius) - 1), min(width, int(x + radius) + 2))
    down, across = np.mgrid[rows, columns].astype(np.float32) - np.array([y, x], np.float32)[:, None, None]
    cover = np.clip(radius + 0.5 - np.hypot(down, across), 0, 1)[..., None]
    stripes = (0.85 + 0.15 * np.sin((down + across) / 3))[..., None] * np.array(colour, np.float32)
    picture[rows, columns] += cover * (stripes - picture[rows, columns])
