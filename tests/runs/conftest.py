"""What tests of runs share."""

import sys
from pathlib import Path

import pytest

from tests.tiny import make_world


@pytest.fixture(autouse=True)
def _no_arguments_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the arguments of pytest, which Lightning would warn of."""
    monkeypatch.setattr(sys, "argv", sys.argv[:1])


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world, which is only read."""
    return make_world(tmp_path_factory.mktemp("data") / "world")
