"""Training on a feature cache, made by data_prep, against training on the pictures."""

import json
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_prep.pipeline.cache_features import features
from lam.data.datamodule import ClipDataModule
from lam.encoders import Cached, Encoder, Patches, Vision
from lam.runs.cli import LamCLI, run
from tests.encoders.conftest import save_transformer, write_colors
from tests.tiny import arguments, make_world

SIZE = 16


@pytest.fixture(autouse=True, scope="module")
def _no_arguments_of_its_own():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A world, weights, and caches of the world by two encoders and of another world by the first."""
    root = tmp_path_factory.mktemp("made")
    make_world(root / "world", size=SIZE)
    make_world(root / "elsewhere", seed=1, size=SIZE)
    save_transformer("dinov2", root / "dinov2")
    features(root / "world", root / "cache", encoder=vision(root), device="cpu")
    features(root / "elsewhere", root / "elsewhere-cache", encoder=vision(root), device="cpu")
    shutil.copytree(root / "dinov2", root / "colors")
    write_colors(str(root / "colors"), [0.5] * 3, [0.5] * 3)  # the same weights and layout, other states
    features(root / "world", root / "other", encoder=vision(root, "colors"), device="cpu")
    return root


def vision(root: Path, weights: str = "dinov2") -> Vision:
    return Vision(str(root / weights), image_size=SIZE)


def clips(folder: Path) -> list:
    return list(ClipDataModule(folder, frames=3, batch_size=5, num_workers=0).val_dataloader())


def choose(shards: Path, runs: Path, name: str, *encoder: str) -> list[str]:
    """Arguments of a tiny run on some shards with an encoder of one's own."""
    given = [each for each in arguments(shards, runs, name=f"tiny/{name}", steps=6) if "model.encoder" not in each]
    return [*given, *encoder, "--trainer.val_check_interval=6"]


@pytest.fixture(scope="module")
def fitted(made, tmp_path_factory) -> LamCLI:
    """A run on the cache."""
    path, runs = made / "cache", tmp_path_factory.mktemp("runs")
    return run(["fit", *choose(path, runs, "cached", "--model.encoder=Cached", f"--model.encoder.path={path}")])


def from_run(cli: LamCLI) -> list[str]:
    last = cli.run_directory / "checkpoints" / "last.ckpt"
    return [f"--config={cli.run_directory / 'config.yaml'}", f"--ckpt_path={last}"]


def logged(cli: LamCLI, tag: str) -> torch.Tensor:
    """What a run has logged at each step."""
    found = EventAccumulator(str(cli.run_directory))
    found.Reload()
    return torch.tensor([event.value for event in found.Scalars(tag)])


def test_states_are_those_of_the_encoder_up_to_rounding(made):
    encoder, cached = vision(made), Cached(str(made / "cache"))
    assert cached.shape == encoder.shape
    assert cached.frames_per_state == 1
    for pictures, stored in zip(clips(made / "world"), clips(made / "cache"), strict=True):
        assert stored.frames.dtype == torch.bfloat16
        assert (pictures.key, pictures.source) == (stored.key, stored.source)
        assert torch.equal(pictures.times, stored.times)
        assert torch.equal(pictures.position, stored.position)
        assert pictures.factors.keys() == stored.factors.keys()
        assert all(torch.equal(pictures.factors[name], stored.factors[name]) for name in pictures.factors)
        states = cached(stored.frames)
        assert states.dtype == torch.float32
        torch.testing.assert_close(states, encoder(pictures.frames), rtol=2**-8, atol=1e-5)


def test_looks_like_any_encoder_to_the_model(made):
    cached = Cached(str(made / "cache"))
    assert isinstance(cached, Encoder)
    assert not list(cached.parameters())
    assert not cached.train().training
    with torch.autocast("cpu", torch.bfloat16):
        states = cached(clips(made / "cache")[0].frames)
    assert states.dtype == torch.float32
    pictures = cached.to_image(states)
    assert pictures.shape == (5, 3, 3, 2, 2)  # one pixel a token
    # the same colors as those of the encoder, which shows a token as a square
    torch.testing.assert_close(pictures, vision(made).to_image(states)[..., 4::8, 4::8])


def test_training_on_the_cache_is_training_on_the_pictures(made, fitted, tmp_path):
    live = run(
        [
            "fit",
            *choose(made / "world", tmp_path, "live", "--model.encoder=Vision"),
            f"--model.encoder.path_or_name={made / 'dinov2'}",
            f"--model.encoder.image_size={SIZE}",
        ]
    )
    cached = fitted
    assert cached.trainer.global_step == live.trainer.global_step == 6
    torch.testing.assert_close(cached.model.copy_error, live.model.copy_error, rtol=1e-3, atol=0)
    one, other = (logged(cli, "train/prediction") for cli in (live, cached))
    assert len(one) == 6
    assert (one[1:] - one[:-1]).abs().min() > 5e-3  # or equal curves would say nothing
    torch.testing.assert_close(other, one, rtol=5e-3, atol=0)
    one, other = (cli.trainer.callback_metrics for cli in (live, cached))
    assert one.keys() == other.keys()
    assert other["val/prediction"] == pytest.approx(one["val/prediction"].item(), rel=5e-3)
    assert "eval/probe/gain/agent_dx" in one


def test_every_evaluation_works_on_states(made, fitted):
    metrics = fitted.trainer.callback_metrics
    assert metrics["eval/future/passed"] == 1.0
    named = {key.split("/")[1] for key in metrics if key.startswith("eval/")}
    assert {"capacity", "rate", "probe", "usage", "future", "leakage", "transfer"} <= named
    found = EventAccumulator(str(fitted.run_directory))
    found.Reload()
    assert set(found.Tags()["images"]) == {"visual/prediction"}
    assert {"prediction", "transfer", "rate"} <= {path.stem for path in (fitted.run_directory / "boards").iterdir()}


def test_predict_reads_states_and_test_takes_those_of_other_data(made, fitted):
    run(["predict", *from_run(fitted)])
    latents = pq.read_table(fitted.run_directory / "latents.parquet")
    assert len(latents) == (40 + 12) * 4  # five states make four transitions
    run(["test", *from_run(fitted), f"--data.shards={made / 'elsewhere-cache'}"])
    tested = json.loads((fitted.run_directory / "test-elsewhere-cache.json").read_text())
    assert tested["val/prediction"] != fitted.trainer.callback_metrics["val/prediction"]


def test_a_set_that_does_not_fit_is_an_error(made):
    cached = Cached(str(made / "cache"))
    cached.check_index(ClipDataModule(made / "elsewhere-cache", 3, 5).index)
    with pytest.raises(ValueError, match=r"holds states of Vision with fingerprint .*, model.encoder reads .*: Vision with"):
        cached.check_index(ClipDataModule(made / "other", 3, 5).index)
    pictures = ClipDataModule(made / "world", 3, 5).index
    with pytest.raises(ValueError, match=r"holds pictures, encoder Cached reads states.*data_prep features"):
        cached.check_index(pictures)
    with pytest.raises(ValueError, match="holds pictures"):
        Cached(str(made / "world"))
    with pytest.raises(FileNotFoundError, match=r"No folder of shards at .*nowhere"):
        Cached(str(made / "nowhere"))
    states = ClipDataModule(made / "cache", 3, 5).index
    assert states.height == 2
    for encoder in (Patches(image_size=2, patch=1), vision(made)):
        with pytest.raises(ValueError, match=r"holds states of an encoder, .* reads pictures. Set model.encoder to Cached"):
            encoder.check_index(states)


def test_a_run_on_states_of_another_encoder_does_not_start(made, tmp_path):
    wrong = ["--model.encoder=Cached", f"--model.encoder.path={made / 'other'}"]
    with pytest.raises(ValueError, match=r"Set model.encoder.path to the folder of data.shards"):
        run(["fit", *choose(made / "cache", tmp_path, "wrong", *wrong)])


def test_a_checkpoint_takes_states_of_the_encoder_it_was_trained_with_and_no_others(made, fitted, tmp_path):
    saved = torch.load(fitted.run_directory / "checkpoints" / "last.ckpt", weights_only=True)
    own = Cached(str(made / "cache")).features.fingerprint
    assert bytes(saved["state_dict"]["encoder._extra_state"].tolist()).hex() == own
    predict = ["predict", *from_run(fitted)]
    moved = shutil.copytree(made / "cache", tmp_path / "moved")
    run([*predict, f"--data.shards={moved}", f"--model.encoder.path={moved}"])
    other = made / "other"
    with pytest.raises(ValueError, match="The checkpoint was trained on states of an encoder with fingerprint"):
        run([*predict, f"--data.shards={other}", f"--model.encoder.path={other}"])


def test_the_refusal_of_a_checkpoint_names_both_encoders(made):
    one, other = Cached(str(made / "cache")), Cached(str(made / "other"))
    one.load_state_dict(Cached(str(made / "elsewhere-cache")).state_dict())
    prints = [each.features.fingerprint[:8] for each in (one, other)]
    message = (
        f"trained on states of an encoder with fingerprint {prints[0]}, .*Vision with fingerprint {prints[1]}.*train the run"
    )
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(one.state_dict())


def test_pictures_become_the_states_that_are_stored_of_them(made):
    encoder = vision(made)
    cached = Cached(str(made / "cache"), pictures=encoder)
    assert cached.image_size == SIZE
    for pictures, stored in zip(clips(made / "world"), clips(made / "cache"), strict=True):
        assert torch.equal(cached(pictures.frames), cached(stored.frames))
        torch.testing.assert_close(cached.to_image(cached(stored.frames)), encoder.to_image(stored.frames.float()))
    assert all(name == "_extra_state" or name.startswith("backbone.") for name in cached.state_dict())


def test_pictures_need_the_encoder_that_made_the_states(made):
    with pytest.raises(ValueError, match=r"Set model\.encoder\.pictures"):
        Cached(str(made / "cache"))(clips(made / "world")[0].frames)
    weights = made / "moved"
    shutil.copytree(made / "dinov2", weights)
    tensors = load_file(weights / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, weights / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"model\.encoder\.pictures is Vision from .*moved"):
        Cached(str(made / "cache"), pictures=vision(made, "moved"))
