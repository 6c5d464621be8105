"""Warm starts: what a new run takes from another one, what it says of it, and that its config and hash know of it."""

import json
import shutil
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml

from lam.io import hash_file
from lam.runs.cli import run
from lam.runs.errors import SettingsError
from lam.runs.export import export_run
from lam.runs.provenance import Provenance
from lam.runs.recovery.checkpoints import DamagedCheckpointError, read_tensors
from lam.runs.recovery.warm_start import read_weights, take_weights
from tests.tiny import arguments, make_world

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")


@pytest.fixture(scope="module")
def published(shards, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        return run(["fit", *words(shards, tmp_path_factory.mktemp("published"), "tiny/published")]).run_directory


def words(shards: Path, runs: Path, name: str, *more: str) -> list[str]:
    return [*arguments(shards, runs, name=name), "--trainer.callbacks=[]", *more]


class Start(pl.Callback):
    """Keeps the weights that the first step begins with."""

    def on_train_start(self, trainer, pl_module):
        self.weights = {name: value.clone() for name, value in pl_module.state_dict().items()}


def test_a_run_begins_with_the_weights_of_another_on_other_data_and_with_settings_of_its_own(published, tmp_path, capsys):
    own, start = make_world(tmp_path / "own", seed=3), Start()
    shards = words(own, tmp_path, "own/row", f"--init_from={published}", "--model.optimizer.adamw_lr=0.001")
    folder = run(["fit", *shards], callbacks=[start]).run_directory
    saved = read_tensors(published / "checkpoints" / "last.ckpt")["state_dict"]
    learned = [name for name in saved if not name.startswith(("encoder.", "copy_error"))]
    assert learned and all(torch.equal(start.weights[name], saved[name]) for name in learned)
    assert start.weights["copy_error"] != saved["copy_error"]  # the unit is that of its own data
    found = json.loads((folder / "init_from.json").read_text())
    digest = hash_file(published / "checkpoints" / "last.ckpt")
    assert found == {"taken": sorted(learned), "left": {}, "from": str(published), "sha256": digest}
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["init_from"], config["init_sha256"], config["name"]) == (str(published), digest, "own/row")

    cold = run(["fit", *words(own, tmp_path, "own/cold", "--model.optimizer.adamw_lr=0.001")]).run_directory
    warm, other = (Provenance(**json.loads((one / "trained.json").read_text())) for one in (folder, cold))
    assert warm.config_hash != other.config_hash
    assert warm.shared_hash != other.shared_hash
    # what it began with may be gone
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    kept = [f"--config={moved / 'config.yaml'}", f"--ckpt_path={moved / 'checkpoints' / 'last.ckpt'}"]
    kept.append("--trainer.enable_progress_bar=false")
    text = (moved / "config.yaml").read_text().replace(str(published), str(tmp_path / "gone"))
    (moved / "config.yaml").write_text(text)
    run(["fit", *kept])
    run(["validate", *kept])
    assert json.loads((moved / "run.json").read_text())["config_hash"] == warm.config_hash
    with pytest.raises(SettingsError, match="was begun with init_sha256"):
        run(["fit", *kept, "--init_sha256=0123"])


def test_what_does_not_fit_is_listed_by_name_with_both_shapes(published, tmp_path, caplog):
    larger = make_world(tmp_path / "larger", size=32)
    more = ["--model.encoder.image_size=32", "--model.bottleneck=VQ", "--model.bottleneck.num_codes=4"]
    more += ["--model.latent_dim=4", "--trainer.max_steps=1"]
    with caplog.at_level("INFO"):
        folder = run(["fit", *words(larger, tmp_path, "own/larger", f"--init_from={published}", *more)]).run_directory
    found = json.loads((folder / "init_from.json").read_text())
    assert found["taken"]
    assert found["left"]["inverse_model.reader.to_out.weight"] == "(8, 16) there, (4, 16) here"
    assert any(why.endswith("here alone, as drawn") for name, why in found["left"].items() if name.startswith("bottleneck"))
    assert any(why.endswith("there alone") for name, why in found["left"].items() if name.startswith("bottleneck"))
    (said,) = [record.message for record in caplog.records if record.message.startswith("lam: took")]
    assert all(f"{name}: {why}" in said for name, why in found["left"].items())


def test_weights_are_checked_and_those_of_exports_are_the_same(published, shards, tmp_path):
    export_run(published, tmp_path / "export")
    ours, theirs = (
        read_weights(path) for path in (published / "checkpoints" / "last.ckpt", tmp_path / "export" / "model.safetensors")
    )
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    damaged = Path(shutil.copytree(published, tmp_path / "damaged"))
    data = bytearray((damaged / "checkpoints" / "last.ckpt").read_bytes())
    data[len(data) // 2] ^= 1
    (damaged / "checkpoints" / "last.ckpt").write_bytes(data)
    with pytest.raises(DamagedCheckpointError, match="is not the file that training left"):
        run(["fit", *words(shards, tmp_path, "own/a", f"--init_from={damaged}")])
    with pytest.raises(SettingsError, match="is not what this run is to begin with"):
        run(["fit", *words(shards, tmp_path, "own/a", f"--init_from={published}", "--init_sha256=0123")])
    with pytest.raises(SettingsError, match="names no weights"):
        run(["fit", *words(shards, tmp_path, "own/a", f"--init_from={tmp_path}")])
    assert not (tmp_path / "own" / "a" / "seed0").exists()


def test_nothing_that_fits_is_an_error():
    with pytest.raises(SettingsError, match=r"weight: \(3, 2\) there, \(4, 2\) here"):
        take_weights(torch.nn.Linear(2, 4), torch.nn.Linear(2, 3).state_dict())
