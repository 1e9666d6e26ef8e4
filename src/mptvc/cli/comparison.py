"""What a comparison shows and writes: tables, their mean, CSV and a plot."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rich.markup import escape
from rich.table import Column, Table

from mptvc.cli.output import number_columns, output_console

if TYPE_CHECKING:
    from mptvc.evaluate.compare import Comparison
    from mptvc.evaluate.metrics import Quality


def print_comparisons(results: "Sequence[Comparison]", ssim: bool, has_peers: bool) -> None:
    """Print a table for each file, and how it compares with other codecs."""
    out = output_console()
    for result in results:
        for name, versions in result.files.items():
            out.print(escape(f"{result.clip}: {name}"), style="bold", soft_wrap=True)
            out.print(_table(versions, result.peers, ssim))
        for name, delta in deltas(result).items():
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


def deltas(result: "Comparison") -> dict[str, tuple[float | None, float | None]]:
    """BD-rate and BD-PSNR of every file with several versions against every peer."""
    from mptvc.evaluate.compare import bjontegaard

    return {
        f"{file} against {peer}": bjontegaard(curve, versions)
        for file, versions in result.files.items()
        if len(versions) > 1
        for peer, curve in result.peers.items()
    }


def mean_of(results: "Sequence[Comparison]", *, made: bool = False) -> "Comparison":
    """Mean over clips of the files of each folder and kind, version by version; those ``made`` are one."""
    from mptvc.evaluate.compare import Comparison, mean_quality

    groups: dict[str, list[list[Quality]]] = {}
    for result in results:
        for file, ladder in result.files.items():
            groups.setdefault(file if made else _kind(result, file), []).append(ladder)
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


def write_csv(results: "Sequence[Comparison]", out: BinaryIO) -> None:
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


def write_plot(results: "Sequence[Comparison]", out: BinaryIO) -> None:
    """Draw the curves of each file and of the other codecs, as a PNG."""
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
