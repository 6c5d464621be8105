"""Movements that are known because the test made them: found to a quarter of a pixel, and nothing where nothing moved."""

import math

import numpy as np
import pytest
import torch

from lam.metrics.displacement import body_shift, camera_shift, direction_error, main_direction, regression_slope

COUNT, SIZE = 24, 32
GENERATOR = torch.Generator().manual_seed(0)


def smooth(count, seed=0):
    """Smooth random color functions of a place (right, down): sums of waves, so a shifted picture is exact."""
    generator = torch.Generator().manual_seed(seed)
    waves = 0.5 * torch.randn(count, 3, 6, 2, generator=generator)
    phases = 6.3 * torch.rand(count, 3, 6, 1, 1, generator=generator)

    def picture(shift):
        axis = torch.arange(SIZE) + 0.5
        right, down = axis[None, :] - shift[:, 0, None, None], axis[:, None] - shift[:, 1, None, None]
        angle = waves[..., 0, None, None] * right[:, None, None] + waves[..., 1, None, None] * down[:, None, None] + phases
        return 0.5 + 0.04 * angle.sin().sum(dim=2)

    return picture


def with_disc(ground, center, opacity=1.0, blur=0.5, radius=4.0):
    """A red disc on a ground, its edge as wide as asked."""
    axis = torch.arange(SIZE) + 0.5
    right, down = axis[None, :] - center[:, 0, None, None], axis[:, None] - center[:, 1, None, None]
    covered = opacity * ((radius - (right**2 + down**2).sqrt()) / (2 * blur) + 0.5).clamp(0, 1)[:, None]
    return ground * (1 - covered) + torch.tensor([0.9, 0.2, 0.1])[:, None, None] * covered


STILL = torch.zeros(COUNT, 2)
GROUND = smooth(COUNT)
CENTER = 12 + 8 * torch.rand(COUNT, 2, generator=GENERATOR)
SHIFT = 10 * torch.rand(COUNT, 2, generator=GENERATOR) - 5
BEFORE = with_disc(GROUND(STILL), CENTER)


def found(after, before=BEFORE):
    return body_shift(before, after, CENTER, radius=4, reach=7)


def worst(moved, true):
    return (moved - true).norm(dim=1).max().item()


def test_a_body_that_moved_is_found_between_pixels():
    assert worst(found(with_disc(GROUND(STILL), CENTER + SHIFT)), SHIFT) < 0.25


def test_a_body_is_found_while_the_ground_moves_too():
    pan = torch.tensor([2.3, -1.6]).expand(COUNT, -1)
    assert worst(found(with_disc(GROUND(pan), CENTER + SHIFT)), SHIFT) < 0.25


@pytest.mark.parametrize(("opacity", "blur", "error", "bias"), [(1.0, 2, 0.25, 0.03), (0.5, 1, 0.7, 0.06), (0.5, 2, 1.3, 0.2)])
def test_a_blurred_or_pale_body_is_found_where_most_of_it_is(opacity, blur, error, bias):
    moved = found(with_disc(GROUND(STILL), CENTER + SHIFT, opacity=opacity, blur=blur))
    assert (moved - SHIFT).norm(dim=1).median() < error
    assert abs((moved * SHIFT).sum() / SHIFT.square().sum() - 1) < bias


def test_what_stands_still_reads_zero():
    assert found(BEFORE).abs().max() < 1e-5
    assert camera_shift(BEFORE, BEFORE, reach=5).abs().max() < 1e-5


def test_a_body_that_fades_where_it_is_stands_still():
    moved = found(with_disc(GROUND(STILL), CENTER, opacity=0.4)).norm(dim=1)
    assert moved.median() < 0.25 and moved.max() < 1.4


def test_a_body_that_vanishes_stands_still():
    moved = found(GROUND(STILL))
    assert moved.norm(dim=1).median() < 0.25
    assert moved.norm(dim=1).mean() < 0.6


def test_a_plain_picture_holds_no_movement():
    plain = torch.full((2, 3, SIZE, SIZE), 0.4)
    assert body_shift(plain, plain, torch.full((2, 2), 16.0), 4, 5).abs().max() == 0
    assert camera_shift(plain, plain, 5).abs().max() == 0
    brighter = plain + 0.2
    assert body_shift(plain, brighter, torch.full((2, 2), 16.0), 4, 5).abs().max() == 0
    assert camera_shift(plain, brighter, 5).abs().max() == 0


def test_places_at_and_beyond_the_border_are_no_error():
    corners = torch.tensor([[0.0, 0.0], [31.9, 0.0], [32.0, 32.0], [-3.0, 40.0]])
    before = GROUND(STILL)[:4]
    assert body_shift(before, before, corners, 4, 5).abs().max() < 1e-5


def test_the_whole_picture_that_moved_is_found_between_pixels():
    assert worst(camera_shift(GROUND(STILL), GROUND(SHIFT), reach=7), SHIFT) < 0.25


def test_bodies_that_move_by_themselves_do_not_deceive_the_camera():
    after = with_disc(GROUND(SHIFT), CENTER - SHIFT, radius=5)
    before = with_disc(GROUND(STILL), CENTER, radius=5)
    off = (camera_shift(before, after, reach=7) - SHIFT).norm(dim=1)
    assert off.median() < 0.25 and off.max() < 1  # a fifth of the part that stays in view is the disc, before and after


def test_axes_are_right_and_down():
    one = torch.tensor([[3.0, 0.0]]).expand(COUNT, -1)
    torch.testing.assert_close(found(with_disc(GROUND(STILL), CENTER + one)), one, atol=0.15, rtol=0)
    torch.testing.assert_close(camera_shift(GROUND(STILL), GROUND(one), reach=5), one, atol=0.1, rtol=0)
    assert math.isclose(camera_shift(GROUND(STILL).mT, GROUND(one).mT, reach=5)[0, 1].item(), 3, abs_tol=0.1)


TRUE = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))


def test_slope_is_that_of_least_squares_through_the_origin():
    induced = 0.6 * TRUE + 0.1 * NOISE
    expected = np.linalg.lstsq(TRUE.reshape(-1, 1).numpy(), induced.flatten().numpy(), rcond=None)[0][0]
    assert regression_slope(induced, TRUE) == pytest.approx(float(expected), rel=1e-5)
    assert regression_slope(0 * TRUE, TRUE) == 0
    assert regression_slope(TRUE, 0 * TRUE) is None


@pytest.mark.parametrize("degrees", [0, 30, 90, 135, 180])
def test_a_turned_movement_is_off_by_its_angle(degrees):
    angle = torch.tensor(float(degrees)).deg2rad()
    turned = TRUE @ torch.tensor([[angle.cos(), angle.sin()], [-angle.sin(), angle.cos()]])
    assert direction_error(turned * 0.2, TRUE, threshold=0.5) == pytest.approx(degrees, abs=0.1)


def test_no_movement_counts_as_chance_and_short_ones_not_at_all():
    true = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.1, 0.0]])
    induced = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-5.0, 0.0]])
    assert direction_error(induced, true, threshold=1) == pytest.approx(45)
    assert direction_error(induced, true, threshold=10) is None


def test_the_main_direction_is_that_of_what_moved_wherever_it_is():
    generator = torch.Generator().manual_seed(0)
    ground = torch.nn.functional.interpolate(torch.rand(6, 3, 8, 8, generator=generator), (32, 32), mode="bicubic")
    body = torch.nn.functional.interpolate(torch.rand(6, 3, 4, 4, generator=generator), (10, 10), mode="bicubic") + 1
    moves = torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, 1]])
    before, after = ground.clone(), ground.clone()
    for n, (right, down) in enumerate(moves.tolist()):
        before[n, :, 10:20, 12:22] = body[n]
        after[n, :, 10 + down : 20 + down, 12 + right : 22 + right] = body[n]
    found = main_direction(before, after)
    assert torch.cosine_similarity(found, moves.float()).min() > 0.95
    whole = main_direction(ground[..., 2:-2, 2:-2], ground[..., 2:-2, 1:-3])  # the camera: all of it moves right
    torch.testing.assert_close(whole, torch.tensor([1.0, 0.0]).expand(6, 2), atol=0.2, rtol=0)
    assert (main_direction(ground, ground) == 0).all()
    plain = torch.full((1, 3, 8, 8), 0.5)
    assert main_direction(plain, plain + 0.2).abs().max() < 0.02
