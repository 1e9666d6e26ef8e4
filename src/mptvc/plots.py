"""Pictures of comparisons: rate-distortion curves, PSNR over time, bytes; needs the extra ``eval``."""

from collections.abc import Sequence
from typing import Any, BinaryIO

from matplotlib.figure import Figure

from mptvc.compare import Comparison
from mptvc.metrics import Quality

_ROW_INCHES = 3.4


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


def _curves(axes: Any, result: Comparison) -> None:
    """PSNR over rate, our prefixes as marked points."""
    for name, points in result.peers.items():
        rates, psnrs = _points(points)
        axes.plot(rates, psnrs, "-", marker=".", linewidth=1, label=name)
    for file, versions in result.files.items():
        rates, psnrs = _points(versions)
        axes.plot(
            rates, psnrs, "o-" if len(versions) > 1 else "s", linewidth=2, markersize=7, label=_short(file)
        )
    axes.set(title=result.clip, xscale="log", xlabel="bits per pixel", ylabel="PSNR RGB, dB")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="x-small")


def _frames(axes: Any, result: Comparison) -> None:
    for file, versions in result.files.items():
        for q in versions:
            axes.plot(q.frames_rgb, linewidth=1, label=f"{_short(file)}, {q.name}")
    axes.set(xlabel="frame", ylabel="PSNR RGB, dB")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small")


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
    return file.rsplit("/", 1)[-1]
