"""True displacements compose; latents that copy a state do not."""

import pytest
import torch

from lam.evals import Algebra
from tests.evals.toy import ToyModel, clips, evaluate


class Copies(ToyModel):
    """z is the state it leads to."""

    def infer(self, states):
        return states[:, 1:].mean(dim=2, keepdim=True)


class Silent(ToyModel):
    """z never varies."""

    def infer(self, states):
        return 0 * states[:, 1:].mean(dim=2, keepdim=True) + 0.3


class Offset(ToyModel):
    """True displacements from an origin that is not zero."""

    def infer(self, states):
        return super().infer(states) + 5.0


def algebra(model, frames=4, count=40):
    model = model.eval()
    return evaluate(Algebra(num_clips=count), model.validation_step(clips(count, frames)), model=model)


@pytest.mark.parametrize("model", [ToyModel(), Offset()], ids=["displacement", "offset"])
def test_true_displacements_compose_and_undo(model):
    metrics = algebra(model).metrics
    assert metrics["additivity"] == pytest.approx(0, abs=1e-6)
    assert metrics["reversibility"] == pytest.approx(0, abs=1e-6)


def test_a_copying_latent_is_not_undone_and_says_the_same_from_both_sides():
    """z - z(static) of a copier is a displacement too, so it composes; what gives it away is the cosine."""
    assert algebra(Copies()).metrics["cosine"] == pytest.approx(1, abs=1e-5)
    assert algebra(ToyModel()).metrics["cosine"] < 0.9


def test_by_brute_force_on_one_direction():
    """Latents that forget the sign add up only by chance."""

    class Speed(ToyModel):
        def infer(self, states):
            return super().infer(states).abs()

    results = algebra(Speed(), count=30)
    model, clip = Speed(), clips(30, 4)
    z = model.infer(model.encoder(clip.frames))[:, :, 0]
    back = z  # the same speed on the way back
    expected = (z + back).square().sum(dim=2).mean(dim=1)
    positions, values = results.clips["reverse"]
    torch.testing.assert_close(values, expected[positions].double(), rtol=1e-5, atol=1e-6)
    assert results.metrics["reversibility"] > 0.9


def test_a_latent_that_never_varies_has_no_algebra():
    assert algebra(Silent()).metrics == {}


def test_clips_of_two_states_can_only_be_undone():
    assert set(algebra(ToyModel(), frames=2).metrics) == {"reversibility"}


def test_the_way_back_of_unrelated_latents_is_chance():
    class Hash(ToyModel):
        """Latents that look like noise, as a function of both states."""

        def infer(self, states):
            mean = states.mean(dim=2, keepdim=True)
            return torch.sin(1e4 * (mean[:, 1:] - 1.7 * mean[:, :-1]))

    assert algebra(Hash(), count=60).metrics["reversibility"] == pytest.approx(1, abs=0.15)
