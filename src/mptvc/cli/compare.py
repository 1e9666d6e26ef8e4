"""The command that compares: prefixes, other files and other codecs, as a table, JSON, CSV or a plot."""

import csv
import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer
from rich.markup import escape
from rich.table import Column, Table

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
    RawFormat,
    ShowProgress,
    Threads,
    TileBatch,
    Weights,
    codec_from_options,
    ending,
    parse_raw,
)
from mptvc.cli.output import number_columns, output_console, print_json, warn
from mptvc.cli.progress import Step, progress_callback
from mptvc.errors import MptError
from mptvc.format.limits import Limits
from mptvc.format.target import atomic_output, refuse_existing, refuse_same

if TYPE_CHECKING:
    from mptvc.codec.codec import Codec
    from mptvc.evaluate.compare import Comparison, Pair, Part
    from mptvc.evaluate.metrics import Quality
    from mptvc.video.raw import RawVideo


def compare(
    reference: Annotated[Path, typer.Argument(metavar="REF", help="The source, or a folder of sources.")],
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help=".mpt files or addresses, other videos, or folders of them."),
    ],
    against: Annotated[
        str | None, typer.Option(help="Other codecs to run on the same frames: x264,x265,svtav1,vp9.")
    ] = None,
    ssim: Annotated[bool, typer.Option("--ssim", help="SSIM and MS-SSIM of luma too.")] = False,
    csv_path: Annotated[Path | None, typer.Option("--csv", help="Write the table to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write rate-distortion curves to this PNG.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page about one .mpt file.")] = None,
    start: Annotated[float, typer.Option(min=0, help="Seconds of REF before what FILE was made of.")] = 0.0,
    duration: Annotated[
        float | None, typer.Option(min=0, help="Seconds of REF that FILE was made of.")
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
    file by file, with the mean. --against, --ssim and --plot need the extra: pip install 'mptvc\[eval]'.

    Example: [bold]mptvc compare in.mp4 out.mpt --against x264,x265 --plot curves.png[/]
    """
    from mptvc.evaluate.compare import Part, pair_files
    from mptvc.evaluate.peers import chosen_peers

    _check_extras(against, ssim, plot)
    peers = chosen_peers([] if against is None else against.split(","))
    as_video = parse_raw(yuv)
    pairs, alone = pair_files(reference, files)
    _check_targets((csv_path, plot, html), [*alone, *_inputs(pairs)], force)
    if html is not None:
        _check_page(pairs, yuv)
    warn(f"{source} has no file to compare it with" for source in alone)
    codec = None
    if any(ending(str(file)) == ".mpt" for _, found in pairs for file in found):
        codec = codec_from_options(
            weights, device=device, dtype=dtype, threads=threads, tile_batch=tile_batch
        )
    show = partial(progress_callback, mode=progress, quiet=quiet)
    meter = _Meter(codec, Part(start, duration), Limits(max_pixels, max_frames), ssim, peers, show)
    results = []
    for path, found in pairs:
        clip = path.relative_to(reference) if reference.is_dir() else path.name
        results.append(meter.compare(str(clip), as_video(path), found))
    everything = [*results, *([_mean(results)] if len(results) > 1 else [])]
    writers: tuple[tuple[Path | None, Callable[[BinaryIO], None]], ...] = (
        (csv_path, partial(_write_csv, everything)),
        (plot, partial(_write_plot, results)),
        (html, partial(meter.write_page, *pairs[0], results[0])),
    )
    for target, write in writers:
        if target is not None:
            with atomic_output(target, force=force) as out:
                write(out)
    if as_json:
        print_json([asdict(result) | {"deltas": _deltas(result)} for result in everything])
    else:
        _print(everything, ssim, against is not None)


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


def _check_page(pairs: "Sequence[Pair]", yuv: str | None) -> None:
    """Refuse a page about anything but one video that players know and its ``.mpt`` file."""
    if yuv is not None:
        raise ValueError("--html needs a source that players know, not raw video")
    names = [str(file) for _, found in pairs for file in found]
    if len(names) > 1 or ending(names[0]) != ".mpt":
        raise ValueError(f"--html shows one source and one .mpt file, found {', '.join(names)}")


@dataclass(frozen=True)
class _Meter:
    """Measures files with the options of one command."""

    codec: "Codec | None"
    part: "Part"
    limits: Limits
    ssim: bool
    peers: Sequence[str]
    show: Callable[[str], AbstractContextManager[Step]]

    def compare(self, clip: str, source: "RawVideo | Path", files: "Sequence[str | Path]") -> "Comparison":
        """All versions of one video, and what other codecs make of it."""
        from mptvc.evaluate.compare import Comparison, compare_peers

        versions = {str(file): self._versions(source, file) for file in files}
        with self.show(f"{clip} against") as step:
            peers = compare_peers(source, self.peers, part=self.part, ssim=self.ssim, progress=step)
        return Comparison(clip, versions, peers)

    def _versions(self, source: "RawVideo | Path", file: str | Path) -> "list[Quality]":
        """Every prefix of an ``.mpt`` file, or another video file."""
        from mptvc.evaluate.compare import compare_file, compare_video

        with self.show(Path(file).name) as step:
            if self.codec is None or ending(str(file)) != ".mpt":
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
        write = partial(write_report, source, file, out, codec=self.codec, comparison=comparison)
        with self.show("page") as step:
            write(part=self.part, limits=self.limits, progress=step)


def _print(results: "Sequence[Comparison]", ssim: bool, has_peers: bool) -> None:
    """Print a table for each file, and how it compares with other codecs."""
    out = output_console()
    for result in results:
        for name, versions in result.files.items():
            out.print(escape(f"{result.clip}: {name}"), style="bold", soft_wrap=True)
            out.print(_table(versions, result.peers, ssim))
        for name, delta in _deltas(result).items():
            out.print(escape(f"  {name}: {_delta(delta)}"), soft_wrap=True)
    if has_peers:
        out.print("Other codecs: PSNR RGB at the same rate; - outside of their curves.", soft_wrap=True)


def _table(versions: "list[Quality]", peers: "dict[str, list[Quality]]", ssim: bool) -> Table:
    from mptvc.evaluate.compare import at_rate

    names = ["bytes", "bpp", "PSNR RGB", "PSNR Y", *(["SSIM", "MS-SSIM"] if ssim else [])]
    columns = number_columns(*names, *(name.split()[0] for name in peers))
    table = Table(Column(no_wrap=True), *columns, box=None, collapse_padding=True)
    for q in versions:
        row = [q.name, str(q.size_bytes), f"{q.bpp:.4f}", _db(q.psnr_rgb), _db(q.psnr_y)]
        row += [_share(q.ssim), _share(q.ms_ssim)] if ssim else []
        row += [_db(at_rate(curve, q.bpp)) for curve in peers.values()]
        table.add_row(*row)
    return table


def _deltas(result: "Comparison") -> dict[str, tuple[float | None, float | None]]:
    """BD-rate and BD-PSNR of every file with several versions against every peer."""
    from mptvc.evaluate.compare import bjontegaard

    return {
        f"{file} against {peer}": bjontegaard(curve, versions)
        for file, versions in result.files.items()
        if len(versions) > 1
        for peer, curve in result.peers.items()
    }


def _mean(results: "Sequence[Comparison]") -> "Comparison":
    """Mean over clips of the files of each folder and kind, version by version."""
    from mptvc.evaluate.compare import Comparison, mean_quality

    groups: dict[str, list[list[Quality]]] = {}
    for result in results:
        for file, ladder in result.files.items():
            groups.setdefault(_kind(result, file), []).append(ladder)
    files = {
        f"{kind}, {len(ladders)} of {len(results)} clips": [
            mean_quality(same) for same in zip(*ladders, strict=False)
        ]
        for kind, ladders in groups.items()
    }
    peers = {
        name: [mean_quality(same) for same in zip(*(r.peers[name] for r in results), strict=True)]
        for name in results[0].peers
    }
    return Comparison(f"mean of {len(results)} clips", files, peers)


def _kind(result: "Comparison", file: str) -> str:
    """What the files of several clips that belong together share: folder, above the clip's, and ending."""
    path, below = Path(file), Path(result.clip).parent
    folder = str(path.parent).removesuffix(str(below)) if str(below) != "." else str(path.parent)
    return str(Path(folder) / f"*{path.suffix}")


def _write_csv(results: "Sequence[Comparison]", out: BinaryIO) -> None:
    """Write a line for each version of each file and each point of the other codecs."""
    text = io.StringIO()
    writer = csv.writer(text)
    names = ("size_bytes", "bpp", "psnr_rgb", "psnr_y", "ssim", "ms_ssim")
    writer.writerow(("clip", "file", "version", *names))
    for result in results:
        for file, versions in (result.files | result.peers).items():
            for q in versions:
                row = ["" if getattr(q, n) is None else getattr(q, n) for n in names]
                writer.writerow((result.clip, file, q.name, *row))
    out.write(text.getvalue().encode())


def _write_plot(results: "Sequence[Comparison]", out: BinaryIO) -> None:
    from mptvc.evaluate.plots import plot_comparisons

    plot_comparisons(results, out)


def _delta(delta: tuple[float | None, float | None]) -> str:
    rate, psnr = delta
    rate_text = "BD-rate: no common quality" if rate is None else f"BD-rate {rate:+.0f} %"
    return f"{rate_text}, {'no common rate' if psnr is None else f'BD-PSNR {psnr:+.2f} dB'}"


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
