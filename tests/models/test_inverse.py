"""Inverse models see the pair and nothing else."""

from types import SimpleNamespace

import pytest
import torch

import lam.models.inverse
import lam.models.residual_mlp
from lam.data.schema import ActionStatistics
from lam.encoders.base import StateShape
from lam.models.inverse import ChannelPair, Difference, InverseModel, RecordedActions, SequencePair
from lam.models.residual_mlp import PairMLP

SHAPE = StateShape(2, 3, 5)
B, T, LATENTS, LATENT_DIM = 2, 4, 2, 7


@pytest.fixture(params=[ChannelPair, SequencePair, Difference, PairMLP], ids=lambda c: c.__name__)
def model(request) -> InverseModel:
    torch.manual_seed(0)
    heads = {} if request.param is PairMLP else {"heads": 2}
    return request.param(SHAPE, LATENTS, LATENT_DIM, width=16, depth=2, **heads)


@pytest.fixture
def states() -> torch.Tensor:
    return torch.randn(B, T, SHAPE.tokens, SHAPE.dim, generator=torch.Generator().manual_seed(1))


def infer(model, states):
    return model(states[:, :-1], states[:, 1:])


def test_every_inverse_model_is_tested_here():
    modules = (lam.models.inverse, lam.models.residual_mlp)
    found = {c for m in modules for c in vars(m).values() if isinstance(c, type) and issubclass(c, InverseModel)}
    assert found == {InverseModel, ChannelPair, SequencePair, Difference, RecordedActions, PairMLP}


def test_shape_and_scale_of_latents(model, states):
    latent = infer(model, states)
    assert latent.shape == (B, T - 1, LATENTS, LATENT_DIM)
    many = torch.randn(64, 2, SHAPE.tokens, SHAPE.dim)
    assert 0.5 < infer(model, many).std() < 2.0  # about 1, so that sparse latents do not die at the start


def test_a_latent_depends_on_its_two_states_and_nothing_else(model, states):
    before = infer(model, states)
    for t in range(T):
        changed = states.clone()
        changed[1, t] += torch.randn(SHAPE.tokens, SHAPE.dim)
        moved = (infer(model, changed) - before).abs().amax(dim=(2, 3)) > 1e-6
        expected = torch.zeros(B, T - 1, dtype=torch.bool)
        expected[1, max(t - 1, 0) : t + 1] = True
        assert torch.equal(moved, expected)


def test_difference_sees_only_the_difference(states):
    torch.manual_seed(0)
    offset = torch.randn(1, 1, SHAPE.tokens, SHAPE.dim)
    model = Difference(SHAPE, 1, 4, width=16, heads=2)
    torch.testing.assert_close(infer(model, states + offset), infer(model, states), atol=1e-5, rtol=1e-4)
    pair = ChannelPair(SHAPE, 1, 4, width=16, heads=2)
    assert (infer(pair, states + offset) - infer(pair, states)).abs().max() > 1e-3


def test_published_difference_cannot_tell_places_apart(states):
    torch.manual_seed(0)
    shuffled = states[:, :, torch.randperm(SHAPE.tokens)]
    blind = Difference(SHAPE, 1, 4, width=16, heads=2, positions=False)
    torch.testing.assert_close(infer(blind, shuffled), infer(blind, states), atol=1e-5, rtol=1e-4)
    placed = Difference(SHAPE, 1, 4, width=16, heads=2)
    assert (infer(placed, shuffled) - infer(placed, states)).abs().max() > 1e-5


def test_sequence_pair_tells_before_from_after(states):
    torch.manual_seed(0)
    model = SequencePair(SHAPE, 1, 4, width=16, heads=2)
    forth, back = model(states[:, :-1], states[:, 1:]), model(states[:, 1:], states[:, :-1])
    assert (forth - back).abs().max() > 1e-5


def test_gradients_reach_every_parameter(model, states):
    infer(model, states).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("form", [ChannelPair, SequencePair, Difference])
def test_compiled_equals_eager(form, states):
    model = form(SHAPE, LATENTS, LATENT_DIM, width=12, depth=1, heads=2)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(infer(compiled, states), infer(model, states))


def test_bfloat16_is_near_float32(model, states):
    with torch.autocast("cpu", torch.bfloat16):
        low = infer(model, states)
    low.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    full = infer(model, states)
    assert (low.float() - full).abs().mean() < 0.05 * full.abs().mean()


@pytest.mark.parametrize("sizes", [(0, 4), (1, 0)])
def test_empty_latents_are_refused(sizes):
    with pytest.raises(ValueError, match="must both be at least 1"):
        ChannelPair(SHAPE, *sizes)


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="choose a width divisible by heads"):
        SequencePair(SHAPE, 1, 4, width=10, heads=3)
    with pytest.raises(ValueError, match="depth 0 leaves no transformer block"):
        Difference(SHAPE, 1, 4, depth=0)


def test_recorded_actions_are_the_latents_scaled_and_filled_up(states):
    actions = torch.randn(B, T - 1, 3, generator=torch.Generator().manual_seed(2)) * torch.tensor([1.0, 5.0, 0.0]) + 2
    statistics = ActionStatistics([2.0, 2.0, 2.0], [1.0, 5.0, 0.0], *([[0.0] * 3] * 4))
    model = RecordedActions(SHAPE, LATENTS, LATENT_DIM)
    model.use_index(SimpleNamespace(action_statistics=statistics))
    latent = model.infer_clip({"action": actions}, states)
    assert latent.shape == (B, T - 1, LATENTS, LATENT_DIM)
    flat = latent.flatten(2)
    torch.testing.assert_close(flat[..., :2], (actions[..., :2] - 2) / torch.tensor([1.0, 5.0]))
    assert not flat[..., 2:].any()
    torch.testing.assert_close(model.encode_actions(actions[:, 0]), latent[:, 0])


def test_recorded_actions_that_are_missing_are_an_error(states):
    model = RecordedActions(SHAPE, 1, 2)
    with pytest.raises(ValueError, match=r"data\.labels"):
        model.infer_clip({}, states)
    with pytest.raises(TypeError, match="infers nothing"):
        infer(model, states)
    with pytest.raises(ValueError, match="no recorded actions"):
        model.use_index(SimpleNamespace(action_statistics=None, path="shards/x"))
    wide = ActionStatistics(*([[0.0] * 3] * 6))
    with pytest.raises(ValueError, match="latent_dim"):
        model.use_index(SimpleNamespace(action_statistics=wide, path="shards/x"))


def test_other_inverse_models_do_not_look_at_labels(model, states):
    labels = {"action": torch.randn(B, T - 1, 3)}
    torch.testing.assert_close(model.infer_clip(labels, states), infer(model, states))
    assert model.encode_actions(labels["action"][:, 0]) is None
