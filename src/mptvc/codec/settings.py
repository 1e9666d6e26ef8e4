"""The codec's own settings of torch: what it computes must not depend on those of the process around it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import torch

from mptvc.errors import MptError
from mptvc.native import calls

#: Kinds of devices of which automatic precision may be on.
_DEVICES = ("cpu", "cuda", "mps")


@contextmanager
def computing() -> Iterator[None]:
    """Compute inside with float32 as the default type, on the processor by default, in no other precision.

    Raises:
        MptError: The memory is too small.
    """
    _threads.used = True
    calls.use_threads(torch.get_num_threads())
    with ExitStack() as stack:
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


class _Threads:
    """Whether this process has computed with several threads, which do not follow into a forked one."""

    used = False

    def after_fork(self) -> None:
        """Compute in one thread: the library of threads waits for ever for those of before."""
        if self.used:
            torch.set_num_threads(1)
        _default_type.forget()


_default_type, _threads = _DefaultType(), _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.after_fork)
