"""Progress of a training: its steps, its loss and the time that is left, and no epoch."""

import io
import re
import sys

import pytest

import lam.runs.terminal.progress as progress
from lam.runs.cli import run
from lam.runs.terminal.progress import make_bar
from tests.tiny import arguments, make_world


class Terminal(io.StringIO):
    """A terminal, as far as programs ask."""

    def isatty(self) -> bool:
        return True


def shown(output: str) -> list[str]:
    return [part for part in re.split(r"[\r\n]+", output) if part.strip()]


def fit(tmp_path, monkeypatch, stderr: io.StringIO) -> str:
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    monkeypatch.setattr(progress, "EACH", 0.0)
    settings = arguments(make_world(tmp_path / "world"), tmp_path, steps=4)
    settings = [one for one in settings if "enable_progress_bar" not in one]
    monkeypatch.setattr(sys, "stderr", stderr)
    run(["fit", *settings, "--trainer.callbacks=[]", "--trainer.val_check_interval=2"])
    return stderr.getvalue()


def test_a_terminal_shows_steps_loss_and_time_left(tmp_path, monkeypatch):
    lines = shown(fit(tmp_path, monkeypatch, Terminal()))
    last = [line for line in lines if line.startswith("training")][-1]
    assert re.search(r"training: 100%\|.*\| 4/4 \[00:\d\d<00:00, +[\d.]+( steps/s|s/ steps), loss \d", last), last
    assert any(line.startswith("evaluating:") for line in lines)
    assert not any("Epoch" in line or "v_num" in line for line in lines)


def test_a_log_gets_lines_of_their_own_and_few(tmp_path, monkeypatch):
    output = fit(tmp_path, monkeypatch, io.StringIO())
    assert "\r" not in output
    lines = [line for line in output.splitlines() if "/4" in line]
    assert len(lines) == 2
    assert re.match(r"training: 100% 4/4 \[.*, loss \d", lines[-1])


@pytest.mark.parametrize("total", [4, None])
def test_steps_that_were_done_before_are_no_steps_of_today(total, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = make_bar("training", total, " steps", initial=3)
    bar.update(1)
    bar.close()
    assert bar.n == 4
    assert "4/4" in str(bar) or total is None
