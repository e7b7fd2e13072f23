"""Fine-tuning: one Lightning module, one ``fit``; a killed run resumes to the same result."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from gyrus.artifacts import is_finished, read_json, refuse_existing, write_json, write_manifest
from gyrus.augment import Augment, apply, draw
from gyrus.devices import has_fast_bf16, pick_device
from gyrus.epochs import BEST, LAST, Checkpoints, EpochTable, WholeFiles
from gyrus.errors import InputError
from gyrus.loading import Progress, load_slices
from gyrus.models import Classifier, create_model, save_model
from gyrus.models.registry import normalisation
from gyrus.models.spec import Pooling
from gyrus.preprocess import Preprocess
from gyrus.records import Dataset, Record
from gyrus.splits import Split

CONFIG, SPLIT, EPOCHS = "config.json", "split.json", "epochs.csv"


class TrainConfig(BaseModel):
    """Everything that decides the result of a training run besides the data and the split.

    Attributes:
        model: architecture, see :func:`gyrus.create_model`.
        pretrained: "none", "hub", "package", or the path of a weight file.
        size: side of the input in pixels.
        crop: see :class:`Preprocess`.
        fit: see :class:`Preprocess`.
        canonical: train on :meth:`Preprocess.canonical` instead, which settles ``crop`` and ``fit``.
        channels: of the input.
        pooling: of the class map.
        output_stride: of the last feature map; None keeps the architecture's own.
        truncate: reach it by ending the network earlier, not by dilation.
        epochs: passes over the training part.
        batch_size: slices per step.
        learning_rate: the peak of the one-cycle schedule (Smith & Topin 2018).
        weight_decay: of AdamW (Loshchilov & Hutter 2019).
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016).
        class_weights: weigh the loss by the inverse of each class's frequency in the training part.
        augment: how far training slices are changed.
        seed: of initial weights, order and augmentation.
        precision: "auto" is bfloat16 autocast where the processor multiplies it in hardware, else float32.
        device: "cpu", "cuda", or "auto".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "mobilenetv2_100"
    pretrained: str = "none"
    size: int = Field(default=160, ge=32, le=1024)
    crop: Literal["none", "head"] = "none"
    fit: Literal["pad", "stretch"] = "pad"
    canonical: bool = False
    channels: Literal[1, 3] = 3
    pooling: Pooling = "avg"
    output_stride: Literal[8, 16, 32] | None = None
    truncate: bool = False
    epochs: int = Field(default=8, ge=1)
    batch_size: int = Field(default=32, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.02, ge=0, allow_inf_nan=False)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    class_weights: bool = True
    augment: Augment = Augment()
    seed: int = Field(default=0, ge=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.canonical and (self.crop, self.fit) != ("none", "pad"):
            raise ValueError("the canonical form settles crop and fit: leave both out")
        return self

    def preprocess(self) -> Preprocess:
        """Return how slices become input, as the architecture's weights expect it."""
        mean, std = normalisation(self.model)
        if self.canonical:
            return Preprocess.canonical(self.size).model_copy(update={"mean": mean, "std": std})
        return Preprocess(size=self.size, crop=self.crop, fit=self.fit, mean=mean, std=std)


def fit(
    dataset: Dataset,
    split: Split,
    config: TrainConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> Classifier:
    """Fine-tune a classifier on the training part, choosing the epoch by the validation loss.

    The test part is never read. After each epoch a checkpoint is kept, so a run that was killed continues with
    ``resume=True`` to the result it would have had: order and augmentation depend on (seed, epoch, step) alone.

    Args:
        dataset: what the split was made for.
        split: its train and val parts are used; without a val part the last epoch is kept.
        config: the recipe.
        out: the run's folder: ``model/``, ``split.json``, ``config.json``, ``epochs.csv`` and, last, ``run.json``.
        resume: continue an unfinished run in ``out`` made with the same arguments.
        progress: called after each step.

    Returns:
        The chosen model, in evaluation mode.

    Raises:
        InputError: the split is for other data, ``out`` is taken, arguments differ on resuming, an unreadable slice.
    """
    started = time.time()
    split.check(dataset)
    _claim(out, config, split, resume)
    device = pick_device(config.device)
    train, val = ([dataset[i] for i in ids] for ids in (split.train, split.val))
    classes = tuple(sorted({str(r.label) for r in train}))
    _require_known(val, classes)
    model = _make_model(config, classes)
    spec = model.spec.preprocess
    task = _Task(
        model,
        config,
        _SliceBatches(
            load_slices(train, spec, what="reading train", progress=progress), _indices(train, classes), config
        ),
        _SliceBatches(load_slices(val, spec, what="reading val", progress=progress), _indices(val, classes), config),
        progress,
    )
    out.mkdir(parents=True, exist_ok=True)
    if not (out / SPLIT).exists():
        split.save(out / SPLIT)
    write_json(out / CONFIG, config.model_dump())
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        best = _run(task, config, device, out)
    model.load_state_dict(best)
    chosen = task.table.chosen
    model.spec = model.spec.model_copy(
        update={
            "training": {
                "data": dataset.info.name,
                "fingerprint": dataset.fingerprint,
                "split": split.statement,
                "record_wise": split.leaks,
                "epoch": chosen["epoch"],
                **config.model_dump(include={"seed", "epochs", "learning_rate", "label_smoothing", "class_weights"}),
            },
            "metrics": {k: v for k, v in chosen.items() if k.startswith("val_")},
        }
    )
    shutil.rmtree(out / "model", ignore_errors=True)  # left by a run killed while saving
    save_model(model, out / "model")
    (out / "checkpoints" / LAST).unlink()  # first, so that a run killed in the next line does not resume from a half
    shutil.rmtree(out / "checkpoints")
    facts = {"seed": config.seed, "data": _data_facts(dataset), "split": split.statement, "record_wise": split.leaks}
    write_manifest(out, "train", started=started, arguments=config.model_dump(), facts=facts)
    return model.eval()


def make_config(**fields: Any) -> TrainConfig:
    """Return a recipe from plain values.

    Raises:
        InputError: a value is out of range; the message names the field.
    """
    try:
        return TrainConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        why = first["msg"].removeprefix("Value error, ")
        where = ".".join(str(p) for p in first["loc"])
        raise InputError(f"{where} = {first['input']!r} cannot be used: {why}" if where else why) from None


def _claim(out: Path, config: TrainConfig, split: Split, resume: bool) -> None:
    """Refuse a folder that is taken, or an unfinished run with other arguments."""
    if not out.exists():
        refuse_existing(out)
        return
    if not out.is_dir():
        raise InputError(f"{out} already exists and is a file: choose another --out")
    if is_finished(out):
        raise InputError(f"{out} holds a finished run: choose another --out, or remove it first")
    if not (out / CONFIG).is_file() and any(out.iterdir()):
        raise InputError(f"{out} already exists and is not a training run: choose another --out")
    if (out / CONFIG).is_file():
        if not resume:
            raise InputError(f"{out} holds an unfinished run: continue it with --resume, or remove it")
        if TrainConfig.model_validate(read_json(out / CONFIG, "a training recipe")) != config:
            raise InputError(f"{out} was started with other arguments ({out / CONFIG}): resume with the same ones")
        if Split.load(out / SPLIT) != split:
            raise InputError(f"{out} was started with another split: resume with the same one")


def _require_known(records: Sequence[Record], classes: tuple[str, ...]) -> None:
    unknown = next((r for r in records if r.label not in classes), None)
    if unknown is not None:
        raise InputError(f"{unknown.id!r} in the val part is {unknown.label!r}, a class that the train part lacks")


def _make_model(config: TrainConfig, classes: tuple[str, ...]) -> Classifier:
    sources: Mapping[str, Any] = {"none": "none", "hub": "hub", "package": "package"}
    return create_model(
        config.model,
        classes,
        pretrained=sources.get(config.pretrained, Path(config.pretrained)),
        pooling=config.pooling,
        output_stride=config.output_stride,
        truncate=config.truncate,
        channels=config.channels,
        preprocess=config.preprocess(),
        seed=config.seed,
    ).to(memory_format=torch.channels_last)


def _indices(records: Sequence[Record], classes: tuple[str, ...]) -> Tensor:
    return torch.tensor([classes.index(str(r.label)) for r in records], dtype=torch.int64)


def _data_facts(dataset: Dataset) -> dict[str, Any]:
    return {"name": dataset.info.name, "root": str(dataset.root.absolute()), "fingerprint": dataset.fingerprint}


def _stream(*key: int) -> int:
    """Return a seed that depends on every number of ``key`` and on nothing else."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def _run(task: _Task, config: TrainConfig, device: torch.device, out: Path) -> dict[str, Tensor]:
    """Train to the end, from the last checkpoint if there is one, and return the chosen weights."""
    folder = out / "checkpoints"
    folder.mkdir(exist_ok=True)
    bf16 = config.precision == "bf16" or (config.precision == "auto" and has_fast_bf16(device))
    task.table.path = out / EPOCHS
    trainer = L.Trainer(
        accelerator=device.type,
        devices=1,
        precision="bf16-mixed" if bf16 else "32-true",
        max_epochs=config.epochs,
        limit_val_batches=1.0 if len(task.val) else 0,
        callbacks=[task.table, Checkpoints(folder, task.table)],
        plugins=[WholeFiles()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=out,
    )
    resume_from = folder / LAST
    try:
        trainer.fit(
            task,
            train_dataloaders=task.train_batches,
            val_dataloaders=task.val,
            ckpt_path=resume_from if resume_from.is_file() else None,
            weights_only=True,
        )
    except SystemExit as error:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from error
    state = torch.load(folder / BEST, map_location="cpu", weights_only=True)["state_dict"]
    return {k.removeprefix("model."): v for k, v in state.items()}


@dataclass(eq=False)
class _SliceBatches:
    """Batches straight from the cached slices; the order of a shuffled pass depends on (seed, epoch) alone."""

    slices: np.ndarray[Any, np.dtype[np.uint8]]
    labels: Tensor
    config: TrainConfig
    epoch: Callable[[], int] | None = None

    def __len__(self) -> int:
        n = len(self.labels)
        return min(-(-n // self.config.batch_size), max(n // 2, 1)) if n else 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n = len(self.labels)
        order = torch.arange(n)
        if self.epoch is not None:
            generator = torch.Generator().manual_seed(_stream(self.config.seed, self.epoch(), 0))
            order = torch.randperm(n, generator=generator)
        pixels = torch.from_numpy(self.slices)
        for chunk in order.tensor_split(len(self)):  # sizes differ by one at most: no odd batch of one
            yield pixels[chunk], self.labels[chunk]


class _Task(L.LightningModule):
    """The classifier, its loss, its schedule, and the figures of each epoch."""

    def __init__(
        self,
        model: Classifier,
        config: TrainConfig,
        train: _SliceBatches,
        val: _SliceBatches,
        progress: Progress | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.train_batches = train
        self.train_batches.epoch = lambda: self.current_epoch
        self.val = val
        self.progress = progress
        self.table = EpochTable()
        counts = torch.bincount(train.labels, minlength=len(model.classes)).float()
        weight = counts.sum() / (len(counts) * counts) if config.class_weights else torch.ones_like(counts)
        self.register_buffer("class_weight", weight, persistent=False)

    def on_train_epoch_start(self) -> None:
        # Whatever draws from the global generator (dropout) then does not depend on what ran before a resumption.
        torch.manual_seed(_stream(self.config.seed, self.current_epoch, 1))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        slices, labels = batch
        generator = torch.Generator().manual_seed(_stream(self.config.seed, self.current_epoch, 2, index))
        images = self.model.normalise(apply(slices, draw(self.config.augment, len(slices), generator)))
        logits = self.model(images)
        weight, smoothing = self.get_buffer("class_weight"), self.config.label_smoothing
        loss = F.cross_entropy(logits.float(), labels, weight=weight, label_smoothing=smoothing)
        self.table.add("train", loss, logits, labels)
        if self.progress:
            total = self.config.epochs * len(self.train_batches)
            self.progress(f"epoch {self.current_epoch + 1}/{self.config.epochs}", self.global_step + 1, total)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:  # noqa: ARG002
        slices, labels = batch
        logits = self.model(self.model.normalise(slices)).float()
        loss = F.cross_entropy(logits, labels)
        self.table.add("val", loss, logits, labels)
        self.log("val_loss", loss, batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        config = self.config
        optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        steps = config.epochs * len(self.train_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
