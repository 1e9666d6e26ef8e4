"""This process towards the system: what memory it keeps, and whether it was asked to stop."""

import ctypes
import sys
from threading import Event

#: Freed blocks up to this size are kept. Larger ones are few, and would keep more than they save.
_KEPT_BLOCK = 2**27
_KEPT_BLOCK_OLD = 2**25  # the most that glibc took before 2.35 or so
_KEPT_TOTAL = 2**29
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

_interrupted = Event()


def keep_freed_memory() -> None:
    """Let the allocator keep what networks free for what they take next, where it is glibc's.

    It gives large blocks back at once, and fresh memory costs a fault a page: a third of the time at 4K.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK) or mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK_OLD)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_TOTAL)


def interrupt(*_: object) -> None:
    """Stop the command: the handler of the signals that ask for it.

    The interruption is remembered, because code below Python may drop the exception that is raised here;
    then the next step of the job raises it again.
    """
    _interrupted.set()
    raise KeyboardInterrupt


def is_interrupted() -> bool:
    """Whether a signal has asked the command to stop."""
    return _interrupted.is_set()
