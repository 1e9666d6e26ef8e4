"""Why a file is no video, where FFmpeg says no more than that its data is invalid."""

from pathlib import Path

_HEAD_BYTES = 4096
#: Boxes of MP4 that its first eight bytes may be, and its most boxes at the top that are looked at.
_FIRST_BOXES = (b"ftyp", b"wide", b"mdat", b"free", b"skip")
_MOST_BOXES = 1000


def unreadable(path: Path) -> str:
    """What is wrong with a file before FFmpeg reads it; empty where nothing is."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return "the file is empty"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and b"ANIM" in head:
        return "it is an animated WebP, which FFmpeg does not decode: convert it to PNG or GIF"
    return ""


def invalid(path: Path) -> str:
    """What is wrong with a file that FFmpeg does not take; empty where that is unknown."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[4:8] in _FIRST_BOXES and b"moov" not in _boxes(path):
        return "its index (moov) is missing: it is cut, or the recording was never finished"
    return "it is text" if _is_text(head) else ""


def is_encrypted(path: Path) -> bool:
    """Whether an MP4 describes its pictures as encrypted."""
    with path.open("rb") as file:
        for kind, start, length in _walk(path):
            if kind == b"moov":
                file.seek(start)
                return b"encv" in file.read(min(length, 2**24))
    return False


def _boxes(path: Path) -> set[bytes]:
    return {kind for kind, _, _ in _walk(path)}


def _walk(path: Path) -> list[tuple[bytes, int, int]]:
    """Kind, first byte and length of the boxes at the top of an MP4."""
    found: list[tuple[bytes, int, int]] = []
    at, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while at + 8 <= size and len(found) < _MOST_BOXES:
            file.seek(at)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4]), head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:16])
            elif length == 0:
                length = size - at
            if length < 8:
                break
            found.append((kind, at, length))
            at += length
    return found


def _is_text(head: bytes) -> bool:
    try:
        text = head[:-4].decode() if len(head) == _HEAD_BYTES else head.decode()
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)
