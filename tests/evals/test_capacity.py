import pytest
import torch

from lam.evals import Capacity
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
