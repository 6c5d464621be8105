import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lam.encoders import VJEPA, Autoencoder, Encoder, Joint, Keypoints, Vision
from lam.encoders.autoencoder.network import ConvAutoencoder
from lam.encoders.frozen import FrozenEncoder, color_features, hash_weights, normalize_channels
from lam.encoders.joint.network import JointNetwork
from lam.encoders.keypoints.network import KeypointNetwork
from lam.encoders.saved import load_encoder, save_encoder
from tests.encoders.conftest import ENCODERS

Weights = Callable[[str], str]
BUILD: dict[str, Callable[[str], FrozenEncoder]] = {
    "autoencoder": Autoencoder,
    "keypoints": Keypoints,
    "joint": Joint,
    "joint-vit": Joint,
    "vjepa2": lambda path: VJEPA(path, image_size=32),
} | {kind: lambda path: Vision(path, image_size=32) for kind in ("dinov2", "dinov2_with_registers", "dinov3_vit", "vit")}
NETWORKS = {"autoencoder": ConvAutoencoder, "keypoints": KeypointNetwork, "joint": JointNetwork}
# the last that each architecture uses
LAST = {"vjepa2": "encoder.layernorm.bias", "dinov3_vit": "norm.bias"}


def save(encoder: Encoder, file: Path) -> None:
    """Writes a checkpoint as the model does, without the backbone."""
    state = nn.ModuleDict({"encoder": encoder}).state_dict()
    torch.save({name: value for name, value in state.items() if not name.startswith("encoder.backbone.")}, file)


def load(file: Path, encoder: Encoder) -> dict[str, Any]:
    """Loads a checkpoint as the model does: strictly, with the backbone put back."""
    model = nn.ModuleDict({"encoder": encoder})
    saved = torch.load(file, weights_only=True)
    backbone = {name: value for name, value in model.state_dict().items() if name.startswith("encoder.backbone.")}
    model.load_state_dict(saved | backbone)
    return saved


def change(kind: str, folder: Path) -> None:
    """Moves one element of one weight by the least there is."""
    if (kind := kind.removesuffix("-vit")) in NETWORKS:
        trained = load_encoder(kind, NETWORKS[kind], folder)
        weight = next(trained.network.parameters()).data.view(-1)
        weight[0] = torch.nextafter(weight[0], torch.tensor(torch.inf))
        save_encoder(kind, trained.network, trained.image_size, folder)
        return
    tensors = load_file(folder / "model.safetensors")
    weight = tensors[LAST.get(kind, "layernorm.bias")]
    weight[-1] = torch.nextafter(weight[-1], torch.tensor(torch.inf))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_every_encoder_with_weights_is_covered() -> None:
    assert set(BUILD) == set(ENCODERS) - {"patches", "cached"}


@pytest.mark.parametrize("kind", BUILD)
def test_a_checkpoint_takes_the_weights_it_was_trained_with_and_no_others(kind: str, weights: Weights, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(weights(kind), folder)
    save(BUILD[kind](weights(kind)), tmp_path / "checkpoint")
    saved = load(tmp_path / "checkpoint", BUILD[kind](str(folder)))  # elsewhere, but the same
    assert {name: (value.dtype, value.shape) for name, value in saved.items()} == {"encoder._extra_state": (torch.uint8, (32,))}
    change(kind, folder)
    with pytest.raises(ValueError, match=f"trained with other frozen weights than .* now has from {folder}.*or train") as error:
        load(tmp_path / "checkpoint", BUILD[kind](str(folder)))
    assert "\n" not in str(error.value)


def test_weights_that_are_not_used_do_not_count(weights: Weights, tmp_path: Path) -> None:
    """transformers fills what a file lacks with random numbers, other ones each time."""
    shutil.copytree(weights("vit"), tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["pooler.dense.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert BUILD["vit"](str(tmp_path)).digest == BUILD["vit"](weights("vit")).digest


def holding(**buffers: torch.Tensor) -> nn.Module:
    module = nn.Module()
    for name, value in buffers.items():
        module.register_buffer(name, value)
    return module


def test_the_digest_sees_names_types_shapes_and_values() -> None:
    zeros = torch.zeros(2, 3)
    modules = [
        holding(a=zeros),
        holding(b=zeros),
        holding(a=zeros.T),
        holding(a=zeros.to(torch.int32)),  # the same bytes
        holding(a=-zeros),
        holding(a=zeros, b=torch.tensor(1.0)),
        holding(a=zeros, b=torch.tensor(2.0)),
        holding(a=zeros.bfloat16()),
        holding(a=zeros.bfloat16() + 2**-100),
    ]
    assert len({hash_weights(module) for module in modules}) == len(modules)


def test_the_digest_sees_nothing_else() -> None:
    values = torch.arange(6.0).view(2, 3)
    one = hash_weights(holding(a=values, b=values.bfloat16()))
    assert hash_weights(holding(b=values.bfloat16(), a=values.T.contiguous().T)) == one  # order, layout in memory
    assert hash_weights(holding(a=values, b=values.bfloat16(), head=values), not_used=("head",)) == one


def test_normalization_is_the_formula() -> None:
    features = torch.randn(2, 5, 7) * 3 + 1
    mean, var = features.mean(-1, keepdim=True), features.var(-1, keepdim=True, correction=0)
    torch.testing.assert_close(normalize_channels(features), (features - mean) / (var + 1e-5).sqrt())


def test_colors_are_three_orthonormal_directions() -> None:
    dim = 16
    tokens = torch.eye(dim).view(1, 1, dim, dim)  # a grid of unit vectors reads the directions off
    directions = (color_features(tokens, (4, 4), 4)[0, 0].flatten(1) - 0.5) * 4  # (3, D)
    torch.testing.assert_close(directions @ directions.T, torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(directions.sum(1), torch.zeros(3), atol=1e-5, rtol=0)


def test_a_color_covers_its_tokens_square() -> None:
    states = torch.randn(1, 2, 4, 8)
    small, large = color_features(states, (2, 2), 2), color_features(states, (2, 2), 6)
    assert torch.equal(large, small.repeat_interleave(3, -2).repeat_interleave(3, -1))
