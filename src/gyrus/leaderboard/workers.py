"""Jobs done side by side, each on its share of the cores: a network's small layers gain little from all of them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

import torch

AT_ONCE = 2
"""Jobs at a time on a processor. Each more takes the memory of one more, and needs a network of its own."""

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


class _BrokenOff(BaseException):
    """The result is no longer wanted."""


def workers_for(device: torch.device) -> int:
    """Return how many jobs are done at a time: as many as pay."""
    return min(AT_ONCE, torch.get_num_threads()) if device.type == "cpu" else 1


def side_by_side(workers: Sequence[Callable[[_Job], _Result]], jobs: Sequence[_Job]) -> Generator[_Result, None, None]:
    """Yield what the workers make of the jobs, as they are done; each worker has one job at a time.

    An error, an interruption, or closing this generator breaks the jobs in hand off, anywhere in what they do, and
    waits until they have ended; so close it (:func:`contextlib.closing`) even where its results are no longer wanted.

    Args:
        workers: what does a job; two of them share nothing that a job changes.
        jobs: in the order in which they are begun.
    """
    if len(workers) == 1:
        yield from map(workers[0], jobs)
        return
    cores = torch.get_num_threads()
    todo: SimpleQueue[_Job] = SimpleQueue()
    done: SimpleQueue[Future[_Result]] = SimpleQueue()
    for job in jobs:
        todo.put(job)

    def work(worker: Callable[[_Job], _Result]) -> None:
        with suppress(_BrokenOff, Empty):
            torch.set_num_threads(max(1, cores // len(workers)))
            while True:
                job, found = todo.get_nowait(), Future[_Result]()
                try:
                    found.set_result(worker(job))
                except _BrokenOff:
                    raise
                except BaseException as error:  # raised again in the caller's thread
                    found.set_exception(error)
                done.put(found)

    threads = [Thread(target=work, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        for _ in jobs:
            yield done.get().result()
    finally:
        for thread in threads:
            _break_off(thread)
        for thread in threads:
            thread.join()
        torch.set_num_threads(cores)  # of threads to come; those that run, this one too, have kept theirs


def _break_off(thread: Thread) -> None:
    """Raise :class:`_BrokenOff` in a thread, once it is back from what it has called outside Python.

    A process that ends while threads are in torch is aborted, and waiting for a job may take minutes.
    """
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_BrokenOff))
