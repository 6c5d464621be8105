"""Rate: prediction error over the bits that a quantized z costs."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning.pytorch as pl
from typing_extensions import override

from lam.evals.rate import Rate
from lam.models.base import WorldModel
from lam.viz.base import Visualization, callbacks_of
from lam.viz.canvas import axes, figure_png


class RateVisualization(Visualization):
    """Draw the rate-error curve that the evaluation ``Rate`` measured in the same pass, one line a coder."""

    name: ClassVar[str] = "boards/rate"

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[Rate] = []

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.rates = callbacks_of(trainer, Rate)

    @override
    def draw(self, model: WorldModel) -> bytes | None:
        results = [rate.results for rate in self.rates if rate.results.curves.get("points")]
        if not results:
            return None
        curves, clips = results[0].curves, results[0].clips
        plot = axes(
            "What the forward model loses when z is quantized", "bits a transition", "error, 1 = copying the last state"
        )
        for coder, points in by_coder(curves["points"]).items():
            plot.plot(*zip(*points, strict=True), marker="o", clip_on=False, linewidth=1, label=coder)
        if "unquantized" in clips:
            error = clips["unquantized"][1].mean().item()
            plot.axhline(error, color="black", linestyle="--", linewidth=1, label=f"z as it is: {error:.3f}")
        plot.set_xlim(left=0)
        plot.set_ylim(bottom=0)
        plot.legend(frameon=False)
        return figure_png(plot.figure)


def by_coder(points: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Group points by coder: (bits, error) in order of bits, coders in the order of their first points."""
    coders = dict.fromkeys(point["coder"] for point in points)
    return {coder: sorted((p["bits"], p["error"]) for p in points if p["coder"] == coder) for coder in coders}
