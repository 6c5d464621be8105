"""Keypoints: the expected place of a softmax, what changes weighs more, and training that finds what moves."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.shards.sample import DatasetSpec, Sample
from data_prep.shards.writer import ShardWriter
from lam.data.schema import Storage
from lam.encoders import Keypoints
from lam.encoders.autoencoder.network import to_signal
from lam.encoders.keypoints.network import KeypointNetwork
from lam.encoders.keypoints.training import KeypointTraining
from tests.encoders.conftest import random_frames

pytestmark = [
    # Lightning 2.6 calls what jsonargparse deprecated in 4.49; pyproject.toml bounds jsonargparse below 5 for it
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning.pytorch.cli"),
    # Lightning 2.6 asks a tree for its leaves in the way that torch 2.13 deprecates
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning:lightning.pytorch.utilities._pytree"),
]
SIZE = 16


def moving_square(steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames (steps, SIZE, SIZE, 3) of a bright square on a dark ground, and its middle, (steps, 2), x and y in pixels."""
    generator = np.random.default_rng(seed)
    corners = generator.integers(0, SIZE - 4, (steps, 2))
    frames = np.full((steps, SIZE, SIZE, 3), 30, np.uint8)
    for frame, (x, y) in zip(frames, corners, strict=True):
        frame[y : y + 4, x : x + 4] = (220, 80, 60)
    return frames, corners + 1.5


def test_a_keypoint_is_the_expected_place_of_its_softmax() -> None:
    torch.manual_seed(0)
    network = KeypointNetwork(num_keypoints=3, width=8, num_halvings=1)
    images = random_frames(1, 4, SIZE)[0]
    signal = to_signal(images)
    row = torch.linspace(-1, 1, SIZE)
    coordinates = torch.stack([row.expand(SIZE, SIZE), row[:, None].expand(SIZE, SIZE)]).expand(4, -1, -1, -1)
    maps = network.encoder(torch.cat([signal, coordinates], dim=1)) * network.sharpness
    side = torch.linspace(-1, 1, SIZE // 2)
    for image in range(4):
        for point in range(3):
            weights = maps[image, point].exp() / maps[image, point].exp().sum()
            x = sum(weights[i, j] * side[j] for i in range(8) for j in range(8))
            y = sum(weights[i, j] * side[i] for i in range(8) for j in range(8))
            place = network.locate(images)[image, [point, 3 + point]]
            torch.testing.assert_close(place, torch.stack([x, y]), atol=1e-5, rtol=1e-4)


def test_a_place_is_drawn_as_a_gaussian_of_the_given_width() -> None:
    network = KeypointNetwork(num_keypoints=1, width=8, num_halvings=1, sigma=0.2)
    seen: list[torch.Tensor] = []
    network.decoder[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    network.draw(torch.tensor([[0.4, -0.6]]), SIZE)
    side = torch.linspace(-1, 1, SIZE // 2)
    x, y = torch.meshgrid(side, side, indexing="xy")
    expected = (-((x - 0.4) ** 2 + (y + 0.6) ** 2) / (2 * 0.2**2)).exp()
    torch.testing.assert_close(seen[0][0, 0], expected)
    torch.testing.assert_close(seen[0][0, 1:], torch.stack([x, y]))


def test_states_have_mean_zero_and_one_scale_so_that_a_still_point_stays_still() -> None:
    torch.manual_seed(0)
    network = KeypointNetwork(num_keypoints=5, width=8)
    places = torch.randn(400, 10) * torch.linspace(0.1, 1, 10) + 3
    places[:, 4] = 0.25
    network.measure(places)
    states = (places - network.mean) / network.std
    torch.testing.assert_close(states.mean(dim=0), torch.zeros(10), atol=1e-4, rtol=0)
    assert states.var(dim=0, correction=0).mean().item() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(states.std(dim=0, correction=0) * network.std, places.std(dim=0, correction=0))
    assert states[:, 4].abs().max() < 1e-3
    network.measure(torch.full((400, 10), 0.25))
    assert ((torch.full((400, 10), 0.25) - network.mean) / network.std).abs().max() < 1e-3


def test_a_pixel_that_changes_weighs_more() -> None:
    """Against the sum over pixels written out."""
    torch.manual_seed(0)
    training = KeypointTraining(num_keypoints=2, width=8, num_halvings=1, change_weight=20, change_threshold=0.1)
    frames = random_frames(2, 4, SIZE)
    frames[:, 1, :, :, 8:] = frames[:, 0, :, :, 8:]  # the right half does not change after frame 0
    frames[1, 3] = frames[1, 2]  # and nothing after frame 2 of the second clip
    places = training.network.locate(frames.flatten(0, 1)).unflatten(0, (2, 4))
    total, count = 0.0, 0
    for clip in range(2):
        for now, beside in ((0, 1), (1, 2), (2, 3), (3, 2)):
            drawn = (training.network.draw(places[clip, now][None], SIZE)[0] + 1) / 2
            color, later = frames[clip, now] / 255, frames[clip, beside] / 255
            for i in range(SIZE):
                for j in range(SIZE):
                    weight = 21 if (later[:, i, j] - color[:, i, j]).abs().max() > 0.1 else 1
                    total += weight * (drawn[:, i, j] - color[:, i, j]).square().sum().item()
                    count += 3
    assert training.reconstruction_error(frames, places).item() == pytest.approx(total / count, rel=1e-4)


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Keypoints]:
    """Trains on moving squares by the command line."""
    from lam.runs.encoder import main

    shards = tmp_path / "shards"
    spec = DatasetSpec(height=SIZE, width=SIZE, storage=Storage.jpeg, factor_aggregations={"square": "first", "luck": "first"})
    with ShardWriter(shards, spec) as writer:
        for clip, split in enumerate(["train"] * 64 + ["val"] * 8):
            frames, places = moving_square(4, clip)
            luck = np.random.default_rng(clip).standard_normal(3).astype(np.float32)
            factors = {"square": places[:-1].astype(np.float32), "luck": luck}
            writer.add(split, Sample(f"c{clip}", f"v{clip}", "0", frames, np.arange(4) / 4, factors=factors))

    def fit(name: str, steps: int, *extra: str) -> Keypoints:
        words = ["--data.shards", shards, "--trainer.logger.init_args.save_dir", tmp_path, "--name", name]
        words += ["--trainer.max_steps", steps, "--trainer.val_check_interval", 100, "--trainer.accelerator", "cpu"]
        words += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
        words += [
            "--model.num_keypoints",
            "2",
            "--model.width",
            "16",
            "--model.num_halvings",
            "1",
            "--model.learning_rate",
            "5e-3",
            *extra,
        ]
        main(["fit", "--config", "experiments/keypoints.yaml", "--data.num_workers", "0", *map(str, words)])
        return Keypoints(str(tmp_path / name / "seed0"))

    return fit


def test_training_finds_what_moves(fit: Callable[..., Keypoints], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The place of the square is a linear function of the state, which it is not before training; probes say so."""
    frames, places = moving_square(300, 999)
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)[:, None]

    def share_explained(encoder: Keypoints) -> float:
        states = encoder(images)[:, 0, 0].double()
        inputs, target = torch.cat([states, torch.ones(300, 1)], dim=1), torch.from_numpy(places)
        solution = torch.linalg.lstsq(inputs[:200], target[:200]).solution
        rest = (target[200:] - inputs[200:] @ solution).square().sum()
        return 1 - (rest / (target[200:] - target[200:].mean(dim=0)).square().sum()).item()

    trained, first = fit("trained", 200), fit("first", 1)
    assert (trained.grid, trained.dim, trained.image_size) == ((1, 1), 4, SIZE)
    assert share_explained(trained) > 0.6 > 0.4 > share_explained(first)
    # the probe at the end of training, which is no step of validation; of 24 other pictures
    said = capsys.readouterr().out
    for name, encoder in (("trained", trained), ("first", first)):
        measured = json.loads((tmp_path / name / "seed0" / "metrics.json").read_text())["probe/square"]
        assert measured > share_explained(encoder) - 0.2
        assert f"square {measured:.2f}" in said
    assert "warning: states hold little of luck (R² " in said
    states = trained(images)
    assert states.var(dim=(0, 1, 2)).mean().sqrt().item() == pytest.approx(1, abs=0.3)
    colors = images / 255
    drawn, before = ((one.to_image(one(images)) - colors).square().mean() for one in (trained, first))
    assert drawn < 0.5 * before
