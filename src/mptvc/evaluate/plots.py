"""Pictures of comparisons and of training runs; needs the extra ``eval``."""

import json
from collections.abc import Sequence
from typing import Any, BinaryIO

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mptvc.evaluate.compare import Comparison
from mptvc.evaluate.metrics import Quality

_ROW_INCHES = 3.4
#: How frames are marked that others are predicted from.
_MARKS = {"opening key": "s", "key": "o"}


def plot_comparisons(results: Sequence[Comparison], out: BinaryIO) -> None:
    """Write a PNG with a row for each clip.

    Args:
        results: The clips.
        out: Binary file.
    """
    figure = Figure(figsize=(14, _ROW_INCHES * len(results)), layout="constrained")
    rows = figure.subplots(len(results), 3, squeeze=False)
    for result, (curves, frames, sizes) in zip(results, rows, strict=True):
        _curves(curves, result)
        _frames(frames, result)
        _sizes(sizes, result)
    figure.savefig(out, format="png", dpi=110)


def plot_training(log: str, out: BinaryIO) -> None:
    """Write a PNG of a training run: for each level its loss, and what it gives on the held-out shots.

    Args:
        log: The run's log, a JSON object a line; lines that an interruption has cut are left out.
        out: Binary file.
    """
    records = [record for line in log.splitlines() if (record := _record(line)) is not None]
    levels = sorted({record["level"] for record in records if "level" in record})
    count = max(1, len(levels))  # an empty row where nothing is logged yet
    figure = Figure(figsize=(12, _ROW_INCHES * count), layout="constrained")
    rows = figure.subplots(count, 2, squeeze=False)
    for level, (losses, ladder) in zip(levels, rows, strict=False):
        mine = [record for record in records if record.get("level") == level and "seconds" in record]
        steps = [record for record in mine if "loss" in record]
        minutes = [record["seconds"] / 60 for record in steps]
        losses.plot(minutes, [record["loss"] for record in steps], ".-", linewidth=1)
        losses.set(title=f"level {level}", xlabel="minutes", ylabel="bits + lambda MSE, training crops")
        losses.grid(alpha=0.3)
        _held_out(ladder, level, [record for record in mine if "held_out" in record])
    figure.savefig(out, format="png", dpi=110)


def _record(line: str) -> dict[str, Any] | None:
    """What a line of a log says; None where it is cut."""
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return record


def _held_out(axes: Any, level: int, records: list[dict[str, Any]]) -> None:
    """PSNR and rate of the held-out shots over time, of the prefix that ends with a level."""
    minutes = [record["seconds"] / 60 for record in records]
    axes.plot(minutes, [record["held_out"][level]["psnr"] for record in records], "o-", color="C0")
    axes.set(title=f"held-out shots, first {level + 1} levels", xlabel="minutes")
    axes.set_ylabel("PSNR RGB, dB", color="C0")
    axes.grid(alpha=0.3)
    rate = axes.twinx()
    rate.plot(minutes, [record["held_out"][level]["bpp"] for record in records], "s--", color="C1")
    rate.set_ylabel("bits per pixel", color="C1")


def _curves(axes: Any, result: Comparison) -> None:
    """PSNR over rate, our prefixes as marked points."""
    for name, points in result.peers.items():
        rates, psnrs = _points(points)
        axes.plot(rates, psnrs, "-", marker=".", linewidth=1, label=name.split(" (")[0])
    for file, versions in result.files.items():
        rates, psnrs = _points(versions)
        axes.plot(
            rates, psnrs, "o-" if len(versions) > 1 else "s", linewidth=2, markersize=7, label=_short(file)
        )
    axes.set(title=result.clip, xscale="log", xlabel="bits per pixel", ylabel="PSNR RGB, dB")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small", loc="lower right")


def _frames(axes: Any, result: Comparison) -> None:
    for file, versions in result.files.items():
        for q in versions:
            (line,) = axes.plot(q.frames_rgb, linewidth=1, label=f"{_short(file)}, {q.name}")
            for kind, mark in _MARKS.items():
                at = [index for index, other in enumerate(q.kinds) if other == kind]
                psnrs = [q.frames_rgb[index] for index in at]
                axes.plot(at, psnrs, mark, color=line.get_color(), markersize=3)
    marks = any(q.kinds for versions in result.files.values() for q in versions)
    axes.set(xlabel="frame; squares: opening keys, dots: keys" if marks else "frame", ylabel="PSNR RGB, dB")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)


def _sizes(axes: Any, result: Comparison) -> None:
    """Bytes that each level adds."""
    for position, versions in enumerate(result.files.values()):
        below = 0
        for level, q in enumerate(versions):
            added = (q.size_bytes - below) / 1024
            axes.barh(position, added, left=below / 1024, color=f"C{level}")
            axes.text(below / 1024, position, f" {added:.0f}", va="center", fontsize="x-small")
            below = q.size_bytes
    axes.set_yticks(range(len(result.files)), [_short(file) for file in result.files], fontsize="x-small")
    axes.set(xlabel="KiB, by level")


def _points(curve: Sequence[Quality]) -> tuple[list[float], list[float]]:
    points = sorted((q.bpp, q.psnr_rgb) for q in curve)
    return [rate for rate, _ in points], [psnr for _, psnr in points]


def _short(file: str) -> str:
    """A file without its folder, or what was made for the comparison without its settings."""
    name = file.rsplit("/", 1)[-1]
    return name.split(" (")[0] if name.endswith(")") else name
