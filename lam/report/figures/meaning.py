"""Figures of the meaning of latents at each capacity: leakage, transfer, probes."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lam.report.figures.style import has_any, legend, scatter, small_panels, style_of
from lam.report.stats.measures import GAIN, GAP_CLOSED, LEAKAGE, TRANSFER
from lam.report.stats.rows import Comparison
from lam.report.tables.columns import shown_factors
from lam.report.tables.published import PUBLISHED

LEAKAGE_PANELS = {
    LEAKAGE + "ratio": "ratio: error at a cut / uncut",
    LEAKAGE + "share": "share: 1 - error at a cut / copying",
    LEAKAGE + "cut": "error at a cut",
}
TRANSFER_PANELS = {
    TRANSFER + "ratio": "ratio: error after the cycle / before",
    TRANSFER + "normalized": "normalized: 0 = floor, 1 = random",
    TRANSFER + "retention": "retention: predictions that stay",
}
MAX_PANELS = 6
"""Factors to draw, at most."""
NO_GAIN = 0.02
"""Gain of a score of at most 1 that is nothing: a factor of which no row tells more gets no panel."""


def draw_leakage(comparison: Comparison) -> Figure | None:
    """Draw leakage ratio, share and the absolute error at a cut against gap closed, the published ratios beside."""
    return _against_gap(comparison, LEAKAGE_PANELS, "leakage_ratio")


def draw_transfer(comparison: Comparison) -> Figure | None:
    """Draw transfer ratio, normalized score and retention against gap closed, the published ratios beside."""
    return _against_gap(comparison, TRANSFER_PANELS, "transfer_ratio")


def draw_probe(comparison: Comparison) -> Figure | None:
    """Draw what z adds to the state about each factor of which some row tells anything, against gap closed."""
    factors = [factor for factor in shown_factors(comparison, [GAIN]) if _tells(comparison, GAIN + factor)][:MAX_PANELS]
    if not factors or not has_any(comparison, GAP_CLOSED):
        return None
    figure, panels = small_panels(len(factors), 2 if len(factors) == 4 else 3, (2.7, 2.5))
    for axis, factor in zip(panels, factors, strict=True):
        scatter(axis, comparison, GAP_CLOSED, GAIN + factor)
        axis.axhline(0, color="#444444", linewidth=0.8)
        axis.set_title(factor, fontsize=10)
    figure.supxlabel("gap closed", fontsize=9)
    figure.supylabel("gain: score of state and z less score of state", fontsize=9)
    legend(figure, comparison)
    return figure


def _tells(comparison: Comparison, key: str) -> bool:
    """Tell whether some row's gain is more than nothing."""
    return any(abs(comparison.estimate(row, key).value) >= NO_GAIN for row in comparison.rows)


def _against_gap(comparison: Comparison, titles: dict[str, str], published: str) -> Figure | None:
    """Draw several keys against gap closed; beside them, with an axis of its own, a narrow panel with what is published.

    The published numbers are of other data and another error: on one axis they would press ours together.
    """
    shown = {key: title for key, title in titles.items() if has_any(comparison, key)}
    if not shown or not has_any(comparison, GAP_CLOSED):
        return None
    beside = next(iter(titles)) in shown and any(one.family in comparison.families for one in PUBLISHED)
    widths = [*[2.7] * len(shown), *[1.4] * beside]
    figure = Figure(figsize=(1.6 + sum(widths), 3.2), layout="constrained")
    axes = list(figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0])
    if beside:
        _published(axes.pop(), comparison, published)
    for axis, (key, title) in zip(axes, shown.items(), strict=True):
        scatter(axis, comparison, GAP_CLOSED, key)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("gap closed")
        axis.sharex(axes[0])
    hollow = Line2D([], [], color="#444444", marker="o", markerfacecolor="white", linestyle=":", label="published")
    legend(figure, comparison, extra=[hollow] if beside else [])
    return figure


def _published(axis: Axes, comparison: Comparison, field: str) -> None:
    """Draw published ratios at low and high capacity, which have no place on an axis of gap closed."""
    for family in comparison.families:
        values = [one._asdict()[field] for one in PUBLISHED if one.family == family]
        if values:
            style = style_of(family) | {"markerfacecolor": "white", "linestyle": ":"}
            axis.plot(["low", "high"], values, **style)
    axis.set_title("published, other data:\nratio", fontsize=9)
    axis.set_xlabel("capacity")
    axis.margins(x=0.3)
