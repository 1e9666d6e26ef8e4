"""The command that compares: prefixes, other files and other codecs, as a table, JSON, CSV or a plot."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
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
    parse_raw,
)
from mptvc.cli.output import escape, number_columns, output_console, print_json, progress_callback, warn
from mptvc.errors import MptError
from mptvc.format.bitstream import Limits

if TYPE_CHECKING:
    from mptvc.evaluate.compare import Comparison
    from mptvc.evaluate.metrics import Quality
    from mptvc.video.raw import RawVideo


def compare(
    reference: Annotated[Path, typer.Argument(metavar="REF", help="The source, or a folder of sources.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help=".mpt or video files of it, or folders of them.")
    ],
    against: Annotated[
        str | None, typer.Option(help="Other codecs to run on the same frames: x264,x265,svtav1,vp9.")
    ] = None,
    ssim: Annotated[bool, typer.Option("--ssim", help="SSIM and MS-SSIM of luma too.")] = False,
    csv_path: Annotated[Path | None, typer.Option("--csv", help="Write the table to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write rate-distortion curves to this PNG.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page about one .mpt file.")] = None,
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

    Two folders are compared file by file, with the mean. --against, --ssim and --plot need the extra:
    pip install 'mptvc\[eval]'.

    Example: [bold]mptvc compare in.mp4 out.mpt --against x264,x265 --plot curves.png[/]
    """
    from mptvc.evaluate.compare import Comparison, compare_file, compare_peers, compare_video, pair_files
    from mptvc.format.target import atomic_output, refuse_existing, refuse_same

    for target in (csv_path, plot, html):
        if target is not None:
            for given in (reference, *files):
                refuse_same(given, target)
            refuse_existing(target, force)
    for option, module in ((against, "bjontegaard"), (ssim, "pytorch_msssim"), (plot, "matplotlib")):
        if option and find_spec(module) is None:
            raise MptError(f"this needs {module}: pip install 'mptvc[eval]'")
    if plot is not None and plot.suffix.lower() != ".png":
        raise ValueError(f"--plot writes a PNG, found {plot}")
    pairs, alone = pair_files(reference, files)
    warn(f"{source} has no file to compare it with" for source in alone)
    if html is not None and yuv is not None:
        raise ValueError("--html needs a source that players know, not raw video")
    if html is not None and (len(pairs) > 1 or files[0].suffix != ".mpt"):
        raise ValueError("--html shows one source and one .mpt file")
    needs_codec = any(file.suffix == ".mpt" for _, found in pairs for file in found)
    codec = codec_from_options(weights, device, dtype, "auto", tile_batch, threads) if needs_codec else None
    limits = Limits(max_pixels, max_frames)

    def measure(source: "RawVideo | Path", file: Path) -> "list[Quality]":
        with progress_callback(file.name, progress, quiet) as show:
            if file.suffix != ".mpt" or codec is None:
                return [compare_video(source, file, ssim=ssim, progress=show)]
            return compare_file(source, file, codec=codec, ssim=ssim, limits=limits, progress=show)

    results = []
    for path, found in pairs:
        source = parse_raw(yuv, path)
        versions = {str(file): measure(source, file) for file in found}
        with progress_callback(f"{path.name} against", progress, quiet) as show:
            names = against.split(",") if against else []
            peers = compare_peers(source, names, ssim=ssim, progress=show)
        clip = path.relative_to(reference) if reference.is_dir() else path.name
        results.append(Comparison(str(clip), versions, peers))
    everything = [*results, *([_mean(results)] if len(results) > 1 else [])]
    if csv_path is not None:
        with atomic_output(csv_path, force=force) as out:
            out.write(_csv(everything).encode())
    if plot is not None:
        from mptvc.evaluate.plots import plot_comparisons

        with atomic_output(plot, force=force) as out:
            plot_comparisons(results, out)
    if html is not None and codec is not None:
        from mptvc.evaluate.report import write_report

        with atomic_output(html, force=force) as out, progress_callback("page", progress, quiet) as show:
            write_report(
                reference, files[0], out, codec=codec, comparison=results[0], limits=limits, progress=show
            )
    if as_json:
        print_json([asdict(result) | {"deltas": _deltas(result)} for result in results])
        return
    output = output_console()
    for result in everything:
        for name, ladder in result.files.items():
            output.print(escape(f"{result.clip}: {name}"), style="bold", soft_wrap=True)
            output.print(_table(ladder, result.peers, ssim))
        for name, delta in _deltas(result).items():
            output.print(escape(f"  {name}: {_delta(delta)}"), soft_wrap=True)
    if against:
        output.print("Other codecs: PSNR RGB at the same rate; - outside of their curves.", soft_wrap=True)


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


def _csv(results: "Sequence[Comparison]") -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    names = ("size_bytes", "bpp", "psnr_rgb", "psnr_y", "ssim", "ms_ssim")
    writer.writerow(("clip", "file", "version", *names))
    for result in results:
        for file, versions in (result.files | result.peers).items():
            for q in versions:
                row = ["" if getattr(q, n) is None else getattr(q, n) for n in names]
                writer.writerow((result.clip, file, q.name, *row))
    return out.getvalue()


def _delta(delta: tuple[float | None, float | None]) -> str:
    rate, psnr = delta
    rate_text = "BD-rate: no common quality" if rate is None else f"BD-rate {rate:+.0f} %"
    return f"{rate_text}, {'no common rate' if psnr is None else f'BD-PSNR {psnr:+.2f} dB'}"


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
