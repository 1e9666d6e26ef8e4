"""Names of the stages of coding, so that what each costs can be observed from outside."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Observer(Protocol):
    """Calls a stage's work in place of the code, and returns what it returns."""

    def __call__(
        self, stage: str, work: Callable[Arguments, Result], *args: object, **kwargs: object
    ) -> Result:
        """Call ``work`` with the arguments, once or more often."""


_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Let an observer see every stage that runs inside, in this thread."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def is_observed() -> bool:
    """Whether an observer sees what this thread does; other threads are not seen."""
    return _observer.get() is not None


def stage(name: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Name a function as a stage of encoding or decoding."""

    def named(work: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @wraps(work)
        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            observer = _observer.get()
            if observer is None:
                return work(*args, **kwargs)
            return observer(name, work, *args, **kwargs)

        return run

    return named
