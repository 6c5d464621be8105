"""Commands that are killed at random moments and run again; benchmarks/kills.py has the long form and its table of commands."""

import kills
import pytest

pytestmark = pytest.mark.slow  # half a minute each


@pytest.mark.parametrize("name", kills.CASES)
def test_a_command_that_was_killed_and_run_again_leaves_the_same_and_nothing_else(name, tmp_path):
    found = kills.kill(name, 3, tmp_path / "work")
    assert found.kills == 3 and found.compared > 0
    assert (found.different, found.left, found.lost, found.failed) == (0, 0, 0, 0)
