"""The command that writes tokens, and files from tokens."""

from pathlib import Path
from typing import Annotated

import typer

import mptvc
from mptvc.cli.options import (
    FRAMES,
    PIXELS,
    AsJson,
    Device,
    Dtype,
    Force,
    MaxFrames,
    MaxPixels,
    ProgressMode,
    Quiet,
    ShowProgress,
    Threads,
    Weights,
    codec_from_options,
    ending,
)
from mptvc.cli.output import print_json, say
from mptvc.cli.progress import progress_callback
from mptvc.format.limits import Limits
from mptvc.format.target import refuse_existing


def tokens(
    source: Annotated[str, typer.Argument(metavar="IN", help=".mpt file or address, or .safetensors file.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="The other of the two.")],
    levels: Annotated[int | None, typer.Option(min=1, help="Levels to export.")] = None,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = 0,
    max_pixels: MaxPixels = PIXELS,
    max_frames: MaxFrames = FRAMES,
    force: Force = False,
    progress: ShowProgress = ProgressMode.AUTO,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the tokens of a file as safetensors, or a file from such tokens, changed ones too.

    With prediction that is what prediction left and how each frame is predicted.

    Example: [bold]mptvc tokens out.mpt tokens.safetensors[/]
    """
    back, limits = _is_way_back(source, target), Limits(max_pixels, max_frames)
    if back and levels is not None:
        raise ValueError("--levels is for the way out: a file needs the tokens of all levels")
    refuse_existing(Path(target), force)
    codec = codec_from_options(weights, device=device, dtype=dtype, threads=threads)
    with progress_callback("tokens", progress, quiet, unit="clips") as show:
        if back:
            header = mptvc.import_tokens(
                source, target, codec=codec, force=force, limits=limits, progress=show
            )
        else:
            header = mptvc.export_tokens(
                source, target, levels=levels, codec=codec, force=force, limits=limits, progress=show
            )
    kept = header.num_levels if back else levels or mptvc.probe(source, limits=limits).available.levels
    shapes = [codec.shape(header, level) for level in range(kept)]
    if as_json:
        print_json({"output": target, "levels": shapes})
    say(quiet, f"{target}: tokens {', '.join('x'.join(map(str, shape)) for shape in shapes)}")


def _is_way_back(source: str, target: str) -> bool:
    """Whether a file is made from tokens, not tokens from a file."""
    back = ending(target) == ".mpt"
    if (ending(source) == ".safetensors") != back or not (back or ending(target) == ".safetensors"):
        raise ValueError("tokens goes from .mpt to .safetensors, or from .safetensors to .mpt")
    return back
