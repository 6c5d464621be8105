"""Forward models never see the future, and listen to their latents."""

from functools import partial

import pytest
import torch
from torch import nn

import lam.models.forward
import lam.models.residual_mlp
from lam.encoders.base import StateShape
from lam.models.forward import AdaLN, Convolutional, Cross, ForwardModel, Tokens
from lam.models.layers import Block
from lam.models.residual_mlp import ResidualMLP

SHAPE = StateShape(2, 3, 5)
B, T, LATENTS, LATENT_DIM = 2, 4, 2, 7


class LeakyStates(ForwardModel):
    """A transformer over all states at once without a mask: what the tests of causality must catch."""

    def __init__(self, shape, num_latents, latent_dim):
        super().__init__(shape, num_latents, latent_dim)
        self.block = Block(shape.dim, 1)

    def forward(self, states, z):
        return self.block(states.flatten(1, 2), None).view_as(states) + z.mean(dim=(2, 3), keepdim=True)


class LeakyLatents(ForwardModel):
    """Adds the mean latent of the whole clip to every state."""

    def forward(self, states, z):
        return states + z.mean(dim=(1, 2, 3))[:, None, None, None]


FORMS = [partial(form, heads=2) for form in (AdaLN, Cross, Tokens)] + [partial(Convolutional), partial(ResidualMLP)]


def name(form):
    return form.func.__name__


@pytest.fixture(params=FORMS, ids=name)
def model(request) -> ForwardModel:
    torch.manual_seed(0)
    return request.param(SHAPE, LATENTS, LATENT_DIM, width=16, depth=2)


@pytest.fixture
def states() -> torch.Tensor:
    return torch.randn(B, T - 1, SHAPE.tokens, SHAPE.dim, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def z() -> torch.Tensor:
    return torch.randn(B, T - 1, LATENTS, LATENT_DIM, generator=torch.Generator().manual_seed(2))


def awaken(model):
    """Leaves the zero initialization, under which nothing depends on anything."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return model


def dependence(model, states, z):
    """Which prediction depends on which state and on which latent, two (T-1, T-1) tables of booleans."""
    before = model(states, z)

    def moved(states, z):
        return (model(states, z) - before).abs().amax(dim=(0, 2, 3)) > 1e-6

    on_states, on_latents = [], []
    for t in range(T - 1):
        other_states, other_z = states.clone(), z.clone()
        other_states[:, t] += torch.randn_like(states[:, t])
        other_z[:, t] += torch.randn_like(z[:, t])
        on_states.append(moved(other_states, z))
        on_latents.append(moved(states, other_z))
    return torch.stack(on_states, dim=1), torch.stack(on_latents, dim=1)


def looks_ahead(table):
    return bool(table.triu(diagonal=1).any())


def test_every_forward_model_is_tested_here():
    modules = (lam.models.forward, lam.models.residual_mlp)
    found = {c for m in modules for c in vars(m).values() if isinstance(c, type) and issubclass(c, ForwardModel)}
    assert found == {ForwardModel, *(form.func for form in FORMS)}


def test_shape(model, states, z):
    assert model(states, z).shape == states.shape


def test_no_prediction_looks_ahead(model, states, z):
    on_states, on_latents = dependence(awaken(model), states, z)
    assert not looks_ahead(on_states)
    assert not looks_ahead(on_latents)
    assert on_states.diagonal().all()
    assert on_latents.diagonal().all()


def test_adaln_sees_all_of_the_past_and_the_others_only_the_present(model, states, z):
    past = torch.ones(T - 1, T - 1, dtype=torch.bool).tril()
    seen = past if isinstance(model, AdaLN) else torch.eye(T - 1, dtype=torch.bool)
    on_states, on_latents = dependence(awaken(model), states, z)
    assert torch.equal(on_states, seen)
    assert torch.equal(on_latents, seen)
    assert model.states_seen == (None if isinstance(model, AdaLN) else 1)


def test_a_prediction_from_the_states_that_are_seen_alone_is_the_same(model, states, z):
    recent = slice(None) if model.states_seen is None else slice(-model.states_seen, None)
    torch.testing.assert_close(awaken(model)(states[:, recent], z[:, recent])[:, -1], model(states, z)[:, -1])


def test_leaks_are_caught(states, z):
    torch.manual_seed(0)
    assert looks_ahead(dependence(LeakyStates(StateShape(2, 3, 6), 2, 7), torch.randn(B, T - 1, 6, 6), z)[0]) is True
    assert looks_ahead(dependence(LeakyLatents(SHAPE, LATENTS, LATENT_DIM), states, z)[1]) is True


@pytest.mark.parametrize("form", [AdaLN, Convolutional])
def test_relative_forms_predict_no_change_at_the_start(form, states, z):
    assert torch.equal(form(SHAPE, LATENTS, LATENT_DIM, width=24)(states, z), states)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_place_of_the_convolutional_form_sees_so_far_and_no_farther(depth):
    torch.manual_seed(0)
    shape = StateShape(1, 12, 3)
    model = awaken(Convolutional(shape, 1, LATENT_DIM, width=16, depth=depth))
    states, z = torch.randn(1, 1, 12, 3), torch.randn(1, 1, 1, LATENT_DIM)
    other = states.clone()
    other[:, :, 0] += 1
    moved = (model(other, z) - model(states, z)).abs().amax(dim=(0, 1, 3)) > 0
    assert moved.tolist() == [place <= depth + 2 for place in range(12)]


def test_the_convolutional_form_is_what_it_says(states, z):
    torch.manual_seed(0)
    model = awaken(Convolutional(SHAPE, LATENTS, LATENT_DIM, width=16, depth=1))
    block = model.blocks[0]
    for b in range(B):
        for t in range(T - 1):
            image = states[b, t].T.reshape(1, 5, 2, 3)
            scale, shift = block.modulation(model.embed_latent(z[b, t].flatten())).chunk(2)
            x = model.embed(image)
            hidden = block.around(nn.functional.silu(x)) * (1 + scale[:, None, None]) + shift[:, None, None]
            x = x + block.mix(nn.functional.silu(hidden))
            expected = states[b, t] + model.to_change(nn.functional.silu(x)).reshape(5, 6).T
            torch.testing.assert_close(model(states, z)[b, t], expected)


def test_adaln_blocks_pass_states_through_at_the_start(states, z):
    torch.manual_seed(0)
    model = AdaLN(SHAPE, LATENTS, LATENT_DIM, width=16, heads=2)
    nn.init.normal_(model.to_change.weight)
    expected = states + model.to_change(model.norm(model.embed(states)))
    torch.testing.assert_close(model(states, z), expected)


@pytest.mark.parametrize("std, heard", [(0.0, False), (0.02, True)])
def test_modulation_std_decides_whether_the_first_step_hears_latents(std, heard, states, z):
    torch.manual_seed(0)
    model = AdaLN(SHAPE, LATENTS, LATENT_DIM, width=16, heads=2, modulation_std=std)
    nn.init.normal_(model.to_change.weight)
    assert bool((model(states, z) - model(states, -z)).any()) == heard


@pytest.mark.parametrize("form", [Cross, Tokens])
def test_absolute_forms_start_at_zero_without_a_skip(form, states, z):
    assert not form(SHAPE, LATENTS, LATENT_DIM, width=16, heads=2)(states, z).any()


def test_latents_matter_after_a_few_steps(model, states, z):
    torch.manual_seed(0)
    target = states + z.mean(dim=(2, 3), keepdim=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(5):
        loss = (model(states, z) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(states, -z) - model(states, z)).abs().max() > 1e-4


def test_gradients_reach_every_parameter_and_the_latents(model, states, z):
    awaken(model)(states, z.requires_grad_()).square().sum().backward()
    assert z.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_one_latent_token_still_trains_every_parameter_of_cross(states, z):
    model = awaken(Cross(SHAPE, 1, LATENT_DIM, width=16, heads=2))
    model(states, z[:, :, :1]).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_states_of_the_cross_form_are_detached(states, z):
    states.requires_grad_()
    awaken(Cross(SHAPE, LATENTS, LATENT_DIM, width=16, heads=2))(states, z).square().sum().backward()
    assert states.grad is None


def test_order_of_latent_tokens_matters(model, states, z):
    awaken(model)
    assert (model(states, z.flip(2)) - model(states, z)).abs().max() > 1e-5


def test_places_are_told_apart_unless_switched_off(states, z):
    torch.manual_seed(0)
    order = torch.randperm(SHAPE.tokens)
    placed = awaken(Tokens(SHAPE, LATENTS, LATENT_DIM, width=16, heads=2))
    blind = awaken(Tokens(SHAPE, LATENTS, LATENT_DIM, width=16, heads=2, positions=False))
    torch.testing.assert_close(blind(states[:, :, order], z), blind(states, z)[:, :, order], atol=1e-5, rtol=1e-4)
    assert (placed(states[:, :, order], z) - placed(states, z)[:, :, order]).abs().max() > 1e-5


@pytest.mark.parametrize("form", FORMS, ids=name)
def test_compiled_equals_eager(form, states, z):
    model = awaken(form(SHAPE, LATENTS, LATENT_DIM, width=12, depth=1))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(states, z), model(states, z))


def test_bfloat16_is_near_float32(model, states, z):
    awaken(model)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(states, z)
    low.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    full = model(states, z)
    assert (low.float() - full).abs().mean() < 0.05 * full.abs().mean()


@pytest.mark.parametrize("form", [AdaLN, Cross, Tokens])
def test_uneven_heads_are_refused(form):
    with pytest.raises(ValueError, match="choose a width divisible by heads"):
        form(SHAPE, 1, 4, width=10, heads=3)


@pytest.mark.parametrize("form", FORMS, ids=name)
def test_impossible_sizes_are_refused(form):
    with pytest.raises(ValueError, match="must both be at least 1"):
        form(SHAPE, 0, 4)
    with pytest.raises(ValueError, match="depth"):
        form(SHAPE, 1, 4, depth=0)
