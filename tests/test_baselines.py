"""Maps without a network, and what each may look at."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gyrus.baselines import BASELINES, BLUR, Context, list_baselines
from gyrus.preprocess import head_mask

SIDE = 64


def context(label: str = "glioma", id: str = "a.png") -> Context:
    """A head on the left half with one bright spot high on its right, and priors for two classes."""
    pixels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    pixels[8:56, 4:40] = 90
    pixels[14:20, 28:34] = 250
    priors = {c: np.zeros((SIDE, SIDE), dtype=np.float32) for c in ("glioma", "meningioma")}
    priors["glioma"][10:30, 20:38] = 0.5
    priors["meningioma"][40:50, 10:20] = 0.25
    return Context(pixels, id, priors, label)


def peak(values: NDArray[np.float32]) -> tuple[int, int]:
    y, x = np.unravel_index(int(values.argmax()), values.shape)
    return int(y), int(x)


@pytest.mark.parametrize("name", BASELINES)
def test_every_rule_gives_a_map_on_the_network_s_grid(name: str) -> None:
    given = context()
    before = given.slice.copy()
    got = BASELINES[name].rule(given)
    assert (got.shape, got.dtype) == ((SIDE, SIDE), np.float32)
    assert np.isfinite(got).all()
    assert got.min() >= 0
    assert got.min() < got.max()
    assert (given.slice == before).all()
    assert (BASELINES[name].rule(context()) == got).all()
    other = BASELINES[name].rule(context("meningioma"))
    assert (other == got).all() == (not BASELINES[name].per_class)


def test_random_is_noise_in_the_head_seeded_by_the_record() -> None:
    got = BASELINES["random"].rule(context())
    inside = head_mask(context().slice.astype(np.float32))
    assert inside[30, 20]
    assert not inside[30, 60]
    assert (got[~inside] == 0).all()
    values = got[inside]
    assert len(np.unique(values)) > 0.99 * values.size
    assert values.mean() == pytest.approx(0.5, abs=0.03)
    assert (BASELINES["random"].rule(context(id="b.png")) != got).any()


def test_the_centre_is_a_gaussian_in_the_middle() -> None:
    got = BASELINES["centre"].rule(context())
    assert (got == got[::-1]).all()
    assert (got == got.T).all()
    middle = (SIDE - 1) / 2
    assert got[31, 47] == pytest.approx(
        np.exp(-0.5 * (((31 - middle) / 16) ** 2 + ((47 - middle) / 16) ** 2)), rel=1e-5
    )


def test_edges_are_where_the_head_and_the_spot_end() -> None:
    got = BASELINES["edges"].rule(context())
    y, x = peak(got)
    assert y in (13, 14, 19, 20) or x in (27, 28, 33, 34)  # the spot stands out most
    assert got[30, 20] == got[30, 60] == 0  # flat, inside and outside
    assert got[30, 4] > 20  # the head's left border, 90 grey levels high
    ramp = np.tile(np.arange(0, 192, 3, dtype=np.uint8), (SIDE, 1))
    slope = BASELINES["edges"].rule(Context(ramp, "a.png", {}, "glioma"))
    assert slope[20:40, 20:40] == pytest.approx(np.full((20, 20), 3.0), abs=1e-4)


def test_blurred_intensity_peaks_at_the_bright_spot() -> None:
    got = BASELINES["intensity"].rule(context())
    y, x = peak(got)
    assert 14 <= y < 20
    assert 28 <= x < 34
    assert 90 < got.max() < 250  # the blur has spread it
    assert pytest.approx(1.6) == BLUR * SIDE


def test_the_prior_is_that_of_the_class_and_blank_without_one() -> None:
    assert (BASELINES["prior"].rule(context()) == context().priors["glioma"]).all()
    assert (BASELINES["prior"].rule(context("meningioma")) == context().priors["meningioma"]).all()
    assert not BASELINES["prior"].rule(context("no_tumor")).any()
    assert not BASELINES["intensity*prior"].rule(context("no_tumor")).any()


def test_intensity_times_prior_by_hand() -> None:
    got = BASELINES["intensity*prior"].rule(context("meningioma"))
    assert got[45, 15] == pytest.approx(90**2 * 0.25, rel=1e-4)  # far from any edge the blur changes nothing
    assert got[16, 30] == 0  # bright, but no such tumour was ever there
    assert peak(BASELINES["intensity*prior"].rule(context())) == peak(BASELINES["intensity"].rule(context()))


def test_the_cards() -> None:
    assert [c["name"] for c in list_baselines()] == list(BASELINES)
    assert [c["per_class"] for c in list_baselines()] == [False, False, False, False, True, True]
