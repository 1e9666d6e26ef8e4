"""Who does the tasks: this process, processes on this machine, or the actors of Ray Data.

An engine takes tasks and yields their rows in any order. Which one it is shows in no byte of the output.
"""

import json
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any

import torch

from mptvc.codec.memory import keep_freed_memory
from mptvc.corpus.storage import optional
from mptvc.corpus.units import Task
from mptvc.corpus.worker import Job, Worker
from mptvc.errors import MptError

#: A task's name and its rows.
Result = tuple[str, list[dict[str, Any]]]
#: Most blocks of a data set: each takes memory of the driver.
_MOST_BLOCKS = 10_000
_STOP_S = 10
#: Processors, and so threads, of an actor.
_RAY_CPUS = 1
#: Workers in a row that may die before they have loaded the weights.
_MOST_STILLBORN = 3


def run_local(job: Job, tasks: Sequence[Task], jobs: int) -> Generator[Result, None, None]:
    """Do tasks in this process, or in so many others.

    A worker that dies is replaced, and its task done again.

    Raises:
        MptError: The output cannot be written, or workers cannot start.
    """
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        worker = Worker(job)
        yield from ((task.name, worker(task)) for task in tasks)
        return
    waiting, threads = deque(tasks), max(1, torch.get_num_threads() // jobs)
    running = {process.link: process for process in (_Process(job, threads) for _ in range(jobs))}
    stillborn = 0
    try:
        while running:
            for link in wait([*running]):
                process = running[link]  # type: ignore[index]
                try:
                    yield from process.results()
                except (EOFError, ConnectionError):
                    del running[process.link]
                    waiting.extendleft(process.left())
                    stillborn = 0 if process.has_started else stillborn + 1
                    if stillborn > _MOST_STILLBORN:
                        raise MptError("workers die while they start: is there enough memory?") from None
                    process = _Process(job, threads)
                    running[process.link] = process
                    continue
                if waiting:
                    process.give(waiting.popleft())
                else:
                    running.pop(process.link).stop()
    finally:
        for process in running.values():
            process.stop()


class _Process:
    """A worker in a process of its own.

    Attributes:
        link: Readable when there is a result, or the process has died.
        has_started: Whether it has loaded the weights.
    """

    def __init__(self, job: Job, threads: int) -> None:
        context = get_context("spawn")
        self.link, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far, job, threads), daemon=True)
        self._process.start()
        far.close()
        self._task: Task | None = None
        self.has_started = False

    def results(self) -> Iterator[Result]:
        """What it has sent: the rows of its task, or nothing where it has only started.

        Raises:
            EOFError, ConnectionError: It has died.
            Exception: What it raised.
        """
        found = self.link.recv()
        self.has_started = True
        if isinstance(found, Exception):
            raise found
        if self._task is not None:
            task, self._task = self._task, None
            yield task.name, found

    def give(self, task: Task) -> None:
        """Give it a task."""
        self._task = task
        try:
            self.link.send(task)
        except BrokenPipeError:
            return  # it has died, which the next look shows

    def left(self) -> list[Task]:
        """After its death, the task that it had."""
        self.stop()
        return [] if self._task is None else [self._task]

    def stop(self) -> None:
        """End it, and let it remove what it has half written."""
        self._process.terminate()
        self._process.join(_STOP_S)
        self._process.kill()
        self._process.join()
        self.link.close()


def _serve(link: Connection, job: Job, threads: int) -> None:
    """Do the tasks that come until the driver ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver says when to stop
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    Thread(target=_end_with_driver, daemon=True).start()
    _settle(threads)
    try:
        worker = Worker(job)
        link.send(None)
        while True:
            link.send(worker(link.recv()))
    except EOFError:
        return
    except Exception as error:
        link.send(error)


def _settle(threads: int) -> None:
    """Be one of several workers: with a share of the processors, and memory kept for the next clip."""
    keep_freed_memory()
    torch.set_num_threads(threads)


def _end_with_driver() -> None:
    """A driver that is killed cannot say so."""
    if (driver := parent_process()) is not None:
        driver.join()
        os._exit(1)


def run_ray(job: Job, tasks: Sequence[Task], jobs: int) -> Generator[Result, None, None]:
    """Do tasks in actors of Ray Data, on the cluster that Ray finds, or else on this machine.

    Only the names of videos travel to the actors, and only small rows back. Ray replaces an actor that dies.

    Raises:
        MptError: Ray is not installed, or the output cannot be written.
    """
    ray, data = optional("ray", "ray"), optional("ray.data", "ray")
    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it reports its plan and settings as warnings
    data.DataContext.get_current().enable_progress_bars = False
    gpus = int(job.options.device.startswith("cuda"))
    rows = data.from_items(
        [{"task": task.to_json()} for task in tasks], override_num_blocks=min(len(tasks), _MOST_BLOCKS)
    ).map_batches(
        _RayWorker,
        fn_constructor_args=(job,),
        batch_size=1,
        # one task waits at each worker, or it would wait for the next one; more would wait there at the end
        compute=data.ActorPoolStrategy(size=min(jobs, len(tasks)), max_tasks_in_flight_per_actor=2),
        num_cpus=_RAY_CPUS,
        num_gpus=gpus,
    )
    try:
        for row in rows.iter_rows():
            if row["error"]:
                raise MptError(row["error"])
            yield row["task"], json.loads(row["rows"])
    except BaseException:
        if is_ours:  # its workers would go on until this process has ended
            ray.shutdown()
        raise


class _RayWorker:
    """A worker as ``map_batches`` wants it: a batch of one task to its rows as JSON, or what stopped it."""

    def __init__(self, job: Job) -> None:
        _settle(_RAY_CPUS)
        self._worker = Worker(job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        (text,) = batch["task"]
        task = Task.of(str(text))
        try:
            rows, error = json.dumps(self._worker(task)), ""
        except Exception as failure:  # one that leaves here would be tried again without end, or reworded
            rows, error = "", str(failure) or repr(failure)
        return {"task": [task.name], "rows": [rows], "error": [error]}


ENGINES = {"local": run_local, "ray": run_ray}
