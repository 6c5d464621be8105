"""The command line: files of a run, resuming, errors, experiment files."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import lam.bottlenecks
from lam.bottlenecks.base import Bottleneck
from lam.models.latent_action import NonFiniteLossError
from lam.runs.cli import LamCLI, run
from lam.runs.columns import PARAMETERS
from tests.tiny import EXPERIMENTS, KillAtStep3, KilledError, arguments, make_world

FAMILIES = sorted(path.stem for path in (EXPERIMENTS / "bottlenecks").glob("*.yaml") if path.stem != "actions")


def checkpoint(cli: LamCLI) -> dict:
    return torch.load(cli.run_directory / "checkpoints" / "last.ckpt", weights_only=True)


def test_fit_validate_predict_leave_their_files(shards, tmp_path):
    fitted = run(["fit", *arguments(shards, tmp_path)])
    folder = tmp_path / "tiny" / "row" / "seed0"
    assert fitted.run_directory == folder
    config = (folder / "config.yaml").read_text()
    last = folder / "checkpoints" / "last.ckpt"
    from_run = [f"--config={folder / 'config.yaml'}", f"--ckpt_path={last}", "--trainer.enable_progress_bar=false"]

    run(["validate", *from_run])
    assert (folder / "config.yaml").read_text() == config
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"val/prediction", "eval/capacity/error", "eval/rate/bits_nominal", "eval/probe/gain/agent_dx"} <= set(metrics)
    assert metrics["val/prediction"] == pytest.approx(metrics["eval/capacity/error"], rel=1e-5)
    assert metrics["eval/future/passed"] == 1.0
    clips = pd.read_parquet(folder / "clips.parquet")
    errors = clips[clips["metric"] == "eval/capacity/error"]
    assert errors["clip"].nunique() == 12
    assert errors["value"].mean() == pytest.approx(metrics["eval/capacity/error"], rel=1e-5)
    assert json.loads((folder / "run.json").read_text())["family"] == "row"

    run(["predict", *from_run, "--latents.npz=true", "--data.predict_split=val"])
    table = pd.read_parquet(folder / "latents.parquet")
    assert list(table.columns) == ["key", "source", "time", "z", "codes", "bits"]
    assert len(table) == 12 * 4  # five frames make four transitions
    assert not table.duplicated(["key", "time"]).any()
    arrays = np.load(folder / "latents.npz", allow_pickle=False)
    assert arrays["z"].shape == (48, 8)
    np.testing.assert_array_equal(arrays["z"][3], table["z"][3])

    other = make_world(tmp_path / "elsewhere", seed=1)
    with pytest.raises(ValueError, match="trained with other settings or data"):
        run(["validate", *from_run, f"--data.shards={other}"])
    with pytest.raises(ValueError, match="trained with other settings or data"):
        run(["validate", *from_run, "--model.bottleneck.beta=0.5"])
    for command in ("validate", "test", "predict"):
        with pytest.raises(ValueError, match=f"lam {command} needs a trained model: --ckpt_path"):
            run([command, from_run[0]])
    sixteen = make_world(tmp_path / "larger", size=32)
    with pytest.raises(ValueError, match="image_size 16"):
        run(["predict", *from_run, f"--data.shards={sixteen}"])
    run(["test", *from_run, f"--data.shards={other}"])
    tested = json.loads((folder / "test-elsewhere.json").read_text())
    assert tested.keys() == {key for key in metrics if not key.startswith(PARAMETERS)}
    assert tested["eval/capacity/error"] != metrics["eval/capacity/error"]


@pytest.mark.parametrize("family", ["noisy", "vq"])
def test_a_resumed_run_ends_bit_for_bit_like_an_undisturbed_one(family, shards, tmp_path):
    straight = run(["fit", *arguments(shards, tmp_path, family, "tiny/straight", steps=6)])
    with pytest.raises(KilledError):
        run(["fit", *arguments(shards, tmp_path, family, "tiny/half", steps=6)], callbacks=[KillAtStep3()])
    last = tmp_path / "tiny" / "half" / "seed0" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 3
    torch.manual_seed(99)  # nothing may depend on the state of the process
    resumed = run(["fit", *arguments(shards, tmp_path, family, "tiny/half", steps=6), f"--ckpt_path={last}"])
    one, other = checkpoint(straight), checkpoint(resumed)
    assert one["global_step"] == other["global_step"] == 6
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_equal(one[key], other[key])


def assert_equal(one, other):
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        assert one == other


def test_a_half_trained_run_that_is_validated_is_no_row(shards, tmp_path):
    with pytest.raises(KilledError):
        run(["fit", *arguments(shards, tmp_path, steps=6)], callbacks=[KillAtStep3()])
    folder = tmp_path / "tiny" / "row" / "seed0"
    run(["validate", f"--config={folder / 'config.yaml'}", f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"])
    assert (folder / "metrics.json").exists()
    assert not (folder / "run.json").exists()


def test_a_checkpoint_leaves_the_frozen_backbone_out(shards, tmp_path):
    class Backbone(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

    cli = run(["fit", *arguments(shards, tmp_path, steps=1)])
    cli.model.encoder.backbone = Backbone().requires_grad_(False)
    cli.trainer.save_checkpoint(tmp_path / "with.ckpt")
    saved = torch.load(tmp_path / "with.ckpt", weights_only=True)
    assert not [key for key in saved["state_dict"] if "backbone" in key]
    cli.model.on_load_checkpoint(saved)
    cli.model.load_state_dict(saved["state_dict"], strict=True)


def test_fit_does_not_write_over_a_run(shards, tmp_path):
    run(["fit", *arguments(shards, tmp_path, steps=1)])
    with pytest.raises(FileExistsError, match="already holds a run"):
        run(["fit", *arguments(shards, tmp_path, steps=1)])
    (last,) = tmp_path.rglob("last.ckpt")
    other = last.rename(last.with_name("step=1.ckpt"))  # of a training with names of its own that was killed
    with pytest.raises(FileExistsError, match=r"resume it with --ckpt_path .*step=1\.ckpt\."):
        run(["fit", *arguments(shards, tmp_path, steps=1)])
    other.rename(last.with_name("damaged-last.ckpt"))
    run(["fit", *arguments(shards, tmp_path, steps=1)])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--model.bottleneck.nope=3"], r"Option 'nope' is not accepted.*--model.bottleneck.help"),
        (["--model.latent_dims=3"], r"unrecognized arguments: --model.latent_dims"),
        (["--trainer.max_step=3"], r"unrecognized arguments: --trainer.max_step"),
        (["--model.bottleneck=Noizy"], r"no class is named Noizy"),
        (["--model.bottleneck.beta=abc"], r"Expected a <class 'float'>. Got value: abc"),
        (["--model.bottleneck.beta=-1"], r"beta is -1.0, expected 0 or more"),
        (["--data.shards=nowhere"], r"No folder of shards at .*nowhere. Make one with data_prep"),
        (["--data.frames=9"], r"9 frames"),
        (["--data.batch_size=0"], r"batch_size is 0"),
        (["--model.encoder.image_size=32"], r"image_size"),
    ],
)
def test_errors_say_what_to_do_in_one_line(extra, message, shards, tmp_path):
    with pytest.raises((ValueError, OSError), match=message) as caught:
        run(["fit", *arguments(shards, tmp_path), *extra])
    assert "\n" not in str(caught.value).strip()


def test_a_failed_start_does_not_block_the_next_one(shards, tmp_path):
    with pytest.raises(ValueError, match="9 frames"):
        run(["fit", *arguments(shards, tmp_path), "--data.frames=9"])
    run(["fit", *arguments(shards, tmp_path, steps=1)])


def test_the_process_ends_with_one_line_and_a_code(tmp_path):
    command = [sys.executable, "-m", "lam", "fit", "--model.latent_dims=3"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode != 0
    assert result.stderr.startswith("lam: error: ")
    assert result.stderr.count("\n") == 1


def test_a_loss_that_is_no_number_stops_the_run_and_names_step_and_term(shards, tmp_path):
    class Poisoned(LamCLI):
        def before_fit(self) -> None:
            super().before_fit()
            step = self.model.training_step

            def poisoned(clip, batch_idx):
                if batch_idx == 2:
                    torch.nn.init.constant_(next(self.model.forward_model.parameters()), float("nan"))
                return step(clip, batch_idx)

            self.model.training_step = poisoned

    with pytest.raises(NonFiniteLossError, match="At step 2 the prediction loss is nan"):
        run(["fit", *arguments(shards, tmp_path)], Poisoned)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_builds_what_its_file_says(family, shards, tmp_path):
    """Settings of one class must not survive into another; see the pitfalls of composed configs."""

    class Built(LamCLI):
        def _run_subcommand(self, subcommand: str) -> None:
            pass

    cli = run(["fit", *arguments(shards, tmp_path, family)], Built)
    written = yaml.safe_load((EXPERIMENTS / "bottlenecks" / f"{family}.yaml").read_text())["model"]["bottleneck"]
    bottleneck = cli.model.bottleneck
    assert type(bottleneck).__name__ == written["class_path"].rpartition(".")[2]
    if bottleneck.knob is not None:
        assert getattr(bottleneck, bottleneck.knob) == written["init_args"][bottleneck.knob]


@pytest.mark.slow
@pytest.mark.parametrize("forward_model", ["AdaLN", "Convolutional", "Cross", "Tokens"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_in_bfloat16_with_every_forward_model(family, forward_model, shards, tmp_path):
    settings = [a for a in arguments(shards, tmp_path, family, steps=2) if "32-true" not in a]
    model = [f"--model.forward_model={forward_model}", "--model.forward_model.width=16", "--model.num_latents=2"]
    cli = run(["fit", *settings, *model, "--trainer.precision=bf16-mixed"])
    cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    assert torch.isfinite(cli.trainer.callback_metrics["val/prediction"])
    assert cli.trainer.callback_metrics["eval/future/passed"] == 1.0


def test_every_bottleneck_has_an_experiment_file():
    named = {
        yaml.safe_load((EXPERIMENTS / "bottlenecks" / f"{f}.yaml").read_text())["model"]["bottleneck"]["class_path"]
        for f in FAMILIES
    }
    catalogue = {name for name in lam.bottlenecks.__all__ if issubclass(getattr(lam.bottlenecks, name), Bottleneck)}
    assert {name.rpartition(".")[2] for name in named} == catalogue


def test_only_base_replaces_the_list_of_callbacks():
    """A later ``callbacks:`` silently removes those of an earlier file; ``callbacks+:`` adds to them.

    The demo means to; training an autoencoder and training controllers are command lines of their own.
    """
    offenders = [
        p.name
        for p in EXPERIMENTS.rglob("*.yaml")
        if "callbacks:" in p.read_text()
        and p.stem not in ("base", "actions", "autoencoder", "control", "demo")
        and p.parent.name != "control"
    ]
    assert offenders == []
