"""Whose a folder is: the settings that it was begun with, who works in it, and its plan.

The plan is a file that only grows, so that a run that was stopped goes on with the same shards.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from mptvc.corpus.storage import Folder, is_address
from mptvc.corpus.units import NOTES, Share, Task, Unit, tasks_of
from mptvc.errors import MptError

#: File that says what a folder's shards have in common.
SETTINGS = "tokenize.json"
_PART_KEY = re.compile(r"(.+)/\d{5,}")

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def claim(folder: Folder, settings: dict[str, Any], *, resumes: bool, writes: bool = True) -> None:
    """Write down the settings of a folder, or check that they are those of before.

    Args:
        folder: The folder.
        settings: All that results depend on.
        resumes: Whether a run that is there may go on.
        writes: Whether to write them down; else only check.

    Raises:
        MptError: The folder holds something else, or a run that is not to be resumed.
        ValueError: It holds a run with other settings.
    """
    is_used = bool(folder.names(""))
    before = folder.read(SETTINGS)
    if before is None:
        if is_used:
            raise MptError(f"{folder.root} holds other files: name an empty folder, or a new one")
        if writes:
            folder.put(SETTINGS, json.dumps(settings, indent=2).encode())
            before = folder.read(SETTINGS)  # another run may have come first
    elif not resumes:
        raise MptError(f"{folder.root} holds a run already; name another folder, or go on with resume=True")
    theirs = settings if before is None else _stored(folder, before)
    differing = [name for name in settings if settings[name] != theirs.get(name)]
    if "weights_id" not in differing:  # they may have another name
        differing = [name for name in differing if name != "weights"]
    if differing:
        name = differing[0]
        raise ValueError(
            f"{folder.root} was begun with {name} {theirs.get(name)}, now it is {settings[name]}: "
            "name another folder"
        )


def _stored(folder: Folder, data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise MptError(f"{folder.address(SETTINGS)} is damaged: name another folder")
    return found


@contextmanager
def alone(folder: Folder, share: Share) -> Iterator[None]:
    """Keep other runs of the same share out of a local folder.

    Behind an address nothing can: there two runs share the tasks, of which each appears whole.

    Raises:
        MptError: Another run is at work.
    """
    if not folder.is_local:
        yield
        return
    folder.path(NOTES).mkdir(parents=True, exist_ok=True)
    with open(folder.path(f"{NOTES}/lock{share}"), "w") as lock:
        try:
            _lock(lock)
        except (BlockingIOError, PermissionError):  # what the two systems say
            raise MptError(
                f"another run is at work in {folder.root}: wait for its end, or share with shard="
            ) from None
        yield


def planned(
    folder: Folder, units: Sequence[Unit], share: Share, size: int, *, joins: bool, writes: bool
) -> list[Task]:
    """The tasks of a share: those planned before, and new ones for new units.

    Args:
        folder: The folder.
        units: All units; one that was planned before may have moved.
        share: Which of them to take.
        size: Most units of a task.
        joins: Whether the parts of a film become one file.
        writes: Whether to write the plan down.

    Raises:
        ValueError: A unit was another video or span before, or has the key of another's part.
    """
    name = f"{NOTES}/plan{share}.jsonl"
    before = folder.read(name) or b""
    tasks = [Task.of(line) for line in before.splitlines()]
    given = {unit.key: unit for unit in units}
    known = {unit.key: unit for task in tasks for unit in task.units}
    if not joins:
        _check_parts({**known, **given})
    for key, old in known.items():
        _check_same(old, given.get(key, old))
    tasks = [replace(task, units=tuple(given.get(unit.key, unit) for unit in task.units)) for task in tasks]
    new = tasks_of((unit for unit in units if unit.key not in known), share, size, first=len(tasks))
    if new and writes:
        folder.put(name, before + "".join(f"{task.to_json()}\n" for task in new).encode())
    return tasks + new


def _check_same(old: Unit, new: Unit) -> None:
    """Check that a unit is the one of before, if in another place."""
    has_moved = old.path == new.path or not (is_address(old.path) or Path(old.path).exists())
    if replace(old, path=new.path) != new or not has_moved:
        raise ValueError(f"{new.key} was {old.path} before, or another span or row: name another folder")


def _check_parts(units: dict[str, Unit]) -> None:
    """Check that no unit has the key of a part of another: that of ``film`` may be ``film/00000``."""
    for key in units:
        match = _PART_KEY.fullmatch(key)
        if match is not None and match[1] in units:
            raise ValueError(f"{key} may be the key of a part of {match[1]}: name another key in a manifest")
