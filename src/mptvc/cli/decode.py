"""The command that decodes a file, or any prefix of one, or a folder of them."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from mptvc.cli.folders import show_folder
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
    Start,
    Threads,
    TileBatch,
    Weights,
    codec_from_options,
    source_named,
    target_named,
)
from mptvc.cli.output import EXIT_DAMAGED, completeness, counted, explain, print_json, say, warn
from mptvc.cli.progress import progress_callback
from mptvc.files.folders import StoppedError, coded_files, mirrored, work_through
from mptvc.format.header import prefix_name
from mptvc.format.inspect import FileReport, probe
from mptvc.format.limits import Limits
from mptvc.format.source import open_source
from mptvc.format.target import refuse_existing, refuse_same

if TYPE_CHECKING:
    from mptvc.files.transcode import DecodeReport
    from mptvc.video.sink import OutputOptions

#: `decode_file` with the options of the command: source, target and ``progress`` are left.
_Decoder = Callable[..., "DecodeReport"]


class SizeMode(StrEnum):
    """Size of decoded frames."""

    SOURCE = "source"
    LEVEL = "level"


def decode(
    source: Annotated[
        str, typer.Argument(metavar="IN", help=".mpt file, folder or address, or - for stdin.")
    ],
    target: Annotated[
        str | None, typer.Argument(metavar="OUT", help="Video, folder of pictures, or - for stdout.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder for the videos of a folder, in a tree like its own.")
    ] = None,
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
    stored: Annotated[
        bool, typer.Option("--stored", help="Leave pictures of y4m, png and npy unturned.")
    ] = False,
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
    """Decode a file, or any prefix of one, or the files of a folder to videos of --format, mp4 by default.

    Example: [bold]mptvc decode out.mpt back.mp4 --levels 2[/], [bold]mptvc decode coded --output-dir back[/]
    """
    from mptvc.files.transcode import decode_file
    from mptvc.video.sink import OutputOptions

    output, limits = OutputOptions(format, codec_name, crf, pix_fmt, stored), Limits(max_pixels, max_frames)

    def decoder() -> _Decoder:
        return partial(
            decode_file,
            codec=codec_from_options(
                weights, device=device, dtype=dtype, threads=threads, tile_batch=tile_batch
            ),
            levels=levels,
            allow_partial=allow_partial,
            best_effort=best_effort,
            sound=audio == Audio.COPY,
            source_size=size == SizeMode.SOURCE,
            start=start,
            duration=duration,
            output=output,
            force=force,
            limits=limits,
        )

    if source != "-" and Path(source).is_dir():
        _decode_folder(Path(source), target, output_dir, output, decoder, progress, as_json, quiet)
        return
    target = _one(source, target, output_dir)
    _check_target(source, target, output, force)
    with open_source(source_named(source)) as (file, _):
        found = probe(file, limits=limits)
        decode_one = decoder()
        with progress_callback("decode", progress, quiet) as show:
            report = decode_one(file, target_named(target), progress=show)
    _show(target, report, found, as_json, quiet)


def _decode_folder(
    source: Path,
    target: str | None,
    output_dir: Path | None,
    output: "OutputOptions",
    decoder: "Callable[[], _Decoder]",
    progress: ProgressMode,
    as_json: bool,
    quiet: bool,
) -> None:
    """Decode all files of a folder, whatever happens to one."""
    if output_dir is None or target is not None:
        raise ValueError(f"{source} is a folder: name the folder of its videos with --output-dir")
    from mptvc.video.sink import suffix_of

    files = coded_files(source)
    outputs = mirrored(files, source, output_dir, suffix_of(output))
    decode_one = decoder()

    def job(file: Path, out: Path, stop: Event) -> tuple[str, ...]:
        def look(_done: int, _total: int) -> None:
            if stop.is_set():
                raise StoppedError(f"{file}: stopped")

        report = decode_one(file, out, progress=look)
        return (*report.warnings, *(explain(error)[1] for error in report.damage))

    with progress_callback("decode", progress, quiet, unit="files") as show:
        done = work_through(outputs, job, skip_existing=False, jobs=1, progress=show)
    show_folder(done, "decoded", as_json, quiet)


def _one(source: str, target: str | None, output_dir: Path | None) -> str:
    """The output of one file."""
    if output_dir is not None:
        raise ValueError(f"--output-dir is for the files of a folder, and {source} is none: name the output")
    if target is None:
        raise ValueError(f"name what {source} is decoded to: a video, a folder of pictures, or -")
    return target


def _check_target(source: str, target: str, output: "OutputOptions", force: bool) -> None:
    """Refuse a target that cannot be written, before anything is decoded."""
    from mptvc.video.sink import output_format

    kind = output_format(target, output)
    if target != "-":
        refuse_same(source, target)
        refuse_existing(Path(target), force, folder=kind == "png")


def _show(target: str, report: "DecodeReport", found: FileReport, as_json: bool, quiet: bool) -> None:
    video, damage = report.video, [explain(error)[1] for error in report.damage]
    warn((*report.warnings, *damage))
    if as_json and target != "-":
        print_json({"output": target, "levels": report.levels, "frames": video.num_frames, "damage": damage})
    picture = f"{counted(video.num_frames, 'frame')} {video.width}x{video.height}"
    say(quiet, f"{target}: {picture}, {prefix_name(report.levels)}{_note(report.levels, found)}")
    if damage:
        raise typer.Exit(EXIT_DAMAGED)


def _note(levels: int, found: FileReport) -> str:
    """What there is beside the levels that were decoded: more in the file, or more than the file has."""
    there, of = found.available, found.header.num_levels
    if levels < there.levels:
        return f" (the file has {prefix_name(there.levels)})"
    return "" if there.levels == of else f" (the file is {completeness(there, of)})"
