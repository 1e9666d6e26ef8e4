"""Output that appears whole or not at all, and never in place of something else without a word.

A target is written to a temporary file or folder beside it, which takes its name when it is complete.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

from mptvc.errors import MptError
from mptvc.format.remote import is_url

#: Of a target's name in that of its temporary file, which must stay below 255 bytes.
_NAME_LENGTH = 50


def refuse_same(source: object, target: str | Path) -> None:
    """Check that a command does not overwrite what it reads.

    Raises:
        ValueError: Both are paths of one file.
    """
    if not isinstance(source, str | Path) or is_url(source):
        return
    if os.path.exists(source) and os.path.exists(target) and os.path.samefile(source, target):
        raise ValueError("input and output are the same file")


@contextmanager
def open_target(target: str | Path | BinaryIO, *, force: bool) -> Iterator[BinaryIO]:
    """A binary file to write: the given one, or one that becomes the path's when all is written.

    Raises:
        MptError: The path exists and ``force`` is not set, or its folder cannot be written.
    """
    if isinstance(target, str | Path):
        with atomic_output(Path(target), force=force) as file:
            yield file
    else:
        yield target


@contextmanager
def atomic_output(target: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A binary file that takes the target's name when the block ends without an error.

    Raises:
        MptError: The target exists and ``force`` is not set, or it cannot be written. Other errors of the
            block keep their names.
    """
    refuse_existing(target, force)
    part = part_path(target)
    try:
        with _writing(target):
            raw = _Output(part, target)
        with BufferedWriter(raw) as file:
            yield file
        move_into_place(part, target, force)
    finally:
        remove(part)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn failures of the system to write a target into errors of the package that name it."""
    try:
        yield
    except OSError as error:
        raise _refusal(target, f"cannot write {target}: {error.strerror or error}") from error


def _refusal(target: Path, message: str) -> MptError:
    """An error about a target; it may leave a block that reads another file, which is not to be blamed."""
    return MptError(message, file=str(target))


class _Output(FileIO):
    """The temporary file of a target, whose failures name the target."""

    def __init__(self, part: Path, target: Path) -> None:
        self._target = target  # first: whatever becomes of the rest, the end of an object closes it
        super().__init__(part, "w")

    def write(self, data: Any, /) -> int:
        with _writing(self._target):
            return super().write(data)

    def close(self) -> None:
        with _writing(self._target):
            super().close()


def refuse_existing(target: Path, force: bool, *, folder: bool = False) -> None:
    """Check that a target may be written.

    Raises:
        MptError: It exists, is no empty folder, and ``force`` is not set; it is a folder where a file is to
            be written or the reverse; it is a device or a pipe; or the folder around it does not exist.
    """
    with _writing(target):
        if target.exists():
            if not (target.is_file() or target.is_dir()):
                raise _refusal(target, f"{target} is a device or a pipe; name a file, or standard output")
            if target.is_dir() != folder:
                raise _refusal(target, f"{target} is {'no' if folder else 'a'} folder; name another output")
            if not force and not (folder and not any(target.iterdir())):
                raise _exists(target)
        if not target.absolute().parent.is_dir():
            raise _refusal(target, f"{target.absolute().parent} is not a folder")


def _exists(target: Path) -> MptError:
    return _refusal(target, f"{target} exists; force=True replaces it")


def refuse_other_files(folder: Path, pattern: str) -> None:
    """Check that a folder that is to be replaced, if it is there, holds nothing but files of one pattern.

    Raises:
        MptError: It holds something else, which would be lost.
    """
    others = (path.name for path in folder.glob("*") if not path.match(pattern))
    if found := next(others, None):
        raise _refusal(folder, f"{folder} holds {found}, which would be lost; name another folder")


def part_path(target: Path, *, folder: bool = False) -> Path:
    """A fresh temporary file or folder beside the target, with the rights of an ordinary one.

    Raises:
        MptError: The folder around it cannot be written.
    """
    parent = target.absolute().parent
    try:
        while True:
            part = parent / f".{target.name[:_NAME_LENGTH]}.{token_hex(4)}.part"
            with suppress(FileExistsError):
                if folder:
                    part.mkdir()
                else:
                    part.touch(exist_ok=False)
                return part
    except OSError as error:
        raise _refusal(target, f"cannot write into {parent}: {error.strerror}") from error


def move_into_place(part: Path, target: Path, force: bool) -> None:
    """Rename a finished temporary file or folder to its target.

    Raises:
        MptError: The target has appeared in the meantime, or cannot be replaced.
    """
    refuse_existing(target, force, folder=part.is_dir())
    with _writing(target):
        if part.is_dir() and target.is_dir():
            _replace_folder(part, target)
        elif part.is_dir() or force or not _linked(part, target):
            os.replace(part, target)


def _replace_folder(part: Path, target: Path) -> None:
    """Give a folder the name of another one; whatever comes between, one of the two has it."""
    old = part_path(target, folder=True)
    try:
        os.replace(target, old)
        os.replace(part, target)
    except BaseException:
        if not target.exists():
            os.replace(old, target)
        raise
    finally:
        remove(old)


def _linked(part: Path, target: Path) -> bool:
    """Give a file its name without ever replacing another one; False where the file system has no links.

    Raises:
        MptError: The target has appeared in the meantime.
    """
    try:
        os.link(part, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError:
        return False
    part.unlink()
    return True


def remove(path: Path) -> None:
    """Delete a file or folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
