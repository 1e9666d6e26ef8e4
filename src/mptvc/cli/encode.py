"""The encode command: one video, or a folder of them."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

import mptvc
from mptvc.cli.options import (
    AsJson,
    Audio,
    AudioMode,
    Device,
    Dtype,
    Duration,
    Force,
    ProgressMode,
    Quiet,
    RawFormat,
    ShowProgress,
    Start,
    Threads,
    TileBatch,
    TileSize,
    Weights,
    codec_from_options,
    parse_rate,
    parse_raw,
    parse_threshold,
)
from mptvc.cli.output import EXIT_FAILED, console, escape, print_json, progress_callback, say, warn
from mptvc.files.folders import (
    VIDEO_SUFFIXES,
    FolderReport,
    StoppedError,
    find_videos,
    mirrored,
    work_through,
)
from mptvc.format.header import prefix_name
from mptvc.format.target import refuse_existing

if TYPE_CHECKING:
    from mptvc.files.transcode import EncodeReport


def encode(
    source: Annotated[str, typer.Argument(metavar="IN", help="Video file, folder, or - for stdin.")],
    target: Annotated[
        str | None, typer.Argument(metavar="[OUT]", help="Default: IN with .mpt; - for stdout.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder for the files of a folder, in a tree like its own.")
    ] = None,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Folders inside too.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out videos that are done.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Videos of a folder at a time.")] = 1,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    tile: TileSize = "auto",
    tile_batch: TileBatch = 1,
    threads: Threads = 0,
    quality: Annotated[
        float, typer.Option(min=-6, max=6, help="dB finer (above 0) or coarser, as far as values reach.")
    ] = 0.0,
    bpp: Annotated[
        str | None,
        typer.Option(
            help="Most bits per pixel of each prefix, without sound and time stamps: 0.02,0.15,0.6."
        ),
    ] = None,
    scene_detect: Annotated[str, typer.Option(help="auto, off, or a threshold to 100.")] = "auto",
    start: Start = 0.0,
    duration: Duration = None,
    yuv: RawFormat = None,
    audio: AudioMode = Audio.COPY,
    force_8bit: Annotated[bool, typer.Option("--force-8bit", help="Round deeper video to 8 bits.")] = False,
    deinterlace: Annotated[
        bool, typer.Option("--deinterlace", help="Make whole frames of interlaced ones.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse what would be a warning.")] = False,
    force: Force = False,
    progress: ShowProgress = ProgressMode.AUTO,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Encode a video, or a folder of them.

    Example: [bold]mptvc encode in.mp4 out.mpt[/], [bold]mptvc encode videos -r --output-dir coded[/]
    """
    is_folder = source != "-" and Path(source).is_dir()
    if not is_folder:
        target = _checked(source, target, output_dir, force or skip_existing)
        if skip_existing and target != "-" and Path(target).exists():
            say(quiet, f"{target} exists, skipped")
            return
        force = force and not skip_existing
    elif output_dir is None or target is not None:
        raise ValueError(f"{source} is a folder: name the folder of its files with --output-dir")
    outputs = _outputs(Path(source), output_dir, recursive) if is_folder and output_dir else {}
    from mptvc.files.transcode import encode_file

    rate = parse_rate(quality, bpp)
    codec = codec_from_options(weights, device, dtype, tile, tile_batch, threads)
    encode_one: Callable[..., EncodeReport] = partial(
        encode_file,
        codec=codec,
        rate=rate,
        shot_threshold=parse_threshold(scene_detect),
        start=start,
        duration=duration,
        force_8bit=force_8bit,
        deinterlace=deinterlace,
        sound=audio == Audio.COPY,
        strict=strict,
        force=force,
    )
    if is_folder:
        _share_threads(jobs)
        with progress_callback("encode", progress, quiet, unit="files") as show:
            report = work_through(
                outputs, _stoppable(encode_one, yuv), skip_existing=skip_existing, jobs=jobs, progress=show
            )
        _show_folder(report, as_json, quiet)
        return
    with progress_callback("encode", progress, quiet) as show:
        one = encode_one(
            sys.stdin.buffer if source == "-" else parse_raw(yuv, Path(source)),
            sys.stdout.buffer if target == "-" else target,
            progress=show,
        )
    warn(one.warnings)
    _show(str(target), one.header, as_json, quiet)


def _checked(source: str, target: str | None, output_dir: Path | None, may_exist: bool) -> str:
    """The output of one video, where it can be written."""
    if output_dir is not None:
        if target is not None or source == "-":
            raise ValueError("--output-dir names the folder of an output that is named after its input")
        output_dir.mkdir(parents=True, exist_ok=True)
        target = str(output_dir / f"{Path(source).stem}.mpt")
    if target is None:
        if source == "-":
            raise ValueError("reading from standard input, name the output")
        target = str(Path(source).with_suffix(".mpt"))
    if target.endswith("/") or Path(target).suffix.lower() in VIDEO_SUFFIXES:
        raise ValueError(f"{target} is no name for an encoded file, which ends in .mpt; or use --output-dir")
    if target != "-":
        refuse_existing(Path(target), may_exist)
    if source != "-" and not Path(source).exists():
        raise mptvc.VideoError(f"{source}: no such file")
    return target


def _outputs(source: Path, output_dir: Path, recursive: bool) -> dict[Path, Path]:
    return mirrored(find_videos([source], recursive=recursive), source, output_dir)


def _share_threads(jobs: int) -> None:
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))


def _stoppable(
    encode_one: Callable[..., "EncodeReport"], yuv: str | None
) -> Callable[[Path, Path, Event], tuple[str, ...]]:
    """A job that looks after every frame whether it is to stop."""

    def job(source: Path, target: Path, stop: Event) -> tuple[str, ...]:
        def look(_done: int, _total: int) -> None:
            if stop.is_set():
                raise StoppedError(f"{source}: stopped")

        return encode_one(parse_raw(yuv, source), target, progress=look).warnings

    return job


def _show(target: str, header: mptvc.Header, as_json: bool, quiet: bool) -> None:
    sizes = [header.prefix_bytes(k + 1) for k in range(header.num_levels)]
    pixels = header.video.width * header.video.height * header.video.num_frames
    bpp = ", ".join(
        f"{prefix_name(k + 1)} {8 * header.picture_bytes(k + 1) / pixels:.4f}"
        for k in range(header.num_levels)
    )
    if as_json and target != "-":
        print_json({"output": target, "frames": header.video.num_frames, "prefix_bytes": sizes})
    say(quiet, f"{target}: {sizes[-1]} bytes, bits per pixel: {bpp}")


def _show_folder(report: FolderReport, as_json: bool, quiet: bool) -> None:
    for source, warnings in sorted(report.warnings.items()):
        warn(f"{source}: {warning}" for warning in warnings)
    for source, error in report.failed.items():
        name = "" if str(source) in str(error) else f"{source}: "
        console.print(f"[bold red]error:[/] {escape(name + str(error))}", soft_wrap=True)
    if as_json:
        print_json(
            {
                "done": list(report.done),
                "skipped": list(report.skipped),
                "failed": {str(source): str(error) for source, error in report.failed.items()},
                "warnings": {str(source): found for source, found in report.warnings.items()},
            }
        )
    counts = f"{len(report.done)} encoded, {len(report.skipped)} skipped, {len(report.failed)} failed"
    say(quiet, counts)
    if report.failed:
        raise typer.Exit(EXIT_FAILED)
