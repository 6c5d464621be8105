import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from lam.encoders import Vision
from tests.encoders.conftest import random_frames, write_colors

IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
Weights = Callable[[str], str]


@pytest.mark.parametrize(("kind", "others"), [("dinov2", 1), ("dinov2_with_registers", 4), ("dinov3_vit", 3), ("vit", 1)])
def test_states_are_the_models_patch_tokens(kind: str, others: int, weights: Weights) -> None:
    from transformers import AutoModel

    frames = random_frames(2, 2, 48)
    model = AutoModel.from_pretrained(weights(kind))
    with torch.no_grad():
        tokens = model((frames.flatten(0, 1) / 255 - IMAGENET_MEAN) / IMAGENET_STD).last_hidden_state
    assert tokens.shape[1] == others + 36
    expected = F.layer_norm(tokens[:, others:], (24,)).view(2, 2, 36, 24)
    torch.testing.assert_close(Vision(weights(kind), image_size=48, frames_at_once=3)(frames), expected, atol=1e-5, rtol=1e-5)


def test_colors_come_from_the_folder(weights: Weights, tmp_path: Path) -> None:
    shutil.copytree(weights("vit"), tmp_path, dirs_exist_ok=True)
    write_colors(str(tmp_path), [0.5, 0.4, 0.3], [0.5, 0.6, 0.7])
    frames = random_frames(1, 1, 48)[0]
    expected = (frames / 255 - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.5, 0.6, 0.7])[:, None, None]
    torch.testing.assert_close(Vision(str(tmp_path), image_size=48).to_input(frames), expected)


def test_frames_are_resized_to_the_input(weights: Weights) -> None:
    encoder = Vision(weights("vit"), image_size=24, input_size=48)
    gray = torch.full((1, 3, 24, 24), 128, dtype=torch.uint8)
    torch.testing.assert_close(encoder.to_input(gray), ((128 / 255 - IMAGENET_MEAN) / IMAGENET_STD).expand(1, 3, 48, 48))
    edge = gray.clone()
    edge[..., :12] = 0
    edge[..., 12:] = 255
    pixels = encoder.to_input(edge) * IMAGENET_STD + IMAGENET_MEAN
    assert pixels.min() >= -1e-6  # bicubic weights overshoot at an edge
    assert pixels.max() <= 1 + 1e-6
    torch.testing.assert_close(pixels[..., :16], torch.zeros(1, 3, 48, 16), atol=1e-6, rtol=0)


def test_refuses_an_input_that_is_no_multiple_of_the_patch(weights: Weights) -> None:
    with pytest.raises(ValueError, match=r"patches of 8 pixels, 50 is not a multiple of that\. .*for example to 48"):
        Vision(weights("vit"), image_size=50)


def test_refuses_other_architectures(weights: Weights) -> None:
    with pytest.raises(ValueError, match="is a vjepa2 model, Vision knows dinov2"):
        Vision(weights("vjepa2"), image_size=32)


def damage_nothing_there(folder: Path) -> None:
    shutil.rmtree(folder)


def damage_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damage_truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def damage_config(folder: Path) -> None:
    (folder / "config.json").write_text("{not json")


def damage_other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 48}))


def damage_pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def drop_weight(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def damage_missing_weight(folder: Path) -> None:
    drop_weight(folder, "embeddings.cls_token")


def damage_colors(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text("{}")


DAMAGES = {
    damage_nothing_there: "There is no such folder, and the hub's .*",
    damage_no_weights: "no file named model.safetensors",
    damage_truncated: "not fully covered",
    damage_config: "not a valid JSON file",
    damage_other_shape: "ignore_mismatched_sizes",
    damage_pickled: "no file named model.safetensors",
    damage_missing_weight: "lacks 1 weights of a .*, such as embeddings.cls_token",
    damage_colors: "image_mean",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_unusable_weights_are_an_error_of_one_line(damage: Callable[[Path], None], weights: Weights, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(weights("vit"), folder)
    damage(folder)
    with pytest.raises(OSError, match=f"{DAMAGES[damage]}.*Give the folder of a model saved by transformers") as error:
        Vision(str(folder), image_size=48)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_heads_that_are_not_used_may_be_missing(weights: Weights, tmp_path: Path) -> None:
    shutil.copytree(weights("vit"), tmp_path, dirs_exist_ok=True)
    drop_weight(tmp_path, "pooler.dense.weight")
    frames = random_frames(1, 1, 48)
    assert torch.equal(Vision(str(tmp_path), image_size=48)(frames), Vision(weights("vit"), image_size=48)(frames))


def test_a_name_without_a_network_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"the hub's nobody/nothing gives no usable weights: .*a name on the hub and a network"):
        Vision("nobody/nothing")
