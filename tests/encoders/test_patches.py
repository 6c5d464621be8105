from pathlib import Path

import pytest
import torch

from lam.encoders import Patches
from tests.encoders.conftest import make_index, random_frames


def test_a_token_is_its_patch(tmp_path: Path) -> None:
    encoder = Patches(image_size=32, patch=8)
    frames = random_frames(1, 2)
    encoder.use_index(make_index(tmp_path))
    token = encoder(frames)[0, 1, 1 * 4 + 2].view(3, 8, 8)  # row 1, column 2
    pixels = frames[0, 1, :, 8:16, 16:24] / 255
    scale = ((0.1**2 + 0.2**2 + 0.3**2) / 3) ** 0.5
    torch.testing.assert_close(token, (pixels - torch.tensor([0.4, 0.5, 0.6])[:, None, None]) / scale)


def test_pictures_give_every_pixel_back() -> None:
    encoder = Patches(image_size=32, patch=4)
    frames = random_frames(2, 3)
    pictures = encoder.to_image(encoder(frames))
    assert torch.equal((pictures * 255).round().to(torch.uint8), frames)


def test_states_have_unit_variance_on_the_training_set(tmp_path: Path) -> None:
    gain = torch.tensor([0.2, 0.5, 0.9])[:, None, None]
    frames = (random_frames(8, 4) * gain).to(torch.uint8)
    colors = (frames / 255).movedim(2, 0).flatten(1)
    encoder = Patches(image_size=32, patch=8)
    encoder.use_index(make_index(tmp_path, tuple(colors.mean(1).tolist()), tuple(colors.std(1).tolist())))
    states = encoder(frames)
    assert abs(states.mean()) < 1e-4
    assert abs(states.var() - 1) < 1e-3


def test_statistics_are_saved(tmp_path: Path) -> None:
    encoder, other = Patches(32), Patches(32)
    encoder.use_index(make_index(tmp_path))
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(random_frames(1, 1)), encoder(random_frames(1, 1)))


def test_refuses_what_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image_size 30 does not divide into patches of 8 pixels"):
        Patches(image_size=30, patch=8)
    with pytest.raises(ValueError, match="one single color"):
        Patches(32).use_index(make_index(tmp_path, std=(0.0, 0.0, 0.0)))
