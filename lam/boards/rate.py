"""The rate board: prediction error against the bits that a quantized z costs."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning.pytorch as pl

from lam.boards.base import Board
from lam.boards.canvas import figure_png
from lam.evals.rate import Rate


class RateBoard(Board):
    """The rate-error curve that the evaluation ``Rate`` measured in the same pass, one line a coder."""

    name: ClassVar[str] = "boards/rate"

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[Rate] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds the evaluation."""
        super().setup(trainer, pl_module, stage)
        self.rates = [callback for callback in trainer.callbacks if isinstance(callback, Rate)]  # type: ignore[attr-defined]

    def draw(self, module: Any) -> bytes | None:
        """A figure; None where no curve was measured."""
        from matplotlib.figure import Figure

        results = [rate.results for rate in self.rates if rate.results.curves.get("points")]
        if not results:
            return None
        curves, clips = results[0].curves, results[0].clips
        figure = Figure(figsize=(9, 5.5), layout="constrained")
        axes = figure.subplots()
        for coder, points in by_coder(curves["points"]).items():
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, linewidth=1, label=coder)
        if "unquantized" in clips:
            error = clips["unquantized"][1].mean().item()
            axes.axhline(error, color="black", linestyle="--", linewidth=1, label=f"z as it is: {error:.3f}")
        axes.set_xlabel("bits a transition, held-out code length")
        axes.set_ylabel("prediction error, 1 = no change")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        return figure_png(figure)


def by_coder(points: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """(bits, error) of each coder's points in order of bits; coders in the order in which they come."""
    coders = dict.fromkeys(point["coder"] for point in points)
    return {coder: sorted((p["bits"], p["error"]) for p in points if p["coder"] == coder) for coder in coders}
