from __future__ import annotations

import json
from typing import ClassVar

import pytest

import lam.evals
from lam.control.closed_loop import ClosedLoop
from lam.control.controller_error import ControllerError
from lam.control.planning import Planning
from lam.evals.base import Evaluation
from lam.runs.columns import Column, Declarations, Flag, declared

ALL = [one for name in lam.evals.__all__ if isinstance(one := getattr(lam.evals, name), type) and issubclass(one, Evaluation)]
ALL = [one for one in ALL if one is not Evaluation] + [ControllerError, Planning, ClosedLoop]


class Own:
    name: ClassVar[str] = "own"
    columns: ClassVar[tuple[Column, ...]] = (Column("b/*", "b of *", order=20), Column("a", "a", digits=1, better=-1, order=10))
    flags: ClassVar[tuple[Flag, ...]] = (Flag("bad", "is bad", value=0.0),)


@pytest.mark.parametrize("evaluation", ALL, ids=lambda one: one.__name__)
def test_every_evaluation_declares_columns_that_are_told_apart(evaluation):
    found = declared([evaluation])
    assert len(found.columns) == len(evaluation.columns)
    assert found.columns or found.flags or evaluation is lam.evals.Distractors  # its numbers are the same in every row
    headings = [(column.table, column.heading) for column in found.columns]
    assert len(set(headings)) == len(headings)
    assert all(column.key.startswith(f"eval/{evaluation.name}/") for column in found.columns)


def test_keys_are_in_full_and_in_order_of_their_numbers():
    found = declared([Own, lam.evals.Capacity])
    capacity = ["eval/capacity/error", "eval/capacity/error_drawn"]
    assert [column.key for column in found.columns] == ["eval/own/a", "eval/own/b/*", *capacity]
    assert found.flags == (Flag("eval/own/bad", "is bad", 0.0),)
    assert found.columns[1].of("agent_dx") == Column("eval/own/b/agent_dx", "b of agent_dx", order=20)


def test_a_file_reads_back_and_the_first_of_a_key_counts(tmp_path):
    assert Declarations.read(tmp_path) is None
    declared([Own]).write(tmp_path)
    back = Declarations.read(tmp_path)
    assert back == declared([Own])
    other = Declarations((Column("eval/own/a", "another heading"), Column("eval/own/a", "elsewhere", table="control")))
    assert [column.heading for column in Declarations.union([back, other]).columns] == ["a", "b of *", "elsewhere"]


def test_what_cannot_be_understood_names_the_file(tmp_path):
    (tmp_path / "columns.json").write_text(json.dumps({"columns": [{"key": "eval/own/a", "width": 3}], "flags": []}))
    with pytest.raises(ValueError, match=r"columns\.json does not declare columns .*width.*Validate the run again"):
        Declarations.read(tmp_path)


def test_a_star_stands_last():
    with pytest.raises(ValueError, match="Put it last"):
        Column("gain/*/linear", "gain")
