"""Commands that are killed at random moments and run again; benchmarks/kills.py has the long form and its table of commands."""

import json
import subprocess
import sys

import kills
import pytest

pytestmark = pytest.mark.slow  # half a minute each
LONG = ("sweep", "stale", "control")
"""Commands that start processes, seconds each."""


@pytest.mark.parametrize("name", kills.CASES)
def test_a_command_that_was_killed_and_run_again_leaves_the_same_and_nothing_else(name):
    """In a process of its own: forks of one that has servers and threads of other tests may fail for reasons of their own."""
    count = 1 if name in LONG else 3
    words = [sys.executable, str(kills.ROOT / "benchmarks" / "kills.py"), name, "--kills", str(count)]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=kills.ROOT, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])[name]
    assert found.pop("kills") == count and found.pop("compared") > 0
    assert set(found.values()) == {0}
