import pytest
import torch

from lam.bottlenecks.base import Bottleneck, BottleneckOutput
from lam.evals import Capacity
from lam.noise import keyed_normal
from tests.evals.toy import ToyModel, clips, evaluate, part

CLIPS = clips(5, frames=4)


def test_errors_match_the_formula_written_out():
    model = ToyModel()
    results = evaluate(Capacity(), *(model.validation_step(part(CLIPS, i, i + 2)) for i in (0, 2, 4)))
    states = model.encoder(CLIPS.frames)
    change = states[:, 1:] - states[:, :-1]
    expected = (change - 0.5 * change.mean(dim=2, keepdim=True)).abs().mean(dim=(1, 2, 3)) / 0.1
    assert results.clips["error"][0].tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(results.clips["error"][1], expected.double())
    assert results.metrics["error"] == pytest.approx(expected.mean().item())
    assert results.metrics["copy_error"] == pytest.approx(change.abs().mean().item() / 0.1)


def test_unrolled_error_starts_from_the_first_state_only():
    model = ToyModel()
    results = evaluate(Capacity(), model.validation_step(CLIPS))
    states = model.encoder(CLIPS.frames)
    z = 0.5 * (states[:, 1:] - states[:, :-1]).mean(dim=2, keepdim=True)
    for h in (1, 2, 3):
        predicted = states[:, 0] + z[:, :h].sum(dim=1)  # the toy adds its latents up
        expected = (predicted - states[:, h]).abs().mean().item() / 0.1
        assert results.metrics[f"unrolled@{h}"] == pytest.approx(expected, rel=1e-5)
        assert results.curves["unrolled"][h - 1] == pytest.approx(expected, rel=1e-5)
        still = (states[:, 0] - states[:, h]).abs().mean().item() / 0.1
        assert results.curves["unrolled_copy"][h - 1] == pytest.approx(still, rel=1e-5)


def test_predictions_are_fed_back_with_their_past():
    class Summing(ToyModel):
        """Predicts the sum of the past plus z, so that any missing or wrong past shows."""

        def predict(self, states, z):
            return states.cumsum(dim=1) + z

    first, z = torch.ones(1, 1, 1, 1), torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1, 1)
    # 1+1=2; (1+2)+10=13; (1+2+13)+100=116
    assert Summing().rollout(first, z).flatten().tolist() == [2, 13, 116]


def test_nothing_seen_gives_nothing():
    assert evaluate(Capacity()).metrics == {}


def test_a_drawn_latent_has_the_error_of_its_noise():
    model, clip = ToyModel(), clips(40)
    whole = evaluate(Capacity(), model.validation_step(clip))
    # noise of 0.5, errors in units of 0.1, and the toy adds latents up
    states = model.encoder(clip.frames)
    z = 0.5 * (states[:, 1:] - states[:, :-1]).mean(dim=2, keepdim=True)
    drawn = z + 0.5 * keyed_normal(clip.position, z.shape[1:])
    expected = (states[:, :-1] + drawn - states[:, 1:]).abs().mean().item() / 0.1
    assert whole.metrics["error_drawn"] == pytest.approx(expected, rel=1e-5)
    assert whole.metrics["error_drawn"] > whole.metrics["error"] + 1
    unrolled = (states[:, 0] + drawn.sum(dim=1) - states[:, 2]).abs().mean().item() / 0.1
    assert whole.metrics["unrolled_drawn@2"] == pytest.approx(unrolled, rel=1e-5)

    shares = (part(clip, 30, 40), part(clip, 0, 30))
    parts = evaluate(Capacity(), *(model.validation_step(share) for share in shares))
    for key in ("error_drawn", "unrolled_drawn@2"):  # noise belongs to the clip
        torch.testing.assert_close(parts.clips[key][1], whole.clips[key][1], rtol=1e-5, atol=0)


class Codes(Bottleneck):
    """Rounds, so that what passes is the same whether a draw is asked for or not."""

    def forward(self, z: torch.Tensor, sample: bool = False, noise_keys: torch.Tensor | None = None) -> BottleneckOutput:
        return BottleneckOutput(z.round(decimals=1), z.new_zeros(()))

    def sample_prior(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        raise AssertionError("not drawn from here")


class Counting(ToyModel):
    """Counts its predictions."""

    calls = 0

    def predict(self, states: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().predict(states, z)


@pytest.mark.parametrize(("codes", "calls"), [(True, 1 + 3), (False, 1 + 3 + 1 + 3)])
def test_nothing_is_predicted_again_where_a_draw_is_the_latent_itself(codes, calls):
    model = Counting()
    if codes:
        model.bottleneck = Codes(3, 1)
    observation = model.validation_step(CLIPS)
    results = evaluate(Capacity(), observation, model=model)
    assert model.calls == calls  # a prediction, a rollout of three steps; both again if z is drawn
    if codes:
        for key in ("error", "unrolled@1", "unrolled@3"):
            drawn = key.replace("unrolled", "unrolled_drawn") if "@" in key else "error_drawn"
            assert torch.equal(results.clips[drawn][1], results.clips[key][1])
