"""Which videos a corpus has: folders, patterns, lists and manifests, to units with keys of their own.

A manifest has a row for each unit: ``path``, and where wanted ``key``, ``start_s`` and ``end_s``; further
columns travel along. Paths are relative to the manifest's folder.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from glob import glob
from io import BytesIO, StringIO
from math import inf
from pathlib import Path, PurePosixPath
from typing import Any

from mptvc.corpus.storage import file_system, is_address, optional, reaching, read_bytes
from mptvc.corpus.units import Unit
from mptvc.errors import VideoError
from mptvc.files.folders import VIDEO_SUFFIXES, find_videos

#: Columns that say what a unit is, and those that results have, which no further column may be called.
UNIT_COLUMNS = ("key", "path", "start_s", "end_s")
RESULT_COLUMNS = (
    "source",
    "width",
    "height",
    "frames",
    "frame_rate",
    "slices",
    "levels",
    "content",
    "size_bytes",
    "sha256",
    "weights_id",
    "version",
    "warnings",
    "error",
    "error_kind",
    "data",
    "shots",
    "parts",
)
_PATTERN = re.compile(r"[*?\[]")
_KEY_PART = re.compile(r"[^\x00-\x1f\x7f\\]{1,200}")


@dataclass(frozen=True)
class _Found:
    """A video before it has a key: where it is, what it may be called, and its row of a manifest."""

    source: str
    name: str
    row: dict[str, Any]


def read_units(sources: Iterable[str]) -> list[Unit]:
    """The units of folders, patterns, lists, manifests, videos and addresses of these.

    A key is the path below its folder without the ending, or with it where two would be the same.

    Raises:
        VideoError: A source does not exist or cannot be read, or there is no video.
        ValueError: A manifest has a row without a path or with a wrong number, or two units have one key.
    """
    found = [one for source in sources for one in _find(source)]
    if not found:
        raise VideoError("no video files found")
    names = [one.name for one in found if not one.row.get("key")]
    taken = Counter(_stem(name) for name in dict.fromkeys(names))
    units: dict[str, Unit] = {}
    for one in found:
        key = str(one.row.get("key") or (one.name if taken[_stem(one.name)] > 1 else _stem(one.name)))
        unit = _unit(key, one)
        if units.setdefault(key, unit) != unit:
            raise ValueError(
                f"the key {key} is that of {units[key].source} and of {unit.source}, or of two spans: "
                "name keys in a manifest"
            )
    return list(units.values())


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _find(source: str) -> Iterator[_Found]:
    kind = PurePosixPath(source).suffix.lower()
    if kind in _READERS:
        yield from _of_manifest(source, _READERS[kind](read_bytes(source), source))
    elif is_address(source):
        yield from _behind(source)
    elif _PATTERN.search(source) and not Path(source).exists():
        matches = sorted(path for path in glob(source, recursive=True) if Path(path).is_file())
        if not matches:
            raise VideoError(f"{source}: nothing matches")
        yield from (_Found(path, _name(path), {}) for path in matches)
    else:
        folder = Path(source)
        below = folder if folder.is_dir() else folder.parent
        for path in find_videos([folder]):
            yield _Found(str(path), path.relative_to(below).as_posix(), {})


def _behind(source: str) -> Iterator[_Found]:
    """The videos of an address: of a folder or a pattern, or the one that it is."""
    if PurePosixPath(source).suffix.lower() in VIDEO_SUFFIXES and not _PATTERN.search(source):
        yield _Found(source, PurePosixPath(source).name, {})
        return
    files, path = file_system(source)
    with reaching(source):
        paths = files.glob(path) if _PATTERN.search(source) else files.find(path)
        base = _PATTERN.split(path)[0].rpartition("/")[0] if _PATTERN.search(source) else path.rstrip("/")
        videos = sorted(p for p in paths if PurePosixPath(p).suffix.lower() in VIDEO_SUFFIXES)
        addresses = [str(files.unstrip_protocol(p)) for p in videos]
    if not videos:
        raise VideoError(f"{source}: no video files found")
    for video, address in zip(videos, addresses, strict=True):
        yield _Found(address, video.removeprefix(base).lstrip("/"), {})


def _name(path: str) -> str:
    """A path or address as a name: without what leads to a root or upwards."""
    text = path.partition("://")[2] or path
    return "/".join(part for part in PurePosixPath(text).parts if part not in ("/", ".", ".."))


def _of_manifest(manifest: str, rows: Iterable[dict[str, Any]]) -> Iterator[_Found]:
    folder = manifest.rpartition("/")[0]
    for number, row in enumerate(rows, start=1):
        path = row.get("path")
        if not isinstance(path, str) or not path:
            raise ValueError(f"{manifest}: row {number} has no path; found the columns {', '.join(row)}")
        if taken := next((name for name in row if name in RESULT_COLUMNS), None):
            raise ValueError(f"{manifest}: {taken} is a column of the results; give it another name")
        is_whole = is_address(path) or Path(path).is_absolute() or not folder
        yield _Found(path if is_whole else f"{folder}/{path}", _name(path), row)


def _unit(key: str, found: _Found) -> Unit:
    parts = key.split("/")
    if not all(_KEY_PART.fullmatch(part) and part not in (".", "..") for part in parts) or parts[0][0] == ".":
        raise ValueError(f"{key!r} is no key: a name, or names with / between them, such as folder/film")
    unit = Unit(key, found.source, _seconds(key, found.row, "start_s"), _seconds(key, found.row, "end_s"))
    if unit.end_s is not None and unit.end_s <= (unit.start_s or 0):
        raise ValueError(f"{key}: end_s is above start_s, found {unit.start_s} and {unit.end_s}")
    return replace(unit, extra={n: _scalar(v) for n, v in found.row.items() if n not in UNIT_COLUMNS})


def _seconds(key: str, row: dict[str, Any], column: str) -> float | None:
    """A number of a row; None where it is empty, as a table's missing numbers are."""
    value = row.get(column)
    if value is None or value == "" or value != value:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = inf
    if not 0 <= seconds < inf:
        raise ValueError(f"{key}: {column} is 0 or more seconds, found {value!r}")
    return seconds


def _scalar(value: Any) -> Any:
    """A further column's value as JSON has it; what is neither number nor text, as its JSON."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value == value else None
    return json.dumps(value, default=str)


def _text(data: bytes, manifest: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VideoError(f"{manifest}: no text in UTF-8: {error}") from error


def _list_rows(data: bytes, manifest: str) -> Iterator[dict[str, Any]]:
    lines = (line.strip() for line in _text(data, manifest).splitlines())
    return ({"path": line} for line in lines if line)


def _csv_rows(data: bytes, manifest: str) -> Iterator[dict[str, Any]]:
    return iter(csv.DictReader(StringIO(_text(data, manifest))))


def _json_rows(data: bytes, manifest: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_text(data, manifest).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise VideoError(f"{manifest}: line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise VideoError(f"{manifest}: line {number} is no object")
        yield row


def _parquet_rows(data: bytes, manifest: str) -> Iterator[dict[str, Any]]:
    parquet = optional("pyarrow.parquet", "corpus")
    try:
        rows: list[dict[str, Any]] = parquet.read_table(BytesIO(data)).to_pylist()
    except (OSError, ValueError) as error:
        raise VideoError(f"{manifest}: no Parquet file: {error}") from error
    return iter(rows)


_READERS = {
    ".txt": _list_rows,
    ".csv": _csv_rows,
    ".jsonl": _json_rows,
    ".ndjson": _json_rows,
    ".parquet": _parquet_rows,
}
