"""Fixtures of more than one test folder."""

import os
from pathlib import Path

import pytest

LONG = ("test_processes.py", "test_faults.py", "test_cli.py", "test_external.py", "test_segment.py", "test_corruption.py")
"""Files that take long, begun first, so that no process waits for another at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(autouse=True)
def trust_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that tests define are trusted, and what a test trusts is forgotten after it."""
    monkeypatch.setenv("LAM_TRUST", "tests")


@pytest.fixture
def shared_data() -> Path:
    """Folder of real files; tests that use it carry the marker ``shared_data``."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LAM_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"NO REAL DATA at {folder}: this test did not run. Set LAM_DATA to the folder that holds natural/.")
    return folder
