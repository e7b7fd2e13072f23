"""A model on disk: ``model.safetensors``, ``model.json``, ``card.md``. No pickle, and a hash that is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes

from gyrus.artifacts import read_json, sha256, write_json
from gyrus.errors import InputError
from gyrus.models.classifier import Classifier
from gyrus.models.registry import build, describe
from gyrus.models.spec import SCHEMA, ModelSpec

WEIGHTS, SPEC, CARD = "model.safetensors", "model.json", "card.md"
POOLINGS = {"avg": "average", "lse": "log-sum-exp"}


def save_model(model: Classifier, folder: Path) -> None:
    """Write the model as a folder.

    Args:
        model: any classifier; its ``spec`` is saved beside the weights.
        folder: created; must not exist yet.

    Raises:
        InputError: the folder exists already.
    """
    if folder.exists():
        raise InputError(f"{folder} already exists: choose another folder for the model")
    folder.mkdir(parents=True)
    state = {k: v.detach().to("cpu").contiguous() for k, v in model.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save_bytes(state))  # not save_file, which lets nobody else read the file
    (folder / CARD).write_text(_card(model), encoding="utf-8")
    write_json(folder / SPEC, {"schema": SCHEMA, "sha256": sha256(folder / WEIGHTS), **model.spec.model_dump()})


def load_model(folder: Path, *, device: str | torch.device = "cpu") -> Classifier:
    """Read a model folder, or the ``model`` folder inside a training run.

    Args:
        folder: written by :func:`save_model`.
        device: where to put it.

    Returns:
        The model in evaluation mode.

    Raises:
        InputError: a file is missing, the specification is invalid, or the weights are not those it was saved with.
    """
    folder = model_home(folder)
    if (folder / "export.json").is_file():
        raise InputError(f"{folder} is an exported model, which only predicts: name the model it was made from")
    spec, digest = _read_spec(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise InputError(f"{weights} does not exist: copy the model's folder again, whole")
    if sha256(weights) != digest:
        raise InputError(f"{weights} is not the file this model was saved with (SHA-256 differs): copy it again")
    model = build(spec)
    try:
        model.load_state_dict(load_bytes(weights.read_bytes()))
    except RuntimeError:
        raise InputError(
            f"{weights} does not hold the network that {SPEC} beside it describes: restore the folder as it was saved"
        ) from None
    return model.to(device).eval()


def model_home(folder: Path) -> Path:
    """Return the model's own folder: this one, or the ``model`` folder inside a training run."""
    inside = folder / "model"
    return inside if not (folder / SPEC).is_file() and (inside / SPEC).is_file() else folder


def _read_spec(folder: Path) -> tuple[ModelSpec, str]:
    value: dict[str, Any] = read_json(folder / SPEC, "a gyrus model's description")
    if not isinstance(value, dict) or value.pop("schema", None) != SCHEMA:
        raise InputError(f"{folder / SPEC} is not of schema {SCHEMA!r}: was it written by another program?")
    digest = str(value.pop("sha256", ""))
    try:
        return ModelSpec.model_validate(value), digest
    except ValidationError as error:
        raise InputError(f"{folder / SPEC}: {describe(error)}: restore the file as it was saved") from None


def _card(model: Classifier) -> str:
    """Return the model card: what it is, what it saw, what was measured, what it is not for."""
    spec = model.spec
    training = "\n".join(f"- {k}: {v}" for k, v in spec.training.items()) or "- none: these weights are untrained"
    metrics = "\n".join(f"- {k}: {v:.4f}" for k, v in spec.metrics.items() if isinstance(v, float)) or "- none"
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

## Measured on the validation part (used to choose the checkpoint, so optimistic)
{metrics}

## Limits
Knows only the classes above and slices like those it was trained on; gives an answer for any picture.
"""
