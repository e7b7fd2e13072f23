from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from gyrus.augment import Augment, AugmentParams, apply, draw, keep_shown, move

NOTHING = Augment(flip=0, rotate=0, translate=0, scale=0, brightness=0, contrast=0, clahe=0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(n: int = 3, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (n, side, side), generator=seeded(9)).to(torch.uint8)


def only(n: int, **fields: float) -> AugmentParams:
    return draw(NOTHING.model_copy(update=fields), n, seeded())


def identity(n: int, **fields: Tensor) -> AugmentParams:
    params = only(n)
    known = {name: getattr(params, name) for name in AugmentParams.__slots__}
    return AugmentParams(**(known | fields))


def spot(x: float, y: float, side: int = 65, sigma: float = 3.0) -> Tensor:
    """Return a blurred spot at (x, y) in [-1, 1], x to the right and y downwards."""
    axis = (2 * torch.arange(side) + 1) / side - 1
    square = ((axis[None] - x) ** 2 + (axis[:, None] - y) ** 2) * (side / 2) ** 2
    return (250 * torch.exp(-square / (2 * sigma**2))).round().to(torch.uint8)


def centre(grey: Tensor) -> Tensor:
    """Return the centre of mass (x, y) in [-1, 1]."""
    axis = (2 * torch.arange(grey.shape[-1]) + 1) / grey.shape[-1] - 1
    return torch.stack([(grey.sum(0) * axis).sum(), (grey.sum(1) * axis).sum()]) / grey.sum()


def test_same_generator_same_result() -> None:
    first, second, third = (draw(Augment(clahe=0.5), 8, seeded(s)) for s in (1, 1, 2))
    slices = some(8)
    assert torch.equal(apply(slices, first), apply(slices, second))
    assert not torch.allclose(apply(slices, first), apply(slices, third), atol=1.0)


def test_drawing_advances_the_generator_and_nothing_else() -> None:
    generator, before = seeded(), torch.get_rng_state()
    first = draw(Augment(clahe=0.5), 4, generator)
    second = draw(Augment(clahe=0.5), 4, generator)
    apply(some(4), first)
    assert not torch.equal(first.affine, second.affine)
    assert torch.equal(torch.get_rng_state(), before)


def test_parameters_of_nothing_change_nothing() -> None:
    slices = some()
    kept = slices.clone()
    assert torch.allclose(apply(slices, only(3)), slices.float(), atol=1e-2)
    assert torch.equal(slices, kept)


@pytest.mark.parametrize("side", [31, 64, 160, 224])
def test_a_pure_flip_is_numpys(side: int) -> None:
    slices = some(2, side)
    assert np.array_equal(apply(slices, only(2, flip=1)).round().numpy(), slices.numpy()[:, :, ::-1])
    assert np.array_equal(apply(slices, only(2)).round().numpy(), slices.numpy())


def test_flip_is_a_probability_per_slice() -> None:
    mirrored = only(2000, flip=0.25).affine[:, 0, 0] < 0
    assert mirrored.float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_brightness_by_hand() -> None:
    slices = torch.tensor([[[100, 200], [0, 250]]], dtype=torch.uint8)
    lighter = apply(slices, identity(1, brightness=torch.tensor([0.1])))
    darker = apply(slices, identity(1, brightness=torch.tensor([-0.2])))
    assert torch.allclose(lighter, torch.tensor([[[125.5, 225.5], [25.5, 255.0]]]), atol=1e-3)
    assert torch.allclose(darker, torch.tensor([[[49.0, 149.0], [0.0, 199.0]]]), atol=1e-3)


def test_contrast_by_hand() -> None:
    slices = torch.tensor([[[100, 200]] * 2, [[0, 40]] * 2], dtype=torch.uint8)
    changed = apply(slices, identity(2, contrast=torch.tensor([0.5, 2.0])))
    assert torch.allclose(changed[0], torch.tensor([[125.0, 175.0]] * 2), atol=1e-3)
    assert torch.allclose(changed[1], torch.tensor([[0.0, 60.0]] * 2), atol=1e-3)


def test_a_positive_angle_turns_to_the_left_and_keeps_the_area() -> None:
    angle = math.pi / 6
    affine = torch.tensor([[[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]]])
    slices = spot(0.5, 0.0)[None]
    turned = apply(slices, identity(1, affine=affine))[0]
    expected = torch.tensor([0.5 * math.cos(angle), -0.5 * math.sin(angle)])  # y points down, so up is to the left
    assert torch.allclose(centre(turned), expected, atol=0.01)
    assert turned.sum().item() == pytest.approx(slices.sum().item(), rel=0.01)


def test_drawn_rotations_turn_both_ways_and_keep_the_area() -> None:
    params = only(64, rotate=40)
    slices = spot(0.5, 0.0).expand(64, -1, -1)
    turned = apply(slices, params)
    angles = [math.degrees(math.atan2(-y, x)) for x, y in (centre(t).tolist() for t in turned)]
    drawn = torch.rad2deg(torch.atan2(params.affine[:, 1, 0], params.affine[:, 0, 0])).tolist()
    assert angles == pytest.approx(drawn, abs=1.0)
    assert min(angles) < -20
    assert max(angles) > 20
    assert torch.allclose(turned.sum((1, 2)), slices.sum((1, 2)).float(), rtol=0.01)


def test_every_transformation_moves_a_spot_where_the_affine_says() -> None:
    params = draw(Augment(rotate=60, translate=0.1, scale=0.2, brightness=0, contrast=0), 32, seeded(3))
    moved = apply(spot(0.3, -0.2).expand(32, -1, -1), params)
    assert (params.affine[:, 0, 0] < 0).any()
    for affine, grey in zip(params.affine, moved, strict=True):
        seen = affine[:, :2] @ centre(grey) + affine[:, 2]
        assert torch.allclose(seen, torch.tensor([0.3, -0.2]), atol=0.02)


def test_scale_changes_the_area_as_drawn() -> None:
    params = only(32, scale=0.3)
    slices = spot(0.0, 0.0).expand(32, -1, -1)
    growth = apply(slices, params).sum((1, 2)) / slices.sum((1, 2))
    size = 1 / params.affine[:, 0, 0]
    assert torch.allclose(growth, size**2, rtol=0.02)
    assert size.min() < 0.8
    assert size.max() > 1.2


def test_translation_is_a_share_of_the_side_and_brings_in_black() -> None:
    affine = torch.tensor([[[1.0, 0.0, 2 * 0.25], [0.0, 1.0, 0.0]]])
    slices = torch.full((1, 8, 8), 200, dtype=torch.uint8)
    moved = apply(slices, identity(1, affine=affine))[0]
    assert torch.allclose(moved[:, :6], torch.tensor(200.0))
    assert torch.allclose(moved[:, 6:], torch.tensor(0.0), atol=1e-3)


def test_clahe_touches_the_chosen_slices_only() -> None:
    slices = (some(3, 64) // 4 + 60).to(torch.uint8)
    kept = slices.clone()
    changed = apply(slices, identity(3, clahe=torch.tensor([False, True, False])))
    expected = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(slices[1].numpy())
    assert np.array_equal(changed[1].round().numpy(), expected)
    assert not np.array_equal(expected, slices[1].numpy())
    assert torch.allclose(changed[[0, 2]], slices[[0, 2]].float(), atol=1e-2)
    assert torch.equal(slices, kept)


def test_clahe_is_a_probability_and_off_by_default() -> None:
    assert not draw(Augment(), 500, seeded()).clahe.any()
    assert only(2000, clahe=0.3).clahe.float().mean().item() == pytest.approx(0.3, abs=0.05)


SHARES = st.floats(0, 0.9)


@given(
    flip=st.floats(0, 1),
    rotate=st.floats(0, 180),
    translate=st.floats(0, 0.5),
    scale=SHARES,
    brightness=SHARES,
    contrast=SHARES,
    clahe=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_draws_stay_within_their_ranges(
    flip: float,
    rotate: float,
    translate: float,
    scale: float,
    brightness: float,
    contrast: float,
    clahe: float,
    seed: int,
) -> None:
    spec = Augment(
        flip=flip,
        rotate=rotate,
        translate=translate,
        scale=scale,
        brightness=brightness,
        contrast=contrast,
        clahe=clahe,
    )
    params = draw(spec, 16, seeded(seed))
    eps = 1e-4
    assert params.affine.shape == (16, 2, 3)
    assert ((params.contrast - 1).abs() <= contrast + eps).all()
    assert (params.brightness.abs() <= brightness + eps).all()
    assert (params.affine[:, :, 2].abs() <= 2 * translate + eps).all()
    determinant = torch.linalg.det(params.affine[:, :, :2])
    size = determinant.abs().rsqrt()
    assert ((size - 1).abs() <= scale + 1e-3).all()
    angle = torch.atan2(-params.affine[:, 0, 1], params.affine[:, 1, 1]).rad2deg()
    assert (angle.abs() <= rotate + 1e-2).all()
    assert flip > 0 or (determinant > 0).all()
    assert clahe > 0 or not params.clahe.any()
    changed = apply(some(16, 16), params)
    assert changed.dtype == torch.float32
    assert changed.shape == (16, 16, 16)
    assert changed.min() >= 0
    assert changed.max() <= 255


@pytest.mark.parametrize("fields", [{"flip": 1.5}, {"rotate": -1}, {"scale": 1}, {"colour": 0.1}])
def test_impossible_ranges_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Augment(**fields)


def test_a_bias_field_is_smooth_and_no_stronger_than_asked() -> None:
    params = only(16, bias=0.4)
    grey = torch.full((16, 48, 48), 100, dtype=torch.uint8)
    changed = apply(grey, params)
    assert changed.std(dim=(1, 2)).min() > 0
    assert (changed - 100).abs().max() <= 60  # bicubic goes a little beyond the coarse points
    assert changed.diff(dim=2).abs().max() < 10


def test_half_of_the_slices_get_noise_and_black_stays_black() -> None:
    grey = torch.full((200, 24, 24), 100, dtype=torch.uint8)
    grey[:, :4] = 0
    params = only(200, noise=0.1)
    changed = apply(grey, params)
    spread = changed[:, 4:].std(dim=(1, 2))
    assert (spread > 0.01).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert torch.allclose(spread, 255 * params.noise, rtol=0.25, atol=0.05)
    assert (changed[:, :3] == 0).all()
    assert torch.equal(changed, apply(grey, params))


def test_a_peeled_slice_is_enlarged_inside_an_oval_and_white_again() -> None:
    grey = torch.full((20, 64, 64), 80, dtype=torch.uint8)
    params = only(20, peel=0.5)
    peeled = params.zoom > 1
    assert peeled.any()
    assert not peeled.all()
    assert params.zoom[peeled].min() >= 1.1
    assert params.zoom.max() <= 1.35
    changed = apply(grey, params)
    assert (changed[~peeled].round() == 80).all()
    assert (changed[peeled][:, 32, 32].round() == 255).all()
    assert (changed[peeled][:, 0] == 0).all()
    tumours = torch.stack([spot(0.3, 0.0, 64)] * 20)
    assert torch.allclose(torch.stack([centre(m) for m in move(tumours, params)])[:, 0], 0.3 * params.zoom, atol=0.02)


def test_a_tumour_at_the_skull_is_not_peeled_off() -> None:
    params = only(40, peel=1.0)
    assert (params.zoom > 1).all()
    middle, rim = (torch.stack([spot(x, 0.0, 64)] * 40) for x in (0.0, 0.85))
    assert torch.equal(keep_shown(params, middle).zoom, params.zoom)
    kept = keep_shown(params, rim)
    assert (kept.zoom == 1).float().mean() > 0.9
    assert torch.equal(kept.affine, params.affine)
    assert torch.equal(keep_shown(params, torch.zeros(40, 8, 8)).zoom, params.zoom)  # nothing to lose
