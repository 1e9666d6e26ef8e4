"""Which videos a corpus has: folders, patterns, lists and manifests, to units with keys of their own.

A manifest has a row for each unit: ``path``, and where wanted ``key``, ``start_s`` and ``end_s``; further
columns travel along. Paths are relative to the manifest's folder. Results call a video as it stands there, or
by its path below the folder that was named: where a corpus lies changes no result.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from glob import glob
from hashlib import sha256
from io import BytesIO, StringIO
from math import inf, isfinite
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
#: Of a key and of what stands between its slashes: file systems take names of 255 bytes, stores 1,024 in all.
_KEY_BYTES, _PART_BYTES = 900, 200
_NO_NAME = r"[\x00-\x1f\x7f\\\ud800-\udfff]"
_NO_KEY = re.compile(rf"(^|/)(\.|/|$)|{_NO_NAME}")


@dataclass(frozen=True)
class _Found:
    """A video before it has a key: what results call it, where it is, its name, and its row of a manifest."""

    source: str
    path: str
    name: str
    row: dict[str, Any] = field(default_factory=dict)


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
        stem = _stem(one.name)
        key = one.row.get("key") or "/".join(map(_tame, (one.name if taken[stem] > 1 else stem).split("/")))
        unit = _unit(key := str(key), one)
        if units.setdefault(key, unit) != unit:
            raise ValueError(
                f"the key {key} is that of {units[key].path} and of {unit.path}, or of two spans: "
                "name keys in a manifest"
            )
    return list(units.values())


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _tame(part: str) -> str:
    """A file's name as part of a key: what no key may hold is replaced, and what is too long is cut."""
    tame = re.sub(rf"{_NO_NAME}|^\.", "_", part)
    if len(tame.encode()) <= _PART_BYTES:
        return tame
    mark = sha256(part.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{tame.encode()[: _PART_BYTES - 10].decode(errors='ignore')}~{mark}"


def _find(source: str) -> Iterator[_Found]:
    kind = PurePosixPath(source).suffix.lower()
    if not source:
        raise ValueError("a source is a folder, a file or an address, found an empty name")
    if kind in _READERS:
        yield from _of_manifest(source, _READERS[kind](read_bytes(source), source))
    elif is_address(source):
        yield from _behind(source)
    elif _PATTERN.search(source) and not Path(source).exists():
        matches = sorted(path for path in glob(source, recursive=True) if Path(path).is_file())
        if not matches:
            raise VideoError(f"{source}: nothing matches")
        for name, path in _below(_fixed(source), matches):
            yield _Found(name, path, name)
    else:
        folder = Path(source)
        below = folder if folder.is_dir() else folder.parent
        for video in find_videos([folder]):
            name = video.relative_to(below).as_posix()
            yield _Found(name, str(video), name)


def _fixed(pattern: str) -> str:
    """The folder before what a pattern leaves open."""
    return _PATTERN.split(pattern)[0].rpartition("/")[0]


def _below(folder: str, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names below a folder, and the paths that they are of."""
    return ((path.removeprefix(folder).lstrip("/"), path) for path in paths)


def _behind(source: str) -> Iterator[_Found]:
    """The videos of an address: of a folder or a pattern, or the one that it is."""
    if PurePosixPath(source).suffix.lower() in VIDEO_SUFFIXES and not _PATTERN.search(source):
        yield _Found(source, source, PurePosixPath(source).name)
        return
    files, path = file_system(source)
    with reaching(source):
        paths = files.glob(path) if _PATTERN.search(source) else files.find(path)
        base = _fixed(path) if _PATTERN.search(source) else path.rstrip("/")
        videos = sorted(p for p in paths if PurePosixPath(p).suffix.lower() in VIDEO_SUFFIXES)
        addresses = [str(files.unstrip_protocol(p)) for p in videos]
    if not videos:
        raise VideoError(f"{source}: no video files found")
    for (name, _), address in zip(_below(base, videos), addresses, strict=True):
        yield _Found(name, address, name)


def _name(path: str) -> str:
    """A path or address as a name: without what leads to a root or upwards."""
    text = path.partition("://")[2] or path
    return "/".join(part for part in PurePosixPath(text).parts if part not in ("/", ".", ".."))


def _of_manifest(manifest: str, rows: Iterable[dict[str, Any]]) -> Iterator[_Found]:
    folder = manifest.rpartition("/")[0]
    for number, row in enumerate(rows, start=1):
        path = row.get("path")
        if None in row:  # what CSV calls that for which there is no column
            raise ValueError(f"{manifest}: row {number} has more fields than there are columns")
        if not isinstance(path, str) or not path:
            raise ValueError(f"{manifest}: row {number} has no path; found the columns {', '.join(row)}")
        if taken := next((name for name in row if name in RESULT_COLUMNS), None):
            raise ValueError(f"{manifest}: {taken} is a column of the results; give it another name")
        is_whole = is_address(path) or Path(path).is_absolute() or not folder
        yield _Found(path, path if is_whole else f"{folder}/{path}", _name(path), row)


def _unit(key: str, found: _Found) -> Unit:
    if _NO_KEY.search(key):
        raise ValueError(f"{key!r} is no key: a name, or names with / between them, such as folder/film")
    if len(key.encode()) > _KEY_BYTES or max(len(part.encode()) for part in key.split("/")) > _PART_BYTES:
        raise ValueError(
            f"{key[:60]!r}... is too long a key: {_KEY_BYTES} bytes, {_PART_BYTES} between slashes"
        )
    path = found.path if is_address(found.path) else str(Path(found.path).absolute())
    start_s, end_s = (_seconds(key, found.row, column) for column in ("start_s", "end_s"))
    unit = Unit(key, _scalar(found.source), path, start_s, end_s)
    if unit.end_s is not None and unit.end_s <= (unit.start_s or 0):
        raise ValueError(f"{key}: end_s is above start_s, found {unit.start_s} and {unit.end_s}")
    return replace(unit, extra={n: _scalar(v) for n, v in found.row.items() if n not in UNIT_COLUMNS})


def _seconds(key: str, row: dict[str, Any], column: str) -> float | None:
    """A number of a row; None where it is empty, as a table's missing numbers are."""
    value = row.get(column)
    if value is None or value == "" or value != value:
        return None
    try:
        seconds = inf if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = inf
    if not 0 <= seconds < inf:
        raise ValueError(f"{key}: {column} is 0 or more seconds, found {value!r}")
    return seconds


def _scalar(value: Any) -> Any:
    """A further column's value as every format has it; what is no such number or text, as its JSON."""
    if value is None or isinstance(value, bool) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, float):
        return value if isfinite(value) else None
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
    try:
        yield from csv.DictReader(StringIO(_text(data, manifest)), skipinitialspace=True)
    except csv.Error as error:
        raise VideoError(f"{manifest}: no CSV: {error}") from error


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
