import dataclasses

import pytest
import torch

from lam.evals import Strips
from lam.evals.strips import CAPTION, CELL, GAP, strips
from tests.evals.toy import ToyModel, clips, evaluate, part


def test_layout_and_difference():
    pictures = torch.full((2, 4, 3, 48, 48), 0.5)
    pictures[0, 2] = 0.6  # off by 0.1, shown four times as large
    pictures[1, 2] = 1.0
    image = strips(pictures)
    pitch = CELL + GAP
    assert image.shape == (3, CAPTION + 2 * pitch, 5 * pitch)
    assert image.min() >= 0 and image.max() <= 1
    cell = image[:, CAPTION:].unfold(1, pitch, pitch).unfold(2, pitch, pitch)[..., :CELL, :CELL]  # (3, rows, columns, h, w)
    assert cell[:, 0, 2].unique().tolist() == pytest.approx([0.6])
    assert cell[:, 0, 4].unique().tolist() == pytest.approx([0.4])
    assert cell[:, 1, 4].unique().tolist() == [1.0]


def test_small_pictures_are_enlarged_without_blur():
    pictures = torch.rand(1, 4, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    image = strips(pictures)
    assert image.shape == (3, CAPTION + 160 + GAP, 5 * (160 + GAP))
    assert torch.equal(image[:, CAPTION : CAPTION + 160 : 8, 0:160:8], pictures[0, 0])


def test_captions_are_drawn_above_each_column():
    image = strips(torch.ones(1, 4, 3, 48, 48))
    for column in range(5):
        assert image[0, :CAPTION, column * (CELL + GAP) : (column + 1) * (CELL + GAP)].min() < 0.5


def test_rows_are_the_first_clips_of_the_pass_whatever_their_positions():
    model, clip = ToyModel(), clips(12)
    clip = dataclasses.replace(clip, position=17 * clip.position + 5)  # as with fewer windows than there are
    evaluation = Strips(num_clips=3)
    assert evaluate(evaluation, *(model.validation_step(part(clip, *ends)) for ends in ((0, 2), (2, 8), (8, 12)))).metrics == {}
    states = model.encoder(clip.frames[:3])
    predicted = model.predict(states[:, :-1], model.infer(states))
    shown = torch.stack([states[:, 0], states[:, 2], predicted[:, 1], states[:, 1]], dim=1)
    assert torch.equal(evaluation.strips, strips(model.encoder.picture(shown)))
