"""The YAML parts in experiments/encoders, named by a setting relative to itself."""

import shutil
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


def setting(folder: Path, part: str) -> str:
    """A setting's file in another folder than the working directory, beside its parts."""
    shutil.copytree(PARTS, folder / "encoders")
    (folder / "setting.yaml").write_text(f"model:\n  encoder: encoders/{part}.yaml\n")
    return str(folder / "setting.yaml")


def test_every_part_is_covered() -> None:
    assert {path.stem for path in PARTS.glob("*.yaml")} == set(CLASSES)


@pytest.mark.parametrize("part", CLASSES)
def test_a_setting_names_a_part_relative_to_itself(part: str, parser: ArgumentParser, tmp_path: Path) -> None:
    encoder = parser.parse_args(["--config", setting(tmp_path, part)]).model.encoder
    assert encoder.class_path == f"lam.encoders.{CLASSES[part]}"
    assert issubclass(getattr(lam.encoders, CLASSES[part]), Encoder)


def test_a_part_builds_and_arguments_follow_it(parser: ArgumentParser, tmp_path: Path) -> None:
    arguments = ["--config", setting(tmp_path, "patches"), "--model.encoder.patch", "16"]
    built = parser.instantiate(parser.parse_args(arguments)).model.encoder
    assert isinstance(built, Patches)
    assert built.grid == (4, 4)


def test_a_part_takes_a_local_folder(parser: ArgumentParser, tmp_path: Path, weights: Callable[[str], str]) -> None:
    arguments = ["--config", setting(tmp_path, "dinov3"), "--model.encoder.path_or_name", weights("dinov3_vit")]
    built = parser.instantiate(parser.parse_args([*arguments, "--model.encoder.image_size=64"])).model.encoder
    assert isinstance(built, Vision)
    assert built.shape == (8, 8, 24)
