"""Two stages of work, of which the second one of a job is done while the first one of the next job is."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Pipeline:
    """Does jobs of two stages in order; each stage is done for one job at a time.

    Args:
        overlaps: Do the second stage of a job beside the first one of the next, in threads of their own;
            otherwise a job is done at once.

    Attributes:
        overlaps: The same.
    """

    def __init__(self, *, overlaps: bool) -> None:
        self.overlaps = overlaps
        self._stages = [ThreadPoolExecutor(1), ThreadPoolExecutor(1)]  # threads start with their first job
        self._running: deque[Future[None]] = deque()

    def add(self, first: Callable[[], None], second: Callable[[], None]) -> None:
        """Do the next job, or begin it as soon as no more than two others are unfinished.

        Raises:
            Exception: What a stage of one before raised.
        """
        if not self.overlaps:
            first()
            second()
            return
        self._finish(2)
        begun = self._stages[0].submit(first)
        self._running.append(self._stages[1].submit(_after, begun, second))

    def wait(self) -> None:
        """Wait until all jobs are done; errors as for ``add``."""
        self._finish(0)

    def _finish(self, most: int) -> None:
        while len(self._running) > most:
            self._running.popleft().result()


def _after(first: Future[None], second: Callable[[], None]) -> None:
    first.result()
    second()
