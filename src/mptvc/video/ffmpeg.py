"""What FFmpeg's libraries do to this process."""

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
