from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lam.report.figures.capacity import draw_codes, draw_gap, draw_hull
from lam.report.figures.catalogue import FIGURES, sample, save_figure, write_figures
from lam.report.figures.meaning import draw_leakage, draw_probe
from lam.report.figures.palette import FAMILIES, line_style
from lam.report.stats.rows import Comparison
from lam.report.stats.runs import read_runs
from tests.report.fake import write_setting


def change(root: Path, pattern: str, **numbers: float) -> Path:
    """Overwrite numbers that single clips have no part in."""
    for path in root.glob(f"{pattern}/*/metrics.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | numbers))
    return root


def colors(figure: Figure) -> dict[str, str]:
    """Colors by label, as the legend has them."""
    (legend,) = figure.legends
    return {text.get_text(): line.get_color() for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)}


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return Comparison(
        *read_runs(write_setting(tmp_path_factory.mktemp("runs") / "wild", ("none", "identity", "vq", "fsq"), seeds=(0, 1)))
    )


def test_a_family_has_one_color_whatever_stands_beside_it(wild, tmp_path):
    alone = Comparison(*read_runs(write_setting(tmp_path / "wild", ("none", "identity", "vq"), seeds=(0,))))
    assert colors(draw_hull(alone))["vq"] == colors(draw_hull(wild))["vq"] == FAMILIES["vq"][0]


def test_no_two_families_look_alike_and_one_of_ones_own_looks_the_same_again():
    assert len({style[0] for style in FAMILIES.values()}) == len({style[1] for style in FAMILIES.values()}) == len(FAMILIES)
    assert line_style("mine") == line_style("mine")
    assert line_style("mine")["linestyle"] not in {style[2] for style in FAMILIES.values()}


def test_a_file_says_what_it_is_of_how_many_clips_and_which_seeds(wild, tmp_path, monkeypatch):
    heads = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, text, **_: heads.append(text))
    monkeypatch.setattr(Figure, "draw_without_rendering", lambda self: None)  # slow
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: None)
    written = write_figures(tmp_path, wild)
    names = [name for name in FIGURES if (tmp_path / f"{name}.png").exists()]
    assert {path.name for path in written} == {f"{name}.{kind}" for name in names for kind in ("png", "svg", "pdf")}
    assert heads[0] == "wild: Prediction error over held-out bits. n = 60 clips, 2 seeds (0, 1)"
    assert heads[-1] == "wild: Codes in use. 2 seeds (0, 1)"  # no values of clips
    assert sample(wild) == "n = 60 clips, 2 seeds (0, 1)"


@pytest.mark.parametrize(("values", "cut"), [((0.2, 0.9), True), ((0.0, 0.9), False), ((-1.0, 1.0), False)])
def test_an_axis_that_leaves_0_out_is_marked(tmp_path, values, cut):
    figure = Figure()
    axis = figure.subplots()

    def draw() -> Figure:
        axis.plot([0, 1], values)
        axis.set_ylim(values)
        return figure

    save_figure(tmp_path / "one", draw, "one")
    assert [line.get_gid() for line in axis.lines].count("cut") == cut


def test_a_logarithmic_axis_and_one_of_knobs_have_no_mark(tmp_path, wild):
    figure = draw_gap(wild)
    save_figure(tmp_path / "gap", lambda: figure, "gap")
    assert not [line for axis in figure.axes for line in axis.lines if line.get_gid() == "cut"]


def test_two_values_of_a_knob_are_no_curve(tmp_path):
    root = write_setting(tmp_path / "wild", ("none", "identity", "vq", "fsq"), seeds=(0,))
    assert [axis.get_title() for axis in draw_gap(Comparison(*read_runs(root))).axes] == ["fsq", "vq"]
    for name in ("fsq@2", "vq@4", "vq@16"):
        (root / name / "seed0" / "run.json").unlink()
    found = Comparison(*read_runs(root))
    assert draw_gap(found) is None
    joined = {one.get_label(): one.lines[0].get_linestyle() for one in draw_leakage(found).axes[0].containers}
    assert joined["vq"] == "None"


def test_bars_that_are_all_full_are_left_out(wild, tmp_path):
    assert draw_codes(wild) is not None
    root = write_setting(tmp_path / "wild", ("none", "identity", "vq"), seeds=(0,))
    assert draw_codes(Comparison(*read_runs(change(root, "vq@*", **{"eval/usage/codes_used": 0.999})))) is None


def test_a_factor_that_no_row_tells_has_no_panel(tmp_path):
    root = write_setting(tmp_path / "wild", ("none", "identity", "vq"), seeds=(0,))
    change(root, "*", **{"eval/probe/gain/ball_x": 0.004})
    assert "ball_x" not in [axis.get_title() for axis in draw_probe(Comparison(*read_runs(root))).axes]
    change(root, "identity", **{"eval/probe/gain/ball_x": -0.3})
    assert "ball_x" in [axis.get_title() for axis in draw_probe(Comparison(*read_runs(root))).axes]


def test_published_ratios_do_not_press_ours_together(tmp_path):
    root = write_setting(tmp_path / "wild", ("none", "identity", "vq"), seeds=(0,))
    figure = draw_leakage(Comparison(*read_runs(root)))
    published = next(axis for axis in figure.axes if axis.get_title().startswith("published"))
    published.set_ylim(0, 100)
    assert figure.axes[0].get_ylim()[1] < 10
    limits = np.array([axis.get_xlim() for axis in figure.axes if axis is not published])
    assert (limits == limits[0]).all()  # of gap closed, in every panel
