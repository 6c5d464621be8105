"""The contract of all encoders; a class that lam.encoders lists is tested here or the test fails."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lam.encoders
from lam.encoders import Cached, Encoder
from tests.encoders.conftest import ENCODERS, make_index, random_input

STATES = 3


def latest_leak(encoder: Encoder) -> int | None:
    """The first state whose frames, when changed, change a state before it; None if there is no such."""
    each = encoder.frames_per_state
    frames, other = (random_input(encoder, 2, STATES, seed) for seed in (0, 1))
    states = encoder(frames)
    for t in range(1, STATES):
        changed = frames.clone()
        changed[:, t * each :] = other[:, t * each :]
        after = encoder(changed)
        assert not torch.allclose(after[:, t], states[:, t], atol=1e-3)  # the change was one
        if not torch.equal(after[:, :t], states[:, :t]):
            return t
    return None


class LeakyEncoder(Encoder):
    """Mixes the clip's mean into every state."""

    def __init__(self) -> None:
        super().__init__()
        self.image_size, self.grid, self.dim = 32, (1, 1), 3 * 32 * 32

    def forward(self, frames: Tensor) -> Tensor:
        return (frames + 0.01 * frames.float().mean(1, keepdim=True)).flatten(2)[:, :, None]

    def to_image(self, states: Tensor) -> Tensor:
        return states


def listed() -> set[type[Encoder]]:
    found = (getattr(lam.encoders, name) for name in lam.encoders.__all__)
    return {each for each in found if issubclass(each, Encoder) and not inspect.isabstract(each)}


def test_every_listed_encoder_is_tested_here(weights: Callable[[str], str]) -> None:
    assert {type(build(weights)) for build in ENCODERS.values()} == listed()


def test_every_encoder_is_listed() -> None:
    files = pkgutil.walk_packages(lam.encoders.__path__, "lam.encoders.")
    found = [cls for file in files for cls in vars(importlib.import_module(file.name)).values() if inspect.isclass(cls)]
    assert {cls for cls in found if issubclass(cls, Encoder) and not inspect.isabstract(cls)} == listed()


def test_states_have_the_announced_layout(encoder: Encoder) -> None:
    states = encoder(random_input(encoder, 2, STATES))
    assert states.shape == (2, STATES, encoder.shape.tokens, encoder.dim)
    assert states.dtype == torch.float32
    assert states.isfinite().all()
    assert encoder.shape == (*encoder.grid, encoder.dim)


def test_tokens_are_in_the_order_of_the_grid(encoder: Encoder) -> None:
    rows, columns = encoder.grid
    frames = random_input(encoder, 1, 2)
    changed = frames.clone()
    if isinstance(encoder, Cached):
        changed[:, :, columns - 1] *= -1
    else:
        changed[..., :4, -4:] = 255 - changed[..., :4, -4:]  # the top right corner
    change = (encoder(changed) - encoder(frames)).square().sum(-1)[0, 0].view(rows, columns)
    assert change.argmax() == columns - 1


def test_no_state_depends_on_later_frames(encoder: Encoder) -> None:
    assert latest_leak(encoder) is None


def test_the_check_catches_a_leaky_encoder() -> None:
    assert latest_leak(LeakyEncoder()) == 1


def test_a_prefix_has_the_states_it_has_in_the_whole(encoder: Encoder) -> None:
    frames = random_input(encoder, 2, STATES)
    shorter = encoder(frames[:, : 2 * encoder.frames_per_state])
    torch.testing.assert_close(shorter, encoder(frames)[:, :2], atol=1e-5, rtol=1e-5)


def test_clips_do_not_see_each_other(encoder: Encoder) -> None:
    frames = random_input(encoder, 3, 2)
    torch.testing.assert_close(encoder(frames[1:2]), encoder(frames)[1:2], atol=1e-5, rtol=1e-5)


def test_stays_frozen_when_the_model_trains(encoder: Encoder) -> None:
    model = torch.nn.Sequential(encoder).train()
    assert model.training
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_states_have_no_gradient_but_may_enter_what_has(encoder: Encoder) -> None:
    states = encoder(random_input(encoder, 1, 1))
    assert not states.requires_grad
    assert not states.is_inference()
    head = torch.nn.Linear(encoder.dim, 2)
    head(states).sum().backward()
    torch.testing.assert_close(head.weight.grad[0], states.flatten(0, 2).sum(0))


LEARNED = [name for name in ENCODERS if name not in ("patches", "cached", "keypoints", "joint", "joint-vit")]


@pytest.mark.parametrize("encoder", LEARNED, indirect=True)
def test_learned_features_are_normalized_over_channels(encoder: Encoder) -> None:
    states = encoder(random_input(encoder, 2, 2))
    torch.testing.assert_close(states.mean(-1), torch.zeros(states.shape[:-1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(states.var(-1, correction=0), torch.ones(states.shape[:-1]), atol=1e-3, rtol=0)


def test_autocast_leaves_states_float_and_near(encoder: Encoder) -> None:
    frames = random_input(encoder, 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        states = encoder(frames)
    assert states.dtype == torch.float32
    assert (states - encoder(frames)).square().mean() < 0.02


def test_pictures_are_colors_of_the_frames_size(encoder: Encoder) -> None:
    pictures = encoder.to_image(encoder(random_input(encoder, 2, 2)))
    assert pictures.shape == (2, 2, 3, encoder.image_size, encoder.image_size)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert pictures.std() > 0.02


def test_only_the_backbone_has_weights(encoder: Encoder) -> None:
    assert all(name.startswith("backbone.") for name, _ in encoder.named_parameters())


@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name != "cached"], indirect=True)
def test_refuses_a_data_set_of_another_size(encoder: Encoder, tmp_path: Path) -> None:
    encoder.check_index(make_index(tmp_path))
    with pytest.raises(ValueError, match=r"64 x 64 pixels, the encoder is set to image_size 32\. .*--size 32"):
        encoder.check_index(make_index(tmp_path, size=64))
