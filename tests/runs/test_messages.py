"""Mistakes that everybody makes end with one line that names the remedy."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lam.cli
from lam.runs.errors import explain, leave
from tests.tiny import EXPERIMENTS, arguments


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    lam.cli.run(["fit", *arguments(shards, runs, steps=1)])
    return runs / "tiny" / "row" / "seed0"


@pytest.fixture
def mistake(capsys, monkeypatch):
    """What ``lam`` says on stderr, after an exit status that says that it failed."""
    monkeypatch.delenv("LAM_TRACEBACK", raising=False)

    def mistake(*words: str, status: int = 1) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            lam.cli.main(list(words))
        assert end.value.code == status
        said = capsys.readouterr().err.splitlines()
        (line,) = [one for one in said if one.startswith("lam: error: ")]
        assert said[-1] == line
        return line

    return mistake


@pytest.mark.parametrize(
    ("extra", "status", "remedy"),
    [
        (["--model.latent_dims=3"], 2, "unrecognized arguments: --model.latent_dims=3. Did you mean model.latent_dim?"),
        (["--model.bottleneck.betta=3"], 2, "Option 'betta' is not accepted. Did you mean beta?"),
        (["--model.bottleneck=Noizy"], 2, "no class is named Noizy. Did you mean Noisy?"),
        (["--data.shards=nowhere"], 1, "No folder of shards at nowhere. Make one with"),
        (["--model.encoder=Autoencoder", "--model.encoder.path=nowhere"], 1, "No trained autoencoder in nowhere"),
        (["--ckpt_path=nowhere.ckpt"], 1, "No checkpoint at nowhere.ckpt. This run has none in"),
        (["--trainer.logger=WandbLogger"], 1, "pip install -U 'wandb"),
        (["--trainer.max_epochs=1", "--trainer.max_steps=-1"], 2, "Set --trainer.max_steps"),
        (["--trainer.max_steps=-1"], 2, "--trainer.max_time 00:04:00:00 for four hours"),
        (["--trainer.max_epochs=1"], 2, "no epoch ends. Set --trainer.max_steps"),
        (["--trainer.max_steps=-1", "--trainer.max_time=soon"], 1, "Expected a string in the format DD:HH:MM:SS"),
        (["--trainer.max_steps=abc"], 2, "abc"),
        (["--config=experiments/arn.yaml"], 2, "No file of settings at experiments/arn.yaml."),
    ],
)
def test_what_fit_says(extra, status, remedy, mistake, shards, tmp_path):
    assert remedy in mistake("fit", *arguments(shards, tmp_path), *extra, status=status)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(mistake, shards, tmp_path):
    line = mistake("fit", *arguments(shards, tmp_path), "--trainer.accelerator=gpu")
    assert "Set --trainer.accelerator cpu, or auto" in line


def test_a_checkpoint_of_other_sizes(mistake, shards, trained, tmp_path):
    alone = shutil.copy(trained / "checkpoints" / "last.ckpt", tmp_path)
    line = mistake("validate", *arguments(shards, tmp_path), f"--ckpt_path={alone}", "--model.latent_dim=4")
    assert "is (8, 16) in the checkpoint and (4, 16) in this model" in line
    assert "model.latent_dim was set otherwise" in line
    line = mistake("validate", *arguments(shards, tmp_path), f"--ckpt_path={alone}", "--model.forward_model.depth=2")
    assert "in this model and not in the checkpoint. Most likely model.forward_model (width, depth)" in line


def test_a_setting_or_a_family_that_does_not_exist(mistake, monkeypatch):
    monkeypatch.chdir(EXPERIMENTS.parent)
    line = mistake("sweep", "nosuch", "none", status=2)
    assert "there is no experiments/nosuch.yaml" in line and "arm, bridge, demo" in line
    assert "base" not in line
    assert "Did you mean noisy?" in mistake("sweep", "demo", "noizy:beta@1", status=2)


def test_the_base_after_the_setting_is_warned_of(mistake, shards, tmp_path, capsys):
    demo, *rest = arguments(shards, tmp_path)
    base = f"--config={EXPERIMENTS / 'base.yaml'}"
    with pytest.raises(SystemExit):
        lam.cli.main(["fit", demo, base, *rest, "--model.nonsense=1"])
    warning, error = capsys.readouterr().err.splitlines()
    assert "base.yaml, the later file, overrides" in warning and "trainer.max_steps" in warning
    assert error.startswith("lam: error: ")


def test_a_command_that_does_not_exist(mistake):
    assert "Did you mean lam fit?" in mistake("fitt", status=2)
    assert "Did you mean lam control sweep?" in mistake("control", "swep", status=2)


def test_the_cause_is_told():
    try:
        try:
            raise OSError("disk is full")
        except OSError as error:
            raise ValueError("cannot write results") from error
    except ValueError as error:
        assert explain(error) == "cannot write results (caused by OSError: disk is full)"
    assert "pip install wandb" in explain(ModuleNotFoundError("No module named 'wandb'", name="wandb"))
    assert "too large" in explain(OverflowError("cannot convert float infinity to integer"))


def test_a_mistake_in_the_program_keeps_its_traceback(capsys):
    assert explain(KeyError("x")) is None
    try:
        raise KeyError("x")
    except KeyError as error:
        assert leave(error) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and "lam: error: this is a mistake in the program" in said


def test_the_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("LAM_TRACEBACK", "1")
    with pytest.raises(ValueError, match="There is no command"):
        lam.cli.main(["nosuch"])


def test_interruption_is_polite(capsys):
    assert leave(KeyboardInterrupt()) == 130
    assert "Ctrl-C" in capsys.readouterr().err


@pytest.mark.slow
def test_help_imports_nothing_heavy_and_fit_only_what_it_needs():
    code = "import sys, lam.cli\nlam.cli.run(['--help']); lam.cli.run(['fit', '--help'])\nassert 'torch' not in sys.modules\n"
    code += "import lam.runs.cli, lam.evals, lam.viz\n"
    code += "print([m for m in sys.modules if m.startswith(('lam.simulators', 'lam.control', 'lam.report'))])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0] == "Latent action models, compared fairly."
    assert said[-1] == "[]"


@pytest.mark.parametrize("name", sorted(lam.cli.COMMANDS))
def test_every_command_can_be_imported(name):
    import importlib

    module, _, function = lam.cli.COMMANDS[name].target.split()[0].partition(":")
    if name == "report":
        pytest.importorskip(module)
    assert callable(getattr(importlib.import_module(module), function))
