"""Runs killed outright, in processes of their own, and continued to the result that an unbroken run has."""

from __future__ import annotations

import csv
import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from discs import small_config, write_discs
from safetensors.torch import load_file

from gyrus.artifacts import read_manifest, sha256
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.records import Dataset
from gyrus.splits import Split, holdout
from gyrus.training import TrainConfig, fit

# see test_training.py

EPOCHS = 8
PAUSE = 0.04
PATIENCE = 300  # seconds until a process that does nothing is taken for hung; no figure depends on it


def config() -> TrainConfig:
    return small_config(epochs=EPOCHS, learning_rate=2e-3)


def train(root: Path, split: Path, out: Path, resume: bool, pause: float = 0.0) -> None:
    """Run in a process of its own; ``pause`` seconds per step leave whoever is to kill it the time to come."""
    torch.set_num_threads(1)
    data, plan = open_dataset(root), Split.load(split)
    fit(data, plan, config(), out, resume=resume, progress=lambda *call: time.sleep(pause))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in the processes that are killed: sums over another number of threads round otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., BaseProcess]]:
    """A function that starts ``train`` in a new process, forked from one that has imported torch already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gyrus.training"])
    started: list[BaseProcess] = []

    def begin(*arguments: object) -> BaseProcess:
        process = context.Process(target=train, args=arguments)
        process.start()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.join()


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_discs(tmp_path_factory.mktemp("resume") / "discs", patients=8)


@pytest.fixture(scope="module")
def split(discs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resume") / "split.json"
    holdout(discs, (0.5, 0.25, 0.25)).save(path)
    return path


@pytest.fixture(scope="module")
def unbroken(discs: Dataset, split: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("resume") / "unbroken"
    fit(discs, Split.load(split), config(), out)
    return out


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "epochs.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def figures(out: Path) -> np.ndarray:
    return np.array([[float(v) for k, v in row.items() if k != "seconds"] for row in rows_of(out)])


def kill_at(process: BaseProcess, out: Path, epochs: int, delay: float) -> None:
    """Send SIGKILL ``delay`` seconds after the table has ``epochs`` rows, and make sure that it came in time."""
    give_up = time.monotonic() + PATIENCE
    while not (out / "epochs.csv").is_file() or len(rows_of(out)) < epochs:
        assert process.is_alive(), "the run ended before it could be killed"
        assert time.monotonic() < give_up
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode == -9
    assert not (out / "run.json").exists()
    assert [int(row["epoch"]) for row in rows_of(out)] == list(range(1, len(rows_of(out)) + 1))


def assert_same_result(out: Path, unbroken: Path) -> None:
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (out, unbroken))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[k], theirs[k], rtol=1e-5, atol=1e-5) for k in ours)
    assert list(rows_of(out)[0]) == list(rows_of(unbroken)[0])
    assert figures(out).shape == (EPOCHS, len(rows_of(out)[0]) - 1)
    assert np.allclose(figures(out), figures(unbroken), rtol=1e-4, atol=1e-5)
    manifest = read_manifest(out)
    assert set(manifest["outputs"]) == set(read_manifest(unbroken)["outputs"])
    assert all(sha256(out / name) == entry["sha256"] for name, entry in manifest["outputs"].items())
    assert not (out / "checkpoints").exists()


def test_killed_after_the_first_epoch_and_continued_in_a_new_process(
    start: Callable[..., BaseProcess], discs: Dataset, split: Path, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    kill_at(start(discs.root, split, out, False, PAUSE), out, 1, 0)
    assert len(rows_of(out)) < EPOCHS
    second = start(discs.root, split, out, True)
    second.join(PATIENCE)
    assert second.exitcode == 0
    assert_same_result(out, unbroken)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_twice_at_random_moments(
    start: Callable[..., BaseProcess], discs: Dataset, split: Path, unbroken: Path, tmp_path: Path, seed: int
) -> None:
    out, rng = tmp_path / "run", np.random.default_rng(seed)
    first, second = (float(row["seconds"]) for row in rows_of(unbroken)[1:3])
    kill_at(start(discs.root, split, out, False, PAUSE), out, int(rng.integers(1, 3)), first * rng.random())
    kill_at(start(discs.root, split, out, True, PAUSE), out, int(rng.integers(3, 5)), second * rng.random())
    fit(discs, Split.load(split), config(), out, resume=True)
    assert_same_result(out, unbroken)


class StopError(Exception):
    """Raised from a progress callback."""


def stop_at(discs: Dataset, split: Path, out: Path, step: int) -> None:
    """Train up to the given step, then leave the folder as it is."""

    def progress(what: str, done: int, total: int) -> None:
        if what.startswith("epoch") and done == step:
            raise StopError

    with pytest.raises(StopError):
        fit(discs, Split.load(split), config(), out, progress=progress)


def test_files_cut_off_in_the_middle_of_writing_do_no_harm(
    discs: Dataset, split: Path, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    stop_at(discs, split, out, 30)
    (out / "checkpoints" / "last.ckpt.partial").write_bytes(b"cut off")
    (out / ".epochs.csv.partial").write_text("epoch,tra")
    (out / "model").mkdir()
    (out / "model" / "model.safetensors").write_bytes(b"cut off")
    fit(discs, Split.load(split), config(), out, resume=True)
    assert {p.name for p in out.iterdir()} == {p.name for p in unbroken.iterdir()}
    assert_same_result(out, unbroken)


def test_a_run_stopped_after_its_last_epoch_is_not_trained_again(
    discs: Dataset, split: Path, unbroken: Path, tmp_path: Path
) -> None:
    out, steps = tmp_path / "run", []
    stop_at(discs, split, out, 1)
    (out / "model").write_text("in the way")
    with pytest.raises(InputError, match="already exists"):
        fit(discs, Split.load(split), config(), out, resume=True)
    assert len(rows_of(out)) == EPOCHS
    (out / "model").unlink()
    fit(discs, Split.load(split), config(), out, resume=True, progress=lambda *call: steps.append(call[0]))
    assert set(steps) == {"reading train", "reading val"}
    assert_same_result(out, unbroken)


def test_a_run_without_its_last_checkpoint_starts_again(
    discs: Dataset, split: Path, unbroken: Path, tmp_path: Path
) -> None:
    """What is left by a kill while the checkpoints are cleared away, or before the first."""
    out = tmp_path / "run"
    stop_at(discs, split, out, 12)
    assert (out / "checkpoints" / "best.ckpt").is_file()
    (out / "checkpoints" / "last.ckpt").unlink()
    fit(discs, Split.load(split), config(), out, resume=True)
    assert_same_result(out, unbroken)
