"""A run over a corpus: plan, do what is missing, and say what became of it.

The plan is a file that only grows, so that a run that was stopped goes on with the same shards.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from mptvc.corpus.engines import ENGINES
from mptvc.corpus.manifest import read_units
from mptvc.corpus.shards import CONTENT_ENDINGS, ENDINGS, PER_KEY, column_types
from mptvc.corpus.storage import Folder, is_address
from mptvc.corpus.summary import Summary
from mptvc.corpus.tokenizer import Tokenizer, TokenizerOptions
from mptvc.corpus.units import Share, Task, Unit, tasks_of, tasks_of_parts
from mptvc.corpus.worker import NOTES, Job, marker, rows_of
from mptvc.errors import MptError

#: File that says what a folder's shards have in common.
SETTINGS = "tokenize.json"
#: Called with the units that are done and all of them.
Progress = Callable[[int, int], None]
#: Options that say who codes and not what comes out.
_WHO = ("device", "dtype")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to go about a corpus.

    Attributes:
        format: One of ``ENDINGS``.
        coding: How to code.
        unit_s: Seconds of a part of a long video.
        joins: Whether the parts of a film become one file; else they keep keys of their own.
        shard_units: Most units of a shard.
        share: Which of the units to do.
        engine: ``local`` or ``ray``.
        jobs: Workers.
        resumes: Go on where a run stopped; else refuse a folder that has one.
        retries: Do units again that had an error.
        max_errors: Failures beyond which to stop: a number, or a share of all units such as ``1%``; None to
            go on.

    Raises:
        ValueError: Options that do not go together.
    """

    format: str
    coding: TokenizerOptions
    unit_s: float = 60.0
    joins: bool = False
    shard_units: int = 16
    share: Share = field(default_factory=Share)
    engine: str = "local"
    jobs: int = 1
    resumes: bool = True
    retries: bool = False
    max_errors: str | None = None

    def __post_init__(self) -> None:
        if self.format not in ENDINGS or self.engine not in ENGINES:
            raise ValueError(f"format= is one of {', '.join(ENDINGS)}; engine= of {', '.join(ENGINES)}")
        if self.format in PER_KEY and ENDINGS[self.format][1:] != CONTENT_ENDINGS[self.coding.content]:
            raise ValueError(f'content="{self.coding.content}" is not what {ENDINGS[self.format]} files hold')
        if self.joins and self.format != "mpt":
            raise ValueError("parts are joined in .mpt files alone")
        if not self.unit_s > 0 or min(self.shard_units, self.jobs) < 1:
            raise ValueError("unit_s, shard_units and jobs are above 0")
        self.error_limit(1)

    def error_limit(self, units: int) -> float:
        """Failures beyond which to stop.

        Raises:
            ValueError: The limit is neither a number nor a share.
        """
        if self.max_errors is None:
            return inf
        text = self.max_errors
        try:
            number = float(text.removesuffix("%"))
        except ValueError:
            number = -1.0
        if not 0 <= number < inf:
            raise ValueError(f"max_errors= is a number or a share such as 1%, found {self.max_errors}")
        return number * units / 100 if text.endswith("%") else number


def tokenize_corpus(
    sources: Iterable[str], out: str, options: RunOptions, progress: Progress | None = None
) -> Summary:
    """Code a corpus into a folder of shards, as far as that is not done.

    Args:
        sources: Folders, patterns, lists, manifests, videos, or addresses of these.
        out: Folder or address of the shards.
        options: How to go about it.
        progress: Called as units are done.

    Raises:
        MptError: The output cannot be written, holds something else, another run works on it, or too many
            videos are bad.
        VideoError: There is no video.
        WeightsError: The weights cannot be read.
        ValueError: A manifest or options that are wrong, or other settings than those of the output.
    """
    units = [_placed(unit) for unit in read_units(sources)]
    weights_id = Tokenizer(options.coding).weights_id
    columns = column_types([unit.extra for unit in units]) if options.format == "parquet" else {}
    job = Job(
        out=out if is_address(out) else str(Path(out).absolute()),
        format=options.format,
        options=options.coding,
        weights_id=weights_id,
        part_s=options.unit_s,
        joins=options.joins,
        columns=columns,
    )
    folder = Folder(job.out)
    _claim(folder, job, options)
    with _alone(folder, options.share):
        tasks = _planned(folder, units, options, writes=True)
        run = _Run(folder, job, options, sum(len(task.units) for task in tasks), progress)
        return run.finish(tasks)


def missing(sources: Iterable[str], out: str, options: RunOptions) -> tuple[int, int, int]:
    """Units of a share, tasks that they make, and how many of these a run would do; nothing is written."""
    units = [_placed(unit) for unit in read_units(sources)]
    folder = Folder(out)
    tasks = _planned(folder, units, options, writes=False)
    done = folder.names(f"{NOTES}/done")
    waiting = [task for task in tasks if f"{task.name}.jsonl" not in done]
    return sum(len(task.units) for task in tasks), len(tasks), len(waiting)


def _placed(unit: Unit) -> Unit:
    """A unit whose path holds wherever a worker stands."""
    return unit if is_address(unit.source) else replace(unit, source=str(Path(unit.source).absolute()))


def _claim(folder: Folder, job: Job, options: RunOptions) -> None:
    """Write down the settings of a folder, or check that they are those of before.

    Raises:
        MptError: The folder holds something else, or a run that is not to be resumed.
        ValueError: It holds a run with other settings.
    """
    coding = {name: value for name, value in asdict(options.coding).items() if name not in _WHO}
    coding["rate"]["bpp"] = list(coding["rate"]["bpp"])
    mine = {
        "format": job.format,
        **coding,
        "weights_id": job.weights_id,
        "unit_s": job.part_s,
        "joins": job.joins,
        "shard_units": options.shard_units,
        "shares": options.share.count,
        "columns": job.columns,
    }
    is_used = bool(folder.names(""))
    before = folder.read(SETTINGS)
    if before is None:
        if is_used:
            raise MptError(f"{folder.root} holds other files: name an empty folder, or a new one")
        folder.put(SETTINGS, json.dumps(mine, indent=2).encode())
        before = folder.read(SETTINGS)
    elif not options.resumes:
        raise MptError(f"{folder.root} holds a run already; name another folder, or go on with resume=True")
    theirs = json.loads(before or b"{}")
    differing = [name for name in mine if mine[name] != theirs.get(name)]
    if differing:
        name = differing[0]
        raise ValueError(
            f"{folder.root} was begun with {name} {theirs.get(name)}, now it is {mine[name]}: "
            "name another folder"
        )


@contextmanager
def _alone(folder: Folder, share: Share) -> Iterator[None]:
    """Keep other runs of the same share out of a local folder.

    Behind an address nothing can: there two runs share the tasks, of which each appears whole.

    Raises:
        MptError: Another run is at work.
    """
    if not folder.is_local:
        yield
        return
    import fcntl  # not on every system

    folder.path(NOTES).mkdir(parents=True, exist_ok=True)
    with open(folder.path(f"{NOTES}/lock{share}"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MptError(
                f"another run is at work in {folder.root}: wait for its end, or share with shard="
            ) from None
        yield


def _planned(folder: Folder, units: Sequence[Unit], options: RunOptions, *, writes: bool) -> list[Task]:
    """The tasks of a share: those planned before, and new ones for new units.

    Raises:
        ValueError: A unit was another video or span before.
    """
    name, size = f"{NOTES}/plan{options.share}.jsonl", 1 if options.format in PER_KEY else options.shard_units
    before = folder.read(name) or b""
    tasks = [Task.of(line) for line in before.splitlines()]
    known = {unit.key: unit for task in tasks for unit in task.units}
    for unit in units:
        if (old := known.get(unit.key, unit)) != unit:
            raise ValueError(
                f"{unit.key} was {old.source} before, or another span or row: name another folder"
            )
    new = tasks_of((unit for unit in units if unit.key not in known), options.share, size, first=len(tasks))
    if new and writes:
        folder.put(name, before + "".join(f"{task.to_json()}\n" for task in new).encode())
    return tasks + new


class _Run:
    """Does the tasks of a run that are missing, and counts."""

    def __init__(
        self, folder: Folder, job: Job, options: RunOptions, units: int, progress: Progress | None
    ) -> None:
        self._folder, self._job, self._options, self._progress = folder, job, options, progress
        self._done = {name.removesuffix(".jsonl") for name in folder.names(f"{NOTES}/done")}
        self._limit = options.error_limit(units)
        self._began = time.monotonic()
        self._finished = self._failed = self._total = 0
        self._new: list[dict[str, Any]] = []

    def finish(self, tasks: list[Task]) -> Summary:
        """Do all tasks, then the parts of films that they showed, then what joins these; sum up."""
        rows = self._wave(tasks)
        films = {
            row["film"]: (unit, [Unit.of(part) for part in row["parts"]])
            for task in tasks
            for unit, row in zip(task.units, rows[task.name], strict=True)
            if "film" in row
        }
        joins, per_key = self._job.joins, self._job.format in PER_KEY
        size = 1 if per_key else self._options.shard_units
        groups = {film: tasks_of_parts(film, parts, size, joined=joins) for film, (_, parts) in films.items()}
        rows |= self._wave([task for group in groups.values() for task in group])
        if joins:
            names = {film: tuple(part.name for part in group) for film, group in groups.items()}
            ends = [Task(film, (unit,), parts=names[film]) for film, (unit, _) in films.items()]
            rows |= self._wave(ends)
            groups = {task.name: [task] for task in ends}
        return self._summed([row for task in tasks for row in _results(task, groups, rows)])

    def _wave(self, tasks: list[Task]) -> dict[str, list[dict[str, Any]]]:
        """The rows of tasks, by their names, those done before among them."""
        rows, todo = {}, []
        for task in tasks:
            found = self._found(task)
            if found is None:
                todo.append(task)
            else:
                rows[task.name] = found
        self._total += sum(len(task.units) for task in tasks)
        parts = {task.name for task in tasks if task.is_part}  # the film that they join to is what fails
        for name, found in rows.items():
            self._count(found, is_part=name in parts)
        if not todo:
            return rows
        for name, found in ENGINES[self._options.engine](self._job, todo, self._options.jobs):
            rows[name] = found
            self._new += [] if name in parts else found
            self._count(found, is_part=name in parts)
        return rows

    def _found(self, task: Task) -> list[dict[str, Any]] | None:
        """The rows of a task that is done, unless it is to be done again."""
        data = self._folder.read(marker(task.name)) if task.name in self._done else None
        rows = None if data is None else rows_of(data)
        if rows and self._options.retries and any(row.get("error") for row in rows):
            self._folder.remove(marker(task.name))
            return None
        return rows

    def _count(self, rows: list[dict[str, Any]], *, is_part: bool) -> None:
        """Take rows that are there.

        Raises:
            MptError: Too many have failed.
        """
        self._finished += len(rows)
        bad = [row["error"] for row in rows if row.get("error") and not is_part]
        self._failed += len(bad)
        if self._failed > self._limit:
            raise MptError(
                f"{self._failed} videos failed, more than the {self._options.max_errors} of max_errors=; "
                f"the last: {bad[-1]}"
            )
        if self._progress is not None:
            self._progress(self._finished, self._total)

    def _summed(self, rows: list[dict[str, Any]]) -> Summary:
        share, seconds = self._options.share, time.monotonic() - self._began
        lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
        self._folder.put(f"rows{share}.jsonl", lines.encode())
        summary = Summary.of(rows, self._new, seconds)
        self._folder.put(f"summary{share}.json", json.dumps(asdict(summary), indent=2).encode())
        return summary


def _results(
    task: Task, groups: dict[str, list[Task]], rows: dict[str, list[dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """The rows of a task, with those of the parts or the whole in place of a film."""
    for row in rows[task.name]:
        if "film" in row:
            yield from (result for part in groups[row["film"]] for result in rows[part.name])
        else:
            yield row
