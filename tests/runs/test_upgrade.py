"""Runs of earlier releases: their configs load, and their finished rows are not trained again."""

import importlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from lam.runs.cli import LamCLI
from lam.runs.provenance import HASH_VERSION, changed, read_provenance, renew_hashes
from lam.runs.recovery.heartbeat import Heartbeat
from lam.runs.recovery.resuming import Beginning
from lam.runs.recovery.stopping import Stopping
from lam.runs.terminal.summary import LastPass
from lam.runs.upgrade import CLASSES, upgrade
from tests.tiny import make_world

FIXTURES = Path(__file__).parent / "fixtures"


class Built(LamCLI):
    def _run_subcommand(self, subcommand: str) -> None:
        pass


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return make_world(tmp_path_factory.mktemp("data") / "world", size=24)


def test_the_config_of_a_run_builds_the_same_model(shards, tmp_path):
    where = [f"--data.shards={shards}", f"--trainer.logger.init_args.save_dir={tmp_path}"]
    cli = Built(["fit", f"--config={FIXTURES / 'config.yaml'}", *where])
    old = yaml.safe_load((FIXTURES / "config.yaml").read_text())["model"]
    new = json.loads(json.dumps(cli.settings["model"].as_dict()))
    for part in ("encoder", "inverse_model", "bottleneck", "forward_model", "optimizer"):
        assert new[part]["class_path"].rpartition(".")[2] == old[part]["class_path"].rpartition(".")[2]
        assert new[part]["init_args"] | old[part]["init_args"] == new[part]["init_args"]
    assert type(cli.model.inverse_model).__name__ == "ChannelPair"
    assert type(cli.model.bottleneck).__name__ == "VQ" and cli.model.bottleneck.num_codes == 4
    assert cli.model.encoder.image_size == 24
    saved = [callback for callback in cli.trainer.callbacks if type(callback).__name__ == "ModelCheckpoint"]
    assert len(saved) == 1 and saved[0].filename == "last"
    watching = (Beginning, Stopping, Heartbeat, LastPass)  # after all else: they act on what a step has left
    assert [callback for callback in cli.trainer.callbacks if not isinstance(callback, watching)][-1] is saved[0]
    names = [type(callback).__name__ for callback in cli.trainer.callbacks]
    assert names[names.index("Capacity") :][:10] == [
        *("Capacity", "Rate", "Probe", "Usage", "Leakage", "Transfer", "Future"),
        *("PredictionVisualization", "TransferVisualization", "RateVisualization"),
    ]


@pytest.mark.parametrize("path", sorted(CLASSES.values()))
def test_every_new_name_exists(path):
    module, _, name = path.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), type)


def test_a_finished_run_is_not_stale(tmp_path):
    for name in ("config.yaml", "run.json"):
        shutil.copy(FIXTURES / name, tmp_path)
    about = json.loads((tmp_path / "run.json").read_text())
    found = read_provenance(tmp_path / "run.json")
    assert (found.hash_version, found.data_hash, found.code_revision) == (
        HASH_VERSION,
        about["data_hash"],
        about["code_revision"],
    )
    assert (found.setting, found.family, found.knob, found.seed) == ("demo", "vq", "4", 0)
    # as a setting of today says it: the same values in other words
    settings = yaml.safe_load((tmp_path / "config.yaml").read_text())
    today = upgrade(settings)
    today["model"]["bottleneck"]["init_args"].pop("commitment")  # its default
    today["data"]["num_workers"] = 3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(today))
    again = read_provenance(tmp_path / "run.json")
    assert again == found
    today["model"]["bottleneck"]["init_args"]["num_codes"] = 8
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(today))
    assert not read_provenance(tmp_path / "run.json").same_weights(found)
    assert read_provenance(tmp_path / "run.json").shared_hash == found.shared_hash

    shutil.copy(FIXTURES / "config.yaml", tmp_path)
    renew_hashes(tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["hash_version"] == HASH_VERSION
    (tmp_path / "config.yaml").unlink()
    assert read_provenance(tmp_path / "run.json") == found


def test_the_settings_of_before_make_the_row_of_before(shards, tmp_path, monkeypatch):
    experiments = Path(__file__).resolve().parents[2] / "experiments"
    configs = [f"--config={path}" for path in (FIXTURES / "demo.yaml", experiments / "bottlenecks" / "vq.yaml")]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    where = [f"--data.shards={shards}", "--name=demo/vq@4", f"--trainer.logger.init_args.save_dir={tmp_path}"]
    cli = Built(["fit", *configs, "--model.bottleneck.num_codes=4", *where], **quiet)
    before = read_provenance_of_fixture(tmp_path)
    today = cli.provenance(before.data_hash)
    assert today.same_weights(before)
    assert today.shared_hash == before.shared_hash
    assert today.evaluation_hash == before.evaluation_hash


def read_provenance_of_fixture(folder: Path):
    for name in ("config.yaml", "run.json"):
        shutil.copy(FIXTURES / name, folder)
    return read_provenance(folder / "run.json")


def test_a_new_argument_changes_no_hash():
    def before(size: int, depth: int = 2): ...
    def after(size: int, depth: int = 2, heads: tuple[int, ...] = (1, 2)): ...

    assert changed({"size": 3, "depth": 2}, before) == changed({"size": 3, "depth": 2, "heads": [1, 2]}, after) == {"size": 3}
