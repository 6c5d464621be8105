"""The clip buffer: bounded, the same for any order and number of processes, pairs from other sources."""

import dataclasses

import pytest
import torch

from lam.models.clip_buffer import ClipBuffer
from tests.evals.toy import ToyModel, clips, part


def filled(num_clips: int, batches: list[tuple[int, int]], factors=None):
    model, clip, buffer = ToyModel(), clips(20, frames=3, factors=factors), ClipBuffer()
    buffer.require(num_clips)
    for start, stop in batches:
        few = part(clip, start, stop)
        seen = model.validation_step(few)
        buffer.add(few, seen.states, seen.bottleneck_output.z, seen.z_drawn, few.labels(1))
    return buffer.clips(num_clips)


def test_keeps_the_same_clips_in_any_order_of_batches():
    one, other = filled(6, [(0, 10), (10, 20)]), filled(6, [(15, 20), (0, 2), (2, 15)])
    assert len(one) == 6
    torch.testing.assert_close(one.position, other.position)
    torch.testing.assert_close(one.states, other.states)


def test_a_smaller_bank_is_the_beginning_of_a_larger_one():
    torch.testing.assert_close(filled(5, [(0, 20)]).position, filled(12, [(0, 20)]).position[:5])


def test_holds_what_belongs_together():
    buffer = filled(8, [(0, 20)], factors={"number": torch.arange(20)[:, None].expand(-1, 2)})
    torch.testing.assert_close(buffer.labels["number"][:, 0], buffer.position)
    states = ToyModel().encoder(buffer.frames)
    torch.testing.assert_close(buffer.states, states)
    torch.testing.assert_close(buffer.z, 0.5 * (states[:, 1:] - states[:, :-1]).mean(dim=2, keepdim=True))


def test_partners_come_from_other_sources():
    buffer = filled(20, [(0, 20)])
    buffer = dataclasses.replace(buffer, source=torch.tensor([0] * 12 + [1] * 5 + [2] * 3))
    for steps in (1, 2):
        assert (buffer.source[buffer.cross_source_pairs(steps)] != buffer.source).all()
    assert (buffer.cross_source_pairs(1) != buffer.cross_source_pairs(2)).all()


def test_a_single_source_has_no_partners():
    buffer = dataclasses.replace(filled(20, [(0, 20)]), source=torch.zeros(20))
    with pytest.raises(ValueError, match="single source"):
        buffer.cross_source_pairs()


def test_without_evaluations_that_ask_nothing_is_kept():
    buffer, model = ClipBuffer(), ToyModel()
    clip = clips(4)
    seen = model.validation_step(clip)
    buffer.add(clip, seen.states, seen.bottleneck_output.z, seen.z_drawn, {})
    assert buffer.clips(4) is None
