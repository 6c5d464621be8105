"""Tiny random encoders of the real architectures, saved as their publishers save them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lam.data.index import DataIndex
from lam.data.schema import FeatureInfo, Storage
from lam.encoders import VJEPA, Autoencoder, Cached, Encoder, Joint, Keypoints, Patches, Vision
from lam.encoders.autoencoder.network import ConvAutoencoder
from lam.encoders.frozen import normalize_channels
from lam.encoders.joint.network import JointNetwork
from lam.encoders.keypoints.network import KeypointNetwork
from lam.encoders.saved import save_encoder

TRANSFORMERS = ("dinov2", "dinov2_with_registers", "dinov3_vit", "vit", "vjepa2")


def save_transformer(kind: str, folder: Path) -> None:
    import transformers
    from transformers.utils import logging

    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
    video = {"crop_size": 48, "frames_per_clip": 4, "tubelet_size": 2, "pred_hidden_size": 12, "pred_num_attention_heads": 2}
    config, model = {
        "dinov2": (transformers.Dinov2Config(**size, image_size=48), transformers.Dinov2Model),
        "dinov2_with_registers": (
            transformers.Dinov2WithRegistersConfig(**size, image_size=48, num_register_tokens=3),
            transformers.Dinov2WithRegistersModel,
        ),
        "dinov3_vit": (
            transformers.DINOv3ViTConfig(**size, image_size=48, intermediate_size=48, num_register_tokens=2),
            transformers.DINOv3ViTModel,
        ),
        "vit": (transformers.ViTConfig(**size, image_size=48, intermediate_size=48), transformers.ViTModel),
        "vjepa2": (transformers.VJEPA2Config(**size, **video, pred_num_hidden_layers=1), transformers.VJEPA2Model),
    }[kind]
    logging.disable_progress_bar()
    torch.manual_seed(0)
    network = model(config)
    with torch.no_grad():  # the initialization is so small that all tokens would look alike
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    network.save_pretrained(folder)


def save_cache(folder: Path) -> None:
    """The index of a feature cache with states of 2 x 3 tokens; the states themselves come with the clips."""
    features = FeatureInfo("ab" * 32, {"class_path": "lam.encoders.vision.Vision"}, dim=8, frames_per_state=1, shards="")
    folder.mkdir()
    replace(make_index(folder), storage=Storage.states, height=2, width=3, features=features).save()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Folder of saved weights by architecture; made once."""
    root = tmp_path_factory.mktemp("weights")

    def folder(kind: str) -> str:
        if not (root / kind).exists():
            if kind == "cached":
                save_cache(root / kind)
            elif kind == "autoencoder":
                torch.manual_seed(0)
                save_encoder(kind, ConvAutoencoder(dim=12, width=8, num_halvings=3), 32, root / kind)
            elif kind == "keypoints":
                torch.manual_seed(0)
                network = KeypointNetwork(num_keypoints=6, width=8)
                network.measure(network.locate(random_frames(8, 2).flatten(0, 1)))
                save_encoder(kind, network, 32, root / kind)
            elif kind.startswith("joint"):
                torch.manual_seed(0)
                conv, vit = {"backbone": "conv", "width": 8}, {"backbone": "vit", "width": 32, "draws": False}
                joint = JointNetwork(dim=12, **(vit if kind == "joint-vit" else conv))
                joint.measure(joint.embed(random_frames(8, 2).flatten(0, 1)))
                save_encoder("joint", joint, 32, root / kind)
            else:
                save_transformer(kind, root / kind)
        return str(root / kind)

    return folder


ENCODERS: dict[str, Callable[[Callable[[str], str]], Encoder]] = {
    "patches": lambda weights: Patches(image_size=32, patch=8),
    "autoencoder": lambda weights: Autoencoder(weights("autoencoder")),
    "keypoints": lambda weights: Keypoints(weights("keypoints")),
    "joint": lambda weights: Joint(weights("joint")),
    "joint-vit": lambda weights: Joint(weights("joint-vit")),
    "dinov2": lambda weights: Vision(weights("dinov2"), image_size=32),
    "dinov2_with_registers": lambda weights: Vision(weights("dinov2_with_registers"), image_size=32, frames_at_once=5),
    "dinov3_vit": lambda weights: Vision(weights("dinov3_vit"), image_size=32),
    "vit": lambda weights: Vision(weights("vit"), image_size=32, input_size=48),
    "vjepa2": lambda weights: VJEPA(weights("vjepa2"), image_size=32, clips_at_once=1),
    "cached": lambda weights: Cached(weights("cached")),
}


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest, weights: Callable[[str], str]) -> Encoder:
    return ENCODERS[request.param](weights)


def make_index(path: Path, mean: tuple = (0.4, 0.5, 0.6), std: tuple = (0.1, 0.2, 0.3), size: int = 32) -> DataIndex:
    return DataIndex(
        path=path,
        storage=Storage.jpeg,
        height=size,
        width=size,
        fps=4.0,
        pixel_mean=mean,
        pixel_std=std,
        splits={"train": [], "val": []},
    )


def random_frames(clips: int, frames: int, size: int = 32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (clips, frames, 3, size, size), dtype=torch.uint8, generator=generator)


def random_input(encoder: Encoder, clips: int, states: int, seed: int = 0) -> torch.Tensor:
    """What the encoder takes of clips with so many states: frames, or the states of a cache."""
    if isinstance(encoder, Cached):
        shape = (clips, states, encoder.shape.tokens, encoder.dim)
        return normalize_channels(torch.randn(shape, generator=torch.Generator().manual_seed(seed))).bfloat16()
    return random_frames(clips, states * encoder.frames_per_state, encoder.image_size, seed)


def write_colors(folder: str, mean: list[float], std: list[float], name: str = "preprocessor_config.json") -> None:
    Path(folder, name).write_text(json.dumps({"image_mean": mean, "image_std": std}))
