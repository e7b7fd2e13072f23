"""What the end-to-end tests share: the command line run in this process, and one tiny phantom, split and run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import RECIPE, Gyrus, Said, in_its_own_process
from exports import Exports


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the screen of who runs the tests: what is printed is as wide as where nothing is said about it."""
    monkeypatch.delenv("COLUMNS", raising=False)


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


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """A small network of random weights on discs, its folder, and both exports of it. Look, do not touch."""
    import torch
    from discs import write_discs

    from gyrus.export import export_model
    from gyrus.loading import load_slices
    from gyrus.models import create_model, save_model
    from gyrus.preprocess import Preprocess

    root = tmp_path_factory.mktemp("exported")
    discs = write_discs(root / "discs", patients=4, slices=3, side=80)
    small = Preprocess(size=64, mean=(0.5,), std=(0.25,))
    model = create_model(
        "resnet18", ("glioma", "meningioma"), output_stride=8, truncate=True, channels=1, preprocess=small
    )
    with torch.no_grad():  # so that the slices differ in their logits, and each class is predicted of some
        model.head.weight.normal_(generator=torch.Generator().manual_seed(1))
        logits = model.eval()(model.normalise(torch.from_numpy(load_slices(list(discs), small))))
        model.head.weight.div_(logits.std(dim=0).view(-1, 1, 1, 1))
        model.head.bias.copy_(-logits.mean(dim=0) / logits.std(dim=0))
    save_model(model, root / "model")
    documents = {
        to: export_model(root / "model", root / to, to=to, check=[root / "discs"]) for to in ("onnx", "openvino")
    }
    return Exports(root / "model", discs, root / "onnx", root / "openvino", documents)


@pytest.fixture(scope="session")
def calibrated(exported: Exports, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """The same network with a calibration, and both exports of it. Look, do not touch.

    The limits lie between what the slices score, not on one, as fitted ones do: rounding moves no slice across.
    """
    import numpy as np
    from test_refusal import CALIBRATION

    from gyrus.certainty.novelty import learn_reference, novelty
    from gyrus.certainty.upright import learn_upright
    from gyrus.export import export_model
    from gyrus.export.run import install
    from gyrus.exported import Description
    from gyrus.inference import observe
    from gyrus.models import load_model, save_model

    root = tmp_path_factory.mktemp("calibrated")
    model, records = load_model(exported.model), list(exported.discs)
    seen = observe(model, records)
    known = np.arange(len(records)) % 2 == 0
    truth = np.array([model.classes.index(str(r.label)) for r in records])
    reference = {
        **learn_reference("mahalanobis", seen.features[known], truth[known]),
        "upright": learn_upright(seen.edges[known]),
    }
    scores = np.sort(novelty("mahalanobis", reference, seen.features, seen.logits))
    upper = len(scores) * 3 // 4
    place = upper + int(np.diff(scores[upper:]).argmax())
    changes = {
        "novelty": "mahalanobis",
        "novelty_limit": float(scores[place : place + 2].mean()),
        "turned_limit": 0.2,
        "cut": "maximum:0.5",
        "cut_slices": 12,
        "cut_iou": 0.4,
        "thresholds": {"glioma": 0.3, "meningioma": 0.3},
        "persons_per_class": {"glioma": 4, "meningioma": 4},
    }
    model.spec = model.spec.model_copy(update={"calibration": CALIBRATION.model_copy(update=changes)})
    model.reference = reference
    save_model(model, root / "model")
    document = export_model(root / "model", root / "onnx", to="onnx", check=[exported.discs.root])
    description = {k: v for k, v in document.items() if k not in ("schema", "out")} | {"engine": "openvino"}
    install(root / "onnx" / "model.onnx", root / "openvino", Description.model_validate(description), reference)
    return Exports(root / "model", exported.discs, root / "onnx", root / "openvino", {"onnx": document})
