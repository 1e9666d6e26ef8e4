"""This process towards the system: how it is scheduled, and what memory it keeps."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def same_scheduling() -> Iterator[None]:
    """Give every thread back the policy that this one had, should it change inside.

    SVT-AV1, opened by a user who may do so, makes the thread that calls it and all that it starts real-time
    ones of the highest priority. Threads that wait for each other in a loop, as those of matrix products do,
    then starve the rest of the machine and each other, for ever if there are more of them than cores.
    """
    if sys.platform != "linux":
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            for thread in os.listdir("/proc/self/task"):
                with suppress(ProcessLookupError):
                    os.sched_setscheduler(int(thread), policy, priority)


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
