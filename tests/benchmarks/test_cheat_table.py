"""The table of cheats on a small world: every cheat is caught, the honest displacement is not, and columns say by what."""

import cheat_table
import pandas as pd
import pytest

from data_prep.worlds.generate import world
from tests.tiny import world_settings

pytestmark = pytest.mark.slow  # half a minute


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    from dataclasses import asdict

    root = tmp_path_factory.mktemp("cheats")
    world(root / "shards" / "arm", train=2, val=64, seed=0, jobs=1, **(asdict(world_settings("arm")) | {"frames": 4}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return pd.DataFrame(cheat_table.rows("arm", clips=64, runs=root / "runs"))


def flags(row):
    return {name for name, key in cheat_table.FLAGS.items() if row[key] == 1}


def test_each_cheat_is_caught_and_the_honest_displacement_is_not(table):
    found = {row["model"]: flags(row) for _, row in table.iterrows()}
    assert found.pop("displacement") == set()
    assert all(found.values()), found
    assert found["encrypted action"] == {"misdirects"}  # which nothing else finds
    assert found["pixel difference"] >= {"copies", "pastes"}
    assert found["small differences, by picture"] >= {"copies", "pastes"}
    assert "copies" in found["random projection of the next state"]
    assert found["state alone"] == {"replaces"}


def test_red_cells_are_those_of_raised_flags(table):
    for _, row in table.iterrows():
        red = {flag for name, (_, flag) in cheat_table.COLUMNS.items() if flag and cheat_table.caught(row, name)}
        assert red == flags(row), row["model"]
    page = cheat_table.markdown(table)
    assert page.count("| cheat |") == 10 and page.count("| honest |") == 1
