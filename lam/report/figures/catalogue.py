"""Figures of a comparison, as PNG, SVG and PDF, the same bytes for the same runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from lam.io import atomic_file
from lam.report.figures.capacity import draw_codes, draw_gap, draw_hull, draw_rate
from lam.report.figures.control import draw_controller, draw_labels, draw_planning
from lam.report.figures.meaning import draw_leakage, draw_probe, draw_transfer
from lam.report.figures.palette import FAINT
from lam.report.figures.style import STYLE, mark_cuts
from lam.report.stats.rows import Comparison


class Drawing(NamedTuple):
    """A figure of the report.

    Attributes:
        draw: Draws it; None where the runs have nothing for it.
        title: What it is, for its head.
        keys: Beginning of the keys of its numbers, by which its head says over how many clips they are.
        caption: What it shows and how to read it.
    """

    draw: Callable[[Comparison], Figure | None]
    title: str
    keys: str
    caption: str


FIGURES = {
    "hull": Drawing(
        draw_hull,
        "Prediction error over held-out bits",
        "eval/rate/",
        "How well each family predicts for the bits it spends: the lower convex hull over all its knobs and coders, lower is "
        "better. Markers are what the tables read off it, with 95 % intervals: filled, the error at 2, 4, 8 and 16 bits; "
        "hollow, the bits at 25, 50, 75 and 90 % of the gap. The dashed lines are the reference rows on the same clips; a hull "
        "that goes flat far above identity saturates.",
    ),
    "rate": Drawing(
        draw_rate,
        "Where each hull comes from",
        "eval/rate/",
        "Where hulls come from. A latent is quantized ever more coarsely and coded on held-out clips; each dot is one coder of "
        "one seed, each colored line a row's lower hull, averaged over seeds, the black line the hull of the family (a mixture "
        "of two coders reaches every point of a chord; none at 0 bits belongs to it). The cross is where a row's error has "
        "risen by 5 % of the gap; its bits are the row's operational bits. At 0 bits the latent is replaced by its mean.",
    ),
    "gap": Drawing(
        draw_gap,
        "Gap closed along each knob",
        "eval/capacity/",
        "What a family's own knob does. Gap closed is 0 for none and 1 for identity; a useful knob spans much of that "
        "range and does so steadily. Values above 1 beat the unconstrained latent.",
    ),
    "leakage": Drawing(
        draw_leakage,
        "Leakage at each capacity",
        "eval/leakage/",
        "Does the latent copy the next state? Two clips are spliced, the latent is inferred across the cut. A copying "
        "latent has a ratio near 1 and a share near 1. The ratio flatters loose latents, since its denominator shrinks: "
        "read it with the absolute error at the cut. Hollow markers are published ratios at low and high capacity, on an "
        "axis of their own: other data, another error, no gap closed.",
    ),
    "transfer": Drawing(
        draw_transfer,
        "Transfer at each capacity",
        "eval/transfer/",
        "Does the latent mean the same in another clip? Latents of one clip drive another, are inferred again there and "
        "brought back. A latent that says nothing has the best ratio, 1, so compare at the same gap closed. Normalized, 0 "
        "is a round trip through the clip itself and 1 a random latent; it is missing where random latents do no harm. "
        "Retention falls where the prediction becomes the source clip. Hollow markers are published ratios at low and "
        "high capacity, on an axis of their own.",
    ),
    "probe": Drawing(
        draw_probe,
        "What latents tell beyond the state",
        "eval/probe/",
        "Which factors the latent tells beyond what the state already says, at which gap closed. Gain 0 is a latent that "
        "adds nothing about that factor; factors that rise on the left are what a tight latent tells first.",
    ),
    "codes": Drawing(
        draw_codes,
        "Codes in use",
        "eval/usage/",
        "How much of its codebook a discrete row uses on held-out clips. A larger codebook with a smaller share in use "
        "has not bought the bits that its size promises.",
    ),
    "controller": Drawing(
        draw_controller,
        "Controller error at each capacity",
        "eval/controller/",
        "Held-out clips unrolled with the latents that a controller makes of known actions, and with those that the inverse "
        "model inferred from the clip itself. Published, the first is U-shaped over capacity: too tight says too little, too "
        "loose says what no action tells. The ratio rises with capacity; it is 1 where latents are ignored.",
    ),
    "planning": Drawing(
        draw_planning,
        "Planning error at each capacity",
        "eval/planning/",
        "How far planned displacements are from the recorded ones, lower is better. Lines across are bounds, with their "
        "intervals as bands: stay takes the mean action, chance random ones, cloning has no world model, actions is a world "
        "model that is given every recorded action (labeled, an upper bound of what to hope for). A row on the stay line has "
        "planned nothing; one above it was led astray.",
    ),
    "labels": Drawing(
        draw_labels,
        "What labels buy",
        "eval/planning/",
        "What labels buy: the best row of each family (and reference rows) after its controller has seen so many labeled "
        "clips, with cloning on the same labels. Lines across do not depend on the number of labels.",
    ),
}
"""All figures, in the order of the report."""


def write_figures(folder: Path, comparison: Comparison) -> list[Path]:
    """Draw what the runs have numbers for; a figure from an earlier call that has none now is removed."""
    written = []
    for name, drawing in FIGURES.items():
        written += save_figure(folder / name, partial(drawing.draw, comparison), head(drawing, comparison))
    return written


def head(drawing: Drawing, comparison: Comparison) -> str:
    """Return the head of a figure: setting, title, clips and seeds."""
    return f"{comparison.runs[0].setting}: {drawing.title}. {sample(comparison, drawing.keys)}"


def sample(comparison: Comparison, keys: str = "eval/") -> str:
    """Say over how many clips, at most, and which seeds the numbers of some keys are."""
    counts = [int(run.clips.filter(regex=f"^{keys}").notna().any(axis=1).sum()) for run in comparison.runs]
    seeds = sorted({run.seed for run in comparison.runs})
    clips = f"n = {max(counts)} clips, " if max(counts) else ""
    return f"{clips}{len(seeds)} seed{'s' * (len(seeds) > 1)} ({', '.join(map(str, seeds))})"


def save_figure(stem: Path, draw: Callable[[], Figure | None], title: str) -> list[Path]:
    """Draw in the report's style and write PNG, SVG and PDF; remove them where there is nothing to draw.

    Args:
        stem: Where to write, without an ending.
        draw: Draws the figure.
        title: Its head, so that a file that is passed on still says what it is.
    """
    # whatever matplotlibrc says; Any, as matplotlib's stubs want its settings by literal names
    plain: Any = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}
    paths = [stem.parent / f"{stem.name}.{kind}" for kind in ("png", "svg", "pdf")]
    with mpl.rc_context(plain | STYLE):
        figure = draw()
        if figure is None:
            for path in paths:
                path.unlink(missing_ok=True)
            return []
        figure.suptitle(title, x=0.005, ha="left", fontsize=8, color=FAINT)
        mark_cuts(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # laid out once; all files keep it
        about: list[dict[str, Any]] = [
            {"format": "png", "dpi": 150, "metadata": {"Software": None}},
            {"format": "svg", "metadata": {"Date": None, "Creator": None}},
            {"format": "pdf", "metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
        ]
        for path, settings in zip(paths, about, strict=True):
            with atomic_file(path) as file:
                figure.savefig(file, **settings)
    return paths
