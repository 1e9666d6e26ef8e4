"""The command line: parse, call the library, show the result, map errors to exit codes.

Data goes to standard output only when asked for; everything else goes to standard error. Imports that
need torch or PyAV happen inside the commands that need them.
"""

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

import mptvc
from mptvc.cli.bench import bench
from mptvc.cli.compare import compare
from mptvc.cli.encode import encode
from mptvc.cli.files import info, tokens, truncate, verify
from mptvc.cli.options import (
    FRAMES,
    PIXELS,
    AsJson,
    Audio,
    AudioMode,
    Device,
    Dtype,
    Duration,
    Force,
    MaxFrames,
    MaxPixels,
    ProgressMode,
    Quiet,
    ShowProgress,
    SizeMode,
    Start,
    Threads,
    TileBatch,
    Weights,
    codec_from_options,
)
from mptvc.cli.output import (
    EXIT_DAMAGED,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    console,
    escape,
    explain,
    interrupt,
    is_interrupted,
    print_json,
    progress_callback,
    say,
    warn,
)
from mptvc.cli.tools import demo, env, weights_app
from mptvc.cli.train import train
from mptvc.format.bitstream import Limits
from mptvc.format.header import prefix_name

#: Stands anywhere in a command line.
_VERBOSE = ("-v", "--verbose")

app = typer.Typer(
    name="mptvc",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line and leave with its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    arguments = [a for a in sys.argv[1:] if a not in _VERBOSE]
    verbose = len(arguments) < len(sys.argv[1:])
    try:
        code = app(arguments or ["--help"], prog_name="mptvc", standalone_mode=False)
    except KeyboardInterrupt:
        _fail(EXIT_INTERRUPTED, "interrupted")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_FAILED) from None
    except typer.Exit as stop:
        raise SystemExit(stop.exit_code) from None
    except Exception as error:
        if verbose:
            traceback.print_exc()
        if is_interrupted():  # code below Python may turn an interruption into an error of its own
            _fail(EXIT_INTERRUPTED, "interrupted")
        code, message = explain(error)
        _fail(code, message)
    if code == EXIT_INTERRUPTED:  # how the parser reports Ctrl-C
        _fail(EXIT_INTERRUPTED, "interrupted")
    raise SystemExit(code if isinstance(code, int) else 0)


def _fail(code: int, message: str) -> None:
    if message:  # a command without arguments has shown its help instead
        console.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    raise SystemExit(code) from None


def decode(
    source: Annotated[str, typer.Argument(metavar="IN", help=".mpt file, or - for stdin.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="Video, folder, or - for stdout.")],
    levels: Annotated[int | None, typer.Option(min=1, help="Levels to decode.")] = None,
    size: Annotated[SizeMode, typer.Option(help="source or level.")] = SizeMode.SOURCE,
    allow_partial: Annotated[
        bool,
        typer.Option("--allow-partial", help="Also use the clips of a level that is not complete."),
    ] = False,
    best_effort: Annotated[
        bool, typer.Option("--best-effort", help="Leave out what is damaged, and leave with 3.")
    ] = False,
    audio: AudioMode = Audio.COPY,
    format: Annotated[str | None, typer.Option(help="mp4, mkv, y4m, png or npy.")] = None,
    codec_name: Annotated[
        str | None, typer.Option("--codec", help="FFmpeg codec, such as libx264 or ffv1.")
    ] = None,
    crf: Annotated[int, typer.Option(help="Quality of the codec; lower is better.")] = 12,
    pix_fmt: Annotated[str | None, typer.Option(help="FFmpeg pixel format.")] = None,
    start: Start = 0.0,
    duration: Duration = None,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    tile_batch: TileBatch = 1,
    threads: Threads = 0,
    max_pixels: MaxPixels = PIXELS,
    max_frames: MaxFrames = FRAMES,
    force: Force = False,
    progress: ShowProgress = ProgressMode.AUTO,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Decode a file, or any prefix of one.

    Example: [bold]mptvc decode out.mpt back.mp4 --levels 2[/]
    """
    from mptvc.files.transcode import decode_file
    from mptvc.format.inspect import probe
    from mptvc.format.source import open_source
    from mptvc.format.target import refuse_existing, refuse_same
    from mptvc.video.sink import OutputOptions, output_format

    options, limits = OutputOptions(format, codec_name, crf, pix_fmt), Limits(max_pixels, max_frames)
    kind = output_format(target, options)
    if target != "-":
        refuse_same(source, target)
        refuse_existing(Path(target), force, folder=kind == "png")
    with open_source(sys.stdin.buffer if source == "-" else source) as (file, _):
        probe(file, limits=limits)
        file.seek(0)
        codec = codec_from_options(weights, device, dtype, "auto", tile_batch, threads)
        with progress_callback("decode", progress, quiet) as show:
            report = decode_file(
                file,
                sys.stdout.buffer if target == "-" else target,
                codec=codec,
                levels=levels,
                allow_partial=allow_partial,
                best_effort=best_effort,
                sound=audio == Audio.COPY,
                source_size=size == SizeMode.SOURCE,
                start=start,
                duration=duration,
                output=options,
                force=force,
                limits=limits,
                progress=show,
            )
    warn((*report.warnings, *map(str, report.damage)))
    video = report.video
    if as_json and target != "-":
        damage = [str(error) for error in report.damage]
        print_json({"output": target, "levels": report.levels, "frames": video.num_frames, "damage": damage})
    note = "" if report.complete else " (the file has more)"
    say(
        quiet,
        f"{target}: {video.num_frames} frames {video.width}x{video.height}, "
        f"{prefix_name(report.levels)}{note}",
    )
    if report.damage:
        raise typer.Exit(EXIT_DAMAGED)


for _command in (encode, decode, truncate, info, verify, compare, tokens, train, bench, demo, env):
    app.command()(_command)
app.add_typer(weights_app, name="weights")


@app.callback(invoke_without_command=True)
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)
    ] = False,
    _verbose: Annotated[bool, typer.Option(*_VERBOSE, help="Show where an error comes from.")] = False,
) -> None:
    """A neural video codec: one small file, any prefix of which plays."""
    if show_version:
        print(mptvc.__version__)
        raise typer.Exit
