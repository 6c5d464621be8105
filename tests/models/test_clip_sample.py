import pytest
import torch

from lam.distributed import rank, world_size
from lam.evals import Capacity, Rate, Usage
from lam.evals.common.split import Split, fit_half
from lam.models.clip_buffer import ClipSample, source_ids
from tests.evals.toy import ToyModel, clips, evaluate, part
from tests.processes import run_processes


def fill(sample, order):
    for chunk in order.split(7):
        sample.add(chunk, {"double": 2 * chunk, "wide": chunk[:, None].expand(-1, 3)})
    return sample.gather()


def test_everything_is_kept_without_a_bound():
    positions, values = fill(ClipSample(), torch.randperm(50))
    assert torch.equal(positions, torch.arange(50))
    assert torch.equal(values["double"], 2 * positions)


def test_a_bounded_sample_does_not_depend_on_the_order():
    first, second = (fill(ClipSample(10), order) for order in (torch.arange(100), torch.randperm(100)))
    assert len(first[0]) == 10
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1]["double"], 2 * first[0])
    assert first[0].float().mean() > 20  # spread over the stream, not its start


def test_different_labels_in_one_pass_are_an_error():
    sample = ClipSample()
    sample.add(torch.arange(2), {"a": torch.zeros(2)})
    sample.add(torch.arange(2, 4), {"b": torch.zeros(2)})
    with pytest.raises(ValueError, match="same factors"):
        sample.gather()


def test_no_source_is_on_both_sides():
    ids = source_ids([f"video{i // 3}" for i in range(60)])
    fit = fit_half(ids)
    assert fit.sum() == 30
    assert not set(ids[fit].tolist()) & set(ids[~fit].tolist())
    assert torch.equal(fit_half(ids[:30]), fit_half(ids[:30].clone()))


def test_split_labels_one_transition_of_each_clip_first():
    fit = fit_half(source_ids([str(i) for i in range(20)]))
    split = Split(torch.arange(20), fit, ~fit, transitions=3)
    assert split.num_clips == 10
    clip_of = split.order // 3
    assert len(clip_of[:10].unique()) == 10
    assert len(split.order.unique()) == 30
    assert not set(clip_of.tolist()) & set((split.test // 3).tolist())
    for budget in (16, None):
        train, held = split.labels(budget)
        assert len(train) + len(held) == (budget or 30)
        assert not set((train // 3).tolist()) & set((held // 3).tolist())


SHARES = {"uneven": [[(0, 9), (9, 26)], [(24, 40)]], "one is empty": [[(0, 40)], []]}


def evaluate_shares():
    """All clips in one process, or each process its share; clips 24 and 25 are seen by both."""
    model, clip = ToyModel(), clips(40)
    found = {}
    for name, shares in SHARES.items():
        own = shares[rank()] if world_size() > 1 else [(0, 40)]
        observations = [model.validation_step(part(clip, start, stop)) for start, stop in own]
        evaluations = (Capacity(), Rate(), Usage(max_clips=24))
        found[name] = [evaluate(evaluation, *observations, model=model) for evaluation in evaluations]
    return found


def test_two_processes_find_exactly_what_one_finds(tmp_path):
    alone = evaluate_shares()
    for found in run_processes(evaluate_shares, folder=tmp_path, timeout=180):
        for name in SHARES:
            for one, two in zip(alone[name], found[name], strict=True):
                assert one.metrics
                assert one.metrics == two.metrics
                assert one.curves == two.curves
                assert one.clips.keys() == two.clips.keys()
                assert all(torch.equal(a, b) for key in one.clips for a, b in zip(one.clips[key], two.clips[key], strict=True))
