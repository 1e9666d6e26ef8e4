"""The compiled library: found, checked against its sources, loaded."""

import ctypes
import os
from functools import cache
from hashlib import sha256
from pathlib import Path

_FOLDER = Path(__file__).parent
#: Name of the compiled library in this folder.
LIBRARY = "_kernels.so"
#: Set to 0, it leaves the library alone.
SWITCH = "MPTVC_NATIVE"


def source_digest(folder: Path = _FOLDER) -> str:
    """SHA-256 of the library's sources, in hexadecimal digits."""
    digest = sha256()
    for path in sorted([*folder.glob("*.c"), *folder.glob("*.h")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def library() -> ctypes.CDLL | None:
    """The library; None where there is none, or one of other sources, or where it is switched off."""
    path = _FOLDER / LIBRARY
    if os.environ.get(SWITCH) == "0" or not path.exists():
        return None
    try:
        loaded = ctypes.CDLL(str(path))
        made_of = ctypes.c_char_p.in_dll(loaded, "sources").value
    except (OSError, ValueError):  # of another machine
        return None
    return loaded if made_of == source_digest().encode() else None
