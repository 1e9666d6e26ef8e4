"""Rows of results on their way: lines of JSON, and a file of them that the driver finds them in again."""

import json
from collections.abc import Iterable
from tempfile import TemporaryFile
from typing import Any, Self


def lines_of(rows: Iterable[dict[str, Any]]) -> bytes:
    """Rows as lines of JSON, the same for the same rows."""
    return "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode()


def rows_of(data: bytes) -> list[dict[str, Any]]:
    """The rows that such lines hold."""
    return [json.loads(line) for line in data.splitlines()]


class RowFile:
    """The rows of tasks, in a temporary file: a million of them would fill the driver's memory.

    Use it in a ``with`` block, with which the file ends.
    """

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115
        self._places: dict[str, tuple[int, int]] = {}

    def put(self, task: str, rows: list[dict[str, Any]]) -> None:
        """Keep the rows of a task."""
        data = lines_of(rows)
        self._places[task] = self._file.seek(0, 2), len(data)
        self._file.write(data)

    def get(self, task: str) -> list[dict[str, Any]]:
        """The rows of a task."""
        at, length = self._places[task]
        self._file.seek(at)
        return rows_of(self._file.read(length))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
