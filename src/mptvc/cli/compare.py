"""The command that compares: prefixes, other files and other codecs, of files or of what it encodes."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from mptvc.cli.comparison import deltas, mean_of, print_comparisons, write_csv, write_plot
from mptvc.cli.options import (
    FRAMES,
    PIXELS,
    AsJson,
    BitsPerPixel,
    Device,
    Dtype,
    Force,
    MaxFrames,
    MaxPixels,
    ProgressMode,
    Quality,
    Quiet,
    RawFormat,
    ShowProgress,
    Threads,
    TileBatch,
    Weights,
    codec_from_options,
    ending,
    parse_rate,
    parse_raw,
)
from mptvc.cli.output import print_json, warn
from mptvc.cli.progress import Step, progress_callback
from mptvc.errors import MptError
from mptvc.files.folders import CODED, find_videos
from mptvc.format.limits import Limits
from mptvc.format.target import atomic_output, refuse_existing, refuse_same

if TYPE_CHECKING:
    from mptvc.codec.codec import Codec
    from mptvc.codec.rate import Rate
    from mptvc.evaluate import metrics
    from mptvc.evaluate.compare import Comparison, Pair, Part
    from mptvc.video.raw import RawVideo

#: A file that is made to be compared.
_MADE = f"made{CODED}"


def compare(
    reference: Annotated[Path, typer.Argument(metavar="REF", help="The source, or a folder of sources.")],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help=".mpt files or addresses, other videos, or folders of them; without any, REF is encoded.",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Other codecs to run on the same frames: x264,x265,svtav1,vp9.")
    ] = None,
    scale: Annotated[
        float, typer.Option(help="Encode REF in this size, above 0 and at most 1: 0.8 of each side.")
    ] = 1.0,
    quality: Quality = 0.0,
    bpp: BitsPerPixel = None,
    ssim: Annotated[bool, typer.Option("--ssim", help="SSIM and MS-SSIM of luma too.")] = False,
    csv_path: Annotated[Path | None, typer.Option("--csv", help="Write the table to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write rate-distortion curves to this PNG.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page about one .mpt file.")] = None,
    start: Annotated[float, typer.Option(min=0, help="Seconds of REF to skip, as FILE did.")] = 0.0,
    duration: Annotated[
        float | None, typer.Option(min=0, help="Seconds of REF to take, as FILE did.")
    ] = None,
    yuv: RawFormat = None,
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
    r"""Compare every prefix of a file with its source: PSNR and bits per pixel, beside other codecs.

    Of an .mpt file all bytes count but sound, of another video the whole file. Two folders are compared
    file by file, with the mean. Without FILE, REF is encoded for it; with --scale, every codec gets smaller
    frames, so that the codec REF comes from favours none. --against, --ssim and --plot need the extra: pip
    install 'mptvc\[eval]'.

    Example: [bold]mptvc compare in.mp4 out.mpt --against x264,x265 --plot curves.png[/],
    [bold]mptvc compare in.mp4 --scale 0.8 --bpp 0.02,0.15,0.6 --against x264[/]
    """
    from mptvc.evaluate.compare import Part
    from mptvc.evaluate.peers import chosen_peers

    _check_extras(against, ssim, plot)
    peers = chosen_peers([] if against is None else against.split(","))
    as_video = parse_raw(yuv)
    making = _making(files, scale, quality, bpp, weights)
    with TemporaryDirectory() as folder:
        pairs, alone = _pairs(reference, files, Path(folder) / _MADE)
        _check_targets((csv_path, plot, html), [*alone, *_inputs(pairs)], force)
        if html is not None:
            _check_page(pairs, making, yuv)
        warn(f"{source} has no file to compare it with" for source in alone)
        codec = None
        if any(ending(str(file)) == CODED for _, found in pairs for file in found):
            codec = codec_from_options(
                weights, device=device, dtype=dtype, threads=threads, tile_batch=tile_batch
            )
        show = partial(progress_callback, mode=progress, quiet=quiet)
        part, limits = Part(start, duration, scale), Limits(max_pixels, max_frames)
        meter = _Meter(codec, part, making, limits, ssim, peers, show)
        results = []
        for path, found in pairs:
            clip = path.relative_to(reference) if reference.is_dir() else path.name
            results.append(meter.compare(str(clip), as_video(path), found))
        everything = [*results, *([mean_of(results, made=bool(making))] if len(results) > 1 else [])]
        writers: tuple[tuple[Path | None, Callable[[BinaryIO], None]], ...] = (
            (csv_path, partial(write_csv, everything)),
            (plot, partial(write_plot, results)),
            (html, partial(meter.write_page, *pairs[0], results[0])),
        )
        for target, write in writers:
            if target is not None:
                with atomic_output(target, force=force) as out:
                    write(out)
    if as_json:
        print_json([asdict(result) | {"deltas": deltas(result)} for result in everything])
    else:
        print_comparisons(everything, ssim, against is not None)


@dataclass(frozen=True)
class _Making:
    """How files are made to be compared.

    Attributes:
        rate: How finely, or of how many bits.
        name: What results call them: the options that they are made with.
    """

    rate: "Rate"
    name: str


def _making(
    files: Sequence[str] | None, scale: float, quality: float, bpp: str | None, weights: str | None
) -> _Making | None:
    """How files are made where none are given, which alone takes options of encoding."""
    rate = parse_rate(quality, bpp)
    named = {"scale": scale if scale != 1 else None, "quality": quality or None, "bpp": bpp}
    named = {name: value for name, value in named.items() if value is not None}
    if not files:
        if weights is not None:
            named["weights"] = weights.rsplit("/", 1)[-1]
        settings = ", ".join(f"{name} {value}" for name, value in named.items())
        return _Making(rate, f"mptvc ({settings})" if settings else "mptvc")
    if named:
        raise ValueError(f"--{next(iter(named))} is for encoding REF, which is done where no FILE is given")
    return None


def _pairs(reference: Path, files: Sequence[str] | None, made: Path) -> "tuple[list[Pair], tuple[Path, ...]]":
    """The sources with the files to compare, and those without any; of no files, with one that is made."""
    from mptvc.evaluate.compare import pair_files

    if files:
        return pair_files(reference, files)
    return [(source, [made]) for source in find_videos([reference])], ()


def _inputs(pairs: "Sequence[Pair]") -> "list[str | Path]":
    """All sources and files that belong together."""
    return [path for source, found in pairs for path in (source, *found)]


def _check_targets(targets: Sequence[Path | None], inputs: "Sequence[str | Path]", force: bool) -> None:
    """Refuse a target that cannot be written, or would replace an input or another target."""
    named = [target for target in targets if target is not None]
    if len({target.resolve() for target in named}) < len(named):
        raise ValueError("--csv, --plot and --html each write a file of their own")
    for target in named:
        for source in inputs:
            refuse_same(source, target)
        refuse_existing(target, force)


def _check_extras(against: str | None, ssim: bool, plot: Path | None) -> None:
    """Refuse options whose libraries are missing, and a plot that is no PNG."""
    for option, module in ((against, "bjontegaard"), (ssim, "pytorch_msssim"), (plot, "matplotlib")):
        if option and find_spec(module) is None:
            raise MptError(f"this needs {module}: pip install 'mptvc[eval]'")
    if plot is not None and plot.suffix.lower() != ".png":
        raise ValueError(f"--plot writes a PNG, found {plot}")


def _check_page(pairs: "Sequence[Pair]", making: _Making | None, yuv: str | None) -> None:
    """Refuse a page about anything but one video that players know and its ``.mpt`` file."""
    if yuv is not None:
        raise ValueError("--html needs a source that players know, not raw video")
    names = [str(path) for source, found in pairs for path in ([source] if making else found)]
    if len(names) > 1 or (making is None and ending(names[0]) != CODED):
        raise ValueError(f"--html shows one source and one .mpt file, found {', '.join(names)}")


@dataclass(frozen=True)
class _Meter:
    """Measures files with the options of one command."""

    codec: "Codec | None"
    part: "Part"
    making: _Making | None
    limits: Limits
    ssim: bool
    peers: Sequence[str]
    show: Callable[[str], AbstractContextManager[Step]]

    def compare(self, clip: str, source: "RawVideo | Path", files: "Sequence[str | Path]") -> "Comparison":
        """All versions of one video, and what other codecs make of it."""
        from mptvc.evaluate.compare import Comparison, compare_peers

        if self.making is None:
            versions = {str(file): self._versions(source, file) for file in files}
        else:
            (file,) = files
            self._make(clip, source, file, self.making.rate)
            versions = {self.making.name: self._versions(source, file)}
        with self.show(f"{clip} against") as step:
            peers = compare_peers(source, self.peers, part=self.part, ssim=self.ssim, progress=step)
        return Comparison(clip, versions, peers)

    def _make(self, clip: str, source: "RawVideo | Path", file: str | Path, rate: "Rate") -> None:
        """Encode a source to the file that is compared with it."""
        from mptvc.files.transcode import encode_file

        with self.show(f"{clip} encode") as step:
            report = encode_file(
                source,
                file,
                codec=self.codec,
                rate=rate,
                start=self.part.start,
                duration=self.part.duration,
                force_8bit=True,
                sound=False,
                scale=self.part.scale,
                force=True,
                progress=step,
            )
        warn(f"{clip}: {warning}" for warning in report.warnings)

    def _versions(self, source: "RawVideo | Path", file: str | Path) -> "list[metrics.Quality]":
        """Every prefix of an ``.mpt`` file, or another video file."""
        from mptvc.evaluate.compare import compare_file, compare_video

        with self.show(Path(file).name) as step:
            if self.codec is None or ending(str(file)) != CODED:
                return [compare_video(source, file, part=self.part, ssim=self.ssim, progress=step)]
            return compare_file(
                source,
                file,
                codec=self.codec,
                part=self.part,
                ssim=self.ssim,
                limits=self.limits,
                progress=step,
            )

    def write_page(
        self, source: Path, files: "Sequence[str | Path]", comparison: "Comparison", out: BinaryIO
    ) -> None:
        """Write the page about one ``.mpt`` file."""
        from mptvc.evaluate.report import write_report

        (file,) = files
        if self.codec is None:
            raise ValueError(f"{file} is no .mpt file")
        (versions,) = comparison.files.values()
        named = replace(comparison, files={str(file): versions})
        write = partial(write_report, source, file, out, codec=self.codec, comparison=named)
        with self.show("page") as step:
            write(part=self.part, limits=self.limits, progress=step)
