"""The command line: help that begins with what people need, and mistakes told in one line."""

import pytest

import data_prep.cli
from data_prep.cli import COMMANDS, SOURCES, main
from data_prep.errors import explain

SHARDS = ["a/", "out/"]


def test_help_lists_sources_and_commands_in_one_line_each(capsys):
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, entry in {**SOURCES, **COMMANDS}.items():
        assert any(line.split()[:1] == [name] and line.endswith(entry.about) for line in lines)
    assert "  data_prep videos CLIPS/ shards/wild --max_seconds 10" in lines


@pytest.mark.parametrize("command", [["videos"], ["inspect", "npz"], ["shards"], ["world"], ["show"]])
def test_help_of_a_command_lists_every_option_once(capsys, command):
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: data_prep {' '.join(command)} ")
    named = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert len(set(named)) == len(named) > 0


def test_help_begins_with_what_most_people_change(capsys):
    assert main(["frames", "--help"]) == 0
    text = capsys.readouterr().out
    places = [text.index(f"  {option} ") for option in ("--recorded_fps", "--size", "--jobs")]
    assert places == sorted(places) and places[-1] < text.index("All others") < text.index("--duplicates_below")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["videos"], "videos: not given: src, out. "),
        (["videos", *SHARDS, "more"], "more is more than was expected. "),
        (["videos", *SHARDS, "--siz", "4"], "there is no option --siz; did you mean --size? "),
        (["videos", *SHARDS, "--size", "abc"], "--size is abc, expected int. "),
        (["videos", *SHARDS, "--storage", "avi"], "--storage is avi, expected one of mp4, jpeg, states. "),
        (["npz", *SHARDS, "--absolute", "[a]"], "--absolute is ['a'], expected int. "),
        (["hdf5", *SHARDS, "--layout", "x"], "--layout is x, expected one of robomimic, recon, recon_motion. "),
        (["features", *SHARDS, "--encoder", "Visio"], "--encoder is Visio, expected a class or a file of one. "),
        (["inspect"], "inspect: which source? "),
        (["inspect", "kiti", "a/"], "there is no kiti; did you mean kitti? "),
    ],
)
def test_a_mistake_in_what_was_typed_is_one_line(capsys, typed, message):
    assert main(typed) == 2
    found = capsys.readouterr().err
    assert found.count("\n") == 1 and found.startswith("data_prep ") and message in found


def test_errors_keep_their_causes_and_say_when_they_are_unexpected():
    def nested(outer, inner):
        try:
            raise outer from inner
        except type(outer) as error:
            return explain(error)

    assert nested(ValueError("Give another."), KeyError("fps")) == "Give another (caused by KeyError: 'fps')."
    assert nested(ValueError("cannot be read (no header)"), OSError("no header")) == "cannot be read (no header)"
    assert nested(RuntimeError("stopped"), None) == "RuntimeError: stopped. LAM_TRACEBACK=1 shows where."


def test_the_rest_of_an_error_is_shown_when_asked_for(capsys, monkeypatch):
    def fail(args):
        raise OverflowError("too large")

    monkeypatch.setattr(data_prep.cli, "run", fail)
    assert main(["world"]) == 1
    assert capsys.readouterr().err == "data_prep world: OverflowError: too large. LAM_TRACEBACK=1 shows where.\n"
    monkeypatch.setenv("LAM_TRACEBACK", "1")
    with pytest.raises(OverflowError):
        main(["world"])
