"""Colors of families and of what surrounds them; a family has one color in every figure, table and setting."""

from __future__ import annotations

import hashlib
from typing import Any

INK = "#222222"
"""Text and axes."""
FAINT = "#666666"
"""Heads of figures."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")
"""Told apart by color-blind readers: Okabe and Ito's (https://jfly.uni-koeln.de/color), no yellow and black, then a wine."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
REFERENCE_COLORS = {"none": "#444444", "identity": "#999999"}

FAMILIES: dict[str, tuple[str, str, str]] = {
    "noisy": ("#0072B2", "o", "-"),
    "sparse": ("#D55E00", "s", "-"),
    "vq": ("#009E73", "^", "-"),
    "fsq": ("#CC79A7", "D", "-"),
    "rvq": ("#E69F00", "v", "-"),
    "residual": ("#56B4E9", "P", "-"),
    "nested": ("#882255", "X", "-"),
    "nsvq": ("#117733", "<", "--"),
    "diveq": ("#999933", ">", "--"),
    "nested_rvq": ("#AA4499", "p", "--"),
}
"""Color, marker and line of each family of ``experiments/bottlenecks``; those after the seventh are of Paul Tol's muted colors
(https://sronpersonalpages.nl/~pault) and dashed."""


def line_style(family: str) -> dict[str, Any]:
    """Return color, marker and line of a family; that of a family of one's own follows from its name alone, and is dotted."""
    if family in FAMILIES:
        color, marker, line = FAMILIES[family]
        return {"color": color, "marker": marker, "linestyle": line}
    drawn = int(hashlib.sha256(family.encode()).hexdigest(), 16)
    marker = MARKERS[drawn // len(COLORS) % len(MARKERS)]
    return {"color": COLORS[drawn % len(COLORS)], "marker": marker, "linestyle": (0, (3, 1, 1, 1))}
