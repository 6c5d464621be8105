"""Evaluations of pairs and of whole clips find in two processes what they find in one, and both processes say the same."""

import pytest
import torch

from lam.distributed import rank, world_size
from lam.evals import Leakage, Motion, Rollout, Transfer
from tests.evals.test_motion import COUNT, ONE, Mover, world
from tests.evals.toy import evaluate, part
from tests.processes import run_processes


def find_all():
    """Everything, from the batches of this process."""
    clip = world(ONE)
    model = Mover(clip, strength=0.7)
    seen = [model.validation_step(part(clip, i, i + 3)) for i in range(3 * rank(), COUNT, 3 * world_size())]
    # one clip of a batch: with 5 clips and 2 processes the shares differ in length
    evaluations = (Leakage(5, batch=1), Transfer(5, batch=1), Motion(5, batch=1), Rollout(num_clips=5))
    return {evaluation.name: evaluate(evaluation, *seen, model=model) for evaluation in evaluations}


def test_two_processes_find_what_one_finds(tmp_path):
    one, (left, right) = find_all(), run_processes(find_all, folder=tmp_path, timeout=150)
    for name, results in one.items():
        assert results.metrics
        for found in (left[name], right[name]):
            assert found.metrics == pytest.approx(results.metrics, rel=1e-5, abs=1e-6), name
            assert found.clips.keys() == results.clips.keys()
            for key, pair in results.clips.items():
                torch.testing.assert_close(found.clips[key], pair)
