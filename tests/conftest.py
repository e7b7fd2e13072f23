"""What the end-to-end tests share: the command line run in this process, and one tiny phantom, split and run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import RECIPE, Gyrus, Said, in_its_own_process


@pytest.fixture
def gyrus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Gyrus]:
    """Run the command line in this process: ``gyrus("split", folder, "--out", file)``."""
    import torch

    from gyrus.cli import main

    def call(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["gyrus", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return Said(int(stop.value.code or 0), out, err)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks are slower on many
    yield call
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 phantom slices of 16 patients, 96 px. Look, do not touch."""
    from gyrus.phantom import make_phantom

    return make_phantom(tmp_path_factory.mktemp("tiny") / "phantom", patients=16, slices_per_plane=1, size=96)


@pytest.fixture(scope="session")
def tiny_split(tiny_phantom: Path) -> Path:
    """Half for training, a quarter each for validation and test. Look, do not touch."""
    from gyrus.splits import split_dataset

    path = tiny_phantom.parent / "split.json"
    split_dataset(tiny_phantom, path, fractions=(0.5, 0.25, 0.25))
    return path


@pytest.fixture(scope="session")
def training(tiny_phantom: Path, tiny_split: Path) -> Said:
    """What ``gyrus train --json`` said, in a process of its own."""
    out = tiny_phantom.parent / "trained"
    said = in_its_own_process("train", tiny_phantom, "--split", tiny_split, "--out", out, *RECIPE, "--json")
    assert said.code == 0, said.err
    return said


@pytest.fixture(scope="session")
def trained(training: Said, tiny_phantom: Path) -> Path:
    """The run it trained. Look, do not touch."""
    return tiny_phantom.parent / "trained"


@pytest.fixture(scope="session")
def finished(trained: Path) -> Path:
    """A copy of the trained run with every further stage done, two methods explained. Look, do not touch."""
    from gyrus.evaluate import evaluate_run
    from gyrus.report import write_report
    from gyrus.stages import explain_run, predict_run

    run = trained.with_name("finished")
    shutil.copytree(trained, run)
    predict_run(run, device="cpu")
    explain_run(run, methods=("cam", "layercam"), device="cpu")
    evaluate_run(run)
    write_report(run)
    return run


@pytest.fixture
def fresh_run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, to write into or to damage."""
    return Path(shutil.copytree(trained, tmp_path / "fresh"))


@pytest.fixture
def scored_run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to write into or to damage."""
    return Path(shutil.copytree(finished, tmp_path / "scored"))
