"""The examples run as their docstrings say, on a tiny world and a tiny model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lam.runs.cli import run
from tests.control.test_control import control
from tests.tiny import arguments, make_world

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("examples") / "shards")


@pytest.fixture(scope="module")
def folder(shards):
    """Folder of a run with a discrete bottleneck."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        run(["fit", *arguments(shards, shards.parent / "runs", "vq")])
    return shards.parent / "runs" / "tiny" / "row" / "seed0"


def example(name, *words):
    """What an example prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, EXAMPLES / f"{name}.py", *map(str, words)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_label_video(folder, tmp_path):
    printed = example("label_video", "--run", folder)
    assert printed.count("codes") == printed.count("bits") == 2
    path = tmp_path / "video.mp4"
    write_video(path, frames=9)
    printed = example("label_video", "--run", folder, "--video", path, "--every", 2, "--fit", "crop")
    assert printed.count("codes") == 4


@pytest.mark.slow
def test_predict(folder, tmp_path):
    example("predict", "--run", folder, "--out", tmp_path / "predicted.gif", "--scale", 2)
    with Image.open(tmp_path / "predicted.gif") as picture:
        assert picture.size == (3 * 16 * 2, 16 * 2)
        assert picture.n_frames == 2


@pytest.mark.slow
def test_plan(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    control(folder)
    printed = example("plan", "--run", folder, "--labels", 20, "--samples", 12)
    planned, recorded, _ = printed.splitlines()
    assert planned.count(",") == recorded.count(",") == 3  # two actions of two numbers


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_bottleneck", "own_encoder"])
def test_parts_of_ones_own_learn(shards, name):
    printed = example(name, "--shards", shards, "--steps", 40)
    error = next(line for line in printed.splitlines() if line.startswith("Prediction error"))
    assert float(error.rpartition(": ")[2]) < 0.95  # an untrained model predicts that nothing changes, which is 1


@pytest.mark.slow
def test_own_simulator(tmp_path):
    pytest.importorskip("gymnasium", reason="needs pip install 'lam[sim]'")
    pytest.importorskip("pygame", reason="needs pip install 'lam[sim]'")
    printed = example("own_simulator", "--out", tmp_path / "cartpole.gif", "--episodes", 3)
    with Image.open(tmp_path / "cartpole.gif") as picture:
        assert 5 < picture.n_frames <= 25  # equal frames one after another, such as those after a fall, are one in a GIF
    assert ": 25 frames, actions (24, 2)" in printed
    assert "Goals reached by planning in the simulator: 1.00 of 3 episodes" in printed


def test_every_example_is_short_and_listed():
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"[{path.name}]({path.name})" in listed
        lines = path.read_text().splitlines()
        assert lines[0].startswith('"""')
        assert any(line.strip().startswith(f"python examples/{path.name}") for line in lines), (
            "its docstring says how to run it"
        )


def write_video(path, frames):
    """A gray video of 40 x 24 pixels that gets brighter."""
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 40, 24, "yuv420p"
        for i in range(frames):
            picture = np.full((24, 40, 3), 20 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
