import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lam.encoders import VJEPA
from lam.encoders.vjepa import block_causal_attention
from tests.encoders.conftest import random_frames

Weights = Callable[[str], str]
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


class Layer:
    grid_size = 3


def published(folder: str, frames: torch.Tensor) -> torch.Tensor:
    """Normalized tokens (B, T * N, D) of the model as published, which looks ahead."""
    from transformers import VJEPA2Model

    with torch.no_grad():
        tokens = VJEPA2Model.from_pretrained(folder)((frames / 255 - MEAN) / STD, skip_predictor=True).last_hidden_state
    return F.layer_norm(tokens, tokens.shape[-1:])


def test_attention_is_a_softmax_under_a_block_causal_mask() -> None:
    query, key, value = torch.randn(3, 2, 2, 27, 8).unbind()
    state = torch.arange(27) // 9
    scores = (query @ key.transpose(-1, -2) * 0.3).masked_fill(state[:, None] < state, float("-inf"))
    out, _ = block_causal_attention(Layer(), query, key, value, None, is_causal=False, scaling=0.3, dropout=0.0)
    torch.testing.assert_close(out, (scores.softmax(-1) @ value).transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_one_state_is_what_the_published_model_says(weights: Weights) -> None:
    frames = random_frames(2, 2, 48)
    states = VJEPA(weights("vjepa2"), image_size=48)(frames)
    torch.testing.assert_close(states[:, 0], published(weights("vjepa2"), frames), atol=1e-5, rtol=1e-5)


def test_the_published_model_looks_ahead_and_ours_does_not(weights: Weights) -> None:
    frames = random_frames(1, 6, 48)
    states = VJEPA(weights("vjepa2"), image_size=48)(frames)
    assert (published(weights("vjepa2"), frames)[:, :36] - states[:, 0]).abs().max() > 0.01


def test_with_one_layer_the_last_state_is_the_published_one(weights: Weights, tmp_path: Path) -> None:
    shutil.copytree(weights("vjepa2"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    frames = random_frames(2, 6, 48)
    states = VJEPA(str(tmp_path), image_size=48)(frames)
    torch.testing.assert_close(states[:, -1], published(str(tmp_path), frames)[:, -36:], atol=1e-5, rtol=1e-5)


def test_rows_and_columns_follow_the_size_of_the_input(weights: Weights, tmp_path: Path) -> None:
    """At a size the model was not saved with, positions are those of a model made for that size."""
    shutil.copytree(weights("vjepa2"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"crop_size": 32}))
    frames = random_frames(1, 2, 32)
    states = VJEPA(weights("vjepa2"), image_size=32)(frames)
    torch.testing.assert_close(states[:, 0], published(str(tmp_path), frames), atol=1e-5, rtol=1e-5)
    assert (published(weights("vjepa2"), frames) - states[:, 0]).abs().max() > 1e-3  # saved with 48, it misnumbers them


def test_refuses_half_a_state_and_other_models(weights: Weights) -> None:
    with pytest.raises(ValueError, match="A clip has 3 frames, V-JEPA 2 makes a state of 2"):
        VJEPA(weights("vjepa2"), image_size=32)(random_frames(1, 3))
    with pytest.raises(ValueError, match="is a vit model, VJEPA needs a vjepa2 model"):
        VJEPA(weights("vit"), image_size=32)


def test_missing_weights_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Random weights are never used instead"):
        VJEPA(str(tmp_path / "absent"))
