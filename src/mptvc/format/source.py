"""A path, bytes, a pipe or an address as a seekable binary file."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Any, BinaryIO, cast

from mptvc.errors import MptError, VideoError
from mptvc.format.remote import RemoteFile, is_url

#: A ``str`` that starts with ``http://`` or ``https://`` is an address, any other a path.
Source = str | Path | bytes | BinaryIO
_COPY_BYTES = 2**20


@contextmanager
def open_source(source: Source) -> Iterator[tuple[BinaryIO, int]]:
    """A seekable binary file at its start, and its size in bytes.

    Errors of the package that leave the block name the path or address, once.

    Args:
        source: Path, ``http(s)://`` address, bytes or a binary file object; one that cannot seek is copied
            first. Of an address only the byte ranges that are read are fetched.

    Raises:
        MptError: The file cannot be opened or read.
    """
    if isinstance(source, bytes):
        yield BytesIO(source), len(source)
    elif isinstance(source, str | Path):
        with naming(source), _opened(source) as opened, seekable(opened) as file:
            yield file, _size_of(file)
    else:
        with seekable(source) as file:
            yield file, _size_of(file)


@contextmanager
def naming(source: Source) -> Iterator[None]:
    """Let errors in reading a source say which file it is, where it has a name.

    Those about a video say that already, as do those about another file.
    """
    try:
        yield
    except VideoError:
        raise
    except MptError as error:
        if isinstance(source, str | Path):
            error.name_file(str(source))
        raise


def _opened(source: str | Path) -> BinaryIO:
    if is_url(source):
        return cast(BinaryIO, RemoteFile(str(source)))
    with _reading(source):
        return BufferedReader(_Input(source))


@contextmanager
def _reading(file: object) -> Iterator[None]:
    """Turn failures of the system to read a file into errors of the package that name it."""
    try:
        yield
    except OSError as error:
        raise MptError(f"{file}: {error.strerror or error}", file=str(file)) from error


class _Input(FileIO):
    """A file whose failures are told from those of other files that are used beside it."""

    def readinto(self, buffer: Any, /) -> int | None:
        with _reading(self.name):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with _reading(self.name):
            return super().readall()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with _reading(self.name):
            return super().seek(offset, whence)


def _size_of(file: BinaryIO) -> int:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


@contextmanager
def seekable(file: BinaryIO) -> Iterator[BinaryIO]:
    """The file itself, or a temporary copy of one that cannot seek, such as a pipe."""
    if file.seekable():
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy, _COPY_BYTES)
        copy.seek(0)
        yield copy
