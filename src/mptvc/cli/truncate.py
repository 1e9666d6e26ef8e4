"""The command that keeps a prefix."""

from math import inf
from typing import Annotated

import typer

import mptvc
from mptvc.cli.options import (
    FRAMES,
    PIXELS,
    AsJson,
    Force,
    MaxFrames,
    MaxPixels,
    Quiet,
    source_named,
    target_named,
)
from mptvc.cli.output import counted, print_json, say
from mptvc.format.limits import Limits

#: What a unit stands for, by its lower-case letters.
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}


def truncate(
    source: Annotated[str, typer.Argument(metavar="IN", help=".mpt file, address, or - for stdin.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help=".mpt file, or - for stdout.")],
    levels: Annotated[int | None, typer.Option(min=1, help="Levels to keep.")] = None,
    max_bytes: Annotated[str | None, typer.Option(help="Largest size, such as 2MiB.")] = None,
    max_bitrate: Annotated[str | None, typer.Option(help="Largest mean bits a second, such as 1.5M.")] = None,
    max_pixels: MaxPixels = PIXELS,
    max_frames: MaxFrames = FRAMES,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Keep a prefix: byte for byte the first bytes of the file.

    Example: [bold]mptvc truncate out.mpt small.mpt --levels 1[/]
    """
    if sum(limit is not None for limit in (levels, max_bytes, max_bitrate)) != 1:
        raise ValueError("give one of --levels, --max-bytes and --max-bitrate")
    report = mptvc.truncate(
        source_named(source),
        target_named(target),
        levels=levels,
        max_bytes=None if max_bytes is None else int(_parse_size(max_bytes)),
        max_bitrate=None if max_bitrate is None else _parse_size(max_bitrate),
        force=force,
        limits=Limits(max_pixels, max_frames),
    )
    kept = report.available.levels
    if as_json and target != "-":
        print_json({"output": target, "levels": kept, "bytes": report.size_bytes})
    say(quiet, f"{target}: {report.size_bytes} bytes, {counted(kept, 'level')}")


def _parse_size(text: str) -> float:
    """A number with a unit: k, M and G count in thousands, KiB, MiB and GiB in steps of 1024."""
    lower = text.strip().lower().removesuffix("b")
    number = lower.rstrip("kmgi")
    try:
        size = float(number) * _UNITS[lower[len(number) :]]
    except (ValueError, KeyError):
        raise ValueError(f"cannot read the size {text}; write 2MiB, 500k or 1.5M") from None
    if not 0 < size < inf:
        raise ValueError(f"a size is finite and above 0, found {text}")
    return size
