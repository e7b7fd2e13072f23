"""Models: a registry of backbones, the classifier they become, and its form on disk."""

from __future__ import annotations

from gyrus.models.classifier import Classifier
from gyrus.models.registry import BACKBONES, Backbone, create_model, list_models
from gyrus.models.saved import load_model, save_model
from gyrus.models.spec import ModelSpec

__all__ = [
    "BACKBONES",
    "Backbone",
    "Classifier",
    "ModelSpec",
    "create_model",
    "list_models",
    "load_model",
    "save_model",
]
