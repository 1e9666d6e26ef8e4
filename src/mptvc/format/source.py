"""A path, bytes, a pipe or an address as a seekable binary file."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from mptvc.errors import FormatError, MptError

Source = str | Path | bytes | BinaryIO
_COPY_BYTES = 2**20


@contextmanager
def open_source(source: Source) -> Iterator[tuple[BinaryIO, int]]:
    """A seekable binary file at its start, and its size in bytes.

    Args:
        source: Path, bytes or a binary file object; one that cannot seek is copied first.

    Raises:
        MptError: The file cannot be opened.
    """
    if isinstance(source, bytes):
        yield BytesIO(source), len(source)
        return
    if not isinstance(source, str | Path):
        with seekable(source) as file:
            yield file, _size_of(file)
        return
    try:
        opened = open(source, "rb")  # noqa: SIM115 - closed below; only its opening may fail here
    except OSError as error:
        raise MptError(f"{source}: {error.strerror}") from error
    with opened, seekable(opened) as file:
        try:
            yield file, _size_of(file)
        except FormatError as error:
            error.file = error.file or str(source)
            raise


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
