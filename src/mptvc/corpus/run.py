"""A run over a corpus: do what is missing of its plan, and say what became of it.

Rows wait in a file, not in memory: of what is done the driver keeps only where its rows are.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, BinaryIO

from mptvc.corpus.claim import alone, claim, planned
from mptvc.corpus.engines import ENGINES
from mptvc.corpus.manifest import read_units
from mptvc.corpus.rows import RowFile, rows_of
from mptvc.corpus.shards import CONTENT_ENDINGS, ENDINGS, PER_KEY, column_types
from mptvc.corpus.storage import Folder
from mptvc.corpus.summary import Summary
from mptvc.corpus.tokenizer import Tokenizer, TokenizerOptions
from mptvc.corpus.units import NOTES, Share, Task, Unit, tasks_of_parts
from mptvc.corpus.worker import Job, abandon, film_name, marker
from mptvc.errors import MptError

#: Called with the units that are done and all of them.
Progress = Callable[[int, int], None]
#: Options that say who codes and not what comes out.
_WHO = ("device", "dtype")
#: Markers of tasks that are read at a time.
_AT_ONCE = 32


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
    units = read_units(sources)
    job = _job(units, out, options)
    folder = Folder(job.out)
    claim(folder, _settings(job, options), resumes=options.resumes)
    with alone(folder, options.share):
        tasks = planned(folder, units, options.share, _task_size(job, options), joins=job.joins, writes=True)
        with RowFile() as rows:
            return _Run(folder, job, options, rows, tasks, progress).finish()


def missing(sources: Iterable[str], out: str, options: RunOptions) -> tuple[int, int, int]:
    """Units of a share, tasks that they make, and how many of these a run would do; nothing is written.

    Raises:
        Exception: As for ``tokenize_corpus``, but for what shows only on the way.
    """
    units = read_units(sources)
    job = _job(units, out, options)
    folder = Folder(job.out)
    claim(folder, _settings(job, options), resumes=options.resumes, writes=False)
    tasks = planned(folder, units, options.share, _task_size(job, options), joins=job.joins, writes=False)
    done = folder.names(f"{NOTES}/done")
    waiting = [task for task in tasks if f"{task.name}.jsonl" not in done]
    return sum(len(task.units) for task in tasks), len(tasks), len(waiting)


def _job(units: Sequence[Unit], out: str, options: RunOptions) -> Job:
    """What workers need to know, wherever they stand."""
    folder = Folder(out)
    weights = options.coding.weights
    if Path(weights).is_dir():
        weights = str(Path(weights).absolute())
    return Job(
        out=str(Path(folder.root).absolute()) if folder.is_local else out,
        format=options.format,
        options=replace(options.coding, weights=weights),
        weights_id=Tokenizer(options.coding).weights_id,
        part_s=options.unit_s,
        joins=options.joins,
        columns=column_types([unit.extra for unit in units]) if options.format == "parquet" else {},
    )


def _settings(job: Job, options: RunOptions) -> dict[str, Any]:
    """All that results depend on."""
    coding = {name: value for name, value in asdict(job.options).items() if name not in _WHO}
    rate = coding.pop("rate")
    return {
        "format": job.format,
        **coding,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in rate.items()},
        "weights_id": job.weights_id,
        "unit_s": job.part_s,
        "joins": job.joins,
        "shard_units": options.shard_units,
        "shares": options.share.count,
        "columns": job.columns,
    }


def _task_size(job: Job, options: RunOptions) -> int:
    return 1 if job.format in PER_KEY else options.shard_units


class _Run:
    """Does the tasks of a run that are missing, and counts."""

    def __init__(
        self,
        folder: Folder,
        job: Job,
        options: RunOptions,
        rows: RowFile,
        tasks: list[Task],
        progress: Progress | None,
    ) -> None:
        self._folder, self._job, self._options, self._progress = folder, job, options, progress
        self._tasks, self._rows = tasks, rows
        self._done = {name.removesuffix(".jsonl") for name in folder.names(f"{NOTES}/done")}
        self._limit = options.error_limit(sum(len(task.units) for task in tasks))
        self._began = time.monotonic()
        self._finished = self._failed = self._total = 0
        self._now: set[str] = set()
        self._films: dict[str, list[Unit]] = {}

    def finish(self) -> Summary:
        """Do all tasks, then the parts of films that they showed, then what joins these; sum up."""
        self._wave(self._tasks)
        wholes = {
            film_name(task.name, place): unit
            for task in self._tasks
            for place, unit in enumerate(task.units)
            if film_name(task.name, place) in self._films
        }
        joins, size = self._job.joins, _task_size(self._job, self._options)
        groups = {
            film: tasks_of_parts(
                film, [replace(p, path=unit.path) for p in self._films[film]], size, joined=joins
            )
            for film, unit in wholes.items()
        }
        self._wave([task for group in groups.values() for task in group])
        if joins:
            names = {film: tuple(part.name for part in group) for film, group in groups.items()}
            groups = {film: [Task(film, (unit,), parts=names[film])] for film, unit in wholes.items()}
            self._wave([task for group in groups.values() for task in group])
        return self._summed(groups)

    def _wave(self, tasks: list[Task]) -> None:
        """Do tasks, unless they are done."""
        self._total += sum(len(task.units) for task in tasks)
        parts = {task.name for task in tasks if task.is_part}  # the film that they join to is what fails
        todo = []
        for task, found in self._looked_up(tasks):
            if found is None:
                todo.append(task)
            else:
                self._take(task.name, found, is_part=task.is_part)
        if not todo:
            return
        engine = ENGINES[self._options.engine](self._job, todo, self._options.jobs)
        try:
            with closing(engine):
                for name, found in engine:
                    self._now.add(name)
                    self._take(name, found, is_part=name in parts)
        except BaseException:  # some engines end workers in the midst of a video
            abandon(self._folder, (task for task in todo if task.name not in self._now), self._job.format)
            raise

    def _looked_up(self, tasks: list[Task]) -> Iterator[tuple[Task, list[dict[str, Any]] | None]]:
        """Tasks with the rows that are there, several read at a time, as far stores take a while."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for at in range(0, len(tasks), _AT_ONCE):
                some = tasks[at : at + _AT_ONCE]
                yield from zip(some, pool.map(self._found, some), strict=True)

    def _found(self, task: Task) -> list[dict[str, Any]] | None:
        """The rows of a task that is done, unless it is to be done again."""
        data = self._folder.read(marker(task.name)) if task.name in self._done else None
        rows = None if data is None else rows_of(data)
        if rows and self._options.retries and any(row.get("error") for row in rows):
            self._folder.remove(marker(task.name))
            return None
        return rows

    def _take(self, name: str, rows: list[dict[str, Any]], *, is_part: bool) -> None:
        """Take the rows of a task.

        Raises:
            MptError: Too many have failed.
        """
        self._films |= {
            row["film"]: [Unit.of(part) for part in row["parts"]] for row in rows if "film" in row
        }
        self._rows.put(name, rows)
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

    def _summed(self, groups: dict[str, list[Task]]) -> Summary:
        share, seconds = self._options.share, time.monotonic() - self._began
        with self._folder.write(f"rows{share}.jsonl") as file:
            summary = Summary.of(self._written(groups, file), seconds)
        self._folder.put(f"summary{share}.json", json.dumps(asdict(summary), indent=2).encode())
        return summary

    def _written(
        self, groups: dict[str, list[Task]], file: BinaryIO
    ) -> Iterator[tuple[dict[str, Any], bool]]:
        """The rows of all tasks, and whether each is of this run; they are written on the way."""
        for task in self._tasks:
            for place, row in enumerate(self._rows.get(task.name)):
                parts = groups[film_name(task.name, place)] if "film" in row else []
                found = [(result, part.name) for part in parts for result in self._rows.get(part.name)]
                for result, name in found or [(row, task.name)]:
                    file.write((json.dumps(result, sort_keys=True) + "\n").encode())
                    yield result, name in self._now
