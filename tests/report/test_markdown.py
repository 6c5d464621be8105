"""Names in tables come from runs of other people too: in Markdown they stay text, as they do in HTML."""

import re

import pytest

from lam.report.tables.layout import BEST, Grid, escape_markdown, prose

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](https://elsewhere/track.png)",
    "a|b|c",
    "`code`",
    "**bold** ~~gone~~ _em_",
    "two\nlines\r\n# heading",
    "&lt;",
    "back\\slash\\",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("mark", ["", BEST])
def test_a_cell_is_its_text_in_its_own_column(text, mark):
    markdown = Grid([text, "n"], [[(text, mark), ("1", "")]], names=1).markdown()
    assert len(markdown.splitlines()) == 3
    for line in markdown.splitlines():
        assert len(re.findall(r"(?<!\\)\|", line)) == 3
    assert "<" not in markdown
    assert not re.search(r"(?<!\\)[`\[\]]", markdown)


def test_markdown_gives_the_text_back():
    """Undone as CommonMark undoes it: a backslash before punctuation goes, entities are read."""
    from html import unescape

    for text in HOSTILE:
        shown = unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", escape_markdown(text)))
        assert shown.split() == text.split()


def test_ordinary_names_stay_readable():
    for text in ("nested_rvq", "noisy@1e-3", "0.52 ± 0.03", "gap closed (drawn)"):
        assert escape_markdown(text) == text
    assert Grid(["a_b"], [[("0.5", BEST)]], names=1).markdown().splitlines()[-1] == "| **0.5** |"
    assert prose("**a** <b>") == "**a** &lt;b>"
