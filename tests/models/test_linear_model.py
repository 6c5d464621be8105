"""A linear latent action model has a closed form: its latents span the principal subspace of the changes.

"What Do Latent Action Models Actually Learn?", https://arxiv.org/abs/2506.15691: with linear heads and squared error,
z = P (s' - s) for the leading principal components P of the changes, whatever caused them.
"""

import torch
from torch import nn

from lam.encoders.base import StateShape
from lam.metrics.dimensionality import fit_linear_model
from lam.models.forward import ForwardModel
from lam.models.inverse import InverseModel

SHAPE = StateShape(2, 2, 3)
STATE = SHAPE.tokens * SHAPE.dim
ACTIONS = 2


class LinearInverse(InverseModel):
    """z is a linear map of both states."""

    def __init__(self, shape, num_latents, latent_dim):
        super().__init__(shape, num_latents, latent_dim)
        self.map = nn.Linear(2 * shape.tokens * shape.dim, num_latents * latent_dim, bias=False)

    def forward(self, before, after):
        pair = torch.cat((before.flatten(2), after.flatten(2)), dim=-1)
        return self.map(pair).unflatten(-1, (self.num_latents, self.latent_dim))


class LinearForward(ForwardModel):
    """s' is a linear map of s and z."""

    def __init__(self, shape, num_latents, latent_dim):
        super().__init__(shape, num_latents, latent_dim)
        size = shape.tokens * shape.dim
        self.from_state = nn.Linear(size, size, bias=False)
        self.from_latent = nn.Linear(num_latents * latent_dim, size, bias=False)

    def forward(self, states, z):
        return (self.from_state(states.flatten(2)) + self.from_latent(z.flatten(2))).view_as(states)


def principal_sines(a, b):
    """Sines of the principal angles between the column spaces of two matrices."""
    a, b = torch.linalg.qr(a)[0], torch.linalg.qr(b)[0]
    return torch.linalg.svdvals(b - a @ (a.T @ b))


def clips(action_scale):
    """Two-state clips in which states change by B a and by larger or smaller noise in two other directions."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(STATE, 4, generator=generator))[0]
    scales = torch.tensor([action_scale, 0.8 * action_scale, 0.5, 0.4])
    before = torch.randn(512, STATE, generator=generator)
    change = torch.randn(512, 4, generator=generator) * scales @ directions.T
    change = change + 0.05 * torch.randn(512, STATE, generator=generator)
    states = torch.stack((before, before + change), dim=1).unflatten(-1, (SHAPE.tokens, SHAPE.dim))
    return states, change, directions[:, :ACTIONS]


def train(states):
    torch.manual_seed(0)
    inverse, forward = LinearInverse(SHAPE, 1, ACTIONS), LinearForward(SHAPE, 1, ACTIONS)
    optimizer = torch.optim.LBFGS(
        [*inverse.parameters(), *forward.parameters()], max_iter=500, line_search_fn="strong_wolfe", tolerance_change=1e-12
    )

    def loss():
        optimizer.zero_grad()
        error = (forward(states[:, :-1], inverse(states[:, :-1], states[:, 1:])) - states[:, 1:]).square().mean()
        error.backward()
        return error

    optimizer.step(loss)
    return forward.from_latent.weight.detach(), loss().item()


def unpredictable(states, change):
    """Changes without the part that a linear map of the state explains by chance in this sample."""
    before = states[:, 0].flatten(1)
    return change - before @ torch.linalg.lstsq(before, change).solution


def test_latents_span_the_principal_subspace_of_the_changes():
    states, change, actions = clips(action_scale=1.0)
    decoder, error = train(states)
    model = fit_linear_model(unpredictable(states, change), STATE)
    assert principal_sines(model.directions[:, :ACTIONS].float(), decoder).max() < 0.02
    # the heads have no bias, so that the mean of the sample stays
    left = (
        model.variances[ACTIONS:].sum()
        + (model.mean - model.directions[:, :ACTIONS] @ (model.directions[:, :ACTIONS].T @ model.mean)).square().sum()
    )
    torch.testing.assert_close(error, left.item() / STATE, rtol=1e-3, atol=0)
    assert principal_sines(actions, decoder).max() < 0.1


def test_louder_noise_takes_the_place_of_actions():
    states, _, actions = clips(action_scale=0.1)
    decoder, _ = train(states)
    assert principal_sines(actions, decoder).min() > 0.9
