"""Whether a map depends on what the network has learned: its weights made random, layer by layer, or its labels.

Adebayo et al. 2018: a map that stays as it was when the weights are made random shows the image, not the network.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from gyrus.errors import InputError
from gyrus.evaluate.agreement import rank_correlation, ssim
from gyrus.evaluate.cards import Card
from gyrus.evaluate.explaining import Explain
from gyrus.models import Classifier
from gyrus.models.attention import CamAttention
from gyrus.models.registry import build
from gyrus.records import Record

_UNLIKE = "0 where one of the two maps is blank; NaN where both are, or where a map is not finite"

CARDS = (
    Card(
        "mprt_rank",
        "sanity",
        "Model randomisation, rank correlation",
        "Spearman's r of the map with that of the network whose every layer is random",
        "Adebayo et al. 2018, sec. 3.1, cascading",
        _UNLIKE,
        low=-1.0,
        better="lower",
    ),
    Card(
        "mprt_ssim",
        "sanity",
        "Model randomisation, structural similarity",
        "SSIM of the map with that of the network whose every layer is random, on the input's grid",
        "Adebayo et al. 2018, sec. 3.1, cascading",
        _UNLIKE,
        low=-1.0,
        better="lower",
    ),
    Card(
        "labels_rank",
        "sanity",
        "Label randomisation, rank correlation",
        "Spearman's r of the map with that of the same network trained on shuffled labels",
        "Adebayo et al. 2018, sec. 3.3",
        _UNLIKE,
        low=-1.0,
        better="lower",
    ),
)


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """How alike N pairs of maps are.

    Attributes:
        rank: (N,) Spearman's rank correlation, on the map's own grid.
        structure: (N,) structural similarity, on the input's grid.
    """

    rank: NDArray[np.float64]
    structure: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Randomisation:
    """The maps of a network after each further layer was made random, compared with its own.

    Attributes:
        layers: names of the L layers, in the order in which they were made random.
        steps: L comparisons; where cascading, the last is with a network that is random throughout.
    """

    layers: tuple[str, ...]
    steps: tuple[Similarity, ...]

    @property
    def last(self) -> Similarity:
        """The comparison with every layer random: `mprt_rank` and `mprt_ssim`."""
        return self.steps[-1]


def randomise_layers(
    explain: Explain,
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    *,
    order: Literal["cascading", "independent"] = "cascading",
    layers: Sequence[str] | None = None,
    seed: int = 0,
) -> Randomisation:
    """Compare the model's maps with those it gives when its layers are made random, from the last to the first.

    Each weight tensor is drawn from a normal distribution with the tensor's own mean and standard deviation, so that
    activations keep their size in any architecture; one whose values are all the same holds nothing learned, and is
    drawn with a standard deviation of its value, or 1 where that is 0. Running statistics stay. It is done on a copy:
    the model is left as it was, and the copy is what ``explain`` is handed.

    Args:
        explain: makes the maps of the model it is handed.
        model: a trained network.
        images: (N, C, H, W).
        target: (N,) class explained.
        order: "cascading" leaves the layers behind random; "independent" makes one random at a time.
        layers: which, by name, in this order; by default all that have weights, the last to run first.
        seed: of the weights drawn.

    Raises:
        InputError: no layer, or one without weights of its own.
    """
    names = tuple(layers) if layers is not None else layers_from_the_top(model, images[:1])
    if not names:
        raise InputError("the model has no layer with weights, so none can be made random")
    own = explain(model, images, target)
    changed = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    steps = []
    for name in names:
        if order == "independent":
            changed = copy.deepcopy(model)
        _randomise(changed, name, generator)
        steps.append(similarity(own, explain(changed, images, target), images))
    return Randomisation(names, tuple(steps))


def randomised(model: nn.Module, image: Tensor, seed: int = 0) -> nn.Module:
    """Return a copy with every layer random, as the last step of :func:`randomise_layers` has it.

    Args:
        model: left as it is.
        image: (1, C, H, W), to find the order of the layers with.
        seed: of the weights drawn.
    """
    changed, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    for name in layers_from_the_top(model, image):
        _randomise(changed, name, generator)
    return changed


def compare_models(explain: Explain, model: nn.Module, other: nn.Module, images: Tensor, target: Tensor) -> Similarity:
    """Compare two models' maps of the same images: the other one trained on shuffled labels, or not at all.

    Args:
        explain: makes the maps of the model it is handed.
        model: the trained network.
        other: see :func:`shuffle_labels` and :func:`null_model`.
        images: (N, C, H, W).
        target: (N,) class explained, of both.
    """
    return similarity(explain(model, images, target), explain(other, images, target), images)


def null_model(model: Classifier, seed: int = 0) -> Classifier:
    """Return the same network with random weights, as its architecture draws them, in evaluation mode.

    Its maps are the null model of every leaderboard: what the architecture alone finds, with nothing learned.

    Args:
        model: left as it is; not a weight of it is used.
        seed: of the weights.
    """
    fresh = build(model.spec, seed=seed)
    if isinstance(fresh, CamAttention) and isinstance(model, CamAttention):
        fresh.switch_attention(bool(model.attends))
    return fresh.to(model.mean.device).eval()


def shuffle_labels(records: Sequence[Record], seed: int = 0) -> tuple[Record, ...]:
    """Return the records with their labels dealt out anew, to train the network that :func:`compare_models` needs.

    A patient's slices that share a label share one afterwards, where patients are known: otherwise telling patients
    apart would not be enough to learn the shuffled labels by heart. Each label stays about as frequent.

    Args:
        records: of the training part.
        seed: of the shuffle.
    """
    units = sorted({_unit(r) for r in records if r.label is not None})
    dealt = np.random.default_rng(seed).permutation(len(units))
    label = {unit: units[int(j)][1] for unit, j in zip(units, dealt, strict=True)}
    return tuple(r if r.label is None else replace(r, label=label[_unit(r)]) for r in records)


def layers_from_the_top(model: nn.Module, image: Tensor) -> tuple[str, ...]:
    """Return the names of the modules that hold weights of their own, the last to run first.

    Args:
        model: run once on ``image``, in evaluation mode, and left as it was.
        image: (1, C, H, W).
    """
    net = copy.deepcopy(model).eval()
    ran: list[str] = []
    for name, module in net.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        net(image)
    return tuple(dict.fromkeys(reversed(ran)))


def _randomise(model: nn.Module, name: str, generator: torch.Generator) -> None:
    """Draw a layer's own weights anew, in place."""
    layer = dict(model.named_modules()).get(name)
    weights = () if layer is None else tuple(layer.parameters(recurse=False))
    if not weights:
        raise InputError(f"there is no layer {name!r} with weights of its own to make random: choose another")
    with torch.no_grad():
        for weight in weights:
            spread = float(weight.std(correction=0)) or float(weight.flatten()[0].abs()) or 1.0
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread + float(weight.mean()))


def similarity(own: Tensor, other: Tensor, images: Tensor) -> Similarity:
    """Compare two sets of (N, h, w) maps of the same (N, C, H, W) images."""
    a, b = (maps.detach().float().cpu() for maps in (own, other))
    side = tuple(images.shape[2:])
    large = [
        F.interpolate(m.unsqueeze(1), side, mode="bilinear", align_corners=False).squeeze(1).numpy() for m in (a, b)
    ]
    return Similarity(rank_correlation(a.numpy(), b.numpy()), ssim(*large))


def _unit(record: Record) -> tuple[str, str]:
    return record.patient if record.patient is not None else record.id, str(record.label)
