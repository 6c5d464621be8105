"""The lock file: whole, with hashes, of the versions that pyproject.toml allows, and of no index in particular."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
ENTRIES = [entry for entry in re.split(r"\n(?=\S)", LOCK.strip()) if not entry.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def versions() -> dict[str, str]:
    found = {}
    for entry in ENTRIES:
        one = Requirement(entry.partition("\\")[0].strip())
        (pin,) = one.specifier
        assert pin.operator == "==", entry
        found[canonicalize_name(one.name)] = pin.version
    return found


def test_every_package_has_its_version_and_hashes():
    assert len(ENTRIES) > 100
    for entry in ENTRIES:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.partition(" ")[0]


def test_no_index_is_named():
    assert "://" not in LOCK
    assert not re.search(r"^-", LOCK, re.MULTILINE)


@pytest.mark.parametrize("extra", ["", "dev", "hf", "hub", "hdf5"])
def test_it_holds_what_the_project_needs_within_its_bounds(extra):
    wanted = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    locked = versions()
    for text in wanted:
        one = Requirement(text)
        assert one.specifier.contains(locked[canonicalize_name(one.name)]), text


def test_the_release_of_torch_is_the_one_of_the_constraints():
    constraint = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert constraint is not None
    assert versions()["torch"] == constraint[1]


def test_lightning_is_none_of_the_releases_that_were_malware_or_run_code_on_loading():
    (lightning,) = (Requirement(text) for text in PROJECT["dependencies"] if Requirement(text).name == "lightning")
    assert not any(lightning.specifier.contains(bad) for bad in ("2.6.0", "2.6.1", "2.6.2", "2.6.3", "2.6.4", "2.6.5"))
    assert lightning.specifier.contains("2.6.6")
