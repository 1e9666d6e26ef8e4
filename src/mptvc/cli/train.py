"""The command that trains: prepare shards, train or go on, show how it goes, export with a model card."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from mptvc.cli.options import Device, Dtype, ProgressMode, Quiet, ShowProgress, Threads
from mptvc.cli.output import EXIT_INTERRUPTED, console, say, warn
from mptvc.cli.progress import progress_callback
from mptvc.errors import MptError, VideoError
from mptvc.format.target import atomic_output

if TYPE_CHECKING:
    from mptvc.train.config import TrainConfig
    from mptvc.train.run import TrainResult

_MINUTES = (20.0, 40.0, 60.0)
_CARD, _SHARDS = "README.md", "shards"


def train(
    data: Annotated[list[Path], typer.Argument(metavar="DATA", help="Videos, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights, the log, checkpoints and shards.")],
    minutes: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Minutes for each of the three levels.", show_default="20 40 60"),
    ] = None,
    steps: Annotated[
        tuple[int, int, int] | None, typer.Option(help="Optimiser steps for each level, instead of minutes.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="A train.json of another run, instead of --minutes and --steps.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Weights to start from: a folder, hf://..., or 'default'.")
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(help="Names of videos to validate on, a,b,c; else every eighth shot.")
    ] = None,
    stop_after: Annotated[
        float | None, typer.Option(help="Minutes after which to stop; the same command goes on.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = 0,
    progress: ShowProgress = ProgressMode.AUTO,
    quiet: Quiet = False,
) -> None:
    """Train or fine-tune weights on your own videos.

    The same command goes on where an interrupted one stopped.

    Example: [bold]mptvc train videos --out mine --minutes 5 10 20[/]
    """
    import torch

    from mptvc.codec.stored import build_model
    from mptvc.codec.weights import read_weights, resolve_device, resolve_dtype
    from mptvc.model.loop_model import LoopModel
    from mptvc.train.run import train as run_training

    if threads:
        torch.set_num_threads(threads)
    config = _config(settings, minutes, steps)
    config.require_training(from_nothing=init is None)
    _refuse_foreign(out)
    target = resolve_device(device)
    model = None if init is None else build_model(*read_weights(init))
    if isinstance(model, LoopModel):
        raise ValueError("--init names weights with prediction, which are not trained yet")
    shards = _prepare(data, out / _SHARDS, progress, quiet)
    shots = sorted(shot for parts in shards.values() for shot in parts)
    held = _held_out(shots, held_out)
    if not held:
        warn(["no shot is held out, as there are fewer than eight: name some with --held-out"])
    with _stop_signal(stop_after) as (should_stop, is_interrupted), _display(progress, quiet) as report:
        result = run_training(
            out / _SHARDS,
            out,
            config,
            init=model,
            names=frozenset(shots),
            held_out=held,
            device=str(target),
            dtype=resolve_dtype(dtype, target),
            should_stop=should_stop,
            report=report,
        )
    if result.finished:  # weights first: a picture that cannot be drawn must not lose them
        _export(result, out, config, list(shards), held, str(target), init)
        say(quiet, f"weights, log and model card are in {out}")
    else:
        say(quiet, f"stopped; the same command goes on from {out / 'checkpoints'}")
    _draw(out)
    if is_interrupted() and not result.finished:
        raise typer.Exit(EXIT_INTERRUPTED)


def _config(
    settings: Path | None, minutes: tuple[float, ...] | None, steps: tuple[int, ...] | None
) -> "TrainConfig":
    """The settings of a run, which one of the three gives."""
    from mptvc.train.config import TrainConfig

    if sum(given is not None for given in (settings, minutes, steps)) > 1:
        raise ValueError("give one of --settings, --minutes and --steps")
    if settings is not None:
        try:
            return TrainConfig.from_json(settings.read_text())
        except ValueError as error:
            raise ValueError(f"{settings}: {error}") from error
    return TrainConfig(steps=steps) if steps else TrainConfig(minutes=minutes or _MINUTES)


def _refuse_foreign(out: Path) -> None:
    """Check that a run does not replace what no run has written.

    Raises:
        MptError: The folder holds weights or a text, but no settings of a run.
    """
    from mptvc.codec.stored import TENSORS_FILE
    from mptvc.train.run import SETTINGS_FILE

    there = [name for name in (TENSORS_FILE, _CARD) if (out / name).exists()]
    if there and not (out / SETTINGS_FILE).exists():
        raise MptError(f"{out} holds {there[0]}, which would be replaced; name another folder")


def _prepare(
    data: list[Path], folder: Path, progress: ProgressMode, quiet: bool
) -> dict[Path, tuple[str, ...]]:
    """Cut the videos into shards, and return the names of the shards of each.

    Raises:
        VideoError: There are no videos, or none can be used.
    """
    from mptvc.files.folders import find_videos
    from mptvc.train.shards import prepare_shards

    videos = find_videos(data)
    with progress_callback("prepare", progress, quiet, unit="videos") as show:
        prepared = prepare_shards(videos, folder, show)
    warn(prepared.failures.values())
    if not prepared.shards:
        raise VideoError("none of the videos could be used")
    return prepared.shards


def _held_out(shots: list[str], names: str | None) -> frozenset[str]:
    """Shots to validate on: those of the named videos, or every eighth of all."""
    if names is None:
        return frozenset(shots[7::8])
    wanted = [name.strip() for name in names.split(",")]
    videos = {shot.rpartition(".")[0] for shot in shots}
    if missing := sorted(set(wanted) - videos):
        raise ValueError(f"--held-out names {missing[0]}, which is not among the videos")
    return frozenset(shot for shot in shots if shot.rpartition(".")[0] in wanted)


@contextmanager
def _stop_signal(minutes: float | None) -> Iterator[tuple[Callable[[], bool], Callable[[], bool]]]:
    """Whether to stop, and whether Ctrl-C, not the time, is why; pressed again it interrupts at once."""
    deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    asked: list[int] = []

    def ask(number: int, _: Any) -> None:
        asked.append(number)
        for kind, handler in before.items():
            signal.signal(kind, handler)

    before = {kind: signal.signal(kind, ask) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked) or time.monotonic() >= deadline, lambda: bool(asked)
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


@contextmanager
def _display(mode: ProgressMode, quiet: bool) -> Iterator[Callable[[dict[str, Any]], None] | None]:
    """Show the records of the log: live on a terminal, else a line each."""
    if mode == ProgressMode.JSON:
        yield lambda record: print(json.dumps({"job": "train", **record}), file=sys.stderr, flush=True)
    elif quiet or mode == ProgressMode.NONE:
        yield None
    elif not sys.stderr.isatty():
        yield lambda record: say(False, _line(record))
    else:
        rows: dict[int, dict[str, Any]] = {}
        with Live(console=console, auto_refresh=False) as live:

            def show(record: dict[str, Any]) -> None:
                if "level" in record:
                    rows.setdefault(record["level"], {}).update(record)
                live.update(_table(rows), refresh=True)

            yield show


def _draw(out: Path) -> None:
    """Draw the log, where there is one and the library for it."""
    from mptvc.train.run import LOG_FILE

    if find_spec("matplotlib") is None or not (out / LOG_FILE).exists():
        return
    from mptvc.evaluate.plots import plot_training

    with atomic_output(out / "training.png", force=True) as picture:
        plot_training((out / LOG_FILE).read_text(), picture)


def _export(
    result: "TrainResult",
    out: Path,
    config: "TrainConfig",
    videos: list[Path],
    held_out: frozenset[str],
    device: str,
    init: str | None,
) -> None:
    """Write the weights and their card."""
    from mptvc.codec.stored import write_weights
    from mptvc.train.card import model_card

    write_weights(result.model, out)
    card = model_card(result, config, videos, held_out, device, init)
    with atomic_output(out / _CARD, force=True) as file:
        file.write(card.encode())


def _table(rows: dict[int, dict[str, Any]]) -> Table:
    """Where every level stands."""
    table = Table("level", "done", "", "step", "Mpx/s", "loss", "bits/px", "held out", box=None)
    for level, row in sorted(rows.items()):
        share = row.get("progress", 0.0)
        table.add_row(
            str(level),
            f"{int(100 * share)} %",
            ProgressBar(total=1.0, completed=share, width=24),
            str(row.get("step", "")),
            f"{row.get('pixels_per_s', 0) / 1e6:.1f}",
            f"{row.get('loss', float('nan')):.4f}",
            f"{row.get('bits', float('nan')):.4f}",
            _ladder(row.get("held_out", [])),
        )
    return table


def _line(record: dict[str, Any]) -> str:
    """A record as a line of text."""
    text = f"level {record['level']}" if "level" in record else "all levels"
    if "progress" in record:
        text += f" {int(100 * record['progress']):3} %, step {record['step']}"
    if "loss" in record:
        text += f", loss {record['loss']:.4f}, {record['bits']:.4f} bits/px"
    if "bits_saved_by_tables" in record:
        text += f", fitted tables save {100 * record['bits_saved_by_tables']:.1f} % of bits"
    if "held_out" in record:
        text += f", held out: {_ladder(record['held_out'])}"
    return text


def _ladder(rows: list[dict[str, float]]) -> str:
    return ", ".join(f"{row['psnr']:.2f} dB at {row['bpp']:.4f} bpp" for row in rows)
