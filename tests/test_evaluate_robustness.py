"""Maps of changed images: by hand, against captum, and on maps that are zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from planted import Planted, bright_images
from torch import Tensor, nn

from gyrus.evaluate.explaining import by_method
from gyrus.evaluate.robustness import COLUMNS, ROWS, flip_stability, max_sensitivity

TARGET = torch.tensor([1, 1, 1])


def image_itself(_model: nn.Module, images: Tensor, _target: Tensor) -> Tensor:
    return images[:, 0]


def test_the_image_itself_moves_by_the_noise() -> None:
    images = torch.full((2, 1, 50, 50), 4.0)
    got = max_sensitivity(image_itself, Planted(), images, TARGET[:2], radius=0.1, samples=3)
    # Uniform in +-0.1 has a standard deviation of 0.1 / sqrt(3).
    assert got.numpy() == pytest.approx(np.full(2, 0.1 / np.sqrt(3) / 4), rel=0.05)
    assert (max_sensitivity(image_itself, Planted(), images, TARGET[:2], radius=0.0) == 0).all()


def test_a_map_that_does_not_see_the_image_does_not_move() -> None:
    got = max_sensitivity(lambda *_: torch.ones(3, 4, 4), Planted(), bright_images(), TARGET)
    assert (got == 0).all()


def test_more_samples_only_raise_it_and_the_seed_decides() -> None:
    explain = by_method("hirescam", "window")
    few, more, other = (
        max_sensitivity(explain, Planted(), bright_images(), TARGET, samples=s, seed=seed)
        for s, seed in ((2, 0), (6, 0), (2, 1))
    )
    assert (more >= few).all()
    assert (few != other).any()


def test_agrees_with_captum_on_the_same_noise() -> None:
    explain, images = by_method("hirescam", "window"), bright_images()
    model = Planted()
    generator = torch.Generator().manual_seed(5)
    changed = [images + (torch.rand((1, *images.shape[1:]), generator=generator) * 2 - 1) * 0.05 for _ in range(4)]
    waiting = iter(changed)
    each = [
        sensitivity_max(
            lambda x: (explain(model, x[0], TARGET),),
            images,
            perturb_func=lambda _x: (next(waiting),),  # captum wants what to look at, as a tuple
            n_perturb_samples=1,
        )
        for _ in changed
    ]
    got = max_sensitivity(explain, model, images, TARGET, radius=0.05, samples=4, seed=5)
    assert got.numpy() == pytest.approx(torch.stack(each).amax(dim=0).detach().numpy(), rel=1e-4)


def test_an_image_is_as_sensitive_in_any_batch() -> None:
    explain, images = by_method("hirescam", "window"), bright_images()
    whole = max_sensitivity(explain, Planted(), images, TARGET)
    alone = max_sensitivity(explain, Planted(), images[1:2], TARGET[1:2])
    assert torch.allclose(whole[1:2], alone)


def test_a_zero_or_broken_map_has_no_sensitivity() -> None:
    maps = torch.ones(3, 4, 4)
    maps[1] = 0
    maps[2, 0, 0] = torch.nan
    got = max_sensitivity(lambda *_: maps, Planted(), bright_images(), TARGET)
    assert got.isnan().tolist() == [False, True, True]


def test_stability_under_flips() -> None:
    images = bright_images()
    assert flip_stability(image_itself, Planted(), images, TARGET).numpy() == pytest.approx(np.ones(3))
    ramp = torch.arange(24.0).expand(3, 24, 24).clone()
    # A map that rises to the right whatever the image falls when it is flipped back, and rises as before row-wise.
    fixed = lambda *_: ramp  # noqa: E731
    assert flip_stability(fixed, Planted(), images, TARGET).numpy() == pytest.approx(-np.ones(3))
    assert flip_stability(fixed, Planted(), images, TARGET, axes=(ROWS,)).numpy() == pytest.approx(np.ones(3))
    both = flip_stability(fixed, Planted(), images, TARGET, axes=(COLUMNS, ROWS))
    assert both.numpy() == pytest.approx(np.zeros(3))
    # The planted network looks at one square right of the middle, in flipped images too.
    planted = flip_stability(by_method("hirescam", "window"), Planted(), images, TARGET)
    assert (planted < 0.1).all()


def test_stability_of_degenerate_maps() -> None:
    maps = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    maps[1] = 2
    maps[2, 0, 0] = torch.inf
    got = flip_stability(lambda *_: maps, Planted(), bright_images(), TARGET)
    assert got.isnan().tolist() == [False, True, True]
