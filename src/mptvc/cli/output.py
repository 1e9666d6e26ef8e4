"""What the commands print: results, warnings, and errors in the words of the command line.

Results go to standard output, the rest to standard error.
"""

import json
import re
import sys
from collections.abc import Iterable
from math import isfinite
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column

from mptvc.errors import FormatError, LimitExceededError, MptError, WeightsError
from mptvc.format.header import Availability

_PIPE_WIDTH = 200
EXIT_FAILED, EXIT_USAGE, EXIT_DAMAGED, EXIT_WEIGHTS, EXIT_INTERRUPTED = 1, 2, 3, 4, 130

#: An argument as the library's messages name it: ``max_pixels=``, ``force=True``, ``device="cpu"``.
_ARGUMENT = re.compile(r'(?<![^\s(])(\w+)=(?:True|False|"(\w+)"|(\d+(?:\.\d+)?))?(?=[,;:)]?(?:\s|$))')
#: Arguments whose option has another name.
_OPTIONS = {
    "sound=False": "--audio none",
    "shot_threshold=": "--scene-detect",
}

console = Console(stderr=True, highlight=False, emoji=False)


def in_options(text: str) -> str:
    """A message of the library, which names arguments, with the options that stand for them."""

    def option(argument: re.Match[str]) -> str:
        name, text, number = argument.groups()
        named = f"--{name.replace('_', '-')} {text or number or ''}".rstrip()
        return _OPTIONS.get(argument[0], named)

    return _ARGUMENT.sub(option, text)


def explain(error: Exception) -> tuple[int, str]:
    """Exit code and one line for an error."""
    if hasattr(error, "format_message"):  # a usage error of the command line parser
        return EXIT_USAGE, error.format_message()
    if type(error).__name__ == "Abort":
        return EXIT_INTERRUPTED, "interrupted"
    text = in_options(str(error)) or type(error).__name__
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


def show_error(message: str) -> None:
    """Print an error to standard error, one line."""
    console.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def warn(warnings: Iterable[str]) -> None:
    """Print warnings to standard error, a line each."""
    for warning in warnings:
        console.print(f"[yellow]warning:[/] {escape(in_options(warning))}", soft_wrap=True)


def say(quiet: bool, message: str) -> None:
    """Print a line to standard error unless quiet."""
    if not quiet:
        console.print(message, soft_wrap=True, markup=False)


def output_console() -> Console:
    """Where tables go: standard output, wide enough for all columns where it is no terminal."""
    return Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def number_columns(*names: str) -> list[Column]:
    """Columns of numbers, which are never shortened."""
    return [Column(name, justify="right", no_wrap=True) for name in names]


def counted(count: int, name: str) -> str:
    """A number of things."""
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def completeness(there: Availability, of: int) -> str:
    """How much a file holds of its levels."""
    if there.levels == of:
        return "complete"
    started = f", {there.percent} % of level {there.levels}" if there.next_share else ""
    return f"a prefix: {there.levels} of {of} levels{started}"


def print_json(value: Any) -> None:
    """Print a result as JSON to standard output; a number that is not finite is null."""
    print(json.dumps(_finite(value), indent=2, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
