from __future__ import annotations

import base64
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lam.report import report
from lam.report.cli import main
from lam.report.figures.catalogue import FIGURES as CATALOGUE
from lam.report.pictures import CAPTIONS, pick_pictures
from lam.report.stats.knobs import knob_name
from lam.report.stats.measures import GAIN
from lam.report.stats.rows import Comparison
from lam.report.stats.runs import read_runs
from lam.report.tables.columns import shown_factors
from lam.report.tables.matched import match_all
from lam.report.tables.summary import read_family
from tests.report.fake import write_setting

BOARD = (2 * 8 + 30 + 4 * (144 + 4), 2 * 8 + 5 * (144 + 4) + 144, 3)
"""Shape of a picture of four clips in tiles of 144 pixels."""
FIGURES = ("hull", "rate", "gap", "leakage", "transfer", "probe", "codes")


class Page(HTMLParser):
    """Checks that tags close in order and collects what the page refers to."""

    void = ("meta", "img", "link", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds, one run missing, one failed, pictures of some."""
    root = write_setting(tmp_path_factory.mktemp("runs") / "wild", ("none", "identity", "noisy", "vq"), seeds=(0, 1))
    shutil.rmtree(root / "noisy@1e-2" / "seed1")
    (root / "vq@16" / "seed0" / "metrics.json").unlink()
    for name in ("none", "noisy@1e-4", "noisy@1e-3", "vq@256"):
        for board in ("prediction", "transfer", "other"):
            path = root / name / "seed1" / "boards" / f"{board}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.zeros(BOARD, np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def reported(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in report(root).files}


@pytest.fixture(scope="module")
def page(reported: dict[str, bytes]) -> Page:
    parsed = Page()
    parsed.feed(reported["report.html"].decode())
    parsed.close()
    return parsed


def test_one_command_makes_everything_and_again_bit_for_bit(root, reported, capsys):
    figures = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg", "pdf")}
    tables = {"table.csv", "results.csv", "table.md", "hull.csv", "hull.md", "matched.csv", "matched.md", "report.html"}
    assert set(reported) == tables | figures
    main([str(root)])
    assert {path.name: path.read_bytes() for path in (root / "report").iterdir()} == reported
    assert capsys.readouterr().out.startswith(("A quarter of the gap", "Half of the gap"))


def test_the_page_stands_alone_and_is_well_formed(page, reported):
    assert page.open == []
    tags = [tag for tag, _ in page.tags]
    assert "script" not in tags
    assert tags.count("h1") == 1
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in images)
    # of predictions 4 clips, before and true and of three rows; transfer has no grid
    assert len(images) == len(FIGURES) + 4 * (2 + 3) + 3
    assert len(reported["report.html"]) < 8_000_000
    assert ("html", {"lang": "en"}) in page.tags


def test_the_first_screen_answers_and_all_else_is_folded(reported):
    header, main = reported["report.html"].decode().split("<main>")
    assert header.count("<img") == 1 and header.index('class="answer"') < header.index('id="figure-hull"')
    assert re.findall(r'<th scope="col">(.+?)</th>', header) == [
        *("bottleneck", "knob", "bits at 50%", "gap closed", "leakage ratio", "transfer ratio")
    ]
    assert re.findall(r'<th scope="row" style="[^"]+">(.+?)</th>', header) == ["none", "identity", "noisy", "vq"]
    # every part lies in a fold of its own, the target of links within, so that a link opens it
    assert main.count("<section") == main.count("</summary><section") > 5
    assert "<details open" not in main


def test_figures_and_page_follow_the_reader_to_the_dark(reported):
    page = reported["report.html"].decode()
    assert "prefers-color-scheme: dark" in page and "color-scheme: light dark" in page
    figures = [base64.b64decode(data).decode() for data in re.findall(r"svg\+xml;base64,([^\"]+)", page)]
    assert len(figures) == len(FIGURES)
    for figure in figures:
        assert "@media (prefers-color-scheme:dark)" in figure
        assert "fill: #ffffff" not in figure and "stroke: #222222" not in figure
        assert "var(--c222222)" in figure
    assert "#0072b2" in reported["hull.svg"].decode()  # the file itself is for programs that know no variables
    assert 'style="--family:var(--c0072b2)">noisy' in page  # and a row of a table has the color of its curve


def test_knobs_have_names_where_the_settings_say_which(tmp_path):
    root = write_setting(tmp_path / "wild", ("none", "vq", "fsq"), seeds=(0,))
    for path in root.glob("vq@*/seed0/config.yaml"):
        codes = path.parts[-3].removeprefix("vq@")
        path.write_text(f"model: {{bottleneck: {{init_args: {{num_codes: {codes}, reset_every: 16, dim: 4}}}}}}")
    families = Comparison(*read_runs(root)).families
    assert knob_name(families["vq"]) == "num_codes"
    assert knob_name(families["vq"][:2]) == "num_codes"
    assert knob_name(families["vq"][:1]) == ""  # 4 is that of two arguments
    assert knob_name(families["fsq"]) == ""  # nothing is recorded


def test_links_lead_somewhere(page, root):
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    files = [link for link in links if not link.startswith("#")]
    assert len(files) == len(list(root.glob("*/*/metrics.json"))) + 3 * len(FIGURES)
    assert all((root / "report" / link).is_file() for link in files)


def test_the_page_says_what_is_missing_and_where_numbers_come_from(page):
    assert "Not finished, left out: vq@16/seed0." in page.text
    assert "Fewer seeds than other rows: noisy@1e-2, vq@16." in page.text
    assert "data1" in page.text
    assert "LPIPS of decoded frames on Kinetics" in page.text


def test_pictures_are_of_reference_rows_and_of_the_row_of_a_family_that_closes_most(root):
    picked = pick_pictures(Comparison(*read_runs(root)))
    assert [(one.row.name, one.caption) for one in picked] == [
        (name, CAPTIONS[board]) for board in ("prediction", "transfer") for name in ("none", "noisy@1e-4", "vq@256")
    ]
    assert all(one.seed == 1 for one in picked)


def test_a_family_is_read_only_as_far_as_intervals_go(tmp_path):
    found = Comparison(*read_runs(write_setting(tmp_path / "wild", ("none", "identity", "noisy", "vq"))))
    said = {family: " ".join(read_family(found, family, match_all(found))) for family in found.families}
    assert said["vq"].startswith("From 4 to 256 it closes 0.10 ± 0.02 to 0.39 ± 0.02 of the gap. Its hull reaches 25%, 50%, ")
    assert "–, –, – bits (–: not reached)" in said["vq"]
    assert "It stays below identity in this sweep" in said["vq"]
    assert "It stays above none" in said["vq"]
    assert "its leakage ratio" in said["noisy"]
    assert said["noisy"].endswith("Flagged: noisy@1e-1 ignored. Nothing of this is told from noisy@1e-1 (ignored).")
    assert said["noisy"].startswith("From 1e-2 to 1e-4 it closes")
    assert "not distinguishable from none" not in said["vq"]
    assert shown_factors(found, [GAIN])[:2] == ["agent_dx", "agent_dy"]


def test_without_a_reference_row_nothing_is_said_of_capacity(tmp_path):
    root = write_setting(tmp_path / "wild", ("none", "vq"), seeds=(0,))
    assert any(path.name == "report.html" for path in report(root).files)
    found = Comparison(*read_runs(root))
    assert read_family(found, "vq", match_all(found)) == ["Gap closed is undefined, so nothing can be said of its capacity."]


def test_figures_name_the_knobs_and_the_values_they_were_swept_over(tmp_path):
    root = write_setting(tmp_path / "wild", ("none", "identity", "vq"), seeds=(0,))
    for codes in (4, 16, 64, 256):
        path = root / f"vq@{codes}" / "seed0" / "config.yaml"
        path.write_text(f"model: {{bottleneck: {{init_args: {{num_codes: {codes}, dim: 32}}}}}}")
    files = {one.name: one.read_bytes() for one in report(root).files}
    told = "Knobs, from tight to loose: vq num_codes 4, 16, 64, 256."
    assert files["report.html"].decode().count(told) == sum(name.endswith(".svg") for name in files)
    assert told in files["table.md"].decode()
    found = Comparison(*read_runs(root))
    for name in ("gap", "rate"):
        figure = CATALOGUE[name].draw(found)
        assert figure is not None
        assert figure.axes[0].get_title() == "vq, num_codes"


def test_the_first_table_fits_a_narrow_screen(reported):
    """Intervals go to a line of their own there, with their sign."""
    html = reported["report.html"].decode()
    narrow = html[html.index("@media (max-width: 40rem)") :]
    assert ".screen th, .screen td { padding: .2rem .25rem; white-space: normal }" in narrow
    assert "± 0" not in html[html.index("<tbody>") : html.index("</tbody>")]
    assert "±&nbsp;0" in html
