"""How good each prefix of a file is: PSNR and rate against the source, level by level."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mptvc.bitstream import DEFAULT_LIMITS, Limits, read_header
from mptvc.codec import Codec
from mptvc.errors import VideoError
from mptvc.files import open_source
from mptvc.metrics import PsnrMeter, bits_per_pixel
from mptvc.streaming import Decompressor
from mptvc.video_input import VideoSource


@dataclass(frozen=True)
class LevelQuality:
    """Rate and quality of the prefix with ``levels`` levels.

    Attributes:
        levels: Levels in the prefix.
        size_bytes: Bytes of the prefix, header included.
        bpp: Bits per source pixel.
        psnr_rgb: PSNR over the three colours in dB.
        psnr_y: PSNR of BT.709 luma in dB.
    """

    levels: int
    size_bytes: int
    bpp: float
    psnr_rgb: float
    psnr_y: float


def compare_file(
    reference: str | Path,
    file: str | Path,
    *,
    codec: Codec,
    limits: Limits = DEFAULT_LIMITS,
    progress: Callable[[int, int], None] | None = None,
) -> list[LevelQuality]:
    """Compare every complete prefix of an ``.mpt`` file with its source.

    Args:
        reference: The source video.
        file: The ``.mpt`` file.
        codec: Codec with the file's weights.
        limits: What to accept.
        progress: Called after each clip with frames done and expected.

    Raises:
        VideoError: The source cannot be read, or has another size or number of frames.
        FormatError: The file is damaged.
        WeightsError: The file was made with other weights.
    """
    with (
        open_source(file) as (opened, size),
        VideoSource(reference, scene_threshold=None, force_8bit=True) as source,
    ):
        header = read_header(opened, limits)
        reader = Decompressor(codec.clips, opened, size, header=header)
        video = header.video
        if (source.info.width, source.info.height) != (video.width, video.height):
            raise VideoError(
                f"{reference} is {source.info.width}x{source.info.height}, "
                f"{file} is {video.width}x{video.height}"
            )
        meters = [PsnrMeter() for _ in range(reader.levels)]
        frames, done = (frame.pixels for frame in source.frames()), 0
        for clip in range(header.clips):
            plan, symbols = header.plan(clip), reader.symbols(clip)
            wanted = _take(frames, len(plan.kept), f"{reference} has fewer frames than {file}")
            for count, meter in enumerate(meters, start=1):
                coded = codec.clips.decode_clip(symbols[:count], header, plan.scenes)
                meter.add(wanted, coded[plan.kept])
            done += len(wanted)
            if progress is not None:
                progress(done, video.frames)
        if next(frames, None) is not None:
            raise VideoError(f"{reference} has more frames than {file}")
        return [
            LevelQuality(
                levels=count,
                size_bytes=header.prefix_bytes(count),
                bpp=bits_per_pixel(header.prefix_bytes(count), video.width, video.height, video.frames),
                psnr_rgb=meter.rgb,
                psnr_y=meter.luma,
            )
            for count, meter in enumerate(meters, start=1)
        ]


def _take(frames: Iterator[np.ndarray], count: int, message: str) -> np.ndarray:
    taken = [frame for _, frame in zip(range(count), frames, strict=False)]
    if len(taken) < count:
        raise VideoError(message)
    return np.stack(taken)
