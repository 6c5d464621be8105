"""The benchmark of a GPU, run at toy sizes on the CPU: every part works, and what cannot be done costs one line."""

import subprocess
import sys
from pathlib import Path

import pytest

import lam.bottlenecks

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_part_runs_and_devices_agree_with_themselves(tmp_path):
    done = run("--tiny", "--device", "cpu", "--out", str(tmp_path / "gpu.md"))
    assert done.returncode == 0, done.stderr
    section = (tmp_path / "gpu.md").read_text()
    assert section == done.stdout
    assert "Failed" not in section and "Left out" not in section and "**no**" not in section
    assert section.count("| yes |") == len(lam.bottlenecks.__all__)


@pytest.mark.slow
def test_parts_that_do_not_fit_are_left_out_and_said(tmp_path):
    done = run("--tiny", "--device", "cpu", "--minutes", "0", "--out", str(tmp_path / "gpu.md"))
    assert done.returncode == 0, done.stderr
    section = (tmp_path / "gpu.md").read_text()
    assert section.count("Left out") >= 6 and "Python" in section
