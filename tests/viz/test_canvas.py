import io

import numpy as np
import pytest
import torch
from PIL import Image

from lam.viz.canvas import (
    CELL,
    GAP,
    blank,
    caption,
    enlarge,
    evenly_spaced,
    gif,
    hstack,
    pad,
    png,
    signed_difference,
    vstack,
    wrap,
)


def test_small_pictures_are_enlarged_without_blur():
    pictures = torch.rand(2, 3, 3, 20, 25, generator=torch.Generator().manual_seed(0))
    images = enlarge(pictures, cell=90)
    assert images.shape == (2, 3, 100, 125, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images[:, :, ::5, ::5], (255 * pictures).round().byte().movedim(2, -1).numpy())
    assert np.array_equal(images[..., 4::5, 4::5, :], images[..., ::5, ::5, :])
    assert enlarge(torch.rand(3, 2 * CELL, 2 * CELL)).shape == (2 * CELL, 2 * CELL, 3)  # never made smaller


def test_change_is_signed_around_gray():
    before, after = torch.tensor([0.5, 0.5, 0.2, 1.0, 0.0]), torch.tensor([0.5, 0.6, 0.1, 0.0, 1.0])
    torch.testing.assert_close(signed_difference(after, before), torch.tensor([0.5, 0.6, 0.4, 0.0, 1.0]))
    torch.testing.assert_close(signed_difference(after, before, gain=1.0), torch.tensor([0.5, 0.55, 0.45, 0.0, 1.0]))


def ink(image: np.ndarray) -> np.ndarray:
    """Columns in which something is drawn."""
    return np.flatnonzero((image < 128).any(axis=(0, 2)))


def test_captions_are_drawn_and_stay_within_their_width():
    line = caption("error 0.25", 200)
    assert line.shape[1:] == (200, 3)
    assert len(ink(line)) > 50
    wrapped = caption("predicted across the cut", 100)
    assert wrapped.shape[1] == 100
    assert len(wrapped) > 2 * (len(line) - GAP)  # three lines
    assert len(ink(wrapped)) > 40 and ink(wrapped).max() < 99
    assert len(caption("one\ntwo", 200)) == len(caption("a", 200)) * 2 - GAP
    assert (caption("", 100) == 255).all() and len(caption("", 100)) == len(line)
    assert not np.array_equal(caption("error 0.25", 200), caption("error 0.26", 200))


def test_images_of_different_sizes_are_laid_side_by_side_and_on_top_of_one_another():
    left, right = np.zeros((10, 20, 3), np.uint8), np.full((30, 5, 3), 7, np.uint8)
    row = hstack(left, right, gap=4)
    assert row.shape == (30, 29, 3)
    assert (
        (row[:10, :20] == 0).all()
        and (row[10:, :20] == 255).all()
        and (row[:, 20:24] == 255).all()
        and (row[:, 24:] == 7).all()
    )
    column = vstack(left, right, gap=4)
    assert column.shape == (44, 20, 3)
    assert (
        (column[:10] == 0).all()
        and (column[10:14] == 255).all()
        and (column[14:, :5] == 7).all()
        and (column[14:, 5:] == 255).all()
    )
    assert pad(left, 3).shape == (16, 26, 3)


@pytest.mark.parametrize(("width", "lines"), [(1000, 1), (650, 2), (649, 2), (340, 2), (339, 3), (120, 6), (50, 6)])
def test_strips_flow_in_lines_of_equal_length(width, lines):
    strips = [blank(10, 100)] * 6
    per_line = 6 // lines
    assert wrap(strips, gap=20, width=width).shape == (lines * 10 + (lines - 1) * 20, per_line * 100 + (per_line - 1) * 20, 3)


def test_png_keeps_every_pixel():
    image = np.random.default_rng(0).integers(0, 256, (13, 17, 3), np.uint8)
    assert np.array_equal(np.array(Image.open(io.BytesIO(png(image)))), image)


def test_gif_moves_at_the_pace_asked_for_and_repeats():
    images = [np.full((40, 40, 3), 255, np.uint8) for _ in range(3)]
    for place, image in enumerate(images):
        image[:, 12 * place : 12 * place + 12] = (200, 30, 0)
    movie = Image.open(io.BytesIO(gif(images, [0.4, 0.4, 0.8])))
    assert (movie.n_frames, movie.info["loop"]) == (3, 0)
    for place, milliseconds in enumerate((400, 400, 800)):
        movie.seek(place)
        assert movie.info["duration"] == milliseconds
        assert np.abs(np.array(movie.convert("RGB")).astype(int) - images[place]).max() <= 8


def test_few_of_many_include_the_ends():
    assert evenly_spaced(8, 5) == [0, 2, 4, 5, 7]
    assert evenly_spaced(2, 5) == [0, 1]
    assert evenly_spaced(5, 5) == [0, 1, 2, 3, 4]
