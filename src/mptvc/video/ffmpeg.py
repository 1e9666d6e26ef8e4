"""FFmpeg's libraries: the names they take, what they refuse in one line, what they do to this process."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av

from mptvc.errors import VideoError

#: What PyAV raises where FFmpeg refuses a file, a number, a packet or a codec.
REFUSALS = (av.FFmpegError, OSError, ValueError, OverflowError)


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn what FFmpeg refuses inside into one line that starts with what could not be done.

    Raises:
        VideoError: FFmpeg refuses; its own error is chained.
    """
    try:
        yield
    except REFUSALS as error:
        raise VideoError(f"{what}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """One line that says what went wrong."""
    if isinstance(error, IndexError):  # how PyAV fails where a stream appears that it has not announced
        return "a new stream starts"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def local(path: str | Path) -> str:
    """The name of a file as FFmpeg opens no other: a relative one with a colon would name a protocol."""
    return str(Path(path).absolute())


def require_encoder(name: str) -> None:
    """Check that FFmpeg has a video encoder here.

    Raises:
        VideoError: It has none of this name.
    """
    try:
        is_video = av.Codec(name, "w").type == "video"
    except ValueError:
        is_video = False
    if not is_video:
        raise VideoError(f"{name} is no video codec that FFmpeg writes here; libx264 and ffv1 are")


def quiet_encoders() -> None:
    """Keep SVT-AV1 from printing how it is set: it prints past FFmpeg's log. What it reads is set once."""
    os.environ.setdefault("SVT_LOG", "1")  # errors only


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
