import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image, ImageSequence

from data_prep.cli import main
from data_prep.page.html import make_page
from data_prep.page.images import LONGEST, animate, contact_sheet, difference
from data_prep.page.show import choose_samples, show, training_pairs, write_page
from data_prep.page.svg import count_lengths, list_numbers, step_line
from data_prep.shards.sample import Sample
from lam.data.index import DataIndex
from lam.data.schema import ActionField, Quarantined, Storage
from tests.data.shards import frame_of, picture, write_set, write_states


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set") / "shards", train=[9, 12, 7, 20, 9], val=[10, 6])


@pytest.fixture(scope="module")
def page(folder):
    return write_page(folder, folder / "show", clips=12).read_text()


class Checker(HTMLParser):
    """Notes tags that are not closed, text, and addresses."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.addresses = [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "data")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_data(self, data):
        self.text += data + " "


def decoded(address):
    return Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1])))


def test_the_page_needs_nothing_else(page):
    checked = Checker(page)
    assert checked.open == [] and page.startswith("<!doctype html>")
    assert len(checked.addresses) == 7 + 8 * 3  # clips, and three pictures of each training window
    assert all(re.match(r"data:image/(webp|png);base64,", address) for address in checked.addresses)
    assert "http" not in page and "<script" not in page and "url(" not in page


def test_counts_are_those_of_the_set(page):
    rows = re.findall(r"<tr><td class=\"\">(train|val)</td>(.*?)</tr>", page)
    cells = {split: re.findall(r">([^<>]+)</td>", row) for split, row in rows}
    assert cells["train"][:3] == ["2", "5", "57"] and cells["val"][:3] == ["1", "2", "16"]
    assert cells["train"][3] == "0.2 min"  # 57 frames at 4 a second
    assert "16 x 16 pixels, stored as jpeg" in page and "4 frames a second" in page


def test_clips_play_as_they_were_recorded(folder, page):
    clips = [decoded(each) for each in Checker(page).addresses if "webp" in each]
    assert [clip.n_frames for clip in clips] == [9, 12, 7, 20, 9, 10, 6]
    index, pictures, lasting = DataIndex.load(folder), [], []
    for frame in ImageSequence.Iterator(clips[1]):
        pictures.append(np.asarray(frame.convert("RGB")))
        lasting.append(frame.info["duration"])
    np.testing.assert_array_equal(np.array(pictures), list(choose_samples(index, 12))[1][1].frames)
    assert [tuple(each) for each in frame_of(np.array(pictures).transpose(0, 3, 1, 2))] == [(1, i) for i in range(12)]
    assert lasting == [250] * 11 + [1000]


def test_animation_keeps_uneven_times_and_ends_somewhen():
    times = np.cumsum([0, 0.1, 0.5, 0.001, *[0.05] * (LONGEST + 10)])
    frames = np.stack([np.full((16, 16, 3), 200 * (i % 2), np.uint8) for i in range(len(times))])
    clip = Image.open(io.BytesIO(animate(frames, times)))
    lasting = [frame.convert("RGB").info["duration"] for frame in ImageSequence.Iterator(clip)]
    assert lasting[:4] == [100, 500, 20, 50] and len(lasting) == LONGEST


def test_training_pairs_are_consecutive_frames_of_training_samples(folder):
    frames, names = training_pairs(DataIndex.load(folder))
    assert frames.shape == (8, 2, 16, 16, 3)
    for (before, after), name in zip(frame_of(frames.transpose(0, 1, 4, 2, 3)), names, strict=True):
        assert before[0] == after[0] < 5 and after[1] == before[1] + 1
        assert name == f"clip/{before[0]:03d}, 0.25 s"


def test_training_pairs_are_shown_with_their_difference(page):
    pictures = [np.asarray(decoded(each)).astype(int) for each in Checker(page).addresses if "png" in each]
    for before, after, between in zip(pictures[::3], pictures[1::3], pictures[2::3], strict=True):
        np.testing.assert_array_equal(between, np.clip(128 + 2 * (after - before), 0, 255))
        assert between[0, 0, 1] == pytest.approx(128 + 2 * 8, abs=4)  # green is 8 levels a frame
    assert difference(np.full((1, 1, 3), 250, np.uint8), np.zeros((1, 1, 3), np.uint8)).tolist() == [[[0, 0, 0]]]


def test_chosen_samples_are_evenly_spread_over_both_splits(folder):
    index = DataIndex.load(folder)
    keys = [(split, sample.key) for split, sample in choose_samples(index, 4)]
    assert keys == [("train", "clip/000"), ("train", "clip/002"), ("train", "clip/004"), ("val", "clip/005")]
    assert [sample.key for _, sample in choose_samples(index, 100)] == [f"clip/{i:03d}" for i in range(7)]


def test_contact_sheet_shows_frames_from_first_to_last(folder):
    samples = list(choose_samples(DataIndex.load(folder), 12))
    sheet = np.asarray(contact_sheet(samples))
    assert sheet.shape == (4 + 7 * 116, 8 * 100 + 4, 3)
    assert np.asarray(Image.open(write_page(folder, folder / "show", 12).parent / "contact_sheet.png")).shape == sheet.shape
    for row, length in enumerate([9, 12, 7, 20, 9, 10, 6]):
        shown = min(8, length)
        for place, frame in ((0, 0), (shown - 1, length - 1)):
            middle = sheet[4 + row * 116 + 14 + 48, 4 + place * 100 + 48]
            np.testing.assert_allclose(middle, picture(row, frame)[0, 0], atol=3)


def test_traces_and_their_limits(folder):
    index = DataIndex.load(folder)
    sample = next(iter(choose_samples(index, 4)))[1]
    rows = list_numbers(index, sample)
    assert [(name, low, high) for name, _, low, high in rows] == [
        ("steps", 0, 18),  # limits are those of the training split, whose longest sample has 20 frames
        ("tens", 0, 180),
        ("dx", 0.5, 7.5),
        ("enters", 0, 2),
    ]
    np.testing.assert_array_equal(rows[1][1], np.arange(8) * 10)


def test_step_line():
    line = step_line(np.array([2.0, 3, 5]), np.array([1.0, 4]), low=0, high=4, width=30, height=8)
    assert line == "0.0,6.0 10.0,6.0 10.0,0.0 30.0,0.0"
    assert step_line(np.array([0.0, 1]), np.array([3.0]), 3, 3, 10, 8) == "0.0,4.0 10.0,4.0"
    assert step_line(np.array([0.0, 1]), np.array([9.0]), 0, 3, 10, 8) == "0.0,0.0 10.0,0.0"


def test_lengths_are_counted(folder, tmp_path):
    bounds, counts = count_lengths(DataIndex.load(folder))
    assert bounds.tolist() == list(range(6, 22))
    assert counts["train"].tolist() == [[9, 12, 7, 20, 9].count(length) for length in bounds[:-1]]
    wide = DataIndex.load(write_set(tmp_path / "wide", train=[2, 400], val=[100, 101]))
    bounds, counts = count_lengths(wide)
    assert len(bounds) <= 41 and bounds[0] == 2 and bounds[-1] > 400
    assert counts["train"].sum() == 2 and counts["val"].tolist() == np.histogram([100, 101], bounds)[0].tolist()


def test_what_was_left_out_and_made_with_is_shown_as_text(folder):
    index = dataclasses.replace(
        DataIndex.load(folder),
        settings={"source": "<b>videos</b>"},
        dropped={"static": 1234},
        quarantined=[Quarantined("bad & broken.mp4", "it has <no> frames")],
        num_quarantined=250,
    )
    page = make_page(index, [], None)
    text = Checker(page).text
    for said in (
        "<b>videos</b>",
        "static",
        "1,234",
        "bad & broken.mp4",
        "it has <no> frames",
        "250 files or episodes, the first 1:",
    ):
        assert said in text
    assert "<b>" not in page and "<no>" not in page


def test_a_set_without_labels_and_reasons(tmp_path):
    page = write_page(write_set(tmp_path / "bare", train=[5], val=[5], labels=False), tmp_path / "page", 2).read_text()
    assert page.count("None were recorded.") == 2 and "Nothing." in page and "<polyline" not in page


def test_action_statistics_that_deserve_a_look_are_colored(folder):
    index = DataIndex.load(folder)
    changed = {"low": [0.0, 0.0], "high": [18.0, 0.0], "at_low": [0.01, 1.0], "at_high": [0.2, 1.0]}
    found = dataclasses.replace(index.action_statistics, **changed)
    page = make_page(dataclasses.replace(index, action_statistics=found), [], None)
    assert re.findall(r'<td class="warn">([^<]*)<', page) == ["20.0%", "constant"]


def test_only_some_traces_are_drawn(folder):
    index = dataclasses.replace(DataIndex.load(folder), actions=[ActionField("arm", 20, "sum")], action_statistics=None)
    steps = np.zeros((9, 20), np.float32)
    steps[:, 10:] = np.arange(9)[:, None]
    frames = np.zeros((10, 16, 16, 3), np.uint8)
    page = make_page(index, [("train", Sample("a", "a", "a", frames, np.arange(10.0), steps))], None)
    assert page.count("<polyline") == 8 and "and 12 numbers that change less" in page
    assert "arm[10]" in page and re.search(r">arm\[9\]</text>", page) is None


@pytest.mark.parametrize("storage", [Storage.jpeg, Storage.mp4])
def test_command_writes_beside_the_shards(tmp_path, capsys, storage):
    shards = write_set(tmp_path / "shards", train=[5, 6], val=[5], storage=storage)
    assert main(["show", str(shards), "--clips", "2"]) == 0
    written = shards / "show" / "index.html"
    assert capsys.readouterr().out.strip() == str(written)
    assert written.read_text().count("image/webp") == 2
    assert DataIndex.load(shards)  # it is still a folder of shards


def test_states_have_no_pictures(tmp_path):
    shards, _ = write_states(tmp_path / "states", train=[5, 6, 7, 8], val=[4])
    assert show(shards, tmp_path / "page") == 0
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["index.html"]
    page = (tmp_path / "page" / "index.html").read_text()
    assert "States of Random: 2 x 3 tokens of 5 numbers; no pictures to show." in page
    assert "<img" not in page and "<h2>Clips" not in page and "26" in re.findall(r">([^<>]+)</td>", page)


def test_what_cannot_be_shown(tmp_path):
    with pytest.raises(ValueError, match="--clips is 0, expected 1 or more"):
        show(tmp_path, clips=0)
    with pytest.raises(FileNotFoundError, match="No folder of shards"):
        show(tmp_path / "none")
