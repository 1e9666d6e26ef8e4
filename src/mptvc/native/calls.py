"""Calls of compiled kernels: where there are some, what they take, and threads that share their work.

Arrays are contiguous and of the stated type. What kernels compute is explained in the modules for which they
stand in; those are what they have to agree with.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from mptvc.native.library import library

#: Types of what most kernels take.
INT, POINTER = ctypes.c_int64, ctypes.c_void_p


def serve(device: Any) -> bool:
    """Whether kernels do the work for tensors on a torch device."""
    return device.type == "cpu" and is_available()


def array(tensor: Any) -> np.ndarray:
    """The values of a torch tensor on the processor, contiguous; in place where they are so already."""
    values: np.ndarray = tensor.contiguous().numpy()
    return values


def is_available() -> bool:
    """Whether there is a library, and it is not switched off."""
    return not _off and library() is not None


#: One for each reason why tensors do the work.
_off: list[None] = []


@contextmanager
def off() -> Iterator[None]:
    """Have tensors do the work inside, in all threads."""
    _off.append(None)
    try:
        yield
    finally:
        _off.pop()


@cache
def kernel_of(name: str, *types: Any, result: Any = None) -> Callable[..., Any]:
    """A function of the library."""
    loaded = library()
    if loaded is None:
        raise RuntimeError("there are no compiled kernels")
    function = loaded[name]
    function.argtypes, function.restype = types, result
    return function


def at(array: np.ndarray, dtype: Any) -> Any:
    """Where an array lies; it has to be of a type, and contiguous."""
    found = array.dtype
    if found is _DTYPES.get(dtype) or found == dtype:
        try:
            return ctypes.addressof(ctypes.c_char.from_buffer(array.data))  # in a quarter of the time
        except (TypeError, ValueError):  # none of it, not to be written to, or not contiguous
            if array.flags.c_contiguous:
                return array.ctypes.data
    raise TypeError(f"a kernel takes contiguous {np.dtype(dtype)}, found {found}")


#: Of types, so that equal ones are seen to be in a fraction of the time.
_DTYPES = {
    x: np.dtype(x)
    for x in (np.uint8, np.int16, np.int32, np.int64, np.uint32, np.float32, np.float64, np.bool_)
}


class _Threads(threading.local):
    """How many threads share what a thread calls; it may differ between these."""

    count = 1


class _Workers:
    """Those that share work; made when they are first needed, and anew in a forked process."""

    def __init__(self) -> None:
        self.threads = _Threads()
        self._pool: ThreadPoolExecutor | None = None

    def share(self, count: int, least: int, run: Callable[[int, int], Any], *held: object) -> None:
        """Call ``run(first, last)`` for parts of at least so many of ``count`` things.

        What is ``held`` stays in memory until each part is done, even where a signal ends the wait for it.
        """
        parts = max(1, min(self.threads.count, count // least))
        if parts == 1:
            run(0, count)
            return
        bounds = [count * part // parts for part in range(parts + 1)]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(thread_name_prefix="mptvc")
        waiting = [self._pool.submit(_part, run, *other, held) for other in pairwise(bounds[1:])]
        run(bounds[0], bounds[1])
        for part in waiting:
            part.result()

    def forget(self) -> None:
        """Have no threads."""
        self._pool = None


def _part(run: Callable[[int, int], Any], first: int, last: int, _held: tuple[object, ...]) -> None:
    run(first, last)


workers = _Workers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=workers.forget)


@contextmanager
def sharing(count: int) -> Iterator[None]:
    """Share the work of each call of this thread inside between at most so many threads."""
    mine = workers.threads
    before, mine.count = mine.count, count
    try:
        yield
    finally:
        mine.count = before
