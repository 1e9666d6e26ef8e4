"""Sections of a file: found, checked, read."""

import os
import zlib
from io import RawIOBase
from typing import BinaryIO

from mptvc.errors import CorruptPacketError, FormatError
from mptvc.format.header import Header

_PIECE_BYTES = 2**20


def read_section(file: BinaryIO, header: Header, level: int, clip: int) -> bytes | None:
    """Read one section and check its CRC.

    Returns:
        The packet, or None if the file ends before the section does.

    Raises:
        CorruptPacketError: The checksum is wrong.
    """
    section, offset = header.index.section(level, clip), header.offset(level, clip)
    if _size(file) < offset + section.length:
        return None
    file.seek(offset)
    data = file.read(section.length)
    if zlib.crc32(data) != section.crc:
        raise CorruptPacketError("its checksum is wrong", level=level, clip=clip, offset=offset)
    return data


def open_side(file: BinaryIO, header: Header) -> "FileView | None":
    """The side section as a file of its own, after a check of its CRC; it is never in memory as a whole.

    Returns:
        The section, or None if there is none or the file ends before it does.

    Raises:
        FormatError: The checksum is wrong.
    """
    if header.side is None:
        return None
    section, offset = header.side.section, header.size_bytes
    if _size(file) < offset + section.length:
        return None
    crc, view = 0, FileView(file, offset, section.length)
    while piece := view.read(_PIECE_BYTES):
        crc = zlib.crc32(piece, crc)
    if crc != section.crc:
        raise FormatError("sound and subtitles are damaged: their checksum is wrong", offset=offset)
    return view.again()


class FileView(RawIOBase):
    """A part of a file as a read-only file with a position of its own.

    Args:
        file: Seekable binary file, which others may read too, as long as it is by the same thread.
        offset: First byte of the part.
        length: Bytes of the part.
    """

    def __init__(self, file: BinaryIO, offset: int, length: int) -> None:
        super().__init__()
        self._file, self._offset, self._length, self._at = file, offset, length, 0

    def again(self) -> "FileView":
        """Another view of the same part, at its start."""
        return FileView(self._file, self._offset, self._length)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it."""
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence])
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer from the position on; returns the bytes that were there."""
        self._file.seek(self._offset + self._at)
        data = self._file.read(max(0, min(len(buffer), self._length - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)
