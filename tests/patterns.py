"""Moving pictures for tests, and video files of them."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.video.frame import VideoFrame

from mptvc.format.header import VideoInfo
from mptvc.video.sink import OutputOptions, VideoSink

LOSSLESS = OutputOptions(codec="ffv1")
#: Samples of sound a second.
RATE = 48000


def waves(
    count: int, height: int, width: int, *, across: int, down: int, speed: int, amplitude: int
) -> np.ndarray:
    """Smooth moving waves, the same motion throughout, float32 ``[T, H, W, 3]``.

    Args:
        count: Frames.
        height: Pixels.
        width: Pixels.
        across: Length of the waves from left to right.
        down: Length of those from top to bottom.
        speed: Pixels a frame of the former; the latter move by one.
        amplitude: Of each of the two, about 127.
    """
    y, x, t = np.mgrid[0:height, 0:width, 0:count].astype(np.float32)
    parts = [np.sin((x + speed * t) / (across + c)) + np.cos((y - t) / (down - c)) for c in range(3)]
    return (127 + amplitude * np.stack(parts, -1)).transpose(2, 0, 1, 3)


def moving(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth moving waves, uint8 ``[T, H, W, 3]``."""
    return waves(count, height, width, across=9, down=8, speed=1, amplitude=55).astype(np.uint8)


def describe(frames: np.ndarray, rate: Fraction = Fraction(25), **changes: Any) -> VideoInfo:
    """Frames uint8 ``[T, H, W, 3]`` at a constant rate, but for what is changed."""
    count, height, width, _ = frames.shape
    return replace(VideoInfo(width, height, count, rate, 1 / rate), **changes)


def write_video(path: Path, frames: np.ndarray, options: OutputOptions = LOSSLESS, **changes: Any) -> Path:
    """A video file of frames, lossless unless the options say otherwise."""
    with VideoSink(path, describe(frames, **changes), options) as sink:
        sink.write(frames)
    return path


def make_source(
    path: Path,
    codecs: tuple[str, ...] = ("aac",),
    *,
    late: float = 0.0,
    frames: int = 50,
    rate: int = RATE,
    gop: int = 250,
) -> Path:
    """Two seconds of 32x32 video at 25 frames a second, with noise as sound from ``late`` seconds on."""
    rng = np.random.default_rng(4)
    with av.open(path, "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt, video.gop_size = 32, 32, "yuv420p", gop
        sounds = [out.add_stream(codec, rate=rate, layout="stereo") for codec in codecs]
        for i in range(frames):
            frame = VideoFrame.from_ndarray(np.full((32, 32, 3), 5 * i % 256, np.uint8), format="rgb24")
            frame.pts = i
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for sound in sounds:
            samples = rng.normal(0, 0.1, (2, rate * frames // 25)).astype(np.float32)
            frame = AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = rate, round(late * rate)
            context = sound.codec_context
            resampler = AudioResampler(context.format, context.layout, rate, context.frame_size or 1024)
            for part in (*resampler.resample(frame), *resampler.resample(None)):
                out.mux(sound.encode(part))
            out.mux(sound.encode(None))
    return path
