"""This process towards the system: whether it was asked to stop."""

from threading import Event

_interrupted = Event()


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
