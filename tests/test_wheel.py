"""An installed package outside a checkout: the wheel, a fresh environment, an empty folder, and the README's first model."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), str(ROOT)]
    subprocess.run(build, check=True)
    (built,) = out.glob("lam-*.whl")
    return built


def first_model() -> list[str]:
    """Return the commands of the README's section "Your first model", in order."""
    section = (ROOT / "README.md").read_text().split("## Your first model")[1].split("\n## ")[0]
    lines = re.findall(r"```console\n(.*?)```", section, re.DOTALL)[0].splitlines()
    commands = [line.removeprefix("$ ") for line in lines]
    *finite, last = commands
    assert last.startswith("tensorboard ")  # serves pages until it is stopped
    return finite


def test_the_first_model_of_the_readme_prepares_data_and_trains():
    assert {" ".join(command.split()[:2]) for command in first_model()} >= {"data_prep world", "lam fit"}


@pytest.mark.slow
def test_a_wheel_puts_two_names_at_top_level_and_brings_types_and_settings(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"lam", "data_prep"}
    assert {"lam/py.typed", "lam/experiments/base.yaml", "lam/experiments/bottlenecks/noisy.yaml"} <= set(names)
    assert not [name for name in names if "tests" in name or "benchmarks" in name]


@pytest.mark.slow
def test_the_first_model_of_the_readme_outside_a_checkout(wheel, tmp_path):
    fresh, here = tmp_path / "fresh", tmp_path / "empty"
    here.mkdir()
    venv.create(fresh, with_pip=False)
    binaries = fresh / "bin"
    (site,) = (fresh / "lib").glob("python*/site-packages")
    # third-party packages of this environment, without its own link to the checkout
    (site / "third_party.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = [sys.executable, "-m", "pip", f"--python={binaries / 'python'}", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}
    environment = {**clean, "PATH": f"{binaries}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def run(command: str) -> str:
        done = subprocess.run(command, shell=True, cwd=here, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout

    where = run("python -c 'import lam, data_prep; print(lam.__file__, data_prep.__file__, lam.__version__)'")
    assert where.count(str(site)) == 2 and where.split()[-1] == "0.1.0"
    run("lam init .")
    for command in first_model():
        run(command)
    assert (here / "runs" / "demo" / "noisy" / "seed0" / "metrics.json").exists()
    run("lam report runs/demo")
    assert (here / "runs" / "demo" / "report" / "table.md").exists()
