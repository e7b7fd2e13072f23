"""gyrus: brain-tumour MRI classification whose explanations are measured.

Research software, not a medical device. Names are imported on first use, so ``import gyrus`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gyrus._version import __version__

if TYPE_CHECKING:
    from gyrus.audit import audit_data
    from gyrus.augment import Augment
    from gyrus.calibrate import calibrate_run
    from gyrus.catalogue import info
    from gyrus.convert import convert_data
    from gyrus.datasets import dataset_info, list_datasets, open_cases, open_dataset, open_files, write_manifest
    from gyrus.datasets.describe import describe
    from gyrus.demo import run_demo
    from gyrus.duplicates import Copies, find_copies
    from gyrus.errors import GyrusError, InputError, MissingExtraError
    from gyrus.evaluate import evaluate_run, list_metrics, score_classification, score_map
    from gyrus.explain import Explainer, attribute, explain_records, list_methods
    from gyrus.export import export_model
    from gyrus.exported import Exported
    from gyrus.geometry import restore, to_nifti
    from gyrus.groups import Groups, group_slices
    from gyrus.inference import predict
    from gyrus.io import Image, Volume, read_image, read_volume
    from gyrus.joining import join_datasets
    from gyrus.leaderboard import build_leaderboard
    from gyrus.maps import Maps
    from gyrus.models import Classifier, create_model, list_models, load_model, save_model
    from gyrus.phantom import make_phantom
    from gyrus.planes import recognise_planes
    from gyrus.predictions import Predictions
    from gyrus.preprocess import Preprocess
    from gyrus.probes import run_probes
    from gyrus.records import Dataset, Record
    from gyrus.report import write_report
    from gyrus.sequences import recognise_sequences
    from gyrus.splits import Split, holdout, kfold, official, split_dataset
    from gyrus.stages import (
        explain_files,
        explain_run,
        predict_files,
        predict_run,
        train_folds,
        train_run,
    )
    from gyrus.stress import stress_run
    from gyrus.studies import list_studies, run_study, show_study
    from gyrus.thresholds import find_threshold, list_thresholds
    from gyrus.training import TrainConfig, fit

_HOMES = {
    "gyrus.audit": ("audit_data",),
    "gyrus.augment": ("Augment",),
    "gyrus.catalogue": ("info",),
    "gyrus.calibrate": ("calibrate_run",),
    "gyrus.convert": ("convert_data",),
    "gyrus.datasets": ("dataset_info", "list_datasets", "open_cases", "open_dataset", "open_files", "write_manifest"),
    "gyrus.datasets.describe": ("describe",),
    "gyrus.demo": ("run_demo",),
    "gyrus.duplicates": ("Copies", "find_copies"),
    "gyrus.errors": ("GyrusError", "InputError", "MissingExtraError"),
    "gyrus.evaluate": ("evaluate_run", "list_metrics", "score_classification", "score_map"),
    "gyrus.export": ("export_model",),
    "gyrus.exported": ("Exported",),
    "gyrus.explain": ("Explainer", "attribute", "explain_records", "list_methods"),
    "gyrus.geometry": ("restore", "to_nifti"),
    "gyrus.groups": ("Groups", "group_slices"),
    "gyrus.inference": ("predict",),
    "gyrus.io": ("Image", "Volume", "read_image", "read_volume"),
    "gyrus.maps": ("Maps",),
    "gyrus.joining": ("join_datasets",),
    "gyrus.leaderboard": ("build_leaderboard",),
    "gyrus.models": ("Classifier", "create_model", "list_models", "load_model", "save_model"),
    "gyrus.phantom": ("make_phantom",),
    "gyrus.planes": ("recognise_planes",),
    "gyrus.predictions": ("Predictions",),
    "gyrus.preprocess": ("Preprocess",),
    "gyrus.probes": ("run_probes",),
    "gyrus.records": ("Dataset", "Record"),
    "gyrus.report": ("write_report",),
    "gyrus.sequences": ("recognise_sequences",),
    "gyrus.splits": ("Split", "holdout", "kfold", "official", "split_dataset"),
    "gyrus.stress": ("stress_run",),
    "gyrus.studies": ("list_studies", "run_study", "show_study"),
    "gyrus.stages": (
        "explain_files",
        "explain_run",
        "predict_files",
        "predict_run",
        "train_folds",
        "train_run",
    ),
    "gyrus.thresholds": ("find_threshold", "list_thresholds"),
    "gyrus.training": ("TrainConfig", "fit"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Augment",
    "Classifier",
    "Copies",
    "Dataset",
    "Explainer",
    "Exported",
    "Groups",
    "GyrusError",
    "Image",
    "InputError",
    "Maps",
    "MissingExtraError",
    "Predictions",
    "Preprocess",
    "Record",
    "Split",
    "TrainConfig",
    "Volume",
    "__version__",
    "attribute",
    "audit_data",
    "build_leaderboard",
    "calibrate_run",
    "convert_data",
    "create_model",
    "dataset_info",
    "describe",
    "evaluate_run",
    "explain_files",
    "explain_records",
    "explain_run",
    "export_model",
    "find_copies",
    "find_threshold",
    "fit",
    "group_slices",
    "holdout",
    "info",
    "join_datasets",
    "kfold",
    "list_datasets",
    "list_methods",
    "list_metrics",
    "list_models",
    "list_studies",
    "list_thresholds",
    "load_model",
    "make_phantom",
    "official",
    "open_cases",
    "open_dataset",
    "open_files",
    "predict",
    "predict_files",
    "predict_run",
    "read_image",
    "read_volume",
    "recognise_planes",
    "recognise_sequences",
    "restore",
    "run_demo",
    "run_probes",
    "run_study",
    "save_model",
    "score_classification",
    "score_map",
    "show_study",
    "split_dataset",
    "stress_run",
    "to_nifti",
    "train_folds",
    "train_run",
    "write_manifest",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gyrus' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
