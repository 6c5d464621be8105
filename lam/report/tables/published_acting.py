"""Published numbers of acting with latent actions: tables S1 and S2 of https://arxiv.org/abs/2601.05230, and one of Push-T.

Their errors are LPIPS of decoded frames, their planning errors meters of DROID's arm and distances of RECON's path: other data,
other units, no seeds and no intervals. Only the order of rows, ratios and rank correlations speak to ours.
"""

from __future__ import annotations

from typing import NamedTuple

from lam.report.tables.layout import Grid

SOURCE = "arXiv 2601.05230, tables S1 and S2"
PUSHT = (
    "The only public number of planning with latent actions in Push-T: 29.4 ± 3.6 % success (64 px, 64 codes, cross-entropy "
    "method with 300 x 30 samples, goal 25 steps ahead, budget 50, 160 episodes; stable-worldmodel, pull request 227)."
)


class PublishedActing(NamedTuple):
    """A model of theirs.

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


ACTING = (
    PublishedActing("DROID", "sparse", "low", 0.12, 0.14, 0.33),
    PublishedActing("DROID", "sparse", "mid", 0.10, 0.12, 0.18),
    PublishedActing("DROID", "sparse", "high", 0.09, 0.14, 0.13),
    PublishedActing("DROID", "noisy", "low", 0.13, 0.13, 0.49),
    PublishedActing("DROID", "noisy", "mid", 0.10, 0.11, 0.11),
    PublishedActing("DROID", "noisy", "high", 0.09, 0.12, 0.10),
    PublishedActing("DROID", "discrete", "low", 0.13, 0.13, 0.18),
    PublishedActing("DROID", "discrete", "high", 0.11, 0.12, 0.14),
    PublishedActing("RECON", "sparse", "low", 0.23, 0.25, 0.48),
    PublishedActing("RECON", "sparse", "mid", 0.19, 0.23, 0.41),
    PublishedActing("RECON", "sparse", "high", 0.17, 0.26, 0.42),
    PublishedActing("RECON", "noisy", "low", 0.24, 0.24, 0.55),
    PublishedActing("RECON", "noisy", "mid", 0.17, 0.21, 0.41),
    PublishedActing("RECON", "noisy", "high", 0.17, 0.22, 0.40),
    PublishedActing("RECON", "discrete", "low", 0.24, 0.24, 0.51),
    PublishedActing("RECON", "discrete", "high", 0.20, 0.21, 0.42),
)
BASELINES = {"V-JEPA 2-AC (labeled)": 0.15, "best labeled world model": 0.05}
"""Delta xyz of DROID in meters for models that were trained with recorded actions."""


def published_grid() -> Grid:
    """DROID's half of the table with its labeled baselines."""
    lines = [
        [one.family, one.capacity, *(f"{value:.2f}" for value in (one.inferred, one.controller, one.planning))]
        for one in ACTING
        if one.data == "DROID"
    ]
    lines += [[name, "–", "–", "–", f"{value:.2f}"] for name, value in BASELINES.items()]
    head = ["published, DROID", "capacity", "inferred (LPIPS)", "controller (LPIPS)", "Δxyz (m)"]
    return Grid(head, [[(text, "") for text in line] for line in lines], names=2)
