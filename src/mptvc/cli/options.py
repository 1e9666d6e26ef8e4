"""Options and arguments that several commands share, and what their text stands for."""

import re
import sys
from collections.abc import Callable
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO
from urllib.parse import urlsplit

import typer

from mptvc.codec.memory import keep_freed_memory
from mptvc.files.folders import VIDEO_SUFFIXES, coded_files
from mptvc.format.limits import DEFAULT_LIMITS
from mptvc.format.remote import is_url
from mptvc.format.rules import MAX_CLIP

if TYPE_CHECKING:
    from mptvc.codec.codec import Codec
    from mptvc.codec.rate import Rate
    from mptvc.video.raw import RawVideo


class ProgressMode(StrEnum):
    """How a long job shows its progress."""

    AUTO = "auto"
    JSON = "json"
    NONE = "none"


class Audio(StrEnum):
    """What becomes of sound and subtitles."""

    COPY = "copy"
    NONE = "none"


Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Leave out progress and remarks.")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Replace an existing output.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Weights = Annotated[
    str | None,
    typer.Option(help="tokenizer, codec, a folder or hf://owner/name\\[@revision]; otherwise the first."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda\\[:N] or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
TileBatch = Annotated[int, typer.Option(min=1, help="Tiles at once: speed and memory, never the result.")]
Threads = Annotated[int, typer.Option(min=0, help="Processor threads; 0 takes all.")]
Quality = Annotated[
    float, typer.Option(min=-6, max=6, help="dB finer (above 0) or coarser, as far as values reach.")
]
BitsPerPixel = Annotated[
    str | None,
    typer.Option(help="Most bits per pixel of each prefix, without sound and time stamps: 0.02,0.15,0.6."),
]
ClipFrames = Annotated[
    int | None,
    typer.Option(min=1, max=MAX_CLIP, help="Most frames of a clip, for weights with prediction."),
]
SceneDetect = Annotated[str, typer.Option(help="auto, off, or a threshold to 100.")]
Force8Bit = Annotated[bool, typer.Option("--force-8bit", help="Round deeper video to 8 bits.")]
Deinterlace = Annotated[bool, typer.Option("--deinterlace", help="Make whole frames of interlaced ones.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse what would be a warning.")]
MaxPixels = Annotated[int, typer.Option(help="Largest width times height to accept.")]
MaxFrames = Annotated[int, typer.Option(help="Largest number of frames to accept.")]
PIXELS, FRAMES = DEFAULT_LIMITS.max_pixels, DEFAULT_LIMITS.max_frames
ShowProgress = Annotated[ProgressMode, typer.Option(help="auto, json or none.")]
AudioMode = Annotated[Audio, typer.Option("--audio", help="copy or none: sound and subtitles.")]
RawFormat = Annotated[
    str | None,
    typer.Option("--yuv", help="Raw 4:2:0 input: WxH@RATE, such as 3840x2160@120, :10 for 10 bits."),
]
#: Width, height, rate and bits of ``--yuv``; a ratio's lower half is not 0.
_RAW = re.compile(r"(0*[1-9]\d*)x(0*[1-9]\d*)@(\d+(?:\.\d+|/0*[1-9]\d*)?)(?::(8|10))?", re.ASCII)
Start = Annotated[float, typer.Option(min=0, help="Seconds to skip.")]
Duration = Annotated[float | None, typer.Option(min=0, help="Seconds to keep.")]


def source_named(name: str) -> str | BinaryIO:
    """What a command reads: standard input for ``-``; a path or an address stays as it is."""
    return sys.stdin.buffer if name == "-" else name


def with_folders(names: list[str]) -> list[str]:
    """What commands for several files work on: of a folder its .mpt files, at any depth."""
    found: list[str] = []
    for name in names:
        folder = not is_url(name) and Path(name).is_dir()
        found += map(str, coded_files(Path(name))) if folder else [name]
    return found


def target_named(name: str) -> str | BinaryIO:
    """What a command writes: standard output for ``-``, unless that is a terminal."""
    if name == "-" and sys.stdout.isatty():
        raise ValueError("standard output is a terminal: name a file, or pipe the output into a program")
    return sys.stdout.buffer if name == "-" else name


def ending(name: str) -> str:
    """The ending of a path's name or of an address, whose query does not count: ``.mpt``."""
    return Path(urlsplit(name).path if is_url(name) else name).suffix.lower()


def parse_raw(text: str | None) -> "Callable[[Path], RawVideo | Path]":
    """How to take a path: as the raw video that ``WxH@RATE`` or ``WxH@RATE:10`` describes, else as it is."""
    from mptvc.video.raw import RawVideo

    if text is None:
        return lambda path: path
    match = _RAW.fullmatch(text)
    if match is None or not Fraction(match[3]):
        raise ValueError(f"--yuv is WIDTHxHEIGHT@RATE, with :10 for 10 bits, found {text}")
    width, height, rate, bits = int(match[1]), int(match[2]), Fraction(match[3]), int(match[4] or 8)

    def described(path: Path) -> RawVideo:
        if path.suffix.lower() in set(VIDEO_SUFFIXES) - {".yuv"}:
            raise ValueError(f"{path} is no raw video: leave out --yuv")
        return RawVideo(path, width, height, rate, bits)

    return described


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
    weights: str | None,
    *,
    device: str,
    dtype: str,
    threads: int,
    tile: tuple[int, int] | None = None,
    tile_batch: int = 1,
    clip_frames: int | None = None,
) -> "Codec":
    """The codec that the shared options name."""
    import torch

    from mptvc.codec.weights import load_codec

    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    return load_codec(
        weights, device=device, dtype=dtype, tile=tile, tile_batch=tile_batch, clip_frames=clip_frames
    )
