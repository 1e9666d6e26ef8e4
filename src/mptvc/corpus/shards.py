"""Rows to files: one for each key, or tar and Parquet shards, the same bytes whoever writes them."""

import json
import tarfile
from contextlib import ExitStack, suppress
from io import BytesIO
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

from mptvc.corpus.storage import Folder, optional
from mptvc.corpus.units import Task

#: Formats, and the ending of a file of each.
ENDINGS = {"mpt": ".mpt", "safetensors": ".safetensors", "webdataset": ".tar", "parquet": ".parquet"}
#: Formats with a file for each key; the others hold many rows in a shard.
PER_KEY = ("mpt", "safetensors")
#: Endings of what a row's ``data`` is.
CONTENT_ENDINGS = {"tokens": "safetensors", "mpt": "mpt"}
#: Columns of a Parquet shard and their types; further columns follow.
_COLUMNS = {
    "key": "string",
    "source": "string",
    "start_s": "double",
    "end_s": "double",
    "width": "int64",
    "height": "int64",
    "frames": "int64",
    "frame_rate": "double",
    "slices": "int64",
    "levels": "int64",
    "content": "string",
    "size_bytes": "int64",
    "sha256": "string",
    "weights_id": "string",
    "version": "string",
    "warnings": "string",
    "data": "binary",
}
_TYPES = {bool: "bool", int: "int64", float: "double", str: "string"}


def column_types(rows: "list[dict[str, Any]]") -> dict[str, str]:
    """The type of every further column of all units: that of its values, or text where they differ."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, set()).update([] if value is None else [_TYPES[type(value)]])
    return {name: types.pop() if len(types) == 1 else _common(types) for name, types in sorted(found.items())}


def _common(types: set[str]) -> str:
    return "double" if types == {"int64", "double"} else "string"


def file_names(task: Task, format: str) -> list[str]:
    """The files that a task may write."""
    names = [unit.key for unit in task.units] if format in PER_KEY else [task.name]
    return [f"{name}{ENDINGS[format]}" for name in names]


class _Target(Protocol):
    """What takes the rows of a shard."""

    def add(self, row: dict[str, Any]) -> None:
        """Take a row."""

    def close(self) -> None:
        """Write what is left."""


class ShardWriter:
    """Writes the good rows of a task; use it in a ``with`` block, after which they are there, or nothing is.

    Args:
        folder: Where to.
        task: Whose rows they are.
        format: One of ``ENDINGS``.
        columns: Types of further columns, as ``column_types`` gives them.
    """

    def __init__(self, folder: Folder, task: Task, format: str, columns: dict[str, str]) -> None:
        self._folder, self._task, self._format, self._columns = folder, task, format, columns
        self._stack = ExitStack()
        self._target: _Target | None = None

    def add(self, row: dict[str, Any]) -> str:
        """Take a row with its ``data``, and return the name of the file that holds it.

        Raises:
            MptError: The file cannot be written.
        """
        ending = ENDINGS[self._format]
        if self._format in PER_KEY:
            name = f"{row['key']}{ending}"
            self._folder.put(name, row["data"])
            return name
        name = f"{self._task.name}{ending}"
        if self._target is None:
            file = self._stack.enter_context(self._folder.write(name))
            is_tar = self._format == "webdataset"
            self._target = _Tar(file) if is_tar else _Parquet(file, self._columns)
        self._target.add(row)
        return name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the shard appear, or after an error leave nothing."""
        with self._stack as stack:
            if error is not None:
                if self._target is not None:
                    with suppress(Exception):  # what is not closed now complains when it is collected
                        self._target.close()
                stack.pop_all().__exit__(kind, error, trace)
            elif self._target is not None:
                self._target.close()


class _Tar:
    """A tar file as `webdataset` reads it: of every row its data, and the rest as JSON."""

    def __init__(self, file: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT)  # noqa: SIM115

    def add(self, row: dict[str, Any]) -> None:
        known = {name: value for name, value in row.items() if name != "data"}
        self._put(row["key"], "json", json.dumps(known, sort_keys=True).encode())
        self._put(row["key"], CONTENT_ENDINGS[row["content"]], row["data"])

    def _put(self, key: str, ending: str, data: bytes) -> None:
        member = tarfile.TarInfo(f"{member_name(key)}.{ending}")
        member.size, member.mode = len(data), 0o644
        self._tar.addfile(member, BytesIO(data))

    def close(self) -> None:
        self._tar.close()


def member_name(key: str) -> str:
    """A key as a sample's name, in which a dot would start the ending."""
    return key.replace("%", "%25").replace(".", "%2E")


class _Parquet:
    """A Parquet file with a row group for each row, so that one can be read without the others."""

    def __init__(self, file: BinaryIO, columns: dict[str, str]) -> None:
        self._arrow = arrow = optional("pyarrow", "corpus")
        types = {"double": arrow.float64(), "bool": arrow.bool_(), "int64": arrow.int64()}
        types |= {"string": arrow.string(), "binary": arrow.large_binary()}
        named = {**columns, **_COLUMNS}
        self._schema = arrow.schema([(name, types[kind]) for name, kind in named.items()])
        self._text = [name for name, kind in columns.items() if kind == "string"]
        parquet = optional("pyarrow.parquet", "corpus")
        self._writer = parquet.ParquetWriter(
            file,
            self._schema,
            compression={name: "zstd" for name in named if name != "data"} | {"data": "none"},
        )

    def add(self, row: dict[str, Any]) -> None:
        row = row | {name: str(row[name]) for name in self._text if row.get(name) is not None}
        self._writer.write_table(self._arrow.Table.from_pylist([row], schema=self._schema))

    def close(self) -> None:
        self._writer.close()
