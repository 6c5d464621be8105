import pytest
import torch

from lam.evals import Future
from tests.evals.toy import ToyModel, clips, evaluate


class LeakyEncoder(ToyModel):
    """Its encoder normalizes over the whole clip, as one that attends over it would."""

    def __init__(self):
        super().__init__()
        plain = self.encoder.forward
        self.encoder.forward = lambda frames: plain(frames) - 1e-3 * plain(frames).mean(dim=1, keepdim=True)


class LeakyInverse(ToyModel):
    """Its inverse model sees the state after the pair."""

    def infer(self, states):
        later = torch.cat([states[:, 2:], states[:, -1:]], dim=1)
        return super().infer(states) + 1e-3 * later.mean(dim=2, keepdim=True)


class LeakyBottleneck(ToyModel):
    """Its bottleneck normalizes over the transitions of a clip."""

    def apply_bottleneck(self, latent, sample=False, noise_keys=None):
        return super().apply_bottleneck(latent - latent.mean(dim=1, keepdim=True), sample, noise_keys)


class LeakyForward(ToyModel):
    """Its forward model sees the state it should predict."""

    def predict(self, states, z):
        return states + z + 1e-3 * states.roll(-1, dims=1)


class LeakyLatent(ToyModel):
    """Its forward model sees the next latent."""

    def predict(self, states, z):
        return states + z + 1e-3 * z.flip(1)


class Blind(ToyModel):
    """Its encoder sees nothing, so that no perturbation could show."""

    def __init__(self):
        super().__init__()
        plain = self.encoder.forward
        self.encoder.forward = lambda frames: torch.zeros_like(plain(frames))


def future(model, frames=4):
    return evaluate(Future(), model.validation_step(clips(3, frames)), model=model).metrics


def test_an_honest_model_passes_without_any_change():
    assert future(ToyModel()) == {"passed": 1, "change_encoder": 0, "change_inverse": 0, "change_forward": 0}


@pytest.mark.parametrize(
    ("leaky", "key"),
    [
        (LeakyEncoder, "change_encoder"),
        (LeakyInverse, "change_inverse"),
        (LeakyBottleneck, "change_inverse"),
        (LeakyForward, "change_forward"),
        (LeakyLatent, "change_forward"),
    ],
)
def test_a_leak_fails_and_is_named(leaky, key):
    metrics = future(leaky())
    assert metrics["passed"] == 0
    assert metrics[key] > 1e-4


def test_a_model_that_sees_nothing_does_not_pass():
    assert future(Blind())["passed"] == 0


def test_nan_in_what_should_stay_fails():
    class Broken(ToyModel):
        def predict(self, states, z):
            return states * torch.nan

    assert future(Broken())["passed"] == 0


def test_several_frames_a_state_and_two_states():
    assert future(ToyModel(frames_per_state=2), frames=8)["passed"] == 1
    assert future(ToyModel(), frames=2)["passed"] == 1
