"""A model on disk: ``model.safetensors``, ``model.json``, ``card.md``. No pickle, and a hash that is checked.

A calibrated model has ``reference.safetensors`` besides, with a hash of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes

from gyrus.artifacts import is_finished, read_json, sha256, write_json
from gyrus.certainty import Calibration
from gyrus.certainty.novelty import NEEDS, read_reference
from gyrus.certainty.upright import UPRIGHT
from gyrus.errors import InputError
from gyrus.models.classifier import Classifier
from gyrus.models.registry import build, describe
from gyrus.models.spec import SCHEMA, ModelSpec
from gyrus.paths import PathLike
from gyrus.shipped import find_model

WEIGHTS, SPEC, CARD, REFERENCE = "model.safetensors", "model.json", "card.md", "reference.safetensors"
TRAINED, CALIBRATED = "model", "calibrate"
"""Where a run keeps its model, and the same model after ``gyrus calibrate``."""
POOLINGS = {"avg": "average", "lse": "log-sum-exp"}


def save_model(model: Classifier, folder: PathLike) -> None:
    """Write the model as a folder.

    Args:
        model: any classifier; its ``spec`` is saved beside the weights.
        folder: created; must not exist yet.

    Raises:
        InputError: the folder exists already.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder} already exists: choose another folder for the model")
    folder.mkdir(parents=True)
    write_model(model, folder)


def write_model(model: Classifier, folder: Path) -> None:
    """Write the files of a model into an empty folder that is there."""
    state = {k: v.detach().to("cpu").contiguous() for k, v in model.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save_bytes(state))  # not save_file, which lets nobody else read the file
    (folder / CARD).write_text(_card(model), encoding="utf-8")
    hashes = {"sha256": sha256(folder / WEIGHTS)}
    if model.spec.calibration is not None:
        # In order: safetensors writes memory as it lies.
        arrays = {name: np.ascontiguousarray(values) for name, values in model.reference.items()}
        (folder / REFERENCE).write_bytes(save_arrays(arrays))
        hashes["reference_sha256"] = sha256(folder / REFERENCE)
    write_json(folder / SPEC, {"schema": SCHEMA, **hashes, **model.spec.model_dump()})


def model_folder(place: Path) -> Path:
    """Return the folder of a model: the place itself, or in a run the calibrated model, else the trained one.

    A name such as "gyrus-base" is the model of that name in the package.
    """
    place = find_model(place)
    if (place / SPEC).is_file():
        return place
    if is_finished(place / CALIBRATED) and (place / CALIBRATED / SPEC).is_file():
        return place / CALIBRATED
    return place / TRAINED if (place / TRAINED / SPEC).is_file() else place


def load_model(folder: PathLike, *, device: str | torch.device = "cpu") -> Classifier:
    """Read a model folder, or the model inside a training run: the calibrated one where there is one.

    Args:
        folder: written by :func:`save_model` or ``gyrus calibrate``, or a run.
        device: where to put it.

    Returns:
        The model in evaluation mode.

    Raises:
        InputError: a file is missing or damaged, the specification is invalid, the weights are not those it was saved
            with, or an earlier gyrus calibrated it.
    """
    folder = model_folder(Path(folder))
    if (folder / "export.json").is_file():
        raise InputError(f"{folder} is an exported model, which only predicts: name the model it was made from")
    spec, digest, reference_digest = _read_spec(folder)
    weights = _checked(folder / WEIGHTS, digest)
    model = build(spec)
    try:
        model.load_state_dict(load_bytes(weights.read_bytes()))
    except (RuntimeError, SafetensorError):
        raise InputError(
            f"{weights} does not hold the network that {SPEC} beside it describes: restore the folder as it was saved"
        ) from None
    if spec.calibration is not None:
        file = _checked(folder / REFERENCE, reference_digest)
        model.reference = read_reference(file, NEEDS[spec.calibration.novelty])
        if UPRIGHT not in model.reference:
            raise InputError(f"{file} is of an earlier gyrus: remove {folder}, and calibrate again")
    return model.to(device).eval()


def _checked(file: Path, digest: str) -> Path:
    """Return the file, after making sure that it is the one that was saved."""
    if not file.is_file():
        raise InputError(f"{file} does not exist: copy the model's folder again, whole")
    if sha256(file) != digest:
        raise InputError(f"{file} is not the file this model was saved with (SHA-256 differs): copy it again")
    return file


def _read_spec(folder: Path) -> tuple[ModelSpec, str, str]:
    value: dict[str, Any] = read_json(folder / SPEC, "a gyrus model's description")
    if not isinstance(value, dict) or value.pop("schema", None) != SCHEMA:
        raise InputError(f"{folder / SPEC} is not of schema {SCHEMA!r}: was it written by another program?")
    digest, reference_digest = (str(value.pop(name, "")) for name in ("sha256", "reference_sha256"))
    try:
        return ModelSpec.model_validate(value), digest, reference_digest
    except ValidationError as error:
        raise InputError(f"{folder / SPEC}: {describe(error)}: restore the file as it was saved") from None


def _card(model: Classifier) -> str:
    """Return the model card: what it is, what it saw, what was measured, what it is not for."""
    spec = model.spec
    training = "\n".join(f"- {k}: {v}" for k, v in spec.training.items()) or "- none: these weights are untrained"
    metrics = "\n".join(f"- {k}: {v:.4f}" for k, v in spec.metrics.items() if isinstance(v, float)) or "- none"
    last = not spec.metrics or spec.training.get("choose") == "last"
    chosen = "" if last else " (used to choose the checkpoint, so optimistic)"
    logits = "one logit per class" if spec.head == "softmax" else "one sigmoid unit m, as the two logits -m/2 and m/2"
    evidence = (
        f"a class map linear in the last features\n(`{spec.target_layer}`), pooled by {POOLINGS[spec.pooling]}"
        if model.has_class_map
        else f"dense layers after the last features\n(`{spec.target_layer}`), so no class map"
    )
    return f"""# {spec.architecture} for {", ".join(spec.classes)}

Research software, not a medical device: not for diagnosis, triage or treatment.

## Input and output
One greyscale MRI slice of any size, prepared as `model.json` says ({spec.preprocess.size} px, crop
{spec.preprocess.crop}, {spec.preprocess.fit}); {logits}; {evidence}.

## Training data and procedure
{training}
- initial weights: {spec.pretrained}
- licence of the weights: {spec.licence}

## Measured on the validation part{chosen}
{metrics}

## Certainty
{_certainty(spec.calibration)}

## Limits
Knows only the classes above and slices like those it was trained on{_answers(spec.calibration)}.
"""


def _certainty(found: Calibration | None) -> str:
    if found is None:
        return (
            "Not calibrated: probabilities are the softmax of the logits, which need not be right as often as they say."
        )
    forced = " or ".join(found.always)
    always = f" Too few persons have {forced} to leave it out of any set." if forced else ""
    faults = ", ".join(found.refusing) or "none"
    return f"""Calibrated on {found.statement}
- probabilities are softmax(logits / {found.temperature:.3f}), and so are those `gyrus predict` gives; logits stay raw
- sets are to hold the true class of {100 * found.coverage:g}% of slices of each class, persons counting alike.{always}
- {_outline(found)}
- slices are refused by faults of the picture ({faults}), when upside down, and above a {found.novelty} score of
  {found.novelty_limit:.4g}; these two are meant to refuse {found.false_refusals:.1%} of slices of new persons"""


def _outline(found: Calibration) -> str:
    if found.cut is None:
        return "no outline: there was no class map, or no slice with an outline to learn its cut on"
    return (
        f"the outline is the predicted class's map cut at {found.cut}, which has the highest mean IoU,\n"
        f"  {found.cut_iou:.3f}, on the {found.cut_slices:,} of these slices that have one"
    )


def _answers(found: Calibration | None) -> str:
    if found is None:
        return "; gives an answer for any picture"
    return "; refuses much of what is plainly unlike them, not all"
