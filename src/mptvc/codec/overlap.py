"""Levels of slices that follow each other, coded at the same time.

A level of a slice needs the level before it of the same slice, and the same level of the slice before. So
while one thread is at the finest level of a slice, others may be at coarser levels of the next one.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, Self, TypeVar

import torch

from mptvc.codec.stages import is_observed

Result = TypeVar("Result")
#: Pixels from which on operations on one picture keep all threads busy.
_LARGE = 2**21


class Levels(Generic[Result]):
    """Runs jobs level by level, each level in a thread of its own where that is faster.

    What is computed does not depend on it. Nothing overlaps while stages are observed.

    Args:
        count: Number of levels.
        device: Where jobs compute.
        pixels: Of a frame.
    """

    def __init__(self, count: int, device: torch.device, pixels: int) -> None:
        self._threads = torch.get_num_threads()
        self._share = max(1, self._threads // count)
        small = device.type == "cpu" and pixels < _LARGE
        self.overlap = small and min(count, self._threads) > 1 and not is_observed()
        self._pools = [
            ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(self._share,))
            for _ in range(count * self.overlap)
        ]
        self._count = count

    def submit(self, job: Callable[[int, Result | None], Result]) -> list[Future[Result]]:
        """Run all levels of a job, each after that of the job before it.

        Args:
            job: Does a level, given what the coarser one came to.

        Returns:
            What each level comes to. What a level raises, all finer ones raise.
        """
        futures: list[Future[Result]] = []
        for level in range(self._count):
            coarser = futures[-1] if futures else None
            if self.overlap:
                futures.append(self._pools[level].submit(_done, job, level, coarser))
                continue
            futures.append(Future())
            try:
                futures[-1].set_result(_done(job, level, coarser))
            except Exception as error:
                futures[-1].set_exception(error)
        return futures

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Let what the caller computes in the meantime use its share of the threads."""
        if not self.overlap:
            yield
            return
        torch.set_num_threads(self._share)
        try:
            yield
        finally:
            torch.set_num_threads(self._threads)

    def close(self) -> None:
        """Wait for what runs, and drop what waits."""
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)
        if self.overlap:
            torch.set_num_threads(self._threads)  # for threads to come

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _done(job: Callable[[int, Result | None], Result], level: int, coarser: Future[Result] | None) -> Result:
    return job(level, None if coarser is None else coarser.result())
