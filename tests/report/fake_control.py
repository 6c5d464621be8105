"""Made-up controllers, plans and bounds on top of the made-up runs: everything a function of the closed gap and the labels."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from tests.report.fake import GAP, NONE, SWEEPS, write_setting

EPISODES = 1_000_000_000
STAY, CHANCE = 1.3, 1.9


def means(gap: float, labels: int) -> dict[str, float]:
    """Expected values of a row; controller error is a U over the closed gap, planning follows the inferred error."""
    inferred = 0.9 - 0.6 * gap
    error = inferred + 0.5 * gap**2 + 20 / labels
    return {
        "controller/error": error,
        "controller/inferred": inferred,
        "controller/blind": 0.95,
        "planning/error": 1.6 * inferred + 40 / labels,
        "planning/error_stay": STAY,
        "planning/error_chance": CHANCE,
        "planning/error_clone": 0.9 + 30 / labels,
        "planning/error_blind": 1.8,
        "planning/error_latent": 1.7 * inferred,
        "planning/ate": 0.9 * inferred,
        "planning/ate_stay": 0.91,
        "planning/ate_chance": 1.3,
        "planning/rpe": 0.8 * inferred,
        "planning/rpe_stay": 0.74,
        "planning/rpe_chance": 1.0,
        "controller/inferred_drawn": inferred + 0.1,
    }


def write(
    folder: Path, about: dict[str, object], values: dict[str, float], more: dict[str, float], budget: str, seed: int
) -> Path:
    """The files of one folder: planning on every other clip, episodes of a simulator where ``values`` has success."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, zlib.crc32(f"{about['family']}@{about['knob']}/{budget}".encode())])
    lines, logged = [], {f"eval/{key}@{budget}": value for key, value in more.items()}
    for key, mean in values.items():
        positions = np.arange(60) if key.startswith(("controller", "capacity")) else np.arange(0, 60, 2)
        values_of = (
            mean * np.random.default_rng(3).gamma(16, 1 / 16, 60)[positions] * (1 + 0.02 * rng.standard_normal(len(positions)))
        )
        if key.startswith("closed_loop"):
            positions = EPISODES + np.arange(200)
            values_of = (np.random.default_rng(4).random(200) < mean).astype(float)
        name = f"eval/{key}" if key.startswith("capacity") else f"eval/{key}@{budget}"
        lines.append(pd.DataFrame({"position": positions, "metric": name, "value": values_of}))
        logged[name] = float(np.float32(values_of.mean()))
    table = pd.concat(lines)
    place = table["position"]
    table["source"] = [f"episode-{i - EPISODES}" if i >= EPISODES else f"video{i // 2:03d}" for i in place]
    table["clip"] = table["source"]
    table[["position", "clip", "source", "metric", "value"]].to_parquet(folder / "clips.parquet", index=False)
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "metrics.json").write_text(json.dumps(logged | {"val/prediction": 0.123}))
    (folder / "config.yaml").write_text("")
    if any(key.startswith("closed_loop") for key in values):
        episodes = {"sha256": "ab" * 32, "num": 200, "drawn": 203, "solved_at_start": 3}
        (folder / "curves.json").write_text(json.dumps({"closed_loop": {f"episodes@{budget}": episodes, "seconds": 1.0}}))
    return folder


def write_control(run: Path, labels: int, success: float | None = None) -> Path:
    """Controllers of a run at a label budget."""
    about = json.loads((run / "run.json").read_text())
    values = means(SWEEPS[about["family"]][about["knob"]], labels)
    if success is not None:
        values |= {"closed_loop/success": success, "closed_loop/success_stay": 0.05, "closed_loop/success_clone": 0.2}
        values |= {"closed_loop/crashed": 0.01}
    more = {"controller/movement": 0.8, "controller/movement_blind": 0.4}
    folder = run / "control" / f"clips{labels}"
    return write(folder, about | {"config_hash": f"heads-{labels}"}, values, more, str(labels), about["seed"])


def write_bound(root: Path, family: str, seed: int, success: float | None = None, labels: tuple[int, ...] = (64, 256)) -> Path:
    """A labeled bound's run: the model of recorded actions acts with the same label budgets as every row."""
    about = {"setting": root.name, "family": family, "knob": "", "seed": seed, "config_hash": f"c-{family}"}
    about |= {"shared_hash": "s", "evaluation_hash": "e", "data_hash": "data1", "code_revision": "abc123"}
    values = {} if success is None else {"closed_loop/success": success, "closed_loop/crashed": 0.0}
    folder = root / family / f"seed{seed}"
    if family == "simulator":
        return write(folder, about, values, {}, "all", seed)
    values |= {"planning/error": 0.5, "planning/error_stay": STAY, "planning/ate": 0.3, "planning/rpe": 0.3}
    for budget in labels:
        write(folder / "control" / f"clips{budget}", about, values, {}, str(budget), seed)
    return write(folder, about, {f"capacity/{name}": NONE - 0.9 * GAP for name in ("error", "error_drawn")}, {}, "", seed)


def write_acting(
    root: Path,
    families: tuple[str, ...] = ("none", "identity", "noisy", "vq"),
    seeds: tuple[int, ...] = (0, 1),
    labels: tuple[int, ...] = (64, 256),
    success: float | None = None,
) -> Path:
    """A setting with controllers in every row and the model of recorded actions; with success also the simulator."""
    for run in sorted(write_setting(root, families, seeds).glob("*/seed*")):
        about = json.loads((run / "run.json").read_text())
        for budget in labels:
            closed = SWEEPS[about["family"]][about["knob"]]
            write_control(run, budget, None if success is None else success * closed * (1 - 16 / budget))
    for seed in seeds:
        write_bound(root, "actions", seed, None if success is None else 0.8)
        if success is not None:
            write_bound(root, "simulator", seed, 0.97)
    return root
