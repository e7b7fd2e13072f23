"""The recipe of one training run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from gyrus.augment import STILL, Augment
from gyrus.epochs import Choice
from gyrus.errors import InputError
from gyrus.models.registry import SOURCES, describe, normalisation
from gyrus.models.spec import Head, Pooling
from gyrus.preprocess import Preprocess

GUIDES = ("none", "mask")
"""What ``guide`` may say but for the path of a model."""


def _text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


Text = Annotated[str, BeforeValidator(_text)]
"""A name or a path, kept as text; a Path is taken too."""


class TrainConfig(BaseModel):
    """Everything that decides the result of a training run besides the data and the split.

    Attributes:
        model: architecture, see :func:`gyrus.create_model`.
        pretrained: "none", "hub", "package", the path of a weight file, or of a trained model of the same form, from
            which training goes on. A run on the same data that learned from persons whom the split holds back is
            refused.
        frozen: train the last layer alone. What it takes is computed once per slice, through the rest of the network
            in evaluation mode, and kept in memory, so an epoch takes a fraction of a second. Slices are therefore
            never augmented: ``augment`` is left out, and one of its own is refused.
        size: side of the input in pixels.
        crop: see :class:`Preprocess`.
        fit: see :class:`Preprocess`.
        canonical: train on :meth:`Preprocess.canonical` instead, which settles ``crop`` and ``fit``.
        channels: of the input.
        pooling: of the class map.
        head: "softmax", or for two classes "sigmoid"; see :func:`gyrus.create_model`.
        keep_dense: keep VGG's own two dense layers; see :func:`gyrus.create_model`.
        dropout: share of what the last layer takes that is left out in each step.
        attention_from: the first epoch, counted from 1, in which the attention of "cam_attention" takes part; None is
            never. Refused for a model without attention.
        output_stride: of the last feature map; None keeps the architecture's own.
        truncate: reach it by ending the network earlier, not by dilation.
        fuse: channels in which the features of stride 8, 16 and 32 are brought together at stride 8; see
            :func:`gyrus.create_model`.
        guide: "none"; or "mask", which adds to the loss how far the map of the true class is from the tumour's outline,
            see :func:`gyrus.guides.mask_loss`. Slices of no_tumor are pulled to an empty map; others without an outline
            are left alone. Or the path of a trained model, whose maps then stand in for outlines, and those of the
            data, if there are any, are not read: see :func:`gyrus.teaching.taught_outlines`. A run on the same data
            that learned from persons whom the split holds back is refused.
        synthetic: the folder of a phantom, whose slices take part in the training, its class weights and figures
            included; their outlines guide wherever anything guides. None is none.
        guide_weight: of that loss beside the cross-entropy.
        erase: share of the outlined slices whose tumour is taken out in each epoch, and with it what tells the class:
            all are then to be equally likely, and the map empty. Needs ``guide`` "mask". See
            :func:`gyrus.erasure.erase`.
        epochs: passes over the training part.
        batch_size: slices per step.
        optimizer: "adamw" (Loshchilov & Hutter 2019), "adam" (Kingma & Ba 2015; its weight decay is part of the
            gradient), or "sgd" with momentum 0.9.
        schedule: of the learning rate: "one-cycle" (Smith & Topin 2018), which moves the momentum too, or "constant".
        learning_rate: the peak of the one-cycle schedule, or the constant one.
        weight_decay: of the optimizer.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016).
        class_weights: weigh the loss by the inverse of each class's frequency in the training part.
        choose: which epoch is kept: of least validation "loss", of highest validation "accuracy" (among equals, of
            least loss), or the "last". Without a validation part it is the last.
        augment: how far training slices are changed.
        seed: of initial weights, order and augmentation.
        precision: "auto" is bfloat16 autocast where the processor multiplies it in hardware, else float32.
        device: "cpu", "cuda", or "auto".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "mobilenetv2_100"
    pretrained: Text = "none"
    frozen: bool = False
    size: int = Field(default=160, ge=32, le=1024)
    crop: Literal["none", "head"] = "none"
    fit: Literal["pad", "stretch"] = "pad"
    canonical: bool = False
    channels: Literal[1, 3] = 3
    pooling: Pooling = "avg"
    head: Head = "softmax"
    keep_dense: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    attention_from: int | None = Field(default=None, ge=1)
    output_stride: Literal[8, 16, 32] | None = None
    truncate: bool = False
    fuse: int | None = Field(default=None, ge=8, le=1024)
    guide: Text = Field(default="none", min_length=1)
    synthetic: Text | None = Field(default=None, min_length=1)
    guide_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    erase: float = Field(default=0.0, ge=0, le=0.5)
    epochs: int = Field(default=8, ge=1)
    batch_size: int = Field(default=32, ge=2)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.02, ge=0, allow_inf_nan=False)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    class_weights: bool = True
    choose: Choice = "loss"
    augment: Augment = Augment()
    seed: int = Field(default=0, ge=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.canonical and (self.crop, self.fit) != ("none", "pad"):
            raise ValueError("the canonical form settles crop and fit: leave both out")
        if self.frozen and (self.guide != "none" or self.fuse is not None):
            raise ValueError(
                "a frozen network's map cannot be guided, nor its features fused: leave guide and fuse out"
            )
        if self.frozen and self.augment not in (Augment(), STILL):
            raise ValueError("a frozen network sees each slice once, so augmentation is off: leave augment out")
        if self.frozen and self.attention_from is not None:
            raise ValueError("attention that is switched on has to be learned: leave frozen or attention_from out")
        if self.augment.peel and not self.canonical:
            raise ValueError("what is peeled lies outside a fixed oval, which heads fill in the canonical form alone")
        if self.augment.peel and self.guide != "mask":
            raise ValueError("a tumour at the skull is spared by its outline: use peel with guide mask")
        if self.erase and self.guide != "mask":
            raise ValueError("a tumour is taken out by its outline: use erase with guide mask")
        return self

    @property
    def begun(self) -> Path | None:
        """The trained model, the run, or the folder of runs training goes on from; None where weights are named."""
        place = Path(self.pretrained)
        return place if self.pretrained not in SOURCES and place.is_dir() else None

    @property
    def teacher(self) -> Path | None:
        """The trained model, the run, or the folder of runs whose maps guide; None where none does."""
        return None if self.guide in GUIDES else Path(self.guide)

    def preprocess(self) -> Preprocess:
        """Return how slices become input, as the architecture's weights expect it."""
        mean, std = normalisation(self.model)
        if self.canonical:
            return Preprocess.canonical(self.size).model_copy(update={"mean": mean, "std": std})
        return Preprocess(size=self.size, crop=self.crop, fit=self.fit, mean=mean, std=std)


def make_config(**fields: object) -> TrainConfig:
    """Return a recipe from plain values.

    Raises:
        InputError: a value is out of range; the message names the field.
    """
    try:
        return TrainConfig.model_validate(fields)
    except ValidationError as error:
        raise InputError(describe(error)) from None
