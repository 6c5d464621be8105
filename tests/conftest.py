"""Fixtures of more than one test folder."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def shared_data() -> Path:
    """Folder of real files; tests that use it carry the marker ``shared_data``."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LAM_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"NO REAL DATA at {folder}: this test did not run. Set LAM_DATA to the folder that holds natural/.")
    return folder
