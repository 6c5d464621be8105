from __future__ import annotations

import json
from pathlib import Path

import pytest

from lam.report import report
from lam.report.cli import main
from lam.report.stats.rows import Comparison
from lam.report.stats.runs import read_runs
from lam.report.tables.main import main_grid
from lam.report.tables.submitted import read_cards, submitted_grid
from lam.runs.columns import Declarations
from lam.runs.results import write_card
from tests.report.test_report import ERROR, row_of, write_run, write_runs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_runs(tmp_path / "wild", seeds=(0, 1))


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """The card of a run that somebody made elsewhere, on the same clips."""
    folder = write_run(tmp_path / "elsewhere", "vq@16", 7)
    Declarations().write(folder)
    about = json.loads((folder / "run.json").read_text()) | {"family": "theirs", "knob": ""}
    (folder / "run.json").write_text(json.dumps(about))
    write_card(folder)
    return folder / "card.json"


def test_a_card_has_hashes_versions_and_the_interval_that_the_report_would_show(tmp_path, card):
    content = json.loads(card.read_text())
    assert set(content["hashes"]) == {"data", "shared", "config", "evaluation", "clips"}
    assert set(content["versions"]) == {"lam", "torch", "code"}
    found = Comparison(*read_runs(tmp_path / "elsewhere"))
    cell = found.estimate(found.rows[0], ERROR)
    assert content["metrics"][ERROR]["value"] == pytest.approx(cell.value, rel=1e-5)
    assert content["metrics"][ERROR]["half"] == pytest.approx(cell.half, rel=1e-6)
    assert "half" not in content["metrics"]["eval/probe/gain/agent_dx"]  # has no values of clips


def test_cards_stand_below_our_rows_and_change_none_of_them(root, card):
    found = Comparison(*read_runs(root))
    ours, both = main_grid(found), submitted_grid(found, read_cards([card], found))
    assert both.rows[:-1] == ours.rows
    line = dict(zip(both.headings, both.rows[-1], strict=True))
    assert (line["bottleneck"], line["knob"]) == (("theirs", ""), ("submitted", ""))
    assert {mark for _, mark in line.values()} == {""}
    gap = [found.estimate(row_of(found, name), ERROR).value for name in ("none", "identity")]
    value = json.loads(card.read_text())["metrics"][ERROR]["value"]
    assert float(line["gap closed"][0]) == pytest.approx((gap[0] - value) / (gap[0] - gap[1]), abs=5e-4)


def test_the_command_takes_cards_and_the_folder_of_cards(root, card, capsys):
    assert not [path for path in report(root).files if path.name == "submitted.md"]
    main([str(root), "--cards", str(card)])
    assert "submitted.md" in capsys.readouterr().out
    first = (root / "report" / "submitted.md").read_text()
    assert "| theirs " in first
    (root / "cards").mkdir()
    card.rename(root / "cards" / "theirs.json")
    report(root)
    assert (root / "report" / "submitted.md").read_text() == first


@pytest.mark.parametrize("what", ["data", "clips"])
def test_a_card_of_other_data_or_clips_is_refused(root, card, what):
    content = json.loads(card.read_text())
    content["hashes"][what] = "other"
    card.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"card\.json is of {what} other, the runs here are of {what} "):
        main([str(root), "--cards", str(card)])


def test_what_is_no_card_is_said(root, tmp_path):
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(ValueError, match="is no result card"):
        main([str(root), "--cards", str(tmp_path / "card.json")])
