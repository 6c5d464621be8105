"""The hull of a family: what it is, what is read off it, what figures draw of it, and whether its intervals cover the truth."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lam.report import report
from lam.report.figures.capacity import draw_hull
from lam.report.stats.envelope import Hull, Points, lower_hull
from lam.report.stats.estimates import crossed_mean, half_width
from lam.report.stats.hull import family_hulls
from lam.report.stats.jackknife import pseudo_values
from lam.report.stats.matched import HULL_BITS
from lam.report.stats.rows import Comparison
from lam.report.stats.runs import read_runs
from lam.report.stats.usable import left_out, usable
from lam.report.tables.hull import BITS_AT, CORNER, ERROR_AT, NOTHING, drawn_notes, hull_grid, hull_sentence, hull_table
from lam.report.tables.matched import match_all
from tests.report.fake import write_setting
from tests.report.test_jackknife import resampled

NONE, IDENTITY = 0.71, 0.17
LEVELS = [(ERROR_AT, 2.0), (ERROR_AT, 4.0), (ERROR_AT, 8.0), (BITS_AT, 0.25), (BITS_AT, 0.5), (BITS_AT, 0.75), (BITS_AT, 0.9)]


def read(root: Path) -> Comparison:
    return Comparison(*read_runs(root))


def chord_error(x: np.ndarray, y: np.ndarray, bits: float) -> float:
    """The least error at so many bits by trying all pairs."""
    best = y[x <= bits].min()
    for i, j in combinations(range(len(x)), 2):
        low, high = min(x[i], x[j]), max(x[i], x[j])
        if low < bits < high:
            best = min(best, y[i] + (y[j] - y[i]) * (bits - x[i]) / (x[j] - x[i]))
    return float(best)


def alone(*rows: tuple[str, list[float], list[float]]) -> Hull:
    """A hull of one seed without clips."""
    points = [Points(name, np.array(x)[:, None, None], np.array(y)[:, None, None]) for name, x, y in rows]
    return Hull(points, (0,), np.empty(0), "clips")


def test_the_corners_are_the_lower_hull_and_nan_is_no_point():
    x, y = np.array([0, 3, 1, 2, 4, 5.0, np.nan]), np.array([1, 0.2, 0.7, 0.1, 0.09, 0.5, 0.0])
    np.testing.assert_array_equal(lower_hull(x, y), [[0, 1], [2, 0.1], [4, 0.09]])


@pytest.mark.parametrize("seed", range(5))
def test_readings_agree_with_all_pairs_tried(seed):
    rng = np.random.default_rng(seed)
    x = np.concatenate([[0.0], rng.gamma(2, 2, 11)])
    y = 0.2 + np.exp(-x / 3) + 0.1 * rng.random(12)
    hull = alone(("a", x[:5].tolist(), y[:5].tolist()), ("b", [0.0, *x[5:]], [9.0, *y[5:]]))
    for bits in (0.0, 0.5, 2.0, 5.0, 30.0):
        error = float(hull.error_at(bits).means[0])
        assert error == pytest.approx(chord_error(x, y, bits))
        if y.min() < error < y[0]:
            assert hull.bits_at(np.array([[error]])).means[0] == pytest.approx(bits)


def test_beyond_the_ends_more_bits_do_no_harm_and_an_error_that_nobody_reaches_has_no_bits():
    hull = alone(("none", [0.0], [1.0]), ("a", [0.0, 4.0], [1.2, 0.4]))
    assert hull.error_at(100.0).means[0] == 0.4
    assert hull.bits_at(np.array([[0.4]])).means[0] == 4
    assert hull.bits_at(np.array([[0.39]])).seeds == ()
    assert hull.error_at(0.0).means[0] == 1.0  # none, not the mean of a latent that the model relies on
    assert hull.error_at(2.0).means[0] == pytest.approx(0.7)  # and it is taken in turns with a
    assert hull.around(2.0) == ["none", "a"]


def seeded(name: str, bits: np.ndarray, errors: np.ndarray) -> Points:
    """Points (P,) and (P, S) of a row without groups of clips."""
    return Points(name, np.repeat(bits[:, None, None], errors.shape[1], axis=2), errors[:, None])


@pytest.mark.parametrize("seed", range(5))
def test_each_seed_is_measured_where_the_other_seeds_choose(seed):
    """By trying all pairs of points on the other seeds, and taking the best pair's chord on the seed left out."""
    rng = np.random.default_rng(seed)
    bits = [np.array([0.0]), *(np.sort(rng.gamma(2, 2, 4)) for _ in range(3))]
    errors = [
        np.full((1, 3), 1.2),
        *(0.1 + rng.gamma(4, 0.05, 3) + np.exp(-x[:, None] / rng.gamma(30, 0.1, 3)) for x in bits[1:]),
    ]
    hull = Hull(
        [seeded(str(i), x, y) for i, (x, y) in enumerate(zip(bits, errors, strict=True))], (0, 1, 2), np.empty(0), "clips"
    )
    x, y = np.concatenate(bits), np.concatenate(errors)

    def on(seed: int, level: float) -> float:
        others = np.delete(y, seed, axis=1).mean(axis=1)
        found = [(others[i], y[i, seed]) for i in range(len(x)) if x[i] <= level]
        for i, j in combinations(np.argsort(x), 2):
            if x[i] < level < x[j]:
                weight = (level - x[i]) / (x[j] - x[i])
                found.append(tuple(weight * one[j] + (1 - weight) * one[i] for one in (others, y[:, seed])))
        return min(found)[1]

    for level in (0.5, 2.0, 3.5, 5.0, 30.0):
        np.testing.assert_allclose(hull.error_at(level).means, [on(seed, level) for seed in range(3)])
    target = np.interp(2.0, *hull.curve) + np.array([[-0.1, 0.0, 0.1]])
    found = hull.bits_at(target).means.mean()
    assert np.interp(found, *hull.curve) == pytest.approx(target.mean())  # both directions read one curve
    assert (np.interp(np.linspace(0, found - 1e-6, 999), *hull.curve) > target.mean()).all()  # where it first gets there


def test_among_equal_knobs_luck_is_not_read():
    """Twenty knobs of one error: the least of their means over three seeds would be 1.9 standard errors too low."""
    rng, none = np.random.default_rng(0), seeded("none", np.zeros(1), np.ones((1, 3)))
    bits, found = np.array([2.0]), []
    for _ in range(200):
        rows = [seeded(str(i), bits, 0.5 + 0.05 * rng.standard_normal((1, 3))) for i in range(20)]
        found.append(Hull([none, *rows], (0, 1, 2), np.empty(0), "clips").error_at(2.0).means.mean())
    assert np.mean(found) == pytest.approx(0.5, abs=4 * np.std(found) / np.sqrt(200))


def test_a_single_seed_chooses_for_itself():
    rows = [seeded("none", np.zeros(1), np.ones((1, 1)))]
    rows += [seeded(str(i), np.array([2.0]), np.array([[error]])) for i, error in enumerate((0.5, 0.4, 0.6))]
    assert Hull(rows, (0,), np.empty(0), "clips").error_at(2.0).means == 0.4


def write_points(
    root: Path, name: str, unquantized: float, points: list[tuple[float, float]], seed: int, **more: float
) -> None:
    """A row with rate-error points as given, clips of one difficulty."""
    folder = root / name / f"seed{seed}"
    folder.mkdir(parents=True)
    family, _, knob = name.partition("@")
    keys = {"capacity/error": unquantized, "capacity/error_drawn": unquantized, "rate/unquantized": unquantized}
    for i, (bits, error) in enumerate(points):
        keys |= {f"rate/point/{i:02}/bits": bits, f"rate/point/{i:02}/error": error}
    rng = np.random.default_rng([seed, len(name)])
    difficulty = 1 + 0.02 * rng.standard_normal(20)
    difficulty /= difficulty.mean()
    lines = pd.concat(
        pd.DataFrame({"position": range(20), "metric": f"eval/{key}", "value": value * (1 if "bits" in key else difficulty)})
        for key, value in keys.items()
    )
    lines["clip"] = lines["source"] = [f"clip{i}" for i in lines["position"]]
    lines[["position", "clip", "source", "metric", "value"]].to_parquet(folder / "clips.parquet", index=False)
    about = {"setting": "wild", "family": family, "knob": knob, "seed": seed, "config_hash": name, "shared_hash": "s"}
    about |= {"evaluation_hash": "e", "data_hash": "d", "code_revision": "abc"}
    logged = {f"eval/{key}": value for key, value in (keys | more).items() if "point/" not in key}
    for file, content in (("run.json", about), ("metrics.json", logged)):
        (folder / file).write_text(json.dumps(content))
    (folder / "config.yaml").write_text("")


@pytest.fixture
def audited(tmp_path: Path) -> Path:
    """A sweep whose operational bits at 5 % say 6.5 bits at half of the gap by interpolation, its points 3.2."""
    root = tmp_path / "wild"
    tight, loose = 0.68, 0.18  # gap closed 1/18 at 0 bits, 53/54 at 12.9
    for seed in (0, 1):
        write_points(root, "none", NONE, [(0, NONE)], seed)
        write_points(root, "identity", IDENTITY, [(0, 0.9), (20, IDENTITY)], seed)
        write_points(root, "noisy@3e-2", tight, [(0, tight + 0.02), (1, tight)], seed)
        write_points(root, "noisy@1e-3", loose, [(0, 0.8), (3.2, 0.44), (6, 0.25), (12.9, 0.207), (30, loose)], seed)
        write_points(root, "sparse@0.1", NONE - 0.001, [(0, NONE), (1, 0.2)], seed, **{"usage/collapsed": float(seed)})
    return root


def test_half_of_the_gap_is_read_off_measured_points_not_along_the_knob(audited):
    """On the code before, the matched table interpolated bits @5 % along the knob and said 6.2 where points say 3.2."""
    found = read(audited)
    at5 = [found.estimate(row, "eval/rate/bits_operational@5").value for row in found.families["noisy"]]
    closed = [found.estimate(row, "gap_closed").value for row in found.families["noisy"]]
    assert np.interp(0.5, closed, at5) > 6  # what was printed
    assert family_hulls(found).bits_at("noisy", 0.5).estimate().value == pytest.approx(3.2, abs=1e-6)
    half = next(one for one in match_all(found) if (one.family, one.level) == ("noisy", 0.5))
    assert half.rows == ()  # nothing is interpolated over the whole gap
    assert half.replicates[HULL_BITS].estimate().value == pytest.approx(3.2, abs=1e-6)


def test_a_row_that_collapsed_in_any_seed_is_in_no_hull_and_is_named(audited):
    found = read(audited)
    (sparse,) = found.families["sparse"]
    assert not usable(found, sparse)
    assert left_out(found) == {"sparse@0.1": "collapsed in 1 of 2 seeds"}
    assert list(family_hulls(found).families) == ["noisy"]
    assert not any(one.rows for one in match_all(found) if one.family == "sparse")
    made = report(audited)
    assert "sparse@0.1 (collapsed in 1 of 2 seeds)" in made.text
    assert "sparse@0.1 (collapsed in 1 of 2 seeds)" in (audited / "report" / "table.md").read_text()


def test_rows_without_a_seed_of_the_others_or_coded_on_other_clips_are_left_out(audited):
    shutil.copytree(audited / "noisy@1e-3", audited / "vq@4")
    for seed in (0, 1):
        path = audited / "vq@4" / f"seed{seed}"
        about = json.loads((path / "run.json").read_text()) | {"family": "vq", "knob": "4"}
        (path / "run.json").write_text(json.dumps(about))
        lines = pd.read_parquet(path / "clips.parquet")
        keep = ~lines["metric"].str.contains("rate/") | (lines["position"] < 10)
        lines[keep].to_parquet(path / "clips.parquet", index=False)
        metrics = json.loads((path / "metrics.json").read_text())
        (path / "metrics.json").write_text(json.dumps({k: v for k, v in metrics.items() if "rate/" not in k}))
    shutil.rmtree(audited / "noisy@3e-2" / "seed1")
    found = read(audited)
    hulls = family_hulls(found)
    assert hulls.left_out["vq@4"] == "coded on other clips than the reference rows"
    assert hulls.left_out["noisy@3e-2"] == "no seed 1"
    assert list(hulls.families) == ["noisy"]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A setting with its report, and what the report prints."""
    root = write_setting(tmp_path_factory.mktemp("runs") / "wild", ("none", "identity", "noisy", "vq"), seeds=(0, 1))
    return root, report(root).text


def test_figure_tables_and_hull_say_the_same_error_at_four_bits(reported):
    root, _ = reported
    found = read(root)
    figure = draw_hull(found)
    assert figure is not None
    drawn = {
        (round(float(x), 9), round(float(y), 9))
        for container in figure.axes[0].containers
        for x, y in zip(*container.lines[0].get_data(), strict=True)
    }
    table = pd.read_csv(root / "report" / "hull.csv")
    for family in ("noisy", "vq"):
        (line,) = table[(table["bottleneck"] == family) & (table["reading"] == ERROR_AT) & (table["level"] == 4)].itertuples()
        cell = family_hulls(found).error_at(family, 4.0).estimate()
        corners = table[(table["bottleneck"] == family) & (table["reading"] == CORNER)]
        assert line.error == pytest.approx(cell.value, rel=1e-7)
        assert np.interp(4.0, corners["bits"], corners["error"]) == pytest.approx(cell.value, rel=1e-6)
        assert (4.0, round(cell.value, 9)) in drawn
        lines = [one for one in figure.axes[0].lines if len(one.get_xdata()) > 100]
        assert any(np.interp(4.0, *one.get_data()) == pytest.approx(cell.value, rel=1e-6) for one in lines)
        printed = f"{cell.value:.3f} ± {cell.half:.3f}"
        for name in ("table.md", "hull.md", "report.html"):
            assert printed in (root / "report" / name).read_text().replace("&nbsp;", " ")
        assert family in hull_grid(found, brief=True).text()


def test_the_first_screen_is_one_sentence_of_the_hull_then_the_figures_path(reported):
    root, text = reported
    first, second, *_ = text.splitlines()
    found = read(root)
    assert first == hull_sentence(found)
    bits = family_hulls(found).bits_at("noisy", 0.5).estimate()
    assert first.startswith("Half of the gap between none and identity takes ")
    assert f"noisy {bits.value:.1f} ± {bits.half:.1f}" in first
    assert "vq does not get there" in first
    assert second == str(root / "report" / "hull.png")
    page = (root / "report" / "report.html").read_text()
    body = page[page.index("<header>") :]
    assert body.index(first.split(";")[0]) < body.index('id="figure-hull"') < body.index("<table>")


def test_without_an_open_gap_nothing_is_read(tmp_path):
    found = read(write_setting(tmp_path / "wild", ("none", "vq"), seeds=(0,)))
    assert hull_sentence(found) == NOTHING
    assert hull_table(found).empty


def test_runs_of_older_code_have_no_gap_closed_and_the_report_says_what_to_do(audited):
    for path in audited.glob("noisy@*/seed0"):
        metrics = json.loads((path / "metrics.json").read_text())
        del metrics["eval/capacity/error_drawn"]
        (path / "metrics.json").write_text(json.dumps(metrics))
        lines = pd.read_parquet(path / "clips.parquet")
        lines[lines["metric"] != "eval/capacity/error_drawn"].to_parquet(path / "clips.parquet", index=False)
    found = read(audited)
    (note,) = drawn_notes(found)
    assert note.startswith("2 of 10 runs lack `eval/capacity/error_drawn`")
    assert "lam validate" in note
    assert note in (report(audited).text)
    assert found.estimate(found.families["noisy"][0], "gap_closed_mean").defined


# coverage in simulation


def world(kind: str) -> list[np.ndarray]:
    """True points (P, 2) of five rows: ``spread`` as sweeps are, ``tied`` all on one curve, where luck could choose."""
    bits = np.concatenate([[0.0], 0.6 * 2 ** (np.arange(9) * 0.5)])
    if kind == "tied":
        return [np.stack([bits[:m], 0.17 + 0.54 * np.exp(-bits[:m] / 4)], axis=1) for m in (3, 5, 7, 9, 10)]
    ends = ((0.62, 1.5), (0.5, 3.0), (0.35, 5.0), (0.22, 9.0), (0.17, 14.0))
    return [
        np.stack([bits / bits[-1] * 1.4 * scale, f + (0.73 - f) * np.exp(-4 * bits / bits[-1] * 1.4)], axis=1)
        for f, scale in ends
    ]


def covered(kind: str, seeds: int, wobble: float, problems: int) -> dict[tuple[str, float], float]:
    """Share of problems in which intervals of readings cover the truth, the hull of expected points.

    Clips differ in difficulty by half of their mean, seeds by ``wobble`` of a row's error, both also independently.
    """
    rng, n, groups, rows = np.random.default_rng(0), 60, 12, world(kind)
    points = np.concatenate([*rows, [[0.0, NONE]]])
    corners = lower_hull(points[:, 0], points[:, 1])
    hits: dict[tuple[str, float], list[bool]] = {level: [] for level in LEVELS}

    def measured(values: np.ndarray) -> np.ndarray:
        return resampled(values[None], groups)[0]

    def effect(spread: float) -> np.ndarray:
        return 1 + spread * rng.standard_normal(seeds)

    for _ in range(problems):
        difficulty = rng.gamma(4, 0.25, (n, 1))

        none, identity = (
            measured(x * (difficulty * effect(wobble) + 0.05 * rng.standard_normal((n, seeds)))) for x in (NONE, IDENTITY)
        )
        found = [Points("none", np.zeros((1, *none.shape)), none[None])]
        for row in rows:
            of_row, of_bits, own = effect(wobble), effect(0.03), 0.1 * rng.standard_normal((n, seeds))
            bits = [measured(b * (of_bits + 0.2 * rng.standard_normal((n, seeds)))) for b in row[:, 0]]
            own = difficulty * of_row + own
            errors = [measured(e * (own + 0.03 * rng.standard_normal((n, seeds)))) for e in row[:, 1]]
            found.append(Points("row", np.stack(bits), np.stack(errors)))
        hull = Hull(found, tuple(range(seeds)), np.full(groups, 1 / groups), "clips")
        for kind_of_level, level in LEVELS:
            if kind_of_level == ERROR_AT:
                read, truth = hull.error_at(level), np.interp(level, *corners.T)
            else:
                read = hull.bits_at(none - level * (none - identity))
                truth = np.interp(NONE - level * (NONE - IDENTITY), *corners[::-1, ::-1].T)
            if read.seeds:
                mean = crossed_mean(pseudo_values(read.values, read.share))
                hits[kind_of_level, level].append(bool(abs(mean.value - truth) <= half_width(mean)))
    return {level: float(np.mean(hit)) for level, hit in hits.items() if len(hit) > problems / 2}


def test_intervals_of_readings_cover_the_truth_in_brief():
    shares = covered("spread", 3, 0.02, 40)
    assert len(shares) == len(LEVELS)
    assert min(shares.values()) >= 0.85
    assert 0.92 <= np.mean(list(shares.values())) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("wobble", [0.01, 0.04])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("kind", ["spread", "tied"])
def test_intervals_of_readings_cover_the_truth(kind, seeds, wobble):
    shares = covered(kind, seeds, wobble, 400)
    assert len(shares) >= len(LEVELS) - 1
    sampling = np.sqrt(0.98 * 0.02 / 400)  # of the simulation; only above, where intervals are too wide and not too narrow
    assert all(0.92 <= share <= 0.98 + sampling for share in shares.values()), shares
