"""The encode command: one video, or several and folders of them."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from mptvc.cli.folders import show_folder
from mptvc.cli.options import (
    AsJson,
    Audio,
    AudioMode,
    BitsPerPixel,
    ClipFrames,
    Deinterlace,
    Device,
    Dtype,
    Duration,
    Force,
    Force8Bit,
    ProgressMode,
    Quality,
    Quiet,
    RawFormat,
    SceneDetect,
    ShowProgress,
    Start,
    Strict,
    Threads,
    TileBatch,
    Weights,
    codec_from_options,
    parse_rate,
    parse_raw,
    parse_threshold,
    source_named,
    target_named,
)
from mptvc.cli.output import counted, print_json, say, warn
from mptvc.cli.progress import progress_callback
from mptvc.errors import VideoError
from mptvc.files.folders import (
    CODED,
    VIDEO_SUFFIXES,
    StoppedError,
    mirrored,
    sort_files,
    work_through,
)
from mptvc.format.header import Header, prefix_name
from mptvc.format.target import refuse_existing

if TYPE_CHECKING:
    from mptvc.files.encoding import EncodeReport
    from mptvc.video.raw import RawVideo

#: Files left out of a folder that are named.
_NAMED = 8
#: `encode_file` with the options of the command: source, target and ``progress`` are left.
_Encoder = Callable[..., "EncodeReport"]


def encode(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="IN... [OUT]",
            help="Video, folder of pictures, .npy, or - for stdin; with --output-dir any videos and folders.",
        ),
    ],
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder for the files of all inputs, in trees like theirs.")
    ] = None,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Folders inside too.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out videos that are done.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Videos at a time, of several.")] = 1,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    tile: Annotated[
        str, typer.Option(help="auto, or the largest tile as WxH pixels, without prediction.")
    ] = "auto",
    tile_batch: TileBatch = 1,
    threads: Threads = 0,
    quality: Quality = 0.0,
    bpp: BitsPerPixel = None,
    clip_frames: ClipFrames = None,
    scene_detect: SceneDetect = "auto",
    start: Start = 0.0,
    duration: Duration = None,
    yuv: RawFormat = None,
    audio: AudioMode = Audio.COPY,
    force_8bit: Force8Bit = False,
    deinterlace: Deinterlace = False,
    strict: Strict = False,
    stream: Annotated[
        int | None, typer.Option(min=0, help="Number of the video stream, where there are several.")
    ] = None,
    on_size_change: Annotated[
        str,
        typer.Option(help="Where the size changes: stop, scale, or split into OUT, OUT-2 and so on."),
    ] = "stop",
    frame_rate: Annotated[
        str, typer.Option(help="Frames a second of pictures and .npy: 25, or 30000/1001.")
    ] = "25",
    force: Force = False,
    progress: ShowProgress = ProgressMode.AUTO,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Encode a video, or several and folders of them.

    Without OUT the file is named after its input.

    Example: [bold]mptvc encode in.mp4 out.mpt[/], [bold]mptvc encode videos -r --output-dir coded[/]
    """
    force = force and not skip_existing

    def encoder() -> _Encoder:
        from mptvc.files.transcode import encode_file

        return partial(
            encode_file,
            rate=parse_rate(quality, bpp),
            shot_threshold=parse_threshold(scene_detect),
            codec=codec_from_options(
                weights,
                device=device,
                dtype=dtype,
                threads=threads,
                tile=_parse_tile(tile),
                tile_batch=tile_batch,
                clip_frames=clip_frames,
            ),
            start=start,
            duration=duration,
            force_8bit=force_8bit,
            deinterlace=deinterlace,
            sound=audio == Audio.COPY,
            strict=strict,
            stream=stream,
            on_size_change=on_size_change,
            frame_rate=_parse_frame_rate(frame_rate),
            force=force,
        )

    if "-" in paths and yuv is not None:
        raise ValueError("--yuv describes files: raw video is not read from standard input")
    as_video = parse_raw(yuv)
    if output_dir is not None and (len(paths) > 1 or Path(paths[0]).is_dir()):
        outputs = _outputs([Path(path) for path in paths], output_dir, recursive)
        if force and on_size_change == "split":
            _refuse_parts(set(outputs.values()))
        job = _stoppable(encoder(), as_video)
        _share_threads(jobs)
        with progress_callback("encode", progress, quiet, unit="files") as show:
            done = work_through(outputs, job, skip_existing=skip_existing, jobs=jobs, progress=show)
        show_folder(done, "encoded", as_json, quiet)
        return
    source, target = _one(paths, output_dir)
    if skip_existing and target != "-" and Path(target).exists():
        say(quiet, f"{target} exists, skipped")
        return
    _check_paths(source, target, force)
    video = source_named(source) if source == "-" else as_video(Path(source))
    encode_one = encoder()
    with progress_callback("encode", progress, quiet) as show:
        report = encode_one(video, target_named(target), progress=show)
    _show(target, report, as_json, quiet)


def _outputs(sources: list[Path], output_dir: Path, recursive: bool) -> dict[Path, Path]:
    """The output of each input, and of each video of those that are folders."""
    outputs: dict[Path, Path] = {}
    for source in sources:
        if not source.is_dir():
            if source.suffix.lower() == CODED:
                raise ValueError(f"{source} is no input: --output-dir names the outputs after their inputs")
            found = {source: output_dir / f"{source.stem}{CODED}"}
        elif _is_row(source):
            found = {source: output_dir / f"{source.name}{CODED}"}
        else:
            videos, others = sort_files([source], recursive=recursive)
            warn(_left_out(source, others))
            found = mirrored(videos, source, output_dir)
        for one, out in found.items():
            if (same := next((s for s, o in outputs.items() if o == out and s != one), None)) is not None:
                raise ValueError(f"{same} and {one} would both become {out}: name folders of their own")
            outputs[one] = out
    return outputs


def _refuse_parts(outputs: set[Path]) -> None:
    """Check that no part of a video could replace the file of another."""
    for out in outputs:
        name, _, number = out.stem.rpartition("-")
        if number.isdecimal() and (first := out.with_name(f"{name}{out.suffix}")) in outputs:
            raise ValueError(f"{out} might be replaced by a part of {first}: name folders of their own")


def _left_out(source: Path, others: list[Path]) -> list[str]:
    """A warning of the files of a folder that are no videos."""
    if not others:
        return []
    names = ", ".join(str(path.relative_to(source)) for path in others[:_NAMED])
    more = ", ..." if len(others) > _NAMED else ""
    return [f"{source}: {counted(len(others), 'file')} left out as no video: {names}{more}"]


def _is_row(folder: Path) -> bool:
    """Whether a folder holds pictures and nothing else, but for hidden files."""
    from mptvc.video.stills import pictures_of

    return len(pictures_of(folder)) == sum(not path.name.startswith(".") for path in folder.iterdir()) > 0


def _one(paths: list[str], output_dir: Path | None) -> tuple[str, str]:
    """Input and output of one video: the output as it is named, or named after its input."""
    source = paths[0]
    if output_dir is not None:
        if source == "-":
            raise ValueError("--output-dir names the folder of an output that is named after its input")
        output_dir.mkdir(parents=True, exist_ok=True)
        return source, str(output_dir / f"{Path(source).stem}{CODED}")
    if len(paths) > 2:
        raise ValueError(f"{len(paths)} paths: several inputs need the folder of their files, --output-dir")
    if Path(source).is_dir() and not _has_pictures(Path(source)):
        raise ValueError(f"{source} is a folder: name the folder of its files with --output-dir")
    if len(paths) == 1:
        if source == "-":
            raise ValueError("reading from standard input, name the output")
        folder = Path(source).is_dir()
        return source, f"{Path(source)}{CODED}" if folder else str(Path(source).with_suffix(CODED))
    target = paths[1]
    if target.endswith("/") or Path(target).suffix.lower() in VIDEO_SUFFIXES:
        raise ValueError(f"{target} is no name for an encoded file, which ends in .mpt; or use --output-dir")
    return source, target


def _has_pictures(folder: Path) -> bool:
    from mptvc.video.stills import pictures_of

    return bool(pictures_of(folder))


def _parse_frame_rate(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f"--frame-rate is a number or a ratio, such as 25 or 30000/1001; found {text}"
        ) from None


def _check_paths(source: str, target: str, force: bool) -> None:
    """Refuse a target that cannot be written and a source that is not there, before the codec is loaded."""
    if target != "-":
        refuse_existing(Path(target), force)
    if source != "-" and not Path(source).exists():
        raise VideoError(f"{source}: no such file")


def _stoppable(
    encode_one: _Encoder, as_video: "Callable[[Path], RawVideo | Path]"
) -> Callable[[Path, Path, Event], tuple[str, ...]]:
    """A job that looks after every frame whether it is to stop."""

    def job(source: Path, target: Path, stop: Event) -> tuple[str, ...]:
        def look(_done: int, _total: int) -> None:
            if stop.is_set():
                raise StoppedError(f"{source}: stopped")

        return encode_one(as_video(source), target, progress=look).warnings

    return job


def _share_threads(jobs: int) -> None:
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))


def _parse_tile(text: str) -> tuple[int, int] | None:
    """``WxH`` to (height, width); auto to None."""
    if text == "auto":
        return None
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ValueError(f"--tile is auto or WIDTHxHEIGHT, found {text}")
    return int(height), int(width)


def _show(target: str, report: "EncodeReport", as_json: bool, quiet: bool) -> None:
    """Print what was written: of JSON one object, which holds those of further parts."""
    warn(report.warnings)
    headers = {target: report.header} | {str(path): part.header for path, part in report.others.items()}
    first, *others = (_result(output, header) for output, header in headers.items())
    if as_json and target != "-":
        print_json(first | ({"others": others} if others else {}))
    for output, header in headers.items():
        bpp = ", ".join(f"{prefix_name(k)} {header.bpp(k):.4f}" for k in range(1, header.num_levels + 1))
        say(quiet, f"{output}: {header.prefix_bytes(header.num_levels)} bytes, bits per pixel: {bpp}")


def _result(output: str, header: Header) -> dict[str, object]:
    sizes = [header.prefix_bytes(k + 1) for k in range(header.num_levels)]
    return {"output": output, "frames": header.video.num_frames, "prefix_bytes": sizes}
