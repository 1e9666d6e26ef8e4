"""What memory a process that codes keeps: commands and workers ask, a library's caller may not want it."""

import ctypes
import sys

#: Freed blocks up to this size are kept. Larger ones are few, and would keep more than they save.
_KEPT_BLOCK = 2**27
_KEPT_BLOCK_OLD = 2**25  # the most that glibc took before 2.35 or so
_KEPT_TOTAL = 2**29
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let the allocator keep what networks free for what they take next, where it is glibc's.

    It gives large blocks back at once, and fresh memory costs a fault a page: a third of the time at 4K.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK) or mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK_OLD)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_TOTAL)
