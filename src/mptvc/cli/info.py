"""The command that shows what a file holds."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import mptvc
from mptvc.cli.options import FRAMES, PIXELS, AsJson, MaxFrames, MaxPixels, source_named, with_folders
from mptvc.cli.output import (
    completeness,
    counted,
    explain,
    number_columns,
    output_console,
    print_json,
    show_error,
)
from mptvc.errors import MptError
from mptvc.format.gain import gain_db
from mptvc.format.geometry import LoopShots
from mptvc.format.header import VideoInfo
from mptvc.format.inspect import SLICES, FileReport
from mptvc.format.limits import Limits
from mptvc.format.remote import is_url


def info(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="IN", help=".mpt files, folders, addresses, or - for stdin."),
    ],
    max_pixels: MaxPixels = PIXELS,
    max_frames: MaxFrames = FRAMES,
    as_json: AsJson = False,
) -> None:
    """Show what a file holds: geometry, shots, and the bytes of every prefix.

    Example: [bold]mptvc info out.mpt[/]
    """
    out, found, code = output_console(), [], 0
    names = with_folders(sources)
    for name in names:
        try:
            limits = Limits(max_pixels, max_frames)
            report = mptvc.probe(source_named(name), limits=limits, slices=not is_url(name))
        except MptError as error:
            if len(names) == 1:
                raise
            failed, message = explain(error)
            show_error(message)
            code = max(code, failed)
            continue
        found.append({"file": name, **_facts(report)})
        if not as_json:
            _print(out, name, report)
    if as_json:
        print_json(found)
    if code:
        raise typer.Exit(code)


def _facts(report: FileReport) -> dict[str, Any]:
    """A file's report as plain data."""
    header, video = report.header, report.header.video
    return {
        "width": video.width,
        "height": video.height,
        "frames": video.num_frames,
        "frame_rate": str(video.frame_rate),
        "variable_frame_rate": bool(video.time_steps),
        "duration_s": report.duration_s,
        "pixel_aspect": str(video.pixel_aspect),
        "rotation": video.rotation,
        "colour": asdict(video.colour),
        "shots": list(header.shots.lengths),
        "clips": header.shots.num_clips,
        "weights_id": header.weights_id.hex(),
        "entropy_id": header.entropy_id.hex(),
        "header_bytes": header.size_bytes,
        "size_bytes": report.size_bytes,
        "sound_bytes": report.header.side_bytes,
        "complete_levels": report.available.levels,
        "next_level_share": report.available.next_share,
        "levels": [_level_facts(report, k) for k in range(header.num_levels)],
    }


def _level_facts(report: FileReport, level: int) -> dict[str, Any]:
    header = report.header
    prefix = header.prefix_bytes(level + 1)
    return {
        "bytes": report.level_bytes(level),
        "prefix_bytes": prefix,
        "bpp": report.header.bpp(level + 1),
        "bitrate": 8 * prefix / report.duration_s,
        "tokens": list(header.geometry.grid(level)),
        "tiles": asdict(header.geometry.tiles[level]),
        "gains": _gains(report, level),
        "slice_bytes": _slice_bytes(report, level),
    }


def _slice_bytes(report: FileReport, level: int) -> dict[str, int] | None:
    """Bytes of a level's slices of each kind; None where that is not known."""
    found = report.slice_bytes[level] if level < len(report.slice_bytes) else None
    return None if found is None else dict(zip(SLICES, found, strict=True))


def _gains(report: FileReport, level: int) -> list[int] | None:
    """Gains of a level's clips; None with prediction, where every slice has its own inside its section."""
    header = report.header
    if isinstance(header.shots, LoopShots):
        return None
    return [header.clip_gains(clip)[level] for clip in range(header.shots.num_clips)]


def _print(out: Console, name: str, report: FileReport) -> None:
    """Print a file's report for people."""
    header, video = report.header, report.header.video
    timing = "variable, mean " if video.time_steps else ""
    out.print(
        f"[bold]{escape(name)}[/]  {video.width}x{video.height}, {video.num_frames} frames at "
        f"{timing}{float(video.frame_rate):g} fps, {report.duration_s:.2f} s, "
        f"{counted(len(header.shots.lengths), 'shot')}, {counted(header.shots.num_clips, 'clip')}"
        f"{_display(video)}",
        soft_wrap=True,
    )
    sound = f" ({report.header.side_bytes} of them sound)" if report.header.side_bytes else ""
    state = completeness(report.available, header.num_levels)
    out.print(
        f"weights {header.weights_id.hex()[:16]}, {report.size_bytes} bytes{sound}, {state}", soft_wrap=True
    )
    out.print(_level_table(report))
    if report.slice_bytes:
        out.print("shares of bytes: opening keys, slices of keys alone, slices with frames between keys")
        out.print(_slice_table(report))


def _display(video: VideoInfo) -> str:
    """How a player changes the picture, where it does."""
    turned = f", turned by {video.rotation} degrees" if video.rotation else ""
    width, height = video.pixel_aspect.as_integer_ratio()
    return turned + (f", pixels of {width}:{height}" if width != height else "")


def _level_table(report: FileReport) -> Table:
    header = report.header
    quality = ["quality, dB"] if _gains(report, 0) else []
    names = ("level", "bytes", "head -c N", "bpp", "kbit/s", *quality, "tokens", "tiles")
    table = Table(*number_columns(*names), box=None)
    for k in range(header.num_levels):
        prefix, grid, gains = header.prefix_bytes(k + 1), header.geometry.tiles[k], _gains(report, k)
        table.add_row(
            str(k),
            str(report.level_bytes(k)),
            str(prefix),
            f"{report.header.bpp(k + 1):.4f}",
            f"{8 * prefix / report.duration_s / 1000:.0f}",
            *([f"{gain_db(sum(gains) / len(gains)):+.1f}"] if gains else []),
            "x".join(map(str, header.geometry.grid(k)[::-1])),
            f"{grid.columns}x{grid.rows}",
        )
    return table


def _slice_table(report: FileReport) -> Table:
    """What slices of each kind take."""
    table = Table(*number_columns("level", *SLICES), box=None)
    for level, found in enumerate(report.slice_bytes):
        if found is not None:
            table.add_row(str(level), *(f"{100 * taken / max(1, sum(found)):.0f} %" for taken in found))
    return table
