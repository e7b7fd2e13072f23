"""Jobs side by side: all are done, each worker alone with its share of the cores, and an error is the caller's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch

from gyrus.leaderboard.workers import AT_ONCE, side_by_side, workers_for


@pytest.fixture(autouse=True)
def cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_every_job_is_done_once_and_two_at_a_time() -> None:
    both = threading.Barrier(2, timeout=30)  # opens only if two workers are at it at the same time
    caller, seen = threading.get_ident(), []

    def worker(name: str, job: int) -> int:
        if job < 2:
            both.wait()
        seen.append((name, threading.get_ident(), torch.get_num_threads()))
        return job * job

    found = list(side_by_side([lambda j: worker("a", j), lambda j: worker("b", j)], range(9)))
    assert sorted(found) == [j * j for j in range(9)]
    assert {name for name, _, _ in seen} == {"a", "b"}
    assert caller not in {thread for _, thread, _ in seen}
    assert {share for _, _, share in seen} == {1}
    assert torch.get_num_threads() == 2


def test_one_worker_works_in_the_callers_thread_and_only_as_it_is_asked() -> None:
    done: list[int] = []

    def worker(job: int) -> int:
        done.append(job)
        return threading.get_ident()

    assert next(side_by_side([worker], [1, 2, 3])) == threading.get_ident()
    assert done == [1]


def endless(job: int) -> int:
    while job:
        time.sleep(0.01)
    return job


def test_an_error_is_the_callers_and_breaks_off_the_other_job() -> None:
    def bad(job: int) -> int:
        raise ValueError(f"job {job}")

    before = threading.active_count()
    with pytest.raises(ValueError, match="job"):
        list(side_by_side([endless, bad], range(1, 100)))
    assert threading.active_count() == before
    assert torch.get_num_threads() == 2


def test_whoever_wants_no_more_closes_it_and_nothing_goes_on() -> None:
    before = threading.active_count()
    with closing(side_by_side([endless, endless], [0, 1, 1, 1])) as results:
        assert next(results) == 0
        assert threading.active_count() == before + 2
    assert threading.active_count() == before


def test_a_processor_is_shared_and_anything_else_has_one_worker() -> None:
    assert workers_for(torch.device("cpu")) == AT_ONCE == 2
    assert workers_for(torch.device("cuda")) == 1
    torch.set_num_threads(1)
    assert workers_for(torch.device("cpu")) == 1
