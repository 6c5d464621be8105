import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.shards.sample import DatasetSpec, Sample
from data_prep.shards.writer import ShardWriter
from lam.data.schema import Storage
from lam.encoders import Autoencoder
from lam.encoders.autoencoder.network import (
    ConvAutoencoder,
    ResidualBlock,
    from_signal,
    to_signal,
)
from lam.encoders.saved import load_encoder, save_encoder
from tests.encoders.conftest import random_frames

Weights = Callable[[str], str]
FIT = [
    "fit",
    "--config",
    "experiments/autoencoder.yaml",
    "--model.dim",
    "8",
    "--model.width",
    "16",
    "--trainer.accelerator",
    "cpu",
]

pytestmark = [
    # Lightning 2.6 calls what jsonargparse deprecated in 4.49; pyproject.toml bounds jsonargparse below 5 for it
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning.pytorch.cli"),
    # Lightning 2.6 asks a tree for its leaves in the way that torch 2.13 deprecates
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning:lightning.pytorch.utilities._pytree"),
]


def squares(count: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    """Bright squares of random color at random places on a dark ground, (count, 3, size, size) uint8."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.full((count, 3, size, size), 40, dtype=torch.uint8)
    for image in images:
        y, x = torch.randint(0, size - 6, (2,), generator=generator).tolist()
        image[:, y : y + 6, x : x + 6] = torch.randint(60, 256, (3, 1, 1), generator=generator)
    return images


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "squares"
    with ShardWriter(out, DatasetSpec(height=16, width=16, storage=Storage.jpeg)) as writer:
        for i, split in enumerate(["train"] * 12 + ["val"] * 2):
            frames = np.ascontiguousarray(squares(4, seed=i).permute(0, 2, 3, 1).numpy())
            writer.add(split, Sample(f"clip{i}", f"video{i}", "0", frames=frames, times=np.arange(4) / 4))
    return out


def error(network: ConvAutoencoder, images: torch.Tensor) -> float:
    with torch.no_grad():
        return float((network(images) - to_signal(images)).square().mean())


def test_signal_and_color_are_inverse() -> None:
    images = random_frames(1, 1)[0]
    assert torch.equal((from_signal(to_signal(images)) * 255).round().to(torch.uint8), images)
    assert to_signal(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


def test_a_feature_sees_nearby_pixels_only() -> None:
    """Two halvings by kernels of 4 and a 3 x 3 kernel between features reach 4 * 1 + 3 pixels beyond a feature's own."""
    torch.manual_seed(0)
    network = ConvAutoencoder(dim=4, width=8, num_halvings=2)
    images = random_frames(1, 1)[0]
    changed = images.clone()
    changed[..., 20:, :] = 255 - changed[..., 20:, :]  # feature row 5 and below
    same = (network.encode(changed) == network.encode(images)).all(-1).all(-1)[0]
    assert same.tolist() == [True] * 3 + [False] * 5


def test_a_residual_block_keeps_what_it_adds_to() -> None:
    block = ResidualBlock(8)
    torch.nn.init.zeros_(block.layers[-1].weight)
    torch.nn.init.zeros_(block.layers[-1].bias)
    x = torch.randn(2, 8, 3, 3)
    assert torch.equal(block(x), x)


def test_learns_to_repaint_from_normalized_features() -> None:
    torch.manual_seed(0)
    network = ConvAutoencoder(dim=8, width=16, num_halvings=2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    images, unseen = squares(64), squares(16, seed=1)
    colors = to_signal(unseen)
    for _ in range(60):
        optimizer.zero_grad()
        (network(images) - to_signal(images)).square().mean().backward()
        optimizer.step()
    assert error(network, unseen) < 0.5 * colors.var().item()


def test_export_is_reloaded_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = ConvAutoencoder(dim=6, width=10, num_halvings=2)
    save_encoder("autoencoder", network, 32, tmp_path)
    encoder = Autoencoder(str(tmp_path))
    frames = random_frames(2, 3)
    with torch.no_grad():
        expected = network.encode(frames.flatten(0, 1))
        painted = from_signal(network.decode(expected)).view(2, 3, 3, 32, 32)
    assert encoder.grid == (8, 8)
    assert torch.equal(encoder(frames), expected.view(2, 3, 64, 6))
    assert torch.equal(encoder.to_image(encoder(frames)), painted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.json", "encoder.safetensors"]


def test_states_do_not_depend_on_the_precision_of_the_run(weights: Weights) -> None:
    encoder, frames = Autoencoder(weights("autoencoder")), random_frames(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        states = encoder(frames)
    assert torch.equal(states, encoder(frames))


@pytest.mark.parametrize("name", ["encoder.json", "encoder.safetensors"])
def test_a_missing_file_says_how_to_train_one(name: str, weights: Weights, tmp_path: Path) -> None:
    shutil.copytree(weights("autoencoder"), tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing. .*lam encoder fit") as caught:
        Autoencoder(str(tmp_path))
    assert "\n" not in str(caught.value)


def edit(folder: Path, **changes: object) -> None:
    file = folder / "encoder.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_damaged_files_are_an_error_of_one_line(weights: Weights, tmp_path: Path) -> None:
    def damaged(pattern: str) -> None:
        with pytest.raises(ValueError, match=f"cannot be used.*{pattern}.*Train one on the same shards") as caught:
            load_encoder("autoencoder", ConvAutoencoder, tmp_path)
        assert "\n" not in str(caught.value)

    shutil.copytree(weights("autoencoder"), tmp_path, dirs_exist_ok=True)
    edit(tmp_path, dim=13)
    damaged("size mismatch")
    edit(tmp_path, unknown=1)
    damaged("unknown")
    (tmp_path / "encoder.json").write_text("{")
    damaged("Expecting property name")
    shutil.copytree(weights("autoencoder"), tmp_path, dirs_exist_ok=True)
    file = tmp_path / "encoder.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    damaged("is not the file that encoder.json describes")


@pytest.fixture
def fit(shards: Path, tmp_path: Path) -> Callable[..., None]:
    """What the command line does with these arguments."""
    from lam.runs.encoder import main

    paths = ["--data.shards", str(shards), "--trainer.logger.init_args.save_dir", str(tmp_path)]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]

    def fit(*extra: str) -> None:
        main([*FIT, *paths, *quiet, "--data.num_workers", "0", *extra])

    return fit


def test_fit_trains_and_exports(fit: Callable[..., None], tmp_path: Path) -> None:
    def trained(steps: int, name: str) -> Autoencoder:
        fit("--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(steps), "--name", name)
        return Autoencoder(str(tmp_path / name / "seed0"))

    first, last, again = trained(1, "first"), trained(25, "last"), trained(25, "again")
    assert (last.image_size, last.grid, last.dim) == (16, (2, 2), 8)
    assert error(last.backbone, squares(16, seed=99)) < 0.5 * error(first.backbone, squares(16, seed=99))
    assert last.digest == again.digest
    with pytest.raises(FileExistsError, match="already holds a run"):
        trained(1, "first")


def test_fit_refuses_frames_that_do_not_divide(fit: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match="16 x 16 pixels, the autoencoder needs squares of a multiple of 32"):
        fit("--model.num_halvings", "5")
