"""What a network says of many forms of a slice: probabilities, and the class map of its answer, from one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from gyrus.certainty.temperature import softmax
from gyrus.errors import InputError
from gyrus.evaluate.ranking import HALF, METRICS, Ranking, undefined_because
from gyrus.explain.activation import cam
from gyrus.models import Classifier
from gyrus.models.folding import folded, in_parts
from gyrus.records import Record
from gyrus.stress.views import Fill, Level, View, Views

CUT = HALF
"""The threshold of the IoU: half the map's maximum."""
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network said of one picture.

    Attributes:
        probability: of the true class, in [0, 1].
        predicted: the class of highest probability.
        pointing: whether the class map's maximum lies on the tumour, see :mod:`gyrus.evaluate.ranking`; NaN where there
            is no map, no outline, or no score.
        iou: of the map's :data:`CUT` with the tumour, likewise.
    """

    probability: float
    predicted: str
    pointing: float = np.nan
    iou: float = np.nan


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One slice: what was said of each of its forms.

    Attributes:
        record: the slice.
        levels: clean and degraded.
        filled: with something filled.
        sources: see :class:`gyrus.stress.views.Filled`.
        missing: see :class:`gyrus.stress.views.Filled`.
    """

    record: Record
    levels: Mapping[Level, Answer]
    filled: Mapping[Fill, Answer]
    sources: Mapping[Fill, str]
    missing: Mapping[Fill, str]


class Judge:
    """A classifier made ready for many forward passes; the one handed in is left untouched.

    Args:
        model: any classifier.
    """

    def __init__(self, model: Classifier) -> None:
        calibration = model.spec.calibration
        self.classes = model.classes
        self.temperature = 1.0 if calibration is None else calibration.temperature
        size = model.spec.preprocess.size
        noise = torch.randint(0, 256, (1, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        self.net = cast(Classifier, folded(model, model.normalise(noise)).net)
        # Of the model itself: the weights of its copy may be laid out for oneDNN, and nothing else reads those.
        self.weights = model.class_weights().detach().float() if model.has_class_map else None

    def see(self, slices: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        """Return what the network makes of prepared slices.

        Args:
            slices: (N, S, S).

        Returns:
            (N, C) probabilities, calibrated where the model is, and (N, h, w) float32 class maps of the likeliest
            class ("cam", without bias); None of a network that has no class map.
        """
        probabilities, maps = [], []
        with torch.inference_mode():
            for part in torch.split(torch.from_numpy(slices), _BATCH):
                features = in_parts(self.net.features, self.net.normalise(part))
                logits = self.net.finish(features).float()
                probabilities.append(softmax(logits.cpu().numpy(), self.temperature))
                if self.weights is not None:
                    found = features.float()
                    maps.append(cam.rule(found, found, self.weights[logits.argmax(dim=1)]).cpu().numpy())
        return np.concatenate(probabilities), np.concatenate(maps) if maps else None

    def answers(self, chunk: Sequence[Views]) -> list[Row]:
        """Return what the network says of every form of some slices.

        Raises:
            InputError: its logits are not finite.
        """
        stacked = np.stack([s for v in chunk for s in (*(w.slice for w in v.levels.values()), *v.filled.values())])
        probabilities, maps = self.see(stacked)
        rows, start = [], 0
        for views in chunk:
            n, label = len(views.levels), self.classes.index(str(views.record.label))
            said = probabilities[start : start + n + len(views.filled)]
            if not np.isfinite(said).all():
                raise InputError(f"{views.record.path}: the model's logits are not finite: train it again, more slowly")
            answers = [Answer(float(p[label]), self.classes[int(p.argmax())]) for p in said]
            levels = {
                key: _scored(answer, None if maps is None else maps[start + i], seen)
                for i, ((key, seen), answer) in enumerate(zip(views.levels.items(), answers, strict=False))
            }
            fills = dict(zip(views.filled, answers[n:], strict=True))
            rows.append(Row(views.record, levels, fills, views.sources, views.missing))
            start += len(said)
        return rows


def _scored(answer: Answer, grid: NDArray[np.float32] | None, seen: View) -> Answer:
    """Return an answer with its map's scores against the outline, where there are both."""
    if grid is None or seen.mask is None:
        return answer
    placed = seen.frame.place(grid)
    if undefined_because(placed, seen.mask):
        return answer
    ranking = Ranking(placed, seen.mask)
    pointing, iou = METRICS["pointing"].rule(ranking), METRICS["iou_half"].rule(ranking)
    return Answer(answer.probability, answer.predicted, pointing, iou)
