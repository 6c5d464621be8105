from __future__ import annotations

import pandas as pd
import pytest

from lam.report.stats.rows import Comparison
from lam.report.stats.runs import read_runs
from lam.report.tables.columns import main_columns
from lam.report.tables.main import write_csv
from lam.report.tables.results import write_results
from tests.report.fake import write_setting


def test_what_is_kept_is_what_the_table_shows_and_says_where_it_comes_from(tmp_path):
    comparison = Comparison(*read_runs(write_setting(tmp_path / "wild", ("none", "identity", "vq"))))
    path = write_results(tmp_path / "results.csv", comparison)
    head = path.read_text().splitlines()[0]
    assert head.startswith("# wild: 18 runs, seeds 0, 1, 2;")
    assert "Data `data1`" in head and "code `abc123`" in head
    kept = pd.read_csv(path, comment="#", dtype={"knob": str})
    full = pd.read_csv(write_csv(tmp_path / "table.csv", comparison), dtype={"knob": str})
    names = ["bottleneck", "knob", "seeds"]
    assert kept[names].fillna("").equals(full[names].fillna(""))
    shown = [column.key for column in main_columns(comparison)]
    assert shown and set(shown) <= set(kept.columns)
    for key in shown:
        assert kept[key].to_numpy() == pytest.approx(full[key].to_numpy(), rel=1e-3, abs=1e-9, nan_ok=True)
        half = (full[f"{key}/high"] - full[key]).to_numpy()
        if f"{key} ±" in kept:
            assert kept[f"{key} ±"].to_numpy() == pytest.approx(half, rel=1e-3, abs=1e-9, nan_ok=True)
    assert path.stat().st_size < 0.5 * (tmp_path / "table.csv").stat().st_size
