from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lam.report.page.strips import BEFORE, PREDICTED, TRUE, cut_tiles, same_clips, strips_html
from lam.report.pictures import Picture
from lam.report.stats.rows import TableRow
from lam.viz import PredictionVisualization
from lam.viz.canvas import enlarge
from tests.viz.toy import Model, validate


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """A picture as a run leaves it, with the model that drew it."""
    folder, model = tmp_path_factory.mktemp("run"), Model()
    validate(folder, PredictionVisualization(num_clips=3), model=model)
    return next(folder.rglob("prediction.png")), model


def picture(path: Path, name: str) -> Picture:
    return Picture(path, TableRow(name, "", {}), 0, "")


def test_tiles_are_the_states_that_the_run_drew(board):
    path, model = board
    clips = model.clip_buffer.clips(3)
    tiles = cut_tiles(path)
    assert tiles.shape[:2] == (3, 5)
    shown = enlarge(model.encoder.to_image(clips.states[:, -2:]), 144)
    np.testing.assert_array_equal(tiles[:, [BEFORE, TRUE]], shown)
    with torch.no_grad():
        predicted = model.predict(clips.states[:, :-1], clips.z)[:, -1:]
    np.testing.assert_array_equal(tiles[:, [PREDICTED]], enlarge(model.encoder.to_image(predicted), 144))


def test_pictures_of_other_clips_or_of_another_shape_are_not_in_the_grid(board, tmp_path):
    path, _ = board
    image = np.asarray(Image.open(path)).copy()
    image[100, 20] ^= 255  # one pixel of a state before
    Image.fromarray(image).save(tmp_path / "other.png")
    Image.fromarray(image[:-50]).save(tmp_path / "short.png")
    assert cut_tiles(tmp_path / "short.png") is None
    strips = same_clips(
        [
            picture(path, "vq"),
            picture(tmp_path / "other.png", "fsq"),
            picture(tmp_path / "short.png", "rvq"),
            picture(path, "noisy"),
        ]
    )
    assert [one.row.name for one in strips.pictures] == ["vq", "noisy"]
    html = strips_html(strips)
    assert re.findall(r"<th [^>]*>(.+?)</th>", html) == ["before", "came (true)", "vq", "noisy"]
    assert html.count("<tr>") == 1 + 3 and html.count("<img") == 3 * 4
