"""Scoring the slices that one model never saw, batch by batch: every map, every rule, every number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gyrus.devices import has_fast_bf16
from gyrus.evaluate.sanity import null_model, randomised
from gyrus.leaderboard.entries import Entry, score, score_outline
from gyrus.leaderboard.learning import Choices, best_layers, best_of
from gyrus.leaderboard.passes import Grids, Numbers, baseline_maps, maps_of, predicted_names, truth_free
from gyrus.leaderboard.sampled import ceilings, faithfulness, stability
from gyrus.leaderboard.settings import OPTIONS, Settings
from gyrus.leaderboard.sources import Source
from gyrus.loading import THREADS, Batch
from gyrus.models import Classifier
from gyrus.models.folding import folded
from gyrus.preprocess import Frame, frame_of
from gyrus.records import Record

CHOSEN = {"map": "method", "rule": "baseline"}
"""What is chosen on the training patients: a map of the network, and a rule without one."""

FINE = 64
"""Cells along a map's side beyond which its grid is no limit worth finding."""

JUDGED = tuple(Entry("baseline", name) for name in ("random", "intensity", "intensity*prior"))
"""The rules that faithfulness is measured of."""


@dataclass(frozen=True, eq=False)
class Contest:
    """One model, ready to be judged on the slices it never saw.

    Attributes:
        source: the model's run and slices.
        model: the network, in evaluation mode.
        settings: of the leaderboard.
        priors: class -> (S, S) float32 share of the training part's masks.
        learned: thresholds learned on training patients.
        judged: the network as :func:`gyrus.evaluate.folded` copies it.
        null: the same network with random weights.
        scrambled: the network with every layer randomised.
        fast: run what takes thousands of passes in bfloat16.
    """

    source: Source
    model: Classifier
    settings: Settings
    priors: Mapping[str, NDArray[np.float32]]
    learned: Choices
    judged: nn.Module
    null: Classifier
    scrambled: nn.Module
    fast: bool

    @classmethod
    def prepare(
        cls,
        source: Source,
        model: Classifier,
        settings: Settings,
        priors: Mapping[str, NDArray[np.float32]],
        learned: Choices,
    ) -> Contest:
        """Return a contest, with the networks that the model is compared with."""
        size = model.spec.preprocess.size
        sample = model.normalise(torch.zeros(1, size, size, dtype=torch.uint8))
        return cls(
            source,
            model,
            settings,
            priors,
            learned,
            folded(model, sample),
            null_model(model, settings.seed),
            randomised(model, sample, settings.seed),
            has_fast_bf16(model.mean.device),
        )

    def rows(self, batch: Batch, *, sampled: bool) -> list[dict[str, Any]]:
        """Return one row per slice and entry.

        Args:
            batch: slices of the test part, all readable.
            sampled: whether they belong to the sample, and are judged by everything.
        """
        images = self.model.normalise(torch.from_numpy(batch.slices))
        grids, found = maps_of(self.model, images, "predicted", self.settings.one_pass, self.settings.layers)
        target, labels = found.target, predicted_names(self.model, found)
        confidence = found.logits.softmax(dim=1).amax(dim=1).tolist()
        mirrored, _ = maps_of(self.model, images.flip(-1), target, self.settings.one_pass, self.settings.layers)
        numbers = truth_free(grids, mirrored)
        grids |= baseline_maps(batch.records, batch.slices, labels, self.priors)
        if sampled:
            grids |= self._sampled(images, target, grids, numbers)
        placed = self._scores(batch, grids, sampled)
        rows = []
        for i, (record, (share, scores)) in enumerate(zip(batch.records, placed, strict=True)):
            about = {
                "id": record.id,
                "patient": record.patient,
                "label": record.label,
                "predicted": labels[i],
                "confidence": confidence[i],
                "source": self.source.name,
                "tumour_share": share,
            }
            for entry, values in scores.items():
                taken = {column: float(v[i]) for column, v in numbers.get(entry, {}).items()}
                side = {"grid": float(grids[entry].shape[1])} if entry in grids else {}
                rows.append({**about, **entry._asdict(), **side, **values, **taken})
            rows += self._chosen(rows[len(rows) - len(scores) :])
        return rows

    def _sampled(self, images: Tensor, target: Tensor, grids: Grids, numbers: Numbers) -> Grids:
        """Return the maps made of the sample alone, and add the sample's numbers of all maps."""
        settings = self.settings
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.fast):  # thousands of passes a slice
            repeated, _ = maps_of(
                self.model, images, target, settings.repeated, None, options=OPTIONS, scorer=self.judged
            )
        null, _ = maps_of(self.null, images, target, settings.one_pass, settings.layers, kind="null")
        own = {e: g for e, g in grids.items() if e.kind == "method"}
        stable = stability(
            self.model, self.scrambled, images, target, settings.one_pass, settings.layers, own, settings.seed
        )
        finalists = {e: grids[e] for e in best_layers(self.learned)} | repeated
        finalists |= {e: grids[e] for e in JUDGED}
        for found in (stable, faithfulness(self.judged, images, target, finalists, settings.seed)):
            for entry, columns in found.items():
                numbers.setdefault(entry, {}).update(columns)
        return repeated | null

    def _scores(
        self, batch: Batch, grids: Grids, sampled: bool
    ) -> Iterator[tuple[float, dict[Entry, dict[str, float]]]]:
        """Yield for each slice the share of it that is tumour, and the localization scores of each entry."""
        with ThreadPoolExecutor(min(THREADS, torch.get_num_threads())) as pool:  # the cores that are this worker's
            each = [{e: g[i] for e, g in grids.items()} for i in range(len(batch.records))]
            found = list(pool.map(self._score_slice, batch.records, each, [sampled] * len(each)))
        if sampled:
            partial = [i for i, (mask, _, _) in enumerate(found) if mask.any() and not mask.all()]
            sizes = {(g.shape[1], g.shape[2]) for e, g in grids.items() if e.kind == "method" and g.shape[1] <= FINE}
            best = ceilings([found[i][0] for i in partial], [found[i][1] for i in partial], sizes)
            for entry, columns in best.items():
                for i, values in zip(partial, columns, strict=True):
                    found[i][2][entry] = values
        for mask, _, scores in found:
            yield float(mask.mean()), scores

    def _score_slice(
        self, record: Record, grids: Mapping[Entry, NDArray[np.float32]], sampled: bool
    ) -> tuple[NDArray[np.bool_], Frame, dict[Entry, dict[str, float]]]:
        image = record.read()
        mask = record.read_mask(image.shape)
        assert mask is not None, "only slices with an outline compete"
        frame = frame_of(image, self.model.spec.preprocess)
        scores = {}
        for entry, grid in grids.items():
            placed, learned = frame.place(grid), self.learned.get(entry)
            scores[entry] = score(placed, mask, learned)
            if sampled and learned is not None:
                scores[entry] |= score_outline(placed, mask, learned, image.spacing)
        return mask, frame, scores

    def _chosen(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return, of one slice's rows, those of the map and the rule chosen on training patients, under that name."""
        found = []
        for name, kind in CHOSEN.items():
            best = best_of(self.learned, kind)
            found += [
                {**row, "kind": "chosen", "name": name, "layer": ""}
                for row in rows
                if best is not None and (row["kind"], row["name"], row["layer"]) == best
            ]
        return found
