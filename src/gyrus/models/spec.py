"""What travels with the weights: everything needed to rebuild the network and to feed it. No torch here."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gyrus.certainty import Calibration
from gyrus.preprocess import Preprocess

SCHEMA = "gyrus.model/1"
Pooling = Literal["avg", "lse"]
Head = Literal["softmax", "sigmoid"]


class ModelSpec(BaseModel):
    """The content of ``model.json`` without the hash of the weights.

    Attributes:
        architecture: a name from :func:`gyrus.list_models` or any convolutional timm model.
        classes: class names, in the order of the logits.
        pooling: of the class map into a logit; see :class:`gyrus.models.classifier.Classifier`.
        head: "softmax", one output per class; or "sigmoid", a single one that decides between two classes.
        keep_dense: whether VGG's own two dense layers stand before the last one, so that there is no class map.
        output_stride: input pixels per cell of the last feature map, or None for the architecture's own (mostly 32).
        fuse: channels of the last features where those of stride 8, 16 and 32 are fused at stride 8, or None; see
            :class:`gyrus.models.fusion.Fusion`.
        truncate: reach that stride by ending the network earlier, not by dilating its last stages.
        preprocess: how an image becomes the network's input.
        target_layer: the module whose output the class map is linear in; without one, the last feature map.
        pretrained: where the initial weights came from.
        licence: of the weights.
        training: data name and fingerprint, split statement, seed, arguments; empty for an untrained model.
        metrics: measured on the validation part while training; never on test data.
        calibration: what turns logits into calibrated probabilities, sets and refusals; None until it was calibrated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    classes: tuple[str, ...] = Field(min_length=2)
    pooling: Pooling = "avg"
    head: Head = "softmax"
    keep_dense: bool = False
    output_stride: Literal[8, 16, 32] | None = None
    truncate: bool = False
    fuse: int | None = Field(default=None, ge=8)
    preprocess: Preprocess = Preprocess()
    target_layer: str = "body"
    pretrained: str = "none"
    licence: str = "not stated"
    training: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.head == "sigmoid" and len(self.classes) != 2:
            raise ValueError(f"one sigmoid unit decides between two classes, not {len(self.classes)}: use head softmax")
        if self.calibration is not None and set(self.calibration.thresholds) != set(self.classes):
            raise ValueError("the calibration is of other classes than the model's")
        if self.fuse is not None and self.keep_dense:
            raise ValueError("dense layers take no features fused at stride 8: leave fuse or keep_dense out")
        if self.fuse is not None and (self.output_stride is not None or self.truncate):
            raise ValueError(
                "features fused at stride 8 have a stride of their own: leave output_stride and truncate out"
            )
        return self
