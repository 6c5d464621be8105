"""The encoders in experiments/encoders: overlays that are given after a setting, as bottlenecks are."""

from collections.abc import Callable
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

import lam.encoders
from lam.encoders import Encoder, Patches, Vision

PARTS = Path("experiments/encoders")
CLASSES = {
    "patches": "Patches",
    "autoencoder": "Autoencoder",
    "cached": "Cached",
    "joint": "Joint",
    "keypoints": "Keypoints",
    "dinov2": "Vision",
    "dinov3": "Vision",
    "vjepa2": "VJEPA",
}


class Model:
    """Takes an encoder as the model does.

    Args:
        encoder: Turns frames into states.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder


@pytest.fixture
def parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Model, "model", sub_configs=True)  # as LightningCLI does
    return parser


def configs(folder: Path, part: str) -> list[str]:
    """A setting with another encoder and the overlay after it."""
    setting = folder / "setting.yaml"
    setting.write_text("model:\n  encoder:\n    class_path: Patches\n    init_args: {image_size: 32, patch: 8}\n")
    return ["--config", str(setting), "--config", str(PARTS / f"{part}.yaml")]


def test_every_part_is_covered() -> None:
    assert {path.stem for path in PARTS.glob("*.yaml")} == set(CLASSES)


@pytest.mark.parametrize("part", CLASSES)
def test_an_overlay_replaces_the_encoder_of_a_setting(part: str, parser: ArgumentParser, tmp_path: Path) -> None:
    encoder = parser.parse_args(configs(tmp_path, part)).model.encoder
    assert encoder.class_path == f"lam.encoders.{CLASSES[part]}"
    assert issubclass(getattr(lam.encoders, CLASSES[part]), Encoder)


def test_a_part_builds_and_arguments_follow_it(parser: ArgumentParser, tmp_path: Path) -> None:
    arguments = [*configs(tmp_path, "patches"), "--model.encoder.patch", "16"]
    built = parser.instantiate(parser.parse_args(arguments)).model.encoder
    assert isinstance(built, Patches)
    assert built.grid == (4, 4)


def test_a_part_takes_a_local_folder(parser: ArgumentParser, tmp_path: Path, weights: Callable[[str], str]) -> None:
    arguments = [*configs(tmp_path, "dinov3"), "--model.encoder.path_or_name", weights("dinov3_vit")]
    built = parser.instantiate(parser.parse_args([*arguments, "--model.encoder.image_size=64"])).model.encoder
    assert isinstance(built, Vision)
    assert built.shape == (8, 8, 24)
