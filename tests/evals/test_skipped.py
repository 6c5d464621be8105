"""An evaluation that has too little to measure says what it needs and what there is, in words that reach the run's folder."""

import json
from types import SimpleNamespace

import pytest
import torch

from lam.evals import Algebra, Capacity, Distractors, Leakage, Motion, Probe, Rate, Sampling, Transfer
from lam.evals.base import Results
from lam.runs.results import skip_lines, write_evaluations
from tests.evals.toy import ToyModel, clips, evaluate

PAIRS = "needs held-out clips of 2 sources, has 1"
FACTORS = {"dx": torch.randn(20, 2, generator=torch.Generator().manual_seed(0))}


def found(evaluation, sources=1, count=20, factors=None) -> Results:
    clip, model = clips(count, factors=factors), ToyModel()
    clip.source = [f"source{i % sources}" for i in range(count)]
    return evaluate(evaluation, model.validation_step(clip), model=model)


@pytest.mark.parametrize(
    ("evaluation", "settings", "reason"),
    [
        (Leakage(), {}, PAIRS),
        (Transfer(), {}, PAIRS),
        (Algebra(), {}, PAIRS),
        (Rate(), {}, f"bits that a code takes: {PAIRS}"),
        (Sampling(), {}, "needs held-out clips of 4 sources, has 1"),
        (Sampling(), {"sources": 3}, "needs held-out clips of 4 sources, has 3"),
        (Motion(), {"sources": 5}, "needs states that show pixels, the encoder's are features"),
        (Probe(), {"sources": 20}, "needs recorded actions or factors, the shards have none"),
        (Probe(), {"factors": FACTORS}, PAIRS),
        (Probe(), {"sources": 2, "count": 4, "factors": {"dx": FACTORS["dx"][:4]}}, "needs 4 held-out clips to fit on, has 2"),
        (Probe(), {"sources": 20, "factors": {"dx": torch.zeros(20, 2)}}, "needs actions or factors that vary"),
        (Distractors(), {"sources": 5}, "needs recorded factors, the shards have none"),
        (Distractors(), {"factors": FACTORS}, PAIRS),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str | dict) else None,
)
def test_what_it_needs_and_what_there_is(evaluation, settings, reason):
    results = found(evaluation, **settings)
    assert results.skipped.startswith(reason)


def test_what_is_measured_is_not_skipped():
    for evaluation in (Leakage(), Transfer(), Algebra(), Rate(), Probe(budgets=()), Capacity()):
        results = found(evaluation, sources=20, factors=FACTORS)
        assert results.metrics and results.skipped == ""


def test_reasons_are_a_file_of_the_run(tmp_path):
    leakage, capacity = Leakage(), Capacity()
    for evaluation in (leakage, capacity):
        evaluation.results = found(evaluation)
    write_evaluations(tmp_path, [leakage, capacity], {i: ("clip", "source") for i in range(20)})
    assert json.loads((tmp_path / "skipped.json").read_text()) == {"leakage": PAIRS}
    trainer = SimpleNamespace(callbacks=[leakage, capacity])
    assert skip_lines(trainer) == [f"Not measured by leakage: {PAIRS}."]  # type: ignore[arg-type]
