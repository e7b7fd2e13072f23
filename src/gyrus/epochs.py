"""What is kept of each epoch of training: a row of figures, the checkpoint to resume from, and the best one."""

from __future__ import annotations

import csv
import errno
import math
import time
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from gyrus.confusion import confusion_matrix, rates
from gyrus.errors import GyrusError

CHECKPOINTS = "checkpoints"
"""The folder of an unfinished run in which these lie."""
BEST, LAST = "best.ckpt", "last.ckpt"
Choice = Literal["loss", "accuracy", "last"]


class EpochTable(Callback):
    """Loss, accuracy, macro precision, recall and F1 of each epoch, on both parts, as ``epochs.csv``.

    The rows travel in the checkpoint, so a resumed run's table is whole.

    Args:
        choose: which epoch is kept: of least validation loss, of highest validation accuracy, or the last.
    """

    def __init__(self, choose: Choice = "loss") -> None:
        self.choose = choose
        self.path: Path | None = None
        self.rows: list[dict[str, float]] = []
        self._sums: dict[str, tuple[float, np.ndarray[Any, np.dtype[np.int64]]]] = {}
        self._started = 0.0

    @property
    def chosen(self) -> dict[str, float]:
        """The row of the epoch that was kept; the last where there is no validation part."""
        if self.choose == "last" or "val_loss" not in self.rows[0]:
            return self.rows[-1]
        return min(self.rows, key=_error if self.choose == "loss" else _inaccuracy)

    def add(self, part: str, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count one batch: mean loss, (N, C) logits, (N,) labels."""
        n, classes = logits.shape
        counts = confusion_matrix(labels.cpu().numpy(), logits.detach().argmax(dim=1).cpu().numpy(), classes)
        total, confusion = self._sums.get(part, (0.0, np.zeros((classes, classes), dtype=np.int64)))
        self._sums[part] = (total + float(loss.detach()) * n, confusion + counts)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Start counting anew."""
        self._sums, self._started = {}, time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Add the epoch's row and write the table.

        Raises:
            GyrusError: the training loss is not finite; no model comes of such a run.
        """
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1}
        for part, (total, confusion) in self._sums.items():
            figures = rates(confusion)
            row[f"{part}_loss"] = total / max(int(confusion.sum()), 1)
            for name in ("accuracy", "macro_precision", "macro_recall", "macro_f1"):
                row[f"{part}_{name}"] = float(figures[name])
        row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        row["seconds"] = round(time.perf_counter() - self._started, 2)
        self.rows.append(row)
        if self.path is not None:
            self._write(self.path)
        if not math.isfinite(row.get("train_loss", 0.0)):
            raise GyrusError(
                f"the training loss of epoch {row['epoch']:.0f} is not a number, so nothing was learned: "
                "lower the learning rate, or train in --precision fp32"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.rows = list(state_dict["rows"])

    def _write(self, path: Path) -> None:
        aside = path.with_name(f".{path.name}.partial")
        with aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
        aside.replace(path)


class Checkpoints(Checkpoint):
    """Keeps the last epoch, to resume from, and the one that the table has chosen so far.

    Args:
        folder: where :data:`BEST` and :data:`LAST` go.
        table: has the epoch's row already, since Lightning calls checkpoint callbacks after all others.
    """

    def __init__(self, folder: Path, table: EpochTable) -> None:
        self.folder = folder
        self.table = table

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Save the epoch; the best before the last, so that an epoch cut off in between is trained again."""
        if self.table.chosen["epoch"] == trainer.current_epoch + 1:
            trainer.save_checkpoint(self.folder / BEST)
        trainer.save_checkpoint(self.folder / LAST)


class WholeFiles(TorchCheckpointIO):
    """Checkpoints written aside and renamed, so that none is ever half there.

    Lightning's own go through the system's temporary folder, often another disk, from where they are copied in pieces.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ARG002
    ) -> None:
        """Write ``checkpoint`` to ``path``; there are no storage options."""
        aside = Path(f"{path}.partial")
        try:
            torch.save(checkpoint, aside)
            aside.replace(path)
        except RuntimeError as error:  # what torch's writer makes of a full disk
            raise OSError(errno.ENOSPC, "it cannot be written; is the disk full?", str(path)) from error
        finally:
            aside.unlink(missing_ok=True)


def _error(row: dict[str, float]) -> float:
    """Return the validation loss; one that is not a number is worse than any other."""
    return math.inf if math.isnan(row["val_loss"]) else row["val_loss"]


def _inaccuracy(row: dict[str, float]) -> tuple[float, float]:
    """Return what the epoch of highest accuracy, and among equals of least loss, has least of."""
    return -row["val_accuracy"], _error(row)
