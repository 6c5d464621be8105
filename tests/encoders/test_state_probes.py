"""Probes of states: known shares of variance, and factors that describe the state before a step."""

import numpy as np
import pytest
import torch

from lam.data.clip import Clip
from lam.data.schema import FactorInfo
from lam.encoders.state_probes import LabeledStates, describe_probes, label_states, probe_states, recorded_factors


def drawn(clips: int, seed: int) -> LabeledStates:
    """States whose first number is a factor beside as much noise, whose second shows another by its square alone."""
    generator = torch.Generator().manual_seed(seed)
    noisy, unknown, hidden, noise = torch.randn(4, 3 * clips, 1, generator=generator)
    wide = torch.randn(3 * clips, 4, generator=generator) @ torch.ones(4, 4)  # of rank one
    angle = 3 * torch.randn(3 * clips, 1, generator=generator)
    states = torch.cat(
        [5 + 0.1 * (noisy + noise), hidden, 10 * angle.cos(), angle.sin(), torch.ones(3 * clips, 1), wide], dim=1
    )
    factors = {
        "noisy": 100 * noisy - 7,
        "unknown": unknown,
        "square": hidden.square(),
        "angle": torch.cat([angle.cos(), angle.sin()], dim=1),
        "half": torch.cat([angle.cos(), unknown], dim=1),
        "still": torch.ones(3 * clips, 1),
    }
    return LabeledStates(states, factors, torch.arange(clips).repeat_interleave(3))


def test_scores_are_the_shares_of_variance_that_states_hold() -> None:
    scores = probe_states(drawn(400, 0), drawn(400, 1))
    assert set(scores) == {"noisy", "unknown", "square", "angle", "half"}
    assert scores["noisy"] == pytest.approx(0.5, abs=0.06)
    assert scores["unknown"] == pytest.approx(0.0, abs=0.05)
    assert scores["square"] > 0.9 and scores["angle"] > 0.98
    assert scores["half"] == pytest.approx(0.5, abs=0.05)


def test_what_states_lack_is_a_warning() -> None:
    line, warning = describe_probes({"agent_x": 0.993, "block_x": 0.41})
    assert line == "state probes (R² on validation clips): agent_x 0.99, block_x 0.41"
    assert warning.startswith("warning: states hold little of block_x (R² 0.41);")
    assert len(describe_probes({"agent_x": 0.81})) == 1
    assert describe_probes({})[0].startswith("no state probes: the set records no factors")


def test_factors_of_the_state_before_a_step_are_those_of_its_first_frame() -> None:
    factors = {
        "x": FactorInfo((), "continuous", "first"),
        "pose": FactorInfo((), "discrete", "first"),
        "dx": FactorInfo((), "continuous", "sum"),
        "angle": FactorInfo((2,), "continuous", "first"),
    }
    names = recorded_factors(factors)
    assert names == ["angle", "x"]
    frames = torch.arange(24, dtype=torch.uint8).view(2, 12, 1, 1, 1).expand(-1, -1, 3, 4, 4)
    x = torch.arange(24.0).view(2, 12)[:, :-1]
    clip = Clip(
        frames, torch.zeros(2, 12), torch.arange(2), ["a", "b"], ["a", "b"], None, {"x": x, "angle": torch.stack([x, -x], -1)}
    )
    found = label_states([clip, clip], lambda images: images[:, :1, :1, 0].float(), names)
    expected = np.tile(np.concatenate([np.arange(11), np.arange(12, 23)]), 2)
    assert found.states[:, 0].tolist() == found.factors["x"][:, 0].tolist() == expected.tolist()
    assert found.factors["angle"].tolist() == np.stack([expected, -expected], axis=1).tolist()
    assert found.clip.tolist() == np.repeat(np.arange(4), 11).tolist()
