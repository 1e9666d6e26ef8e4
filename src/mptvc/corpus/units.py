"""What is to be done: units of work, the shards that they go to, and who does which.

Nothing here depends on an engine, on the number of workers or on time: the same videos give the same plan.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Self

#: Folder, in that of the results, of what a run notes for itself.
NOTES = ".mptvc"


@dataclass(frozen=True, slots=True)
class Unit:
    """A video, or a span of one.

    Attributes:
        key: Name that no other unit has, such as ``folder/film``.
        source: What results call the video: its path below the folder that was named, or as a manifest has
            it, so that a corpus may be moved.
        path: Where it is: a path that holds wherever a worker stands, or an address.
        start_s: Seconds to skip; None for none.
        end_s: Seconds from the video's start to where the unit ends; None for the video's end.
        extra: Further columns of its manifest.
        shots: Frames of each shot of a part of a film, whose shots are known; None otherwise.
    """

    key: str
    source: str
    path: str
    start_s: float | None = None
    end_s: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    shots: tuple[int, ...] | None = None

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """A unit of what ``asdict`` made of it, before or after it was JSON."""
        shots = fields["shots"]
        return cls(**{**fields, "shots": None if shots is None else tuple(shots)})


@dataclass(frozen=True, slots=True)
class Task:
    """Units that one worker does, one after the other, into one shard.

    Attributes:
        name: Name that no other task has; its shard has it too.
        units: The units.
        is_part: Whether it is one part of a film that will be joined.
        parts: Tasks whose parts are to be joined to the unit; empty where the unit is to be encoded.
    """

    name: str
    units: tuple[Unit, ...]
    is_part: bool = False
    parts: tuple[str, ...] = ()

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str | bytes) -> Self:
        """The task of such a line."""
        fields = json.loads(text)
        units = tuple(map(Unit.of, fields["units"]))
        return cls(fields["name"], units, fields["is_part"], tuple(fields["parts"]))


@dataclass(frozen=True)
class Share:
    """Which part of the units this run does, where several runs share them without talking.

    Attributes:
        index: 0 to ``count - 1``.
        count: Number of runs.

    Raises:
        ValueError: The index is out of range.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"shard= is I/N with I from 0 to N-1, found {self.index}/{self.count}")

    def __str__(self) -> str:
        return "" if self.count == 1 else f"-{self.index:05}-of-{self.count:05}"

    def has(self, unit: Unit) -> bool:
        """Whether a unit is among those of this run."""
        return int.from_bytes(sha256(unit.key.encode()).digest()[:8]) % self.count == self.index


def tasks_of(units: Iterable[Unit], share: Share, size: int, *, first: int = 0) -> list[Task]:
    """Tasks of so many units, in the order of their keys.

    Args:
        units: All units.
        share: Which of them to take.
        size: Most units of a task.
        first: Number of the first task.
    """
    mine = sorted((unit for unit in units if share.has(unit)), key=lambda unit: unit.key)
    groups = enumerate(_groups(mine, size), start=first)
    return [Task(f"shard{share}-{number:06}", group) for number, group in groups]


def tasks_of_parts(name: str, parts: Sequence[Unit], size: int, *, joined: bool) -> list[Task]:
    """Tasks of the parts of a film, which keep their keys or will be joined."""
    groups = enumerate(_groups(parts, size))
    return [Task(f"{name}-{number:04}", group, is_part=joined) for number, group in groups]


def _groups(units: Sequence[Unit], size: int) -> Iterator[tuple[Unit, ...]]:
    return (tuple(units[at : at + size]) for at in range(0, len(units), size))
