"""The codec's own settings of torch: what it computes must not depend on those of the process around it."""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import torch

from mptvc.errors import MptError
from mptvc.native import calls

#: Kinds of devices of which automatic precision may be on.
_DEVICES = ("cpu", "cuda", "mps")


@contextmanager
def computing(*, by_kernels: bool = False, beside: int = 1) -> Iterator[None]:
    """Compute inside with float32 as the default type, on the processor by default, in no other precision.

    Args:
        by_kernels: Kernels do what takes long, if there are some; they get torch's threads, as these wait for
            work so busily that others find no time.
        beside: How many computations share the threads.

    Raises:
        MptError: The memory is too small.
    """
    _threads.used = True
    with ExitStack() as stack:
        if by_kernels and calls.is_available():
            stack.enter_context(_threads.for_kernels(beside))
        else:
            stack.enter_context(calls.sharing(torch.get_num_threads()))
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_default_type.float32())
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise MptError('out of memory: use device="cpu", or encode with a smaller tile=') from error


class _DefaultType:
    """The type of new tensors, one for all threads: the last that is done gives back the caller's."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._callers = torch.float32

    @contextmanager
    def float32(self) -> Iterator[None]:
        """Have float32 inside."""
        with self._lock:
            if not self._users:
                self._callers = torch.get_default_dtype()
                self._set(torch.float32)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._set(self._callers)

    def _set(self, dtype: torch.dtype) -> None:
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)

    def forget(self) -> None:
        """Start anew in a forked process, in which other threads are not there to finish."""
        if self._users:
            self._set(self._callers)
        self._lock, self._users = Lock(), 0


def spare_threads() -> int:
    """How many computations by kernels may run beside each other."""
    return _threads.count if calls.is_available() else 1


class _Threads:
    """Those of torch, and who has them.

    Attributes:
        used: Whether this process has computed with several, which do not follow into a forked one.
    """

    def __init__(self) -> None:
        self.used = False
        self._start()

    def _start(self) -> None:
        self._lock, self._users, self._callers = Lock(), 0, 1
        self._depth = threading.local()

    @property
    def count(self) -> int:
        """How many the caller of all computations has."""
        with self._lock:
            return self._callers if self._users else torch.get_num_threads()

    @contextmanager
    def for_kernels(self, beside: int) -> Iterator[None]:
        """Leave torch one thread inside and its others to kernels, of which several calls may share them."""
        with self._lock:
            if not self._users:
                self._callers = torch.get_num_threads()
            self._users += 1
            callers, depth = self._callers, getattr(self._depth, "value", 0)
        self._depth.value = depth + 1
        if not depth:
            torch.set_num_threads(1)
        try:
            with calls.sharing(max(1, callers // beside)):
                yield
        finally:
            self._depth.value = depth
            if not depth:
                torch.set_num_threads(callers)
            with self._lock:
                self._users -= 1

    def after_fork(self) -> None:
        """Compute in one thread: the library of threads waits for ever for those of before."""
        if self.used:
            torch.set_num_threads(1)
        self._start()
        _default_type.forget()


_default_type, _threads = _DefaultType(), _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.after_fork)
