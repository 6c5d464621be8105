"""Exports: folders that can be given away, and that come back as the same model."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import lam
from lam.encoders.autoencoder.network import ConvAutoencoder
from lam.encoders.saved import save_encoder
from lam.runs.cli import run
from lam.runs.export import main
from tests.tiny import arguments, make_world


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("export") / "shards")


def train(shards, family, *more):
    name = f"tiny/{family}@1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        run(["fit", *arguments(shards, shards.parent / "runs", family, name), *more])
    return shards.parent / "runs" / name / "seed0"


@pytest.fixture(scope="module", params=["noisy", "rvq"])
def folder(request, shards):
    return train(shards, request.param)


@pytest.fixture(scope="module")
def noisy(shards):
    return train(shards, "noisy", "--name=tiny/noisy@2", "--model.bottleneck.beta=2").parent.parent / "noisy@2" / "seed0"


@pytest.fixture
def clip():
    return np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)


def test_an_export_is_the_same_model_bit_for_bit(folder, clip, tmp_path, capsys):
    out = tmp_path / "out"
    main([str(folder), str(out)])
    assert f'lam.load("{out}")' in capsys.readouterr().out
    ours, theirs = lam.load(folder), lam.load(out)
    assert (theirs.frames, theirs.stride) == (ours.frames, ours.stride)
    state = theirs.world.state_dict()
    assert state.keys() == ours.world.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in ours.world.state_dict().items())
    z = ours.sample_prior(4, torch.Generator().manual_seed(0))
    assert torch.equal(ours.imagine(clip[:1], z).states, theirs.imagine(clip[:1], z).states)
    for one, other in zip(ours.label(clip), theirs.label(clip), strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_nothing_in_it_is_pickled_and_the_card_says_what_it_is(noisy, tmp_path):
    shutil.copytree(noisy, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text(json.dumps({"eval/capacity/error": 0.25, "eval/secret": 1.0}))
    main([str(tmp_path / "run"), str(tmp_path / "out")])
    files = sorted(path.name for path in (tmp_path / "out").rglob("*"))
    assert files == ["README.md", "config.yaml", "data.json", "export.json", "metrics.json", "model.safetensors"]
    card = (tmp_path / "out" / "README.md").read_text()
    provenance = json.loads((noisy / "trained.json").read_text())
    for text in (
        *("# tiny/noisy@2", "Noisy (noisy, beta 2)", "1 x 8 numbers", "16 x 16 pixels", "`eval/capacity/error` | 0.25"),
        *(provenance["data_hash"], provenance["code_revision"], "lam.load("),
    ):
        assert text in card, text
    assert "eval/secret" not in card
    assert str(noisy.parents[3]) not in "".join((tmp_path / "out" / name).read_text() for name in files if "model" not in name)
    data = json.loads((tmp_path / "out" / "data.json").read_text())
    assert f"{data['fps']:g} a second" in card
    assert len(data["action_statistics"]["mean"]) == 2


def test_only_an_export_is_replaced(noisy, tmp_path):
    main([str(noisy), str(tmp_path / "out")])
    main([str(noisy), str(tmp_path / "out")])  # nobody has changed it since
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    (tmp_path / "out" / "my notes.txt").write_text("mine")
    (tmp_path / "out" / "README.md").write_text("my card")
    for _ in range(2):
        main([str(noisy), str(tmp_path / "out")])
        assert not (tmp_path / "out" / "my notes.txt").exists()
        assert [(path / "my notes.txt").read_text() for path in (tmp_path / ".stale").iterdir()] == ["mine"]
        assert (tmp_path / ".stale" / "out" / "README.md").read_text() == "my card"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="is there and is no export"):
        main([str(noisy), str(tmp_path / "mine")])
    assert (tmp_path / "mine" / "thesis.tex").exists()
    with pytest.raises(FileNotFoundError, match="not the folder of a finished run"):
        main([str(tmp_path / "mine"), str(tmp_path / "other")])


def test_weights_that_were_changed_are_refused(noisy, tmp_path):
    out = tmp_path / "out"
    main([str(noisy), str(out)])
    weights = load_file(out / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, out / "model.safetensors")
    with pytest.raises(ValueError, match=r"not the file that export.json describes"):
        lam.load(out)
    (out / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model.safetensors is missing"):
        lam.load(out)


@pytest.fixture(scope="module")
def encoded(shards):
    """Folder of a run whose encoder has weights in a folder named relative to the working directory."""
    folder = shards.parent / "runs" / "autoencoder"
    torch.manual_seed(0)
    save_encoder("autoencoder", ConvAutoencoder(dim=4, width=8, num_halvings=2), 16, folder)
    (folder / "checkpoint.ckpt").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shards.parent)
        encoder = yaml.safe_dump(
            {"model": {"encoder": {"class_path": "Autoencoder", "init_args": {"path": "runs/autoencoder"}}}}
        )
        (shards.parent / "autoencoder.yaml").write_text(encoder)
        words = [word for word in arguments(shards, shards.parent / "runs", name="tiny/encoded") if "model.encoder" not in word]
        patch.setattr(sys, "argv", sys.argv[:1])
        run(["fit", *words, f"--config={shards.parent / 'autoencoder.yaml'}"])
    return shards.parent / "runs" / "tiny" / "encoded" / "seed0"


def test_an_encoder_with_files_is_found_beside_a_run_that_was_moved_and_travels_with_an_export(encoded, clip, tmp_path):
    root = encoded.parents[3]
    shutil.copytree(root / "runs", tmp_path / "moved" / "runs")
    moved = tmp_path / "moved" / encoded.relative_to(root)
    expected = lam.load(encoded).label(clip).z
    assert torch.equal(lam.load(moved).label(clip).z, expected)
    main([str(moved), str(tmp_path / "out")])
    shutil.rmtree(tmp_path / "moved" / "runs" / "autoencoder")
    assert torch.equal(lam.load(tmp_path / "out").label(clip).z, expected)
    copied = sorted(path.name for path in (tmp_path / "out" / "encoder" / "path").iterdir())
    assert copied == ["encoder.json", "encoder.safetensors"]
    shutil.rmtree(tmp_path / "out" / "encoder")
    with pytest.raises(FileNotFoundError, match=r"No trained autoencoder in encoder/path"):
        lam.load(tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"No trained autoencoder in runs/autoencoder"):
        lam.load(moved)


def test_a_name_on_the_hub_is_downloaded_where_no_folder_has_it(noisy, clip, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    main([str(noisy), str(tmp_path / "hub" / "model")])
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append(name)
        if name != "owner/model":
            raise LocalEntryNotFoundError("no network")
        assert not any("ckpt" in pattern or pattern == "*" for pattern in allow_patterns)
        return str(tmp_path / "hub" / "model")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    expected = lam.load(noisy).label(clip).z
    assert torch.equal(lam.load("hub:owner/model").label(clip).z, expected)
    assert torch.equal(lam.load("owner/model").label(clip).z, expected)
    assert asked == ["owner/model"] * 2
    lam.load("hub/model")  # a folder with that name wins
    assert asked == ["owner/model"] * 2
    with pytest.raises(FileNotFoundError, match=r"no folder owner/other, and the hub gives no such model \(no network\)"):
        lam.load("owner/other")
    shutil.copytree(noisy, tmp_path / "hub" / "run")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path / "hub" / "run"))
    with pytest.raises(FileNotFoundError, match=r"was not written by lam export"):
        lam.load("hub:owner/run")
