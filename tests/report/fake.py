"""Made-up runs whose truth is known: a closed gap per family and knob, everything else a function of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

NONE, GAP, COPY = 0.71, 0.54, 1.0
SWEEPS = {  # knob: gap closed
    "none": {"": 0.0},
    "identity": {"": 1.0},
    "noisy": {"1e-1": 0.02, "1e-2": 0.35, "1e-3": 0.8, "1e-4": 0.97},
    "sparse": {"0.3": 0.3, "0.1": 0.6, "0.03": 0.85, "0.01": 0.94},
    "vq": {"4": 0.1, "16": 0.2, "64": 0.32, "256": 0.4},
    "fsq": {"2": 0.3, "4": 0.55, "8": 0.78},
}
POINTS = 9


def bits_of(gap: float) -> float:
    """Bits that a latent of this closed gap needs, in the made-up world: 1 bit at 1/8, 24 at all of it."""
    return 24 * gap**1.5


def means(family: str, gap: float) -> dict[str, float]:
    """Expected values of the keys that have values of clips."""
    error = NONE - GAP * gap
    uncut, cut = error + 0.01, (error + 0.01) * (2.1 + 0.3 * gap) - 0.05 * gap
    original = 1.3 * error
    keys = {
        "capacity/error": error,
        "leakage/uncut": uncut,
        "leakage/cut": cut,
        "leakage/after": 1.1 * uncut,
        "leakage/copy_cut": 1.9,
        "transfer/original": original,
        "transfer/floor": original * (1 + 0.02 * gap),
        "transfer/cycle": original * (1 + (0.1 if family == "vq" else 0.3) * gap),
        "transfer/random": original * (1 + 1.2 * gap),
        "transfer/retention": 0.97 - 0.1 * gap,
        "probe/gain/agent_dx": 0.9 * gap**0.7,
        "probe/gain/agent_dy": 0.85 * gap**0.8,
        "probe/gain/pan_dx": 0.95 * gap**0.4,
        "probe/gain/entrance": 0.4 * gap**2,
        "probe/r2_linear/agent_dx": (0.1 if family in ("vq", "fsq") else 0.8) * gap,
        "probe/r2_linear/agent_dy": (0.1 if family in ("vq", "fsq") else 0.75) * gap,
        "rate/unquantized": error,
    }
    for index, share in enumerate(np.linspace(0, 1, POINTS)):
        keys[f"rate/point/{index:02d}/bits"] = 1.6 * bits_of(gap) * share
        keys[f"rate/point/{index:02d}/error"] = error + GAP * gap * np.exp(-5.5 * share)
    keys["capacity/error_drawn"] = error + (0.02 if family == "noisy" else 0.0)
    pairs = ("leakage/uncut", "leakage/cut", "transfer/original", "transfer/floor", "transfer/cycle", "transfer/random")
    keys |= {f"{name}_drawn": keys[name] for name in pairs}
    return keys


def metrics(family: str, knob: str, gap: float) -> dict[str, float]:
    """Values of the keys that single clips have no part in."""
    found = {"sampling/auc": 0.5 + 0.45 * gap, "future/passed": 1.0, "usage/collapsed": float(gap < 0.01)}
    found |= {"transfer/ignored": float(gap < 0.03), "leakage/copies": 0.0}
    if family in ("vq", "fsq"):
        codes = int(knob) if family == "vq" else int(knob) ** 3
        found |= {"rate/bits_nominal": 0.93 * np.log2(codes), "rate/bits_capacity": np.log2(codes)}
        found["usage/codes_used"] = 1 / (1 + codes / 2000)
    if family == "noisy":
        found["rate/bits_nominal"] = 2 * bits_of(gap)
    return found


def write_run(root: Path, family: str, knob: str, seed: int, clips: int = 60, clips_a_source: int = 2) -> Path:
    """One run with a clip effect that rows and seeds share, a seed effect, and the rest."""
    gap = SWEEPS[family][knob]
    name = f"{family}@{knob}" if knob else family
    folder = root / name / f"seed{seed}"
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, list(SWEEPS).index(family), list(SWEEPS[family]).index(knob)])
    difficulty = np.random.default_rng(7).gamma(16, 1 / 16, clips)
    own = rng.normal(0, 0.01)
    lines, logged = [], {f"eval/{key}": float(value) for key, value in metrics(family, knob, gap).items()}
    for key, mean in means(family, gap).items():
        noise = rng.normal(0, 0.02 * mean, clips) + own * mean
        values = np.full(clips, mean) + noise if "/bits" in key or "probe" in key else mean * difficulty + noise
        lines.append(pd.DataFrame({"position": np.arange(clips), "metric": f"eval/{key}", "value": values}))
        if "point/" not in key:
            logged[f"eval/{key}"] = float(np.float32(values.mean()))
    table = pd.concat(lines)
    table["clip"] = [f"clip{i}" for i in table["position"]]
    table["source"] = [f"video{i // clips_a_source:03d}" for i in table["position"]]
    table[["position", "clip", "source", "metric", "value"]].to_parquet(folder / "clips.parquet", index=False)
    about = {"setting": root.name, "family": family, "knob": knob, "seed": seed, "config_hash": f"c-{name}"}
    about |= {"shared_hash": "s", "evaluation_hash": "e", "data_hash": "data1", "code_revision": "abc123"}
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "metrics.json").write_text(json.dumps(logged))
    (folder / "config.yaml").write_text("")
    return folder


def write_setting(root: Path, families: tuple[str, ...] = tuple(SWEEPS), seeds: tuple[int, ...] = (0, 1, 2)) -> Path:
    """All rows of the made-up world, or some families of it."""
    for family in families:
        for knob in SWEEPS[family]:
            for seed in seeds:
                write_run(root, family, knob, seed)
    return root
