"""Maps without a network: what a rule of thumb would score, so that a model's map has something to beat."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gyrus.preprocess import head_mask

BLUR = 0.025
"""Standard deviation of the blur as a share of the slice's side, about the radius of a small tumour."""

FINE_BLUR = 0.005
"""Likewise before edges are sought: about a pixel of a 224 px slice, against noise."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What a baseline may look at.

    Attributes:
        slice: (S, S) uint8 prepared slice.
        id: of the record, which seeds the random map.
        priors: class name -> (S, S) float32 mean of the training masks of that class, on the network's grid.
        label: the class the map is to argue for.
    """

    slice: NDArray[np.uint8]
    id: str
    priors: Mapping[str, NDArray[np.float32]]
    label: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """A rule's card.

    Attributes:
        name: in tables, always with the prefix "no network:".
        title: for people.
        per_class: whether it depends on the class it argues for.
        rule: Context -> (S, S) float32 map on the network's grid.
    """

    name: str
    title: str
    per_class: bool
    rule: Callable[[Context], NDArray[np.float32]]


def random_in_head(context: Context) -> NDArray[np.float32]:
    """Independent noise in (0, 1) inside the head, 0 outside; the same for the same record id."""
    seed = zlib.crc32(context.id.encode("utf-8", "surrogateescape"))  # a file name need not be UTF-8
    noise = np.random.default_rng(seed).random(context.slice.shape, dtype=np.float32)
    return np.where(head_mask(context.slice.astype(np.float32)), noise, np.float32(0))


def centre(context: Context) -> NDArray[np.float32]:
    """A Gaussian in the middle of the slice, its standard deviation a quarter of the side."""
    height, width = context.slice.shape
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / (height / 4)
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / (width / 4)
    return np.asarray(np.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2)), dtype=np.float32)


def edges(context: Context) -> NDArray[np.float32]:
    """Length of the gradient of the slightly blurred slice (Canny 1986, without thinning): Adebayo et al.'s control."""
    sigma = FINE_BLUR * context.slice.shape[0]
    smooth = cv2.GaussianBlur(context.slice.astype(np.float32), (0, 0), sigma)
    rise, run = np.gradient(smooth)
    return np.asarray(np.hypot(rise, run), dtype=np.float32)


def blurred_intensity(context: Context) -> NDArray[np.float32]:
    """Brightness after a Gaussian blur: contrast agent makes many tumours bright."""
    sigma = BLUR * context.slice.shape[0]
    return np.asarray(cv2.GaussianBlur(context.slice.astype(np.float32), (0, 0), sigma))


def class_prior(context: Context) -> NDArray[np.float32]:
    """Where the tumours of this class were in training; blank for a class without masks."""
    return context.priors.get(context.label, np.zeros(context.slice.shape, dtype=np.float32))


def intensity_prior(context: Context) -> NDArray[np.float32]:
    """Squared blurred brightness times the class prior: bright, and where such tumours sit."""
    return np.asarray(blurred_intensity(context) ** 2 * class_prior(context), dtype=np.float32)


BASELINES: dict[str, Baseline] = {
    b.name: b
    for b in (
        Baseline("random", "random in the head", False, random_in_head),
        Baseline("centre", "centre", False, centre),
        Baseline("edges", "edges", False, edges),
        Baseline("intensity", "blurred intensity", False, blurred_intensity),
        Baseline("prior", "training-mask prior of the class", True, class_prior),
        Baseline("intensity*prior", "blurred intensity squared x class prior", True, intensity_prior),
    )
}


def list_baselines() -> list[dict[str, Any]]:
    """Return one JSON-able card per rule."""
    return [{"name": b.name, "title": b.title, "per_class": b.per_class} for b in BASELINES.values()]
