"""Published numbers of the same protocols: "Learning Latent Action World Models In The Wild", https://arxiv.org/abs/2601.05230.

Tables 1 and 2: their errors are LPIPS of decoded frames on Kinetics (and RECON), ours are distances between states on our
clips: absolute errors do not compare at all, ratios only in kind. They do not say which coefficients their low and high
capacity are.

Tables S1 and S2, acting with latent actions: their planning errors are meters of DROID's arm and distances of RECON's path:
other data, other units. Only the order of rows, ratios and rank correlations speak to ours. No table has seeds or intervals.
"""

from __future__ import annotations

from typing import NamedTuple

from lam.report.tables.layout import Grid

SOURCE = "arXiv 2601.05230, tables 1 and 2"
CONTROL_SOURCE = "arXiv 2601.05230, tables S1 and S2"
NOTE = (
    f"Published: {SOURCE}, low and high capacity of a family beside the tight and loose end of ours. Their errors are LPIPS of "
    "decoded frames on Kinetics, one model each and no intervals; ours are distances between states on other clips. Compare "
    "the direction from low to high, not the numbers."
)
PUSHT = (
    "The only public number of planning with latent actions in Push-T: 29.4 ± 3.6 % success (64 px, 64 codes, cross-entropy "
    "method with 300 x 30 samples, goal 25 steps ahead, budget 50, 160 episodes; stable-worldmodel, pull request 227)."
)


class Published(NamedTuple):
    """A family at one capacity, as published.

    Attributes:
        family: Our name of it: theirs are sparse, noisy and discrete.
        capacity: "low" or "high".
        uncut: Error without a scene cut, Kinetics (table 1).
        cut: Error with one.
        leakage_ratio: As printed, from numbers before rounding.
        original: Error of two seconds with their own latents, Kinetics (table 2).
        cycle: After the cycle through another video.
        transfer_ratio: As printed.
        transfer_ratio_recon: As printed, RECON.
    """

    family: str
    capacity: str
    uncut: float
    cut: float
    leakage_ratio: float
    original: float
    cycle: float
    transfer_ratio: float
    transfer_ratio_recon: float


PUBLISHED = (
    Published("sparse", "low", 0.28, 0.66, 2.3, 0.26, 0.31, 1.20, 1.21),
    Published("sparse", "high", 0.20, 0.50, 2.4, 0.19, 0.24, 1.30, 1.14),
    Published("noisy", "low", 0.33, 0.69, 2.1, 0.30, 0.34, 1.13, 1.15),
    Published("noisy", "high", 0.21, 0.54, 2.5, 0.20, 0.26, 1.34, 1.22),
    Published("vq", "low", 0.34, 0.69, 2.0, 0.32, 0.33, 1.03, 1.03),
    Published("vq", "high", 0.29, 0.68, 2.3, 0.27, 0.29, 1.07, 1.05),
)


class PublishedControl(NamedTuple):
    """Errors of acting through one of their models, as published.

    Attributes:
        data: "DROID" or "RECON".
        family: As they call it.
        capacity: "low", "mid" or "high".
        inferred: Error with inferred latents (LPIPS).
        controller: Error with the controller's.
        planning: Delta xyz in meters on DROID, relative pose error on RECON.
    """

    data: str
    family: str
    capacity: str
    inferred: float
    controller: float
    planning: float


PUBLISHED_CONTROL = (
    PublishedControl("DROID", "sparse", "low", 0.12, 0.14, 0.33),
    PublishedControl("DROID", "sparse", "mid", 0.10, 0.12, 0.18),
    PublishedControl("DROID", "sparse", "high", 0.09, 0.14, 0.13),
    PublishedControl("DROID", "noisy", "low", 0.13, 0.13, 0.49),
    PublishedControl("DROID", "noisy", "mid", 0.10, 0.11, 0.11),
    PublishedControl("DROID", "noisy", "high", 0.09, 0.12, 0.10),
    PublishedControl("DROID", "discrete", "low", 0.13, 0.13, 0.18),
    PublishedControl("DROID", "discrete", "high", 0.11, 0.12, 0.14),
    PublishedControl("RECON", "sparse", "low", 0.23, 0.25, 0.48),
    PublishedControl("RECON", "sparse", "mid", 0.19, 0.23, 0.41),
    PublishedControl("RECON", "sparse", "high", 0.17, 0.26, 0.42),
    PublishedControl("RECON", "noisy", "low", 0.24, 0.24, 0.55),
    PublishedControl("RECON", "noisy", "mid", 0.17, 0.21, 0.41),
    PublishedControl("RECON", "noisy", "high", 0.17, 0.22, 0.40),
    PublishedControl("RECON", "discrete", "low", 0.24, 0.24, 0.51),
    PublishedControl("RECON", "discrete", "high", 0.20, 0.21, 0.42),
)
BASELINES = {"V-JEPA 2-AC (labeled)": 0.15, "best labeled world model": 0.05}
"""Delta xyz of DROID in meters for models that were trained with recorded actions."""


def published_at_end(family: str, tight: bool) -> Published | None:
    """Return what is published of a family's low (tight) or high capacity; None where nothing is."""
    capacity = "low" if tight else "high"
    return next((one for one in PUBLISHED if (one.family, one.capacity) == (family, capacity)), None)


def published_control_grid() -> Grid:
    """Return DROID's half of the published table with its labeled baselines."""
    rows = [
        [one.family, one.capacity, *(f"{value:.2f}" for value in (one.inferred, one.controller, one.planning))]
        for one in PUBLISHED_CONTROL
        if one.data == "DROID"
    ]
    rows += [[name, "–", "–", "–", f"{value:.2f}"] for name, value in BASELINES.items()]
    headings = ["published, DROID", "capacity", "inferred (LPIPS)", "controller (LPIPS)", "Δxyz (m)"]
    return Grid(headings, [[(text, "") for text in row] for row in rows], names=2)
