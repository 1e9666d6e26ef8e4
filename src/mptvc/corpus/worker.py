"""One task done: units coded, their shard written, and a marker that says so, which appears last.

A task whose marker is there is never done again; one without is done anew from its first unit, and gives the
same bytes. What a worker began is noted, so that a video at which workers die becomes a row with an error.
"""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from mptvc.corpus.films import is_long, join_film, plan_film
from mptvc.corpus.rows import lines_of, rows_of
from mptvc.corpus.shards import ENDINGS, ShardWriter, file_names
from mptvc.corpus.storage import Folder
from mptvc.corpus.tokenizer import Tokenizer, TokenizerOptions, is_machine_fault
from mptvc.corpus.units import NOTES, Task, Unit
from mptvc.errors import MptError, WeightsError

_MOST_TRIES = 3


@dataclass(frozen=True)
class Job:
    """What all tasks of a run have in common.

    Attributes:
        out: Folder of the shards, a path or an address.
        format: One of ``ENDINGS``.
        options: How to code.
        weights_id: SHA-256 of the weights, which all workers must have.
        part_s: Seconds of a part; units clearly longer are cut into parts.
        joins: Whether parts are joined again.
        columns: Types of further columns.
    """

    out: str
    format: str
    options: TokenizerOptions
    weights_id: str
    part_s: float
    joins: bool
    columns: dict[str, str] = field(default_factory=dict)


def marker(task: str) -> str:
    """The file that says that a task is done, and holds its rows."""
    return f"{NOTES}/done/{task}.jsonl"


def part_file(task: str) -> str:
    """Where a part waits to be joined."""
    return f"{NOTES}/parts/{task}.mpt"


class Worker:
    """Does tasks, one after the other, with weights that are loaded once.

    Args:
        job: What they have in common.

    Raises:
        WeightsError: The weights are not those of the run.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._folder = job, Folder(job.out)
        self._tokenizer = Tokenizer(job.options)
        if self._tokenizer.weights_id != job.weights_id:
            raise WeightsError(
                "a worker has other weights than the run",
                expected=job.weights_id,
                found=self._tokenizer.weights_id,
            )

    def __call__(self, task: Task) -> list[dict[str, Any]]:
        """Do a task, unless it is done; returns its rows without data.

        Raises:
            MptError: The output cannot be written.
        """
        found = self._folder.read(marker(task.name))
        if found is not None:
            return rows_of(found)
        rows = [self._join(task)] if task.parts else self._encode(task)
        self._folder.put(marker(task.name), lines_of(rows))
        self._folder.remove(_tries(task))
        for part in () if rows[0].get("error") else task.parts:
            self._folder.remove(part_file(part))
        return rows

    def _encode(self, task: Task) -> list[dict[str, Any]]:
        try:
            return self._rows(task)
        except BaseException:  # a worker that is stopped has not died at a video
            self._folder.remove(_tries(task))
            raise

    def _rows(self, task: Task) -> list[dict[str, Any]]:
        rows, job = [], self._job
        noted = json.loads(self._folder.read(_tries(task)) or b"{}")
        with ShardWriter(self._folder, task, job.format, job.columns) as shard:
            for place, unit in enumerate(task.units):
                noted[str(place)] = noted.get(str(place), 0) + 1
                self._folder.put(_tries(task), json.dumps(noted).encode())
                row = self._unit(task, unit, place, noted[str(place)])
                data = row.pop("data", None)
                if data is not None and task.is_part:
                    self._folder.put(part_file(task.name), data)
                elif data is not None:
                    row["file"] = shard.add(row | {"data": data})
                rows.append(row)
                del noted[str(place)]
        return rows

    def _unit(self, task: Task, unit: Unit, place: int, tries: int) -> dict[str, Any]:
        """The row of a unit: with its data, an error, or the parts of one that is long."""
        if tries > _MOST_TRIES:
            message = f"{unit.source}: {_MOST_TRIES} workers died at it"
            return self._tokenizer.failed(unit, message, "workers died")
        try:
            if is_long(unit, self._job.part_s) and (film := self._film(unit, film_name(task.name, place))):
                return film
        except Exception as error:  # the same comes again where the unit is coded
            if is_machine_fault(error):
                raise
        return self._tokenizer.code(unit)

    def _film(self, unit: Unit, name: str) -> dict[str, Any] | None:
        """The parts of a long unit, to be done as tasks of their own; None where it is one clip."""
        parts, head = plan_film(unit, self._tokenizer.codec.coder, self._job.options, self._job.part_s)
        if len(parts) == 1:
            return None
        if self._job.joins:
            self._folder.put(f"{NOTES}/films/{name}.head", head)
        return {"key": unit.key, "film": name, "parts": [asdict(part) for part in parts]}

    def _join(self, task: Task) -> dict[str, Any]:
        """The row of a film whose parts are all there, or of whose parts one has failed."""
        (unit,) = task.units
        rows = [row for part in task.parts for row in rows_of(self._folder.read(marker(part)) or b"")]
        bad = next((row for row in rows if row["error"]), None)
        if bad is not None:
            return self._tokenizer.failed(unit, bad["error"], bad["error_kind"])
        head = self._folder.read(f"{NOTES}/films/{task.name}.head")
        if head is None:
            raise MptError(f"{unit.key}: the layout of the film is missing in {self._job.out}/{NOTES}")
        name = f"{unit.key}{ENDINGS['mpt']}"
        with ExitStack() as stack:
            parts = [stack.enter_context(self._folder.open(part_file(part))) for part in task.parts]
            out = stack.enter_context(self._folder.write(name))
            film, digest = join_film(head, parts, self._tokenizer.levels, out)
        row = self._tokenizer.finished(unit, film, film.prefix_bytes(self._tokenizer.levels), digest)
        warnings = dict.fromkeys(row["warnings"] for row in rows if row["warnings"])
        del row["data"]
        return row | {"file": name, "warnings": "; ".join(warnings)}


def abandon(folder: Folder, tasks: Iterable[Task], format: str) -> None:
    """Delete what stopped workers left of tasks, and the notes that they had begun: none died at a video."""
    begun = folder.names(f"{NOTES}/tries")
    for task in tasks:
        if f"{task.name}.json" in begun:
            folder.remove(_tries(task))
            for name in (*file_names(task, format), part_file(task.name), marker(task.name), _tries(task)):
                folder.clear(name)


def film_name(task: str, place: int) -> str:
    """The name of what joins the film that was the unit at a place of a task."""
    return f"{task}-{place:04}"


def _tries(task: Task) -> str:
    """The file that says how often each unit was begun and not finished."""
    return f"{NOTES}/tries/{task.name}.json"
