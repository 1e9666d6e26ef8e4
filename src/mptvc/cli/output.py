"""What the commands print: progress, reports, tables, errors.

Results go to standard output, the rest to standard error.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from math import isfinite
from threading import Event
from typing import Any

from rich.console import Console
from rich.markup import escape as rich_escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from mptvc.cli.options import ProgressMode
from mptvc.errors import FormatError, LimitExceededError, MptError, WeightsError
from mptvc.format.gain import gain_db
from mptvc.format.inspect import FileReport

_PIPE_WIDTH = 200
EXIT_FAILED, EXIT_USAGE, EXIT_DAMAGED, EXIT_WEIGHTS, EXIT_INTERRUPTED = 1, 2, 3, 4, 130

_interrupted = Event()
console = Console(stderr=True, highlight=False, emoji=False)


def escape(text: str) -> str:
    """Text in which rich finds no markup."""
    return rich_escape(text)


def explain(error: Exception) -> tuple[int, str]:
    """Exit code and one line for an error."""
    if hasattr(error, "format_message"):  # a usage error of the command line parser
        return EXIT_USAGE, error.format_message()
    if type(error).__name__ == "Abort":
        return EXIT_INTERRUPTED, "interrupted"
    text = str(error) or type(error).__name__
    if isinstance(error, WeightsError):
        return EXIT_WEIGHTS, text
    if isinstance(error, FormatError | LimitExceededError):
        return EXIT_DAMAGED, text
    if isinstance(error, ValueError):
        return EXIT_USAGE, text
    if isinstance(error, OSError) and error.filename is not None:
        return EXIT_FAILED, f"{error.filename}: {error.strerror}"
    if isinstance(error, MptError | OSError):
        return EXIT_FAILED, text
    return EXIT_FAILED, f"{type(error).__name__}: {text} (-v shows where)"


def interrupt(*_: object) -> None:
    """Stop the command: the handler of the signals that ask for it.

    The interruption is remembered, because code below Python may drop the exception that is raised here;
    then the next step of the job raises it again.
    """
    _interrupted.set()
    raise KeyboardInterrupt


def is_interrupted() -> bool:
    """Whether a signal has asked the command to stop."""
    return _interrupted.is_set()


@contextmanager
def progress_callback(
    label: str, mode: ProgressMode, quiet: bool, unit: str = "frames"
) -> Iterator[Callable[[int, int], None]]:
    """A callback that shows how many units of work are done and expected, and notices an interruption."""
    with _display(label, mode, quiet, unit) as show:

        def step(done: int, total: int) -> None:
            if _interrupted.is_set():
                raise KeyboardInterrupt
            show(done, total)

        yield step


@contextmanager
def _display(label: str, mode: ProgressMode, quiet: bool, unit: str) -> Iterator[Callable[[int, int], None]]:
    if mode == ProgressMode.JSON:
        yield lambda done, total: print(
            json.dumps({"job": label, "done": done, "total": total}), file=sys.stderr, flush=True
        )
        return
    if quiet or mode == ProgressMode.NONE or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None, rate="")

        def show(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:.1f} {unit}/s" if speed else ""
            bar.update(task, completed=done, total=total, rate=rate)

        yield show


def output_console() -> Console:
    """Where tables go: standard output, wide enough for all columns where it is no terminal."""
    return Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def number_columns(*names: str) -> list[Column]:
    """Columns of numbers, which are never shortened."""
    return [Column(name, justify="right", no_wrap=True) for name in names]


def counted(count: int, name: str) -> str:
    """A number of things."""
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def say(quiet: bool, message: str) -> None:
    """Print a line to standard error unless quiet."""
    if not quiet:
        console.print(message, soft_wrap=True, markup=False)


def warn(warnings: Iterable[str]) -> None:
    """Print warnings to standard error, a line each."""
    for warning in warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a result as JSON to standard output; a number that is not finite is null."""
    print(json.dumps(_finite(value), indent=2, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def describe(report: FileReport) -> dict[str, Any]:
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
        "levels": [
            {
                "bytes": report.level_bytes(k),
                "prefix_bytes": header.prefix_bytes(k + 1),
                "bpp": report.header.bpp(k + 1),
                "bitrate": 8 * header.prefix_bytes(k + 1) / report.duration_s,
                "tokens": list(header.geometry.grid(k)),
                "tiles": asdict(header.geometry.tiles[k]),
                "gains": [header.clip_gains(clip)[k] for clip in range(header.shots.num_clips)],
            }
            for k in range(header.num_levels)
        ],
    }


def print_report(out: Console, name: str, report: FileReport) -> None:
    """Print a file's report for people."""
    header, video = report.header, report.header.video
    timing = "variable, mean " if video.time_steps else ""
    out.print(
        f"[bold]{escape(name)}[/]  {video.width}x{video.height}, {video.num_frames} frames at "
        f"{timing}{float(video.frame_rate):g} fps, {report.duration_s:.2f} s, "
        f"{counted(len(header.shots.lengths), 'shot')}, {counted(header.shots.num_clips, 'clip')}",
        soft_wrap=True,
    )
    there = report.available
    sound = f" ({report.header.side_bytes} of them sound)" if report.header.side_bytes else ""
    state = (
        "complete"
        if there.levels == header.num_levels
        else _prefix(there.levels, header.num_levels, there.next_share)
    )
    out.print(
        f"weights {header.weights_id.hex()[:16]}, {report.size_bytes} bytes{sound}, {state}", soft_wrap=True
    )
    names = ("level", "bytes", "head -c N", "bpp", "kbit/s", "quality, dB", "tokens", "tiles")
    table = Table(*number_columns(*names), box=None)
    for k in range(header.num_levels):
        gains = [header.clip_gains(clip)[k] for clip in range(header.shots.num_clips)]
        prefix, grid = header.prefix_bytes(k + 1), header.geometry.tiles[k]
        table.add_row(
            str(k),
            str(report.level_bytes(k)),
            str(prefix),
            f"{report.header.bpp(k + 1):.4f}",
            f"{8 * prefix / report.duration_s / 1000:.0f}",
            f"{gain_db(sum(gains) / len(gains)):+.1f}",
            "x".join(map(str, header.geometry.grid(k)[::-1])),
            f"{grid.columns}x{grid.rows}",
        )
    out.print(table)


def _prefix(levels: int, of: int, share: float) -> str:
    return f"a prefix: {levels} of {of} levels, {100 * share:.0f} % of level {levels}"


def print_check(result: dict[str, Any], quiet: bool) -> None:
    """Print the outcome of ``verify`` for one file."""
    if not result["ok"]:
        console.print(f"[bold red]error:[/] {escape(result['error'])}", soft_wrap=True)
        return
    if not quiet:
        found, of = result["complete_levels"], result["levels"]
        state = "complete" if found == of else _prefix(found, of, result["next_level_share"])
        print(f"{result['file']}: ok, {state}")
    for level, digest in enumerate(result.get("sha256", ())):
        print(f"  level {level}  {digest}")


def show_weights(weights: str | None, as_json: bool) -> None:
    """Print identity and sizes of weights."""
    from mptvc.codec.weights import build_model, digest, is_entropy, read_weights

    config, tensors = read_weights(weights)
    model = build_model(config, tensors)
    entropy = {k: v for k, v in tensors.items() if is_entropy(k)}
    rows = []
    for k, level in enumerate(config.levels):
        parts = model.level(k)
        rows.append(
            {
                "level": k,
                "channels": level.channels,
                "analysis": _count(parts.analysis),
                "synthesis": _count(parts.synthesis),
                "entropy_model": _count(parts.entropy_model),
            }
        )
    networks = sum(row["analysis"] + row["synthesis"] for row in rows)
    entropy_parameters = sum(row["entropy_model"] for row in rows)
    summary = {
        "weights_id": digest(config, tensors).hex(),
        "entropy_id": digest(config, entropy).hex(),
        "parameters": {"networks": networks, "entropy_model": entropy_parameters},
        "levels": rows,
    }
    if as_json:
        print_json({**summary, "config": json.loads(config.to_json())})
        return
    out = output_console()
    out.print(f"weights {summary['weights_id']}\nentropy {summary['entropy_id']}")
    columns = number_columns("level", "channels", "analysis", "synthesis", "entropy model")
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(f"{value:,}" for value in row.values()))
    out.print(table)
    total = networks + entropy_parameters
    out.print(f"parameters: networks {networks:,}, entropy model {entropy_parameters:,}, {total:,}")


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
