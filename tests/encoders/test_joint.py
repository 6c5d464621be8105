"""Joint embeddings: SIGReg against its formula, collapse that is detected, and training with latent and recorded actions."""

import json
import logging
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.integrate import quad

from data_prep.shards.sample import DatasetSpec, Sample
from data_prep.shards.writer import ShardWriter
from lam.data.clip import Clip
from lam.data.schema import ActionField, Storage
from lam.distributed import gather_rows, rank
from lam.encoders import Joint
from lam.encoders.autoencoder.network import to_signal
from lam.encoders.joint.network import JointNetwork
from lam.encoders.joint.sigreg import draw_directions, sigreg
from lam.encoders.joint.training import JointTraining
from lam.encoders.saved import save_encoder
from tests.encoders.conftest import random_frames
from tests.encoders.test_keypoints import moving_square
from tests.processes import run_processes

pytestmark = [
    # Lightning 2.6 calls what jsonargparse deprecated in 4.49; pyproject.toml bounds jsonargparse below 5 for it
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning.pytorch.cli"),
    # Lightning 2.6 asks a tree for its leaves in the way that torch 2.13 deprecates
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning:lightning.pytorch.utilities._pytree"),
]
SIZE = 16
OF_GAUSSIANS = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))


def directions(dim: int, num: int, key: int = 0) -> torch.Tensor:
    return draw_directions(torch.tensor([key]), dim, num)


def test_the_statistic_is_that_of_the_authors() -> None:
    """Algorithm 1 of https://arxiv.org/abs/2511.08544, with complex numbers and all 17 points."""
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) @ torch.linspace(0.1, 2, 36).view(6, 6) + 0.3
    t = torch.linspace(-5, 5, 17)
    gaussian = torch.exp(-0.5 * t**2)
    empirical = (1j * (x @ directions(6, 20)).unsqueeze(2) * t).exp().mean(0)
    error = (empirical - gaussian).abs().square().mul(gaussian)
    expected = torch.trapz(error, t, dim=1).mean() * 50
    torch.testing.assert_close(sigreg(x, directions(6, 20)), expected, rtol=1e-5, atol=1e-5)


def integral(characteristic: Callable[[float], complex], n: int) -> float:
    """n times the squared distance to the characteristic function of N(0, 1), weighted by it, over the real line."""

    def distance(t: float) -> float:
        return abs(characteristic(t) - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2)

    return n * quad(distance, -12, 12, limit=400)[0]


def test_seventeen_points_are_the_integral() -> None:
    """Brute force in double precision, of samples from one direction."""
    x = torch.tensor([[-1.3], [0.2], [0.4], [2.1], [-0.7]], dtype=torch.float64)
    expected = integral(lambda t: complex(np.exp(1j * t * x.numpy()).mean()), 5)
    assert sigreg(x.float(), torch.ones(1, 1)).item() == pytest.approx(expected, rel=1e-3)


def test_gaussians_have_their_expected_value_whatever_their_number() -> None:
    for n in (16, 256):
        x = torch.randn(n, 1000, 4, generator=torch.Generator().manual_seed(1))  # 1000 sets of samples
        assert sigreg(x, directions(4, 4)).item() == pytest.approx(OF_GAUSSIANS, abs=0.06)


def test_collapse_costs_and_the_cost_grows_with_the_number_of_samples() -> None:
    for n in (50, 200):
        at_zero, two_points = torch.zeros(n, 4), torch.tensor([[1.0], [-1.0]]).repeat(n // 2, 1)
        assert sigreg(at_zero, directions(4, 9)).item() == pytest.approx(integral(lambda t: 1, n), rel=1e-3)
        assert integral(lambda t: 1, n) == pytest.approx(
            n * (math.sqrt(2 * math.pi) * (1 + 1 / math.sqrt(3)) - 2 * math.sqrt(math.pi))
        )
        assert sigreg(two_points, torch.ones(1, 1)).item() == pytest.approx(integral(math.cos, n), rel=2e-3)
        assert integral(math.cos, n) > 3 * OF_GAUSSIANS
    line = torch.randn(200, 1, generator=torch.Generator().manual_seed(0)) * torch.ones(8)
    assert sigreg(line, directions(8, 64)).item() > 3 * OF_GAUSSIANS


def test_descent_turns_a_point_into_a_gaussian() -> None:
    x = (1e-2 * torch.randn(128, 6, generator=torch.Generator().manual_seed(0)) + 1).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.1)
    for step in range(150):
        optimizer.zero_grad()
        sigreg(x, directions(6, 32, step)).backward()
        optimizer.step()
    found = x.detach()
    assert found.mean(dim=0).abs().max() < 0.15
    torch.testing.assert_close(torch.cov(found.T), torch.eye(6), atol=0.3, rtol=0)


def test_directions_are_units_that_a_key_decides() -> None:
    drawn = directions(5, 4000)
    torch.testing.assert_close(drawn.norm(dim=0), torch.ones(4000))
    torch.testing.assert_close(drawn @ drawn.T / 4000, torch.eye(5) / 5, atol=0.02, rtol=0)
    assert torch.equal(drawn, directions(5, 4000)) and not torch.equal(drawn, directions(5, 4000, 1))


def of_a_half() -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randn(12, 3, 5, generator=torch.Generator().manual_seed(0)).chunk(2)[rank()].clone().requires_grad_()
    value = sigreg(gather_rows(rows), directions(5, 16))
    value.backward()
    assert rows.grad is not None
    return value.detach(), rows.grad


def test_two_processes_have_the_statistic_and_the_gradient_of_one(tmp_path: Path) -> None:
    rows = torch.randn(12, 3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    whole = sigreg(rows, directions(5, 16))
    whole.backward()
    assert rows.grad is not None
    results = run_processes(of_a_half, folder=tmp_path)
    for value, _ in results:
        torch.testing.assert_close(value, whole.detach())
    # DistributedDataParallel averages over processes
    torch.testing.assert_close(torch.cat([gradient for _, gradient in results]) / 2, rows.grad)


def test_collapse_is_said() -> None:
    training = JointTraining(dim=8, width=8, reconstruction=0)
    normal = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    signs = torch.tensor([1.0, -1.0]).repeat(150)[:, None]
    collapsed = {"point": 1 + 1e-3 * normal, "two": signs * torch.ones(8) + 1e-3 * normal, "constant": torch.ones(300, 8)}
    numbers, lines = training.describe_states(normal)
    assert numbers["state/std"] == pytest.approx(1, abs=0.05) and numbers["state/effective_rank"] > 7.5
    assert len(lines) == 1
    for name, states in collapsed.items():
        numbers, lines = training.describe_states(states)
        assert lines[1].startswith("warning: states have collapsed: "), name
        assert numbers["state/std"] < 0.1 or numbers["state/effective_rank"] < 1.1


@pytest.mark.parametrize("backbone", ["conv", "vit"])
def test_a_few_tokens_are_saved_and_loaded(backbone: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    network = JointNetwork(num_tokens=3, dim=10, backbone=backbone, width=16, depth=1, num_halvings=2)  # type: ignore[arg-type]
    frames = random_frames(2, 4)
    embeddings = network.embed(frames.flatten(0, 1))
    network.measure(embeddings)
    save_encoder("joint", network, 32, tmp_path, labels=backbone == "vit")
    with caplog.at_level(logging.INFO):
        encoder = Joint(str(tmp_path))
    assert ("labeled upper bound" in caplog.text) == (backbone == "vit")
    states = encoder(frames)
    assert states.shape == (2, 4, 3, 10) and encoder.shape == (1, 3, 10)
    # one scale for all numbers: differences keep their proportions
    torch.testing.assert_close(states.flatten(0, 1).mean(dim=0), torch.zeros(3, 10), atol=1e-5, rtol=0)
    assert states.flatten(2).var(dim=(0, 1), correction=0).mean().item() == pytest.approx(1, abs=1e-4)
    differences = (states.flatten(0, 1)[1:] - states.flatten(0, 1)[0]).flatten(1)
    torch.testing.assert_close(differences * network.std, embeddings[1:] - embeddings[0], atol=1e-5, rtol=1e-4)
    assert encoder.shows_pixels and encoder.to_image(states).shape == (2, 4, 3, 32, 32)
    with pytest.raises(ValueError, match="at least 1"):
        JointNetwork(dim=0)
    with pytest.raises(ValueError, match="heads of 16"):
        JointNetwork(backbone="vit", width=24)


def test_the_loss_is_the_sum_of_its_terms_and_reaches_every_parameter() -> None:
    """Processes that train together wait for the gradient of each."""
    torch.manual_seed(0)
    training = JointTraining(dim=8, width=8, num_halvings=1, regularization=0.5, reconstruction=3.0, directions=16)
    clip = Clip(random_frames(4, 4, SIZE), torch.zeros(4, 4), torch.arange(4), list("abcd"), list("abcd"))
    losses = training.losses(clip)
    embeddings = training.network.embed(clip.frames.flatten(0, 1)).unflatten(0, (4, 4))
    assert losses["regularization"].item() == pytest.approx(0.5 * training.gaussianity(embeddings).item(), rel=1e-4)
    drawn = training.network.draw(embeddings.flatten(0, 1), SIZE).unflatten(0, (4, 4)) / 2
    squares = (drawn - to_signal(clip.frames) / 2).square()
    changes = (clip.frames[:, 1:].int() - clip.frames[:, :-1].int()).abs().gt(25.5).any(dim=2, keepdim=True)
    changes = torch.cat([changes, changes[:, -1:]], dim=1)
    assert losses["reconstruction"].item() == pytest.approx(3 * (squares * (1 + 20 * changes)).mean().item(), rel=1e-4)
    sum(losses.values(), torch.zeros(())).backward()
    unreached = [name for name, each in training.named_parameters() if each.grad is None or not each.grad.any()]
    assert not unreached
    assert not any(name.startswith("network.decoder") for name, _ in JointTraining(reconstruction=0).named_parameters())


Fit = Callable[..., tuple[dict[str, float], str]]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares that jump; an action is the jump."""
    out = tmp_path_factory.mktemp("shards") / "squares"
    fields = [ActionField("jump", 2, "sum")]
    spec = DatasetSpec(SIZE, SIZE, Storage.jpeg, fields, factor_aggregations={"square": "first"})
    with ShardWriter(out, spec) as writer:
        for clip, split in enumerate(["train"] * 96 + ["val"] * 24):
            frames, places = moving_square(4, clip)
            factors = {"square": places[:-1].astype(np.float32)}
            actions = np.diff(places, axis=0).astype(np.float32)
            writer.add(split, Sample(f"c{clip}", f"v{clip}", "0", frames, np.arange(4) / 4, actions, factors))
    return out


def train(shards: Path, runs: Path, name: str, steps: int, *extra: str) -> dict[str, float]:
    """Train by the command line, and return what is measured."""
    from lam.runs.encoder import EncoderCLI

    words = ["--data.shards", shards, "--trainer.logger.init_args.save_dir", runs, "--name", name]
    words += ["--trainer.max_steps", steps, "--trainer.val_check_interval", steps, "--trainer.accelerator", "cpu"]
    words += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
    words += ["--model.width", 16, "--model.num_halvings", 1, "--model.dim", 8, "--model.depth", 1]
    words += ["--data.num_workers", 0, "--data.batch_size", 32, *extra]
    cli = EncoderCLI(["fit", "--config", "experiments/joint.yaml", *map(str, words)])
    return cli.model.measured


@pytest.fixture
def fit(tmp_path: Path, shards: Path, capsys: pytest.CaptureFixture[str]) -> Fit:
    """Trains, and returns metrics.json and what was printed."""

    def fit(name: str, steps: int, *extra: str) -> tuple[dict[str, float], str]:
        train(shards, tmp_path, name, steps, *extra)
        return json.loads((tmp_path / name / "seed0" / "metrics.json").read_text()), capsys.readouterr().out

    return fit


def train_in_a_group(shards: Path, runs: Path) -> dict[str, float]:
    """The same in one of two processes that were started beforehand, as torchrun would."""
    sys.argv = sys.argv[:1]
    os.environ.update(TORCHELASTIC_RUN_ID="test", LOCAL_RANK=os.environ["RANK"], LOCAL_WORLD_SIZE="2", GROUP_RANK="0")
    return train(shards, runs, "two", 4, "--trainer.devices=2", "--trainer.strategy=ddp")


@pytest.mark.slow
def test_two_processes_train_and_measure_like_one(shards: Path, tmp_path: Path) -> None:
    alone = train(shards, tmp_path, "one", 4)
    measured = run_processes(train_in_a_group, shards, tmp_path, folder=tmp_path, timeout=150)
    assert measured[0] == measured[1] and set(alone) == {"probe/square", "state/std", "state/effective_rank"}
    assert measured[0] == pytest.approx(alone, rel=1e-2, abs=1e-2)
    one, two = (load_file(tmp_path / name / "seed0" / "encoder.safetensors") for name in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=2e-3, rtol=1e-2, msg=name)


@pytest.mark.slow
def test_recorded_actions_ground_the_state_and_without_regularization_it_collapses(fit: Fit, tmp_path: Path) -> None:
    """Only a state that holds where the square is tells where an action brings it."""
    with pytest.raises(ValueError, match=r"Add --data\.labels true"):
        fit("unread", 1, "--model.actions", "true")
    alone = ("--model.reconstruction", "0", "--model.actions", "true", "--data.labels", "true", "--model.learning_rate", "5e-3")
    metrics, said = fit("actions", 70, *alone)
    assert metrics["probe/square"] > 0.8 and metrics["state/std"] > 0.5 and "collapsed" not in said
    metrics, said = fit("collapsed", 30, *alone, "--model.regularization", "0")
    assert metrics["state/std"] < 0.1 and "lam: warning: states have collapsed: standard deviation" in said
    encoder = Joint(str(tmp_path / "actions" / "seed0"))
    assert not encoder.shows_pixels and encoder.shape == (1, 1, 8)
    assert json.loads((tmp_path / "actions" / "seed0" / "encoder.json").read_text())["labels"] is True
