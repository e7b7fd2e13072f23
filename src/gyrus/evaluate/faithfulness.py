"""Whether the pixels a map marks are those the network needs: remove or add them, and watch the class's probability.

All scores are the softmax probability of the class each map argues for. Maps of any grid are laid over the input
bilinearly with half-pixel centres; pixels that tie are ordered by chance, seeded: a blank map removes at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gyrus.errors import InputError
from gyrus.evaluate.cards import Card
from gyrus.evaluate.imputation import NOISE, impute
from gyrus.models.folding import folded

STEPS = 20
PERCENTAGES = (10, 20, 30, 40, 50, 60, 70, 80, 90)
_NAN = "NaN where the map is not finite; a blank map removes pixels at random"

CARDS = (
    Card(
        "deletion",
        "faithfulness",
        "Deletion",
        "area under p(class) over the share of pixels set to the baseline, highest first",
        "Petsiuk et al. 2018, sec. 3.3",
        _NAN,
        better="lower",
    ),
    Card(
        "insertion",
        "faithfulness",
        "Insertion",
        "area under p(class) over the share of pixels brought back into the blurred image, highest first",
        "Petsiuk et al. 2018, sec. 3.3",
        _NAN,
    ),
    Card(
        "road_morf",
        "faithfulness",
        "ROAD, most relevant first",
        "mean of p(class) over 10 % ... 90 % of the pixels imputed, highest first",
        "Rong et al. 2022, sec. 4 (there the accuracy: `Curve.hits`)",
        _NAN,
        better="lower",
    ),
    Card(
        "road_lerf",
        "faithfulness",
        "ROAD, least relevant first",
        "mean of p(class) over 10 % ... 90 % of the pixels imputed, lowest first",
        "Rong et al. 2022, sec. 4",
        _NAN,
    ),
    Card(
        "road",
        "faithfulness",
        "ROAD combined",
        "(road_lerf - road_morf) / 2",
        "Gildenblat et al. 2021, ROADCombined",
        _NAN,
        low=-0.5,
        high=0.5,
    ),
    Card(
        "confidence_drop",
        "faithfulness",
        "Average drop",
        "max(0, p(x) - p(x map)) / p(x), the map's positive part scaled to a maximum of 1",
        "Chattopadhay et al. 2018, sec. 5.1",
        "NaN where the map is not finite; a map without a positive value hides everything",
        better="lower",
    ),
    Card(
        "confidence_increase",
        "faithfulness",
        "Increase in confidence",
        "1[p(x map) > p(x)]",
        "Chattopadhay et al. 2018, sec. 5.1",
        "NaN where the map is not finite; a map without a positive value hides everything",
    ),
)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A class's probability while pixels are taken or given, of N maps.

    Attributes:
        shares: (S,) of the pixels taken or given, rising.
        scores: (N, S) float32 probability of each map's class; NaN where its map is not finite.
        hits: (N, S) whether that class is still the predicted one.
    """

    shares: Tensor
    scores: Tensor
    hits: Tensor

    @property
    def area(self) -> Tensor:
        """(N,) the area under the curve by the trapezoidal rule."""
        return torch.trapezoid(self.scores, self.shares, dim=1)

    @property
    def mean(self) -> Tensor:
        """(N,) the mean over the shares."""
        return self.scores.mean(dim=1)


class Faithfulness:
    """One batch of images, ready to be perturbed by any number of maps.

    The network is copied, with its batch normalisations folded in. Pictures that a step leaves as they were are not
    scored again, nor are those that the curves of all maps share: the images themselves and the baselines. All of this
    leaves the scores as they would be. The model itself is not touched.

    Args:
        model: (N, C, H, W) to (N, classes) logits; give what :func:`gyrus.evaluate.folded` returns for it where
            there are many batches.
        images: (N, C, H, W) as the model takes them.
        target: (N,) class explained per image.
        batch_size: pictures per forward pass.
        seed: of the order of ties and of the imputation's noise.

    Raises:
        InputError: not one class for each image.
    """

    def __init__(
        self, model: nn.Module, images: Tensor, target: Tensor, *, batch_size: int = 32, seed: int = 0
    ) -> None:
        if target.shape != images.shape[:1]:
            raise InputError(f"{len(images)} images need {len(images)} target classes, not {tuple(target.shape)}")
        self.images = images.detach()
        self.target = target
        self.batch_size = batch_size
        self.seed = seed
        self.net = folded(model, self.images[:1])
        self._shared: list[tuple[Tensor, tuple[Tensor, Tensor]]] = []

    def deletion(self, maps: Tensor, *, steps: int = STEPS, baseline: Tensor | float = 0.0) -> Curve:
        """Set pixels to the baseline, highest first; the area is low for a faithful map.

        Args:
            maps: (N, h, w).
            steps: into which the pixels are divided evenly; the curve has one point more.
            baseline: what a deleted pixel becomes, broadcast to the images: 0 is the mean grey of a normalised input.
        """
        return self._replace(maps, steps, self.images, torch.as_tensor(baseline).to(self.images).expand_as(self.images))

    def insertion(self, maps: Tensor, *, steps: int = STEPS, baseline: Tensor | None = None) -> Curve:
        """Bring pixels back into the baseline, highest first; the area is high for a faithful map.

        Args:
            maps: (N, h, w).
            steps: as for deletion.
            baseline: where to start; by default the images under :func:`blurred`.
        """
        start = blurred(self.images) if baseline is None else baseline.to(self.images).expand_as(self.images)
        return self._replace(maps, steps, start, self.images)

    def road(
        self,
        maps: Tensor,
        *,
        order: Literal["morf", "lerf"] = "morf",
        percentages: Sequence[float] = PERCENTAGES,
        noise: float = NOISE,
    ) -> Curve:
        """Impute a growing share of the pixels from the others; the mean is low ("morf") or high ("lerf") if faithful.

        Args:
            maps: (N, h, w).
            order: most or least relevant pixels first.
            percentages: above 0, below 100.
            noise: standard deviation of what is added to imputed pixels, in the unit of the network's input.

        Raises:
            InputError: a percentage at which nothing, or everything, would be imputed.
        """
        if not all(0 < p < 100 for p in percentages):
            raise InputError("ROAD imputes more than 0 % and less than 100 % of the pixels: correct the percentages")
        ranks, finite = self._ranks(maps if order == "morf" else -maps)
        pixels = ranks.shape[1]
        counts = [min(max(round(p * pixels / 100), 1), pixels - 1) for p in percentages]
        arrays = self.images.double().cpu().numpy()
        places = ranks.cpu().numpy().reshape(-1, *self.images.shape[2:])

        def picture(i: int, s: int) -> Tensor:
            rng = np.random.default_rng((self.seed, s))  # the same for every image, wherever in a batch it is
            return torch.from_numpy(impute(arrays[i], places[i] < counts[s], rng, noise)).to(self.images)

        jobs = [(i, s) for i in finite.nonzero().flatten().tolist() for s in range(len(counts))]
        scores = torch.full((len(maps), len(counts)), torch.nan)
        hits = torch.zeros(scores.shape, dtype=torch.bool)
        found = self._run(jobs, lambda chunk: torch.stack([picture(i, s) for i, s in chunk]))
        scores[finite], hits[finite] = (values.view(-1, len(counts)) for values in found)
        return Curve(torch.tensor([p / 100 for p in percentages]), scores, hits)

    def confidence(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (N,) drop and (N,) increase in confidence when only what the map marks is left.

        Args:
            maps: (N, h, w); negative values count as 0, and each map is divided by its maximum.
        """
        marks = self._on_input(maps).relu()
        marks = marks / marks.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(marks.dtype).tiny)
        seen = self.images * marks.nan_to_num(0.0).unsqueeze(1)
        before, _ = self._whole(self.images)
        after, _ = self._run([(i, 0) for i in range(len(maps))], lambda chunk: seen[[i for i, _ in chunk]])
        finite = maps.flatten(1).isfinite().all(dim=1).cpu()
        drop = (before - after).relu() / before.clamp_min(torch.finfo(before.dtype).tiny)
        return drop.where(finite, torch.nan), (after > before).float().where(finite, torch.nan)

    def _replace(self, maps: Tensor, steps: int, start: Tensor, end: Tensor) -> Curve:
        """Score the pictures between start and end, their pixels replaced by rank."""
        ranks, finite = self._ranks(maps)
        pixels = ranks.shape[1]
        counts = torch.linspace(0, pixels, steps + 1, dtype=torch.float64).round().long().to(ranks.device)
        # How many pixels that differ at all have been replaced at each step: where none was, nor need be looked again.
        step = torch.bucketize(ranks, counts[1:], right=True)
        differs = (start != end).any(dim=1).flatten(1).long()
        new = torch.zeros(len(maps), steps, dtype=torch.long, device=ranks.device).scatter_add_(1, step, differs)
        changed = F.pad(new > 0, (1, 0), value=True).cpu() & finite.unsqueeze(1)
        between = changed.clone()
        between[:, [0, steps]] = False
        jobs = [(int(i), int(s)) for i, s in between.nonzero().tolist()]

        def pictures(chunk: Sequence[tuple[int, int]]) -> Tensor:
            i, s = torch.tensor(chunk, device=ranks.device).T
            replaced = (ranks[i] < counts[s].unsqueeze(1)).reshape(len(chunk), 1, *start.shape[2:])
            return torch.where(replaced, end[i], start[i])

        scores, hits = torch.full(changed.shape, torch.nan), torch.zeros(changed.shape, dtype=torch.bool)
        scores[between], hits[between] = self._run(jobs, pictures)
        for s, whole in ((0, start), (steps, end)):
            if changed[:, s].any():
                scores[:, s], hits[:, s] = self._whole(whole)
        last_change = torch.arange(steps + 1).where(changed, 0).cummax(dim=1).values
        row = finite.unsqueeze(1)
        scores, hits = scores.gather(1, last_change).where(row, torch.nan), hits.gather(1, last_change) & row
        return Curve(torch.tensor((counts / pixels).tolist()), scores, hits)

    def _whole(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return what :meth:`_run` does, of one picture for each image, looking only once at what all curves share."""
        for known, found in self._shared:
            if torch.equal(known, pictures):
                return found
        alike = bool((pictures == pictures[:1]).all())  # as a baseline of one value is
        logits = self._logits([pictures[:1]] if alike else torch.split(pictures, self.batch_size))
        found = self._of_target(logits.expand(len(pictures), -1), self.target)
        self._shared.append((pictures, found))
        return found

    def _run(
        self, jobs: Sequence[tuple[int, int]], pictures: Callable[[Sequence[tuple[int, int]]], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return each picture's probability of its image's class, and whether it is the predicted one."""
        if not jobs:
            return torch.empty(0), torch.empty(0, dtype=torch.bool)
        chunks = (jobs[start : start + self.batch_size] for start in range(0, len(jobs), self.batch_size))
        return self._of_target(self._logits(map(pictures, chunks)), self.target[[i for i, _ in jobs]])

    def _logits(self, batches: Iterable[Tensor]) -> Tensor:
        with torch.inference_mode():
            return torch.cat([self.net(pictures).float() for pictures in batches])

    @staticmethod
    def _of_target(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        target = target.to(logits.device)
        scores = logits.softmax(dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
        return scores.cpu(), (logits.argmax(dim=1) == target).cpu()

    def _on_input(self, maps: Tensor) -> Tensor:
        """Return (N, H, W) float32 maps on the input's grid."""
        if maps.ndim != 3 or len(maps) != len(self.images):
            raise InputError(f"{len(self.images)} images need as many (h, w) maps, not an array of {tuple(maps.shape)}")
        maps = maps.detach().to(self.images.device, torch.float32)
        side = tuple(self.images.shape[2:])
        if tuple(maps.shape[1:]) == side:
            return maps
        return F.interpolate(maps.unsqueeze(1), side, mode="bilinear", align_corners=False).squeeze(1)

    def _ranks(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, pixels) each pixel's place in its map's order from the highest, and (N,) whether it is finite."""
        flat = self._on_input(maps).flatten(1)
        finite = maps.flatten(1).isfinite().all(dim=1).cpu()
        mixed = torch.from_numpy(np.random.default_rng(self.seed).permutation(flat.shape[1])).to(flat.device)
        order = mixed[flat[:, mixed].argsort(dim=1, descending=True, stable=True)]
        places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
        return torch.empty_like(order).scatter_(1, order, places), finite


def blurred(images: Tensor, sigma: float = 5.0) -> Tensor:
    """Return (N, C, H, W) images under a Gaussian blur, the start of insertion (Petsiuk et al. 2018, sec. 4.1).

    Args:
        images: (N, C, H, W).
        sigma: in pixels; the kernel reaches 3 sigma, and the border is repeated.
    """
    reach = round(3 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2).to(images)
    line = line / line.sum()
    n, c, height, width = images.shape
    flat = images.reshape(n * c, 1, height, width)
    rows = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="replicate"), line.view(1, 1, -1, 1))
    return F.conv2d(F.pad(rows, (reach, reach, 0, 0), mode="replicate"), line.view(1, 1, 1, -1)).reshape_as(images)
