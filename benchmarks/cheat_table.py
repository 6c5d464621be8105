"""Which evaluation catches which cheat: ``python benchmarks/cheat_table.py arm nav natural32``.

Runs leakage and transfer on the models of ``benchmarks/cheats.py`` and on trained rows of runs/<world>, if there are any, over
the validation clips of shards/<world>, and writes cheats.md, cheats.csv and cheats.png. What catches a model is in red.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cheats
import lightning.pytorch as pl
import pandas as pd
from torch import nn

from lam.data.datamodule import ClipDataModule
from lam.encoders import Patches
from lam.evals import Capacity, Evaluation, Leakage, Transfer
from lam.models.base import WorldModel
from lam.models.external import Adapter, ExternalModel
from lam.runs.load import load_run

COLUMNS = {
    "error": ("eval/capacity/error", ""),
    "leakage share": ("eval/leakage/share", ""),
    "cut scene identified": ("eval/leakage/identified", ""),
    "faint scene identified": ("eval/leakage/identified_faint", "copies"),
    "imposed scene identified": ("eval/leakage/identified_imposed", "copies"),
    "retention": ("eval/transfer/retention", "replaces"),
    "placement": ("eval/transfer/placement", "pastes"),
    "heading": ("eval/transfer/heading", "misdirects"),
    "heading, own clip": ("eval/transfer/heading_self", ""),
    "random - floor": ("", "ignored"),
}
"""Heading of each column: its key, and the flag by which it catches."""

FLAGS = {
    "copies": "eval/leakage/copies",
    "replaces": "eval/transfer/replaces",
    "pastes": "eval/transfer/pastes",
    "misdirects": "eval/transfer/misdirects",
    "ignored": "eval/transfer/ignored",
}
BODIES = ("arm", "demo")
"""Worlds in which a red body moves and the camera does not."""

TRAINED = ("vq@4", "vq@16", "noisy@3e-2", "noisy@1e-2", "cuts")

CONTROLS = ("cuts",)
"""Rows that were made to copy."""


def adapters(world: str, size: int) -> Iterator[tuple[str, str, Adapter]]:
    """Yield kind, name and adapter of every model that can be there."""
    if world in BODIES:
        yield "honest", "displacement", cheats.BodyDisplacement()
        yield "cheat", "encrypted action", cheats.EncryptedBody()
    else:
        yield "honest", "displacement", cheats.CameraDisplacement()
        yield "cheat", "encrypted action", cheats.EncryptedCamera()
    yield "cheat", "pixel difference", cheats.PixelDifference(size)
    yield "cheat", "small differences, by pixel", cheats.SmallDifference(size)
    yield "cheat", "small differences, by picture", cheats.SmallPictureDifference(size)
    yield "cheat", "difference on edges", cheats.LocalDifference(size)
    yield "cheat", "coarse difference", cheats.CoarseDifference(size)
    yield "cheat", "next state, 8 levels", cheats.NextState(size)
    yield "cheat", "corner of the next state", cheats.CornerOfNextState(size)
    yield "cheat", "random projection of the next state", cheats.RandomProjection(size)
    yield "cheat", "state alone", cheats.StateAlone(size)


def measure(model: WorldModel, data: ClipDataModule, clips: int) -> dict[str, float]:
    """Run the evaluations and return all that they log."""
    callbacks: list[Evaluation] = [Capacity(), Leakage(clips), Transfer(clips)]
    trainer = pl.Trainer(
        accelerator="cpu", callbacks=list(callbacks), logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    (metrics,) = trainer.validate(model, data, verbose=False)
    return dict(metrics)


def rows(world: str, clips: int, runs: Path) -> Iterator[dict[str, str | float]]:
    """Yield a row of numbers for each model on a world."""
    shards = Path("shards") / world
    data = ClipDataModule(str(shards), frames=4, batch_size=64, num_workers=0, val_windows=2 * clips)
    size = data.index.height
    for kind, name, adapter in adapters(world, size):
        encoder = Patches(size, 8)
        encoder.use_index(data.index)
        model = ExternalModel(adapter, encoder, nn.MSELoss(reduction="none"))
        yield {"world": world, "model": name, "kind": kind, **measure(model, data, clips)}
    for name in TRAINED:
        folder = runs / world / name / "seed0"
        if (folder / "trained.json").exists():
            trained, _ = load_run(folder)  # it may have learned from more than this world
            kind = "control" if name in CONTROLS else "honest"
            yield {"world": world, "model": name, "kind": kind, **measure(trained, data, clips)}


def caught(row: pd.Series[float], heading: str) -> bool:
    """Tell whether a column catches a model."""
    key, flag = COLUMNS[heading]
    if not flag or row.get(FLAGS[flag], 0.0) != 1:
        return False
    if flag != "copies":
        return True
    # either of two numbers raises this flag
    chance = 1 / row["eval/leakage/candidates"]
    return bool(row[key] > (1 + chance) / 2)


def cell(row: pd.Series[float], heading: str) -> str:
    """Format a cell."""
    key, flag = COLUMNS[heading]
    if not key:
        return "about 0" if row.get(FLAGS[flag], 0.0) == 1 else "above 0"
    value = row.get(key, float("nan"))
    return "" if pd.isna(value) else f"{value:.2f}"


def markdown(table: pd.DataFrame) -> str:
    """Write the table in Markdown, a section a world."""
    lines = []
    for world, of_world in table.groupby("world", sort=False):
        k = int(of_world["eval/leakage/candidates"].max())
        lines += [f"## {world}", "", f"Scenes to choose among: {k}, so chance is {1 / k:.2f}.", ""]
        lines += ["| model | kind | " + " | ".join(COLUMNS) + " | caught by |", "| --- " * (len(COLUMNS) + 3) + "|"]
        for _, row in of_world.iterrows():
            cells = [f"🔴 **{cell(row, name)}**" if caught(row, name) else cell(row, name) for name in COLUMNS]
            names = ", ".join(name for name, key in FLAGS.items() if row.get(key, 0.0) == 1)
            lines.append(f"| {row['model']} | {row['kind']} | " + " | ".join(cells) + f" | {names} |")
        lines.append("")
    return "\n".join(lines)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the table with what catches in red."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    headings = list(COLUMNS)
    words = [[f"{row['world']}: {row['model']}", *(cell(row, name) for name in headings)] for _, row in table.iterrows()]
    colors = [["white", *("#f4a6a0" if caught(row, name) else "white" for name in headings)] for _, row in table.iterrows()]
    figure, axes = pyplot.subplots(figsize=(17, 0.32 * len(words) + 1))
    axes.axis("off")
    labels = ["model", *(name.replace(" ", "\n") for name in headings)]
    drawn = axes.table(
        words, colors, colLabels=labels, loc="center", cellLoc="center", colWidths=[0.26] + [0.074] * len(headings)
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    for column in range(len(labels)):
        drawn[0, column].set_height(2.6 * drawn[1, column].get_height())
    figure.savefig(path, dpi=110, bbox_inches="tight")


HEADER = """# Cheats, and what catches them

Made by `python benchmarks/cheat_table.py {worlds}`; the models are in `benchmarks/cheats.py`, the numbers of all keys in
[cheats.csv](cheats.csv), the same table as a picture in [cheats.png](cheats.png). Red: an evaluation flags the model by that
number, by the 95 % interval over sources. Cheats must be caught at least once, honest models never, and the control `cuts`
(`experiments/bottlenecks/cuts.yaml`: a wide latent, heads that can paint, and only clips that go on as another one) must be
found to copy: it shows that identification finds it in trained models too, also where the ratio of errors stays far above 1,
as 400 steps teach movements even better than scenes. Tight codes mean partly another movement in each scene, so their
heading is low, but apart from 0: they are not red.

Shards of natural video: `python -m data_prep videos VIDEOS shards/natural32 --size 32 --val_share 0.6`. Trained rows:
`lam fit`, 400 steps, one seed, with `experiments/arm.yaml`; and with `experiments/mixing.yaml --data.shards
"{shards/natural32: 1, shards/nav: 1}"`, since ten videos alone show nothing of the others (`vq@16` trained on them predicts
these worse, error 1.10, than if nothing changed, and is `ignored`). The errors of these rows are of held-out natural video
alone.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="+", help="folders of shards/, of generated worlds or of video of 32 pixels")
    parser.add_argument("--clips", type=int, default=128, help="clips compared")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of trained rows")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder for the table")
    options = parser.parse_args()
    found = []
    for world in options.worlds:
        for row in rows(world, options.clips, options.runs):
            found.append(row)
            flags = [name for name, key in FLAGS.items() if row.get(key) == 1]
            print(f"{world}: {row['model']} ({row['kind']}): {', '.join(flags) or 'not caught'}", flush=True)
    table = pd.DataFrame(found)
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "cheats.csv", index=False, float_format="%.5g")
    (options.out / "cheats.md").write_text(HEADER.replace("{worlds}", " ".join(options.worlds)) + markdown(table))
    draw(table, options.out / "cheats.png")


if __name__ == "__main__":
    main()
