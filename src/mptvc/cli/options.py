"""Options that several commands share, and how their text is read."""

import re
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mptvc.cli.process import keep_freed_memory
from mptvc.files.folders import VIDEO_SUFFIXES
from mptvc.format.bitstream import DEFAULT_LIMITS

if TYPE_CHECKING:
    from mptvc.codec.codec import Codec
    from mptvc.codec.rate import Rate
    from mptvc.video.raw import RawVideo


class ProgressMode(StrEnum):
    """How a long job shows its progress."""

    AUTO = "auto"
    JSON = "json"
    NONE = "none"


class SizeMode(StrEnum):
    """Size of decoded frames."""

    SOURCE = "source"
    LEVEL = "level"


class Audio(StrEnum):
    """What becomes of sound and subtitles."""

    COPY = "copy"
    NONE = "none"


Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but errors.")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Replace an existing output.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Weights = Annotated[
    str | None,
    typer.Option(help="Folder or hf://owner/name\\[@revision]; otherwise those in the package."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda\\[:N] or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
TileSize = Annotated[str, typer.Option("--tile", help="auto, or the largest tile as WxH pixels.")]
TileBatch = Annotated[int, typer.Option(min=1, help="Tiles at once: speed and memory, never the result.")]
Threads = Annotated[int, typer.Option(min=0, help="Processor threads; 0 takes all.")]
MaxPixels = Annotated[int, typer.Option(help="Largest width times height to accept.")]
MaxFrames = Annotated[int, typer.Option(help="Largest number of frames to accept.")]
PIXELS, FRAMES = DEFAULT_LIMITS.max_pixels, DEFAULT_LIMITS.max_frames
ShowProgress = Annotated[ProgressMode, typer.Option(help="auto, json or none.")]
AudioMode = Annotated[Audio, typer.Option("--audio", help="copy or none: sound and subtitles.")]
RawFormat = Annotated[
    str | None,
    typer.Option("--yuv", help="Raw 4:2:0 input: WxH@RATE, such as 3840x2160@120, :10 for 10 bits."),
]
Start = Annotated[float, typer.Option(min=0, help="Seconds to skip.")]
Duration = Annotated[float | None, typer.Option(min=0, help="Seconds to keep.")]


def parse_rate(quality: float, bpp: str | None) -> "Rate":
    """The rate that --quality and --bpp ask for."""
    from mptvc.codec.rate import Rate

    if bpp is not None and quality:
        raise ValueError("give --quality or --bpp, not both")
    try:
        numbers = () if bpp is None else tuple(float(part) for part in bpp.split(","))
    except ValueError:
        raise ValueError(f"--bpp is one number a prefix, such as 0.02,0.15,0.6; found {bpp!r}") from None
    return Rate(quality, numbers)


def parse_tile(text: str) -> tuple[int, int] | None:
    """``WxH`` to (height, width); auto to None."""
    if text == "auto":
        return None
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise ValueError(f"--tile is auto or WIDTHxHEIGHT, found {text}")
    return int(height), int(width)


def parse_raw(text: str | None, path: Path) -> "RawVideo | Path":
    """The raw video that ``WxH@RATE`` or ``WxH@RATE:10`` describes; the path alone without it."""
    from mptvc.video.raw import RawVideo

    if text is None:
        return path
    if path.suffix.lower() in set(VIDEO_SUFFIXES) - {".yuv"}:
        raise ValueError(f"{path} is no raw video: leave out --yuv")
    match = re.fullmatch(r"(\d+)x(\d+)@(\d+(?:[./]\d+)?)(?::(8|10))?", text)
    if match is None or "0" in match.group(1, 2) or Fraction(match[3]) <= 0:
        raise ValueError(f"--yuv is WIDTHxHEIGHT@RATE, with :10 for 10 bits, found {text}")
    return RawVideo(path, int(match[1]), int(match[2]), Fraction(match[3]), int(match[4] or 8))


def parse_size(text: str, base: int) -> float:
    """A number with a unit: ``2MiB``, ``500k``, ``1.5M``."""
    units = {"": 1, "k": base, "m": base**2, "g": base**3}
    lower = text.strip().lower().removesuffix("b")
    binary = lower.endswith("i")
    number = lower.removesuffix("i")
    unit = number[-1:] if number[-1:] in "kmg" else ""
    try:
        factor = 1024 ** "kmg".index(unit) * 1024 if binary and unit else units[unit]
        return float(number.removesuffix(unit)) * factor
    except ValueError:
        raise ValueError(f"cannot read the size {text}; write 2MiB, 500k or 1.5M") from None


def parse_threshold(text: str) -> float | None:
    """The score of --scene-detect; None for no cuts."""
    from mptvc.video.cuts import SHOT_THRESHOLD

    if text in ("auto", "off"):
        return SHOT_THRESHOLD if text == "auto" else None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--scene-detect is auto, off or a number, found {text}") from None


def codec_from_options(
    weights: str | None, device: str, dtype: str, tile: str, batch: int, threads: int
) -> "Codec":
    """The codec that the shared options name."""
    import torch

    from mptvc.codec.weights import load_codec

    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    return load_codec(weights, device=device, dtype=dtype, tile=parse_tile(tile), tile_batch=batch)
