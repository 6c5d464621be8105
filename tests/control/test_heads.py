"""Heads between actions and latents: what they can and cannot know."""

import pytest
import torch

from lam.control.heads import ActionOnlyHead, BehaviorCloning, CodeClassifier, StateConditionedHead
from lam.encoders.base import StateShape

SHAPE = StateShape(2, 2, 6)
ONE_TOKEN = StateShape(1, 1, 6)
HEADS = [ActionOnlyHead, StateConditionedHead]


def trained(cls, inputs, states, outputs, steps=250, shape=SHAPE):
    torch.manual_seed(0)
    head = cls(shape, inputs.shape[1], outputs.shape[1], width=32)
    head.measure(inputs, outputs)
    adam = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(steps):
        loss = head.loss(inputs, states, outputs)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return head


@pytest.mark.parametrize("cls", HEADS)
def test_shapes_and_units(cls):
    head = cls(SHAPE, 2, 5, width=32)
    inputs, states, outputs = 100 + 7 * torch.randn(30, 2), torch.randn(30, 4, 6), 3 + 0.01 * torch.randn(30, 5)
    head.measure(inputs, outputs)
    assert head(inputs, states).shape == (30, 5)
    # before training an answer lies among the outputs, whatever their units
    assert (head(inputs, states) - outputs.mean(dim=0)).abs().max() < 0.1


@pytest.mark.parametrize("cls", HEADS)
def test_loss_is_the_squared_distance_in_units_of_the_variance(cls):
    head = cls(SHAPE, 2, 3, width=32)
    inputs, states, outputs = torch.randn(40, 2), torch.randn(40, 4, 6), torch.randn(40, 3) * torch.tensor([1.0, 5.0, 0.1])
    head.measure(inputs, outputs)
    variance = (outputs - outputs.mean(dim=0)).square().mean()
    expected = (head(inputs, states) - outputs).square().mean() / variance
    torch.testing.assert_close(head.loss(inputs, states, outputs), expected)
    head.forward_normalized = lambda inputs, states: torch.zeros(len(inputs), 3)
    assert head.loss(inputs, states, outputs).item() == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [SHAPE, ONE_TOKEN])
def test_where_the_state_turns_an_action_around_only_the_head_that_sees_it_learns(shape):
    generator = torch.Generator().manual_seed(1)
    actions, side = torch.randn(400, 2, generator=generator), torch.randint(0, 2, (400,), generator=generator) * 2.0 - 1
    states = torch.randn(400, shape.tokens, 6, generator=generator) * 0.3
    states[:, -1, 2] = side
    z = side[:, None] * actions @ torch.randn(2, 5, generator=generator)
    half = slice(0, 300), slice(300, 400)
    losses = {}
    for cls in HEADS:
        head = trained(cls, actions[half[0]], states[half[0]], z[half[0]], shape=shape)
        losses[cls] = head.loss(actions[half[1]], states[half[1]], z[half[1]]).item()
    assert losses[StateConditionedHead] < 0.1
    assert losses[ActionOnlyHead] > 0.9


def test_where_the_state_does_not_matter_the_blind_head_is_enough():
    generator = torch.Generator().manual_seed(1)
    actions, states = torch.randn(300, 2, generator=generator), torch.randn(300, 4, 6, generator=generator)
    z = actions @ torch.randn(2, 5, generator=generator)
    head = trained(ActionOnlyHead, actions[:200], states[:200], z[:200])
    assert head.loss(actions[200:], states[200:], z[200:]) < 0.1


@pytest.mark.parametrize("cls", HEADS)
def test_what_never_varied_is_no_reason_for_nan(cls):
    head = cls(SHAPE, 2, 3, width=32)
    inputs, outputs = torch.tensor([[1.0, 5.0], [2.0, 5.0]]), torch.zeros(2, 3)
    head.measure(inputs, outputs)
    states = torch.randn(2, 4, 6)
    assert head(inputs, states).isfinite().all()
    assert head.loss(inputs, states, outputs).isfinite()
    assert head(inputs, states).abs().max() == 0  # z that says nothing


@pytest.mark.parametrize("cls", HEADS)
def test_scales_survive_saving(cls):
    one, other = cls(SHAPE, 2, 3, width=32), cls(SHAPE, 2, 3, width=32)
    one.measure(torch.randn(9, 2), torch.randn(9, 3))
    other.load_state_dict(one.state_dict())
    inputs, states = torch.randn(4, 2), torch.randn(4, 4, 6)
    assert torch.equal(one(inputs, states), other(inputs, states))


def test_nothing_to_do_is_refused():
    with pytest.raises(ValueError, match="nothing to do"):
        ActionOnlyHead(SHAPE, 0, 3)


def test_a_classifier_answers_with_what_it_has_seen_and_finds_the_code_of_an_action():
    generator = torch.Generator().manual_seed(2)
    codes = torch.randn(5, 7, generator=generator)
    which = torch.randint(0, 5, (300,), generator=generator)
    actions = torch.nn.functional.one_hot(which, 5).float() + 0.05 * torch.randn(300, 5, generator=generator)
    states = torch.randn(300, 4, 6, generator=generator)
    torch.manual_seed(0)
    head = CodeClassifier(SHAPE, 5, 7, max_choices=300, width=32)
    head.measure(actions[:250], codes[which[:250]])
    assert head.num_choices == 5
    adam = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(60):
        loss = head.loss(actions[:250], states[:250], codes[which[:250]])
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.testing.assert_close(head(actions[250:], states[250:]), codes[which[250:]])
    logits = head.logits(actions, states)
    order = [int((head.choices[:5] - code).square().sum(dim=1).argmin()) for code in codes]
    expected = -logits.log_softmax(dim=1)[torch.arange(300), torch.tensor(order)[which]].mean()
    torch.testing.assert_close(head.loss(actions, states, codes[which]), expected)


def test_a_classifier_comes_back_from_its_weights():
    head = CodeClassifier(SHAPE, 2, 3, max_choices=20, width=32)
    head.measure(torch.randn(20, 2), torch.randn(4, 3)[torch.arange(20) % 4])
    again = CodeClassifier(SHAPE, 2, 3, max_choices=20, width=32)
    again.load_state_dict(head.state_dict())
    inputs, states = torch.randn(6, 2), torch.randn(6, 4, 6)
    assert torch.equal(head(inputs, states), again(inputs, states))


def test_cloning_learns_the_way_to_a_goal_it_sees():
    generator = torch.Generator().manual_seed(3)
    states, goals = torch.randn(2, 300, 1, 6, generator=generator) + 0.1 * torch.randn(2, 300, 4, 6, generator=generator)
    actions = torch.stack([goals[:, 0, :2] - states[:, 0, :2], goals[:, 0, :2]], dim=1) * torch.tensor([3.0, 0.1]) + 5
    torch.manual_seed(0)
    clone = BehaviorCloning(SHAPE, 2, 2, width=32)
    clone.measure(actions.flatten(0, 1))
    adam = torch.optim.Adam(clone.parameters(), lr=3e-3)
    for _ in range(250):
        loss = clone.loss(states[:250], goals[:250], actions[:250])
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert clone(states[250:], goals[250:]).shape == (50, 2, 2)
    assert clone.loss(states[250:], goals[250:], actions[250:]) < 0.15
    error = (clone(states, goals) - actions) / clone.std
    torch.testing.assert_close(clone.loss(states, goals, actions), error.square().mean())
