"""Rows of a bottleneck table differ in the bottleneck alone: their files set nothing else, and runs that do are refused."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from lam.report.stats.runs import read_runs
from lam.runs.provenance import HEADS_KEYS, provenance_of
from tests.report import fake
from tests.report.fake import write_run
from tests.tiny import EXPERIMENTS

MORE_THAN_A_BOTTLENECK = {
    "actions": "a labeled bound, no bottleneck: it is given the actions",
    "cuts": "the positive control of leakage, which never competes: it is trained on clips with cuts, by heads that can paint",
}


@pytest.mark.parametrize("path", sorted((EXPERIMENTS / "bottlenecks").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_family_sets_its_bottleneck_and_nothing_else(path):
    settings = yaml.safe_load(path.read_text())
    if path.stem not in MORE_THAN_A_BOTTLENECK:
        assert list(settings) == ["model"]
        assert list(settings["model"]) == ["bottleneck"]


@pytest.mark.parametrize("path", sorted((EXPERIMENTS / "systems").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_system_sets_its_recipe_and_nothing_else(path):
    settings = yaml.safe_load(path.read_text())
    assert list(settings) == ["model"]
    assert set(settings["model"]) == {"bottleneck", *HEADS_KEYS}
    assert "arXiv" in path.read_text()


@pytest.fixture
def settings():
    from lam.runs.upgrade import upgrade

    return upgrade(yaml.safe_load((Path(__file__).parent / "fixtures" / "config.yaml").read_text()))


def test_heads_have_hashes_of_their_own_and_change_no_other_that_is_shared(settings):
    before = provenance_of(settings, "data", "code")
    for key, value in (("num_latents", 4), ("inverse_model", {"class_path": "lam.models.inverse.Difference"})):
        other = copy.deepcopy(settings)
        other["model"][key] = value
        after = provenance_of(other, "data", "code")
        assert after.shared_hash == before.shared_hash
        assert [name for name in HEADS_KEYS if after.heads[name] != before.heads[name]] == [key]
        assert not after.same_weights(before)
    longer = copy.deepcopy(settings)
    longer["trainer"]["max_steps"] = 7
    after = provenance_of(longer, "data", "code")
    assert after.shared_hash != before.shared_hash and after.heads == before.heads


def with_heads(folder: Path, **heads: str) -> None:
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"heads": dict.fromkeys(HEADS_KEYS, "h") | heads}))


def test_a_row_with_heads_of_its_own_is_refused(tmp_path):
    root = tmp_path / "wild"
    with_heads(write_run(root, "none", "", 0))
    with_heads(write_run(root, "vq", "16", 0))
    read_runs(root)
    with_heads(root / "vq@16" / "seed0", forward_model="other", num_latents="4")
    with pytest.raises(ValueError, match=r"vq@16/seed0 and .*none/seed0 differ .*: forward_model, num_latents\."):
        read_runs(root)


def test_the_labeled_bound_is_given_actions_but_shares_all_else(tmp_path):
    root = tmp_path / "wild"
    with_heads(write_run(root, "none", "", 0))
    bound = write_run(root, "vq", "16", 0)
    (root / "actions").mkdir()
    bound = bound.rename(root / "actions" / "seed0")
    about = json.loads((bound / "run.json").read_text()) | {"family": "actions", "knob": ""}
    (bound / "run.json").write_text(json.dumps(about))
    with_heads(bound, inverse_model="recorded")
    assert {run.family for run in read_runs(root)[0]} == {"none", "actions"}
    with_heads(bound, inverse_model="recorded", forward_model="other")
    with pytest.raises(ValueError, match=r"differ .*: forward_model\."):
        read_runs(root)


def test_the_positive_control_has_heads_of_its_own_and_no_other_setting(tmp_path, monkeypatch):
    monkeypatch.setitem(fake.SWEEPS, "cuts", {"": 1.05})
    root = tmp_path / "wild"
    with_heads(write_run(root, "none", "", 0))
    with_heads(write_run(root, "cuts", "", 0), **dict.fromkeys(HEADS_KEYS, "own"))
    assert {run.family for run in read_runs(root)[0]} == {"none", "cuts"}
    about = root / "cuts" / "seed0" / "run.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"shared_hash": "more steps"}))
    with pytest.raises(ValueError, match="differ in more than the bottleneck"):
        read_runs(root)
