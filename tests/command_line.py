"""What the tests of the command line share: its exit codes, its results, and files to try it on."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FAILED, USAGE, DAMAGED, WEIGHTS, INTERRUPTED = 1, 2, 3, 4, 130
COMMAND = [sys.executable, "-m", "mptvc"]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_one_error(result: Result) -> bool:
    return result.out == "" and result.err.startswith("error: ") and result.err.count("\n") == 1


def spoil(kind: str, data: bytes) -> bytes:
    if kind == "text":
        return b"no video at all\n"
    if kind == "cut header":
        return data[:100]
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
