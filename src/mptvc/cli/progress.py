"""How far a long job is: a bar on a terminal, lines of JSON, or nothing."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mptvc.cli.options import ProgressMode
from mptvc.cli.output import console
from mptvc.cli.process import is_interrupted

#: Called with the units of work that are done and expected.
Step = Callable[[int, int], None]


@contextmanager
def progress_callback(label: str, mode: ProgressMode, quiet: bool, unit: str = "frames") -> Iterator[Step]:
    """A callback that shows how many units of work are done and expected, and notices an interruption."""
    with _display(label, mode, quiet, unit) as show:

        def step(done: int, total: int) -> None:
            if is_interrupted():
                raise KeyboardInterrupt
            show(done, total)

        yield step


@contextmanager
def _display(label: str, mode: ProgressMode, quiet: bool, unit: str) -> Iterator[Step]:
    if mode == ProgressMode.JSON:
        yield lambda done, total: print(
            json.dumps({"job": label, "done": done, "total": total}), file=sys.stderr, flush=True
        )
    elif quiet or mode == ProgressMode.NONE or not sys.stderr.isatty():
        yield lambda done, total: None
    else:
        with _bar(label, unit) as show:
            yield show


@contextmanager
def _bar(label: str, unit: str) -> Iterator[Step]:
    """A bar with rate and remaining time."""
    columns = (
        TextColumn("{task.description}", markup=False),
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
