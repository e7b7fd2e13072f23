"""Fine-tuning: one Lightning module, one ``fit``; a killed run resumes to the same result."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from gyrus.artifacts import is_finished, read_json, refuse_existing, write_json, write_manifest
from gyrus.augment import apply, draw, keep_shown, move
from gyrus.batches import Batches, indices_of, stream
from gyrus.depthwise import SwiftDepthwise
from gyrus.devices import has_fast_bf16, pick_device
from gyrus.epochs import BEST, CHECKPOINTS, LAST, Checkpoints, EpochTable, WholeFiles
from gyrus.errors import InputError
from gyrus.features import embed_records
from gyrus.guides import answer_loss, at_grid, mask_loss, true_maps
from gyrus.loading import Progress, load_slices
from gyrus.models import Classifier, create_model, load_model, save_model
from gyrus.models.attention import CamAttention
from gyrus.paths import PathLike, maybe_path
from gyrus.records import Dataset, Record
from gyrus.splits import Split
from gyrus.synthetic import synthetic_facts, synthetic_slices
from gyrus.teaching import all_trainings, find_teacher, guiding_outlines, teacher_facts
from gyrus.trainconfig import TrainConfig, make_config

__all__ = ["CONFIG", "EPOCHS", "SPLIT", "AttentionSwitch", "TrainConfig", "fit", "make_config"]

CONFIG, SPLIT, EPOCHS = "config.json", "split.json", "epochs.csv"
TOLD = {"seed", "epochs", "learning_rate", "label_smoothing", "class_weights", "guide_weight", "erase"}
TOLD |= {"frozen", "optimizer", "schedule", "choose", "dropout", "attention_from"}
"""What of the recipe the model's own description repeats."""


def fit(
    dataset: Dataset,
    split: Split,
    config: TrainConfig,
    out: PathLike,
    *,
    resume: bool = False,
    features: PathLike | None = None,
    progress: Progress | None = None,
) -> Classifier:
    """Fine-tune a classifier on the training part, choosing the epoch by the validation part.

    The test part is never read. After each epoch a checkpoint is kept, so a run that was killed continues with
    ``resume=True`` to the result it would have had: order and augmentation depend on (seed, epoch, step) alone.

    Args:
        dataset: what the split was made for.
        split: its train and val parts are used; without a val part the last epoch is kept.
        config: the recipe.
        out: the run's folder: ``model/``, ``split.json``, ``config.json``, ``epochs.csv`` and, last, ``run.json``.
        resume: continue an unfinished run in ``out`` made with the same arguments.
        features: a folder in which a frozen network's features are kept from run to run.
        progress: called after each step.

    Returns:
        The chosen model, in evaluation mode.

    Raises:
        InputError: the split is for other data, ``out`` is taken, arguments differ on resuming, an unreadable slice.
    """
    started = time.time()
    out, features = Path(out), maybe_path(features)
    split.check(dataset)
    _claim(out, config, split, resume)
    device = pick_device(config.device)
    train, val = ([dataset[i] for i in ids] for ids in (split.train, split.val))
    classes = tuple(sorted({str(r.label) for r in train}))
    _require_known(val, classes)
    begun = config.begun
    teacher = find_teacher(config, classes)
    made = synthetic_slices(Path(config.synthetic), classes, dataset) if config.synthetic else None
    model = make_model(config, classes, begun)
    for place, learned in ((begun, model), (config.teacher, teacher)):
        if place is not None and learned is not None:
            _require_unseen(place, learned.spec.training, split)

    def part(records: Sequence[Record], name: str) -> Batches:
        inputs: np.ndarray[Any, Any]
        if config.frozen:
            inputs = embed_records(
                model.to(device), records, store=features, precision=config.precision, what=f"features of {name}",
                progress=progress,
            )  # fmt: skip
        else:
            inputs = load_slices(records, model.spec.preprocess, what=f"reading {name}", progress=progress)
        return Batches(inputs, indices_of(records, classes), config)

    batches = part([*train, *(made or ())], "train")
    batches.outlines = guiding_outlines(
        config, teacher, train, made.records if made else (), model.spec.preprocess, progress
    )
    task = _Task(model, config, batches, part(val, "val"), progress)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / SPLIT).exists():
        split.save(out / SPLIT)
    write_json(out / CONFIG, config.model_dump())
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        best = _run(task, config, device, out)
    model.load_state_dict(model.state_dict() | best)  # of a frozen run only the head is kept
    chosen = task.table.chosen
    model.spec = model.spec.model_copy(
        update={
            "training": {
                "data": dataset.info.name,
                "fingerprint": dataset.fingerprint,
                "split": split.statement,
                "record_wise": split.leaks,
                "epoch": chosen["epoch"],
                **config.model_dump(include=TOLD),
                **({"attention_from": None} if isinstance(model, CamAttention) and not model.attends else {}),
                "guide": "model" if teacher else config.guide,
                **({"synthetic": synthetic_facts(made)} if made else {}),
                **({"teacher": teacher_facts(teacher)} if teacher else {}),
                **({"before": dict(model.spec.training)} if begun is not None else {}),
            },
            "metrics": {k: v for k, v in chosen.items() if k.startswith("val_")},
        }
    )
    shutil.rmtree(out / "model", ignore_errors=True)  # left by a run killed while saving
    save_model(model, out / "model")
    facts = {"seed": config.seed, "data": _data_facts(dataset), "split": split.statement, "record_wise": split.leaks}
    write_manifest(out, "train", started=started, arguments=config.model_dump(), facts=facts, without=CHECKPOINTS)
    shutil.rmtree(out / CHECKPOINTS)  # last: a run killed before it is finished resumes from them
    return model.eval()


def read_recipe(run: Path) -> TrainConfig:
    """Return what a run is trained with; of one by an older gyrus, with what that did where it knew no other way."""
    told = read_json(run / CONFIG, "a training recipe")
    return make_config(**{k: v for k, v in told.items() if k != "phantoms"})  # which runs drew by themselves once


def _claim(out: Path, config: TrainConfig, split: Split, resume: bool) -> None:
    """Refuse a folder that is taken, or an unfinished run with other arguments."""
    if not out.exists():
        refuse_existing(out)
        return
    if not out.is_dir():
        raise InputError(f"{out} already exists and is a file: choose another --out")
    if is_finished(out):
        raise InputError(f"{out} holds a finished run: choose another --out, or remove it first")
    begun = (out / CONFIG).is_file()
    # A run killed before its recipe was written leaves its split at most, and files half written.
    if not begun and any(not (resume and (p.name == SPLIT or p.match(".*.partial"))) for p in out.iterdir()):
        raise InputError(f"{out} already exists and is not a training run: choose another --out")
    if begun and not resume:
        raise InputError(f"{out} holds an unfinished run: continue it with --resume, or remove it")
    if begun and read_recipe(out) != config:
        raise InputError(f"{out} was started with other arguments ({out / CONFIG}): resume with the same ones")
    if (begun or (out / SPLIT).exists()) and Split.load(out / SPLIT) != split:
        raise InputError(f"{out} was started with another split: resume with the same one")


def _require_known(records: Sequence[Record], classes: tuple[str, ...]) -> None:
    unknown = next((r for r in records if r.label not in classes), None)
    if unknown is not None:
        raise InputError(f"{unknown.id!r} in the val part is {unknown.label!r}, a class that the train part lacks")


def _require_unseen(run: Path, training: Mapping[str, Any], split: Split) -> None:
    """Refuse to go on from, or be guided by, a run that learned from, or was chosen on, what this split holds back.

    It can be told of a run on the same data, whose split lies with it. Of what such a run began from or was guided by
    the split's statement alone is known: it has to be this one's.
    """
    path = next((p for p in (run / SPLIT, run.resolve().parent / SPLIT) if p.is_file()), None)
    if path is not None:
        split.refuse_learned(Split.load(path), str(run))
    for other in all_trainings(training)[0 if path is None else 1 :]:
        if other.get("fingerprint") == split.fingerprint and other.get("split") != split.statement:
            raise InputError(
                f"{run} goes back to a model that learned from this data by another split ({other.get('split')}), so "
                "what this one holds back may have taken part: take a run of the same split"
            )


def make_model(config: TrainConfig, classes: tuple[str, ...], begun: Path | None) -> Classifier:
    """Return a recipe's network before its first step, with the weights of the run ``begun`` if it is one.

    Raises InputError as :func:`gyrus.create_model`, where ``begun`` is of another network, or it has no attention.
    """
    model = create_model(
        config.model,
        classes,
        pretrained="none" if begun else config.pretrained,
        pooling=config.pooling,
        head=config.head,
        keep_dense=config.keep_dense,
        dropout=config.dropout,
        output_stride=config.output_stride,
        truncate=config.truncate,
        fuse=config.fuse,
        channels=config.channels,
        preprocess=config.preprocess(),
        seed=config.seed,
    )
    if begun is not None:
        _go_on_from(begun, model)
    if config.attention_from is not None and not isinstance(model, CamAttention):
        raise InputError(f"{config.model} has no attention to switch on: leave attention_from out")
    if config.frozen:
        model.requires_grad_(False).head.requires_grad_(True)
    return model.to(memory_format=torch.channels_last)


def _go_on_from(folder: Path, model: Classifier) -> None:
    """Give a new model the weights of a trained one, which has to be of the same form."""
    trained = load_model(folder)
    for name in (
        "architecture",
        "classes",
        "pooling",
        "head",
        "keep_dense",
        "fuse",
        "output_stride",
        "truncate",
        "preprocess",
    ):
        ours, theirs = getattr(model.spec, name), getattr(trained.spec, name)
        if ours != theirs:
            raise InputError(f"{folder} has another {name} ({theirs}) than what is to be trained ({ours})")
    model.load_state_dict(trained.state_dict())
    if isinstance(model, CamAttention):
        model.switch_attention(False)  # when it begins is the new recipe's to say
    model.spec = model.spec.model_copy(
        update={name: getattr(trained.spec, name) for name in ("pretrained", "licence", "training")}
    )


def _in_bf16(config: TrainConfig, device: torch.device) -> bool:
    return config.precision == "bf16" or (config.precision == "auto" and has_fast_bf16(device))


def _data_facts(dataset: Dataset) -> dict[str, Any]:
    return {"name": dataset.info.name, "root": str(dataset.root.absolute()), "fingerprint": dataset.fingerprint}


def _run(task: _Task, config: TrainConfig, device: torch.device, out: Path) -> dict[str, Tensor]:
    """Train to the end, from the last checkpoint if there is one, and return the chosen weights."""
    folder = out / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    task.table.path = out / EPOCHS
    switch = [AttentionSwitch(config.attention_from)] if config.attention_from else []
    trainer = L.Trainer(
        accelerator=device.type,
        devices=1,
        precision="bf16-mixed" if _in_bf16(config, device) and not config.frozen else "32-true",
        max_epochs=config.epochs,
        limit_val_batches=1.0 if len(task.val) else 0,
        callbacks=[task.table, *switch, Checkpoints(folder, task.table)],
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


class AttentionSwitch(Callback):
    """Switches a model's attention on at the beginning of an epoch; resumed after it, at once.

    The switch is part of the model's state, so each checkpoint and the saved model have it as their epoch had.

    Args:
        first: the epoch, counted from 1.
    """

    def __init__(self, first: int) -> None:
        self.first = first

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Switch it on where its epoch has come."""
        if trainer.current_epoch + 1 >= self.first:
            cast(CamAttention, pl_module.model).switch_attention(True)


class _Task(L.LightningModule):
    """The classifier, its loss, its schedule, and the figures of each epoch."""

    def __init__(
        self,
        model: Classifier,
        config: TrainConfig,
        train: Batches,
        val: Batches,
        progress: Progress | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.train_batches = train
        self.train_batches.epoch = lambda: self.current_epoch
        self.val = val
        self.progress = progress
        self.table = EpochTable(config.choose)
        self.strict_loading = not config.frozen
        counts = train.counts(len(model.classes))
        weight = counts.sum() / (len(counts) * counts) if config.class_weights else torch.ones_like(counts)
        self.register_buffer("class_weight", weight, persistent=False)

    def on_train_epoch_start(self) -> None:
        # Whatever draws from the global generator (dropout) then does not depend on what ran before a resumption.
        torch.manual_seed(stream(self.config.seed, self.current_epoch, 1))

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        inputs, labels, *outlined = batch
        if not self.config.frozen:
            generator = torch.Generator().manual_seed(stream(self.config.seed, self.current_epoch, 2, index))
            changes = draw(self.config.augment, len(inputs), generator)
            if outlined and self.config.augment.peel:
                changes = keep_shown(changes, outlined[0])
            inputs = apply(inputs, changes)
            outlined = [move(outlined[0], changes) / 255, *outlined[1:]] if outlined else []
        with SwiftDepthwise():
            class_map, logits = self._answer(inputs, mapped=bool(outlined))
        gone = outlined[2] if outlined else torch.zeros_like(labels, dtype=torch.bool)
        weight, smoothing = self.get_buffer("class_weight"), self.config.label_smoothing
        loss = answer_loss(logits.float(), labels, gone, weight, smoothing)
        if class_map is not None:
            loss = loss + self.config.guide_weight * self._guidance(class_map.float(), labels, *outlined[:2])
        self.table.add("train", loss, logits[~gone], labels[~gone])
        if self.progress:
            total = self.config.epochs * len(self.train_batches)
            self.progress(f"epoch {self.current_epoch + 1}/{self.config.epochs}", self.global_step + 1, total)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:  # noqa: ARG002
        inputs, labels = batch
        logits = self._answer(inputs)[1].float()
        loss = F.cross_entropy(logits, labels)
        self.table.add("val", loss, logits, labels)
        self.log("val_loss", loss, batch_size=len(labels))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what never changes, which for VGG would be a hundred times the rest."""
        if self.config.frozen:
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {k: v for k, v in state.items() if k.startswith("model.head.")}

    def configure_optimizers(self) -> Any:
        config = self.config
        learning = [p for p in self.model.parameters() if p.requires_grad]
        optimiser = _make_optimizer(config, learning)
        if config.schedule == "constant":
            return optimiser
        steps = config.epochs * len(self.train_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _answer(self, inputs: Tensor, *, mapped: bool = False) -> tuple[Tensor | None, Tensor]:
        """Return the class map, if it is asked for, and (N, classes) from slices, or of a frozen run from features."""
        if self.config.frozen:
            return None, self.model.finish(inputs)
        features = self.model.features(self.model.normalise(inputs))
        return self.model.class_map(features) if mapped else None, self.model.finish(features)

    def _guidance(self, class_map: Tensor, labels: Tensor, outlines: Tensor, known: Tensor) -> Tensor:
        """Return the mean over the slices whose outline is known of how far the true class's map is from it."""
        height, width = class_map.shape[2:]
        losses = mask_loss(true_maps(class_map, labels), at_grid(outlines, (height, width)))
        return (losses * known).sum() / known.sum().clamp(min=1)


def _make_optimizer(config: TrainConfig, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(weights, config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(weights, lr=config.learning_rate, weight_decay=config.weight_decay)
