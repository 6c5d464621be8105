"""The operational rate through whole passes, where the truth is known."""

import math

import pytest
import torch

from lam.bottlenecks import Nested, NestedRVQ
from lam.evals import Rate
from lam.evals.common.rate_distortion import COARSE
from tests.evals.toy import ToyModel, evaluate, observed
from tests.metrics.gaussian import gaussian_rate


class Linear(ToyModel):
    """Adds a linear map of z, (A, N D), to the state; squared error."""

    def __init__(self, decoder: torch.Tensor):
        super().__init__()
        self.register_buffer("decoder", decoder)

    def predict(self, states, z):
        return states + (z.flatten(2).to(self.decoder.dtype) @ self.decoder).view_as(states)

    def error(self, predicted, target):
        return (predicted - target).square().sum(dim=(-2, -1))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def measured(z: torch.Tensor, decoder: torch.Tensor, codes=None, bits=0.0, noise: float = 0.1, rate: Rate | None = None):
    """A pass over clips of two transitions whose z, (n, 2, A), a linear forward model turns into changes."""
    change = z @ decoder + noise * normal(*z.shape[:2], decoder.shape[1], seed=9)
    states = torch.cat([torch.zeros_like(change[:, :1]), change.cumsum(dim=1)], dim=1)[:, :, None]
    observation = observed(z, states=states, codes=codes, bits=bits)
    return evaluate(rate or Rate(num_clips=len(z), max_clips=len(z)), observation, model=Linear(decoder))


def own(results) -> list[float]:
    return [results.metrics[f"bits_own@{rise}"] for rise in (1, 5, 10)]


@pytest.fixture
def all_tried(monkeypatch):
    """Compares with theory, without the chance of few clips."""
    monkeypatch.setattr("lam.evals.rate.MAX_CODED", 10**9)


def assert_near_rate_distortion(results, moved: torch.Tensor):
    """Close above the rate-distortion function of a Gaussian as large as what z moved, (n, T-1, N D), in the clips tried.

    Theory has 0.2546 bit a component at high rates; chords between points and codes fitted on few transitions add to that.
    """
    variances = torch.linalg.eigvalsh(torch.cov(moved[results.clips["unquantized"][0]].flatten(0, 1).double().T))
    variances = variances[variances > 1e-9 * variances.max()]
    closed = results.curves["points"][0]["rise"]
    for rise, bits in zip((1, 5, 10), own(results), strict=True):
        assert 0 < bits - gaussian_rate(variances, rise / 100 * closed) < 0.29 * len(variances)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_gaussian_with_a_linear_forward_model_costs_a_quarter_of_a_bit_a_component_more_than_it_must(seed, all_tried):
    mixing, decoder = normal(5, 5, seed=seed), normal(5, 12, seed=seed + 5)
    z = normal(8000, 2, 5) @ mixing
    assert_near_rate_distortion(measured(z, decoder), z @ decoder)


def test_linear_latent_action_model_pays_for_the_changes_it_spans(all_tried):
    # its z are, in any basis, the principal directions of the changes (tests/models/test_linear_model.py)
    directions = torch.linalg.qr(normal(12, 12, seed=1))[0]
    deviations = torch.tensor([2.0, 1.6, 1.0, 0.4] + [0.05] * 8)
    change = normal(8000, 2, 12) * deviations @ directions.T
    principal = torch.linalg.svd(change.flatten(0, 1), full_matrices=False)[2][:3]
    basis = normal(3, 3, seed=3)
    z = change @ principal.T @ basis
    states = torch.cat([torch.zeros(8000, 1, 12), change.cumsum(dim=1)], dim=1)[:, :, None]
    model = Linear(basis.inverse() @ principal)
    results = evaluate(Rate(num_clips=8000, max_clips=8000), observed(z, states=states), model=model)
    assert_near_rate_distortion(results, change @ principal.T @ principal)
    left_out = (deviations[3:].square()).sum().item()
    assert results.clips["unquantized"][1].mean().item() == pytest.approx(left_out, rel=0.1)


def test_useless_dimensions_rotation_and_scale_cost_nothing():
    z, decoder = normal(600, 2, 4), normal(4, 8, seed=2)
    plain = own(measured(z, decoder))
    useless = torch.cat([z, 10 * normal(600, 2, 28, seed=3)], dim=2)
    assert own(measured(useless, torch.cat([decoder, torch.zeros(28, 8)]))) == pytest.approx(plain, rel=0.03)
    basis = normal(4, 4, seed=4) * torch.tensor([100.0, 1.0, 0.1, 5.0])
    assert own(measured(z @ basis, basis.inverse() @ decoder)) == pytest.approx(plain, rel=0.01)


@pytest.mark.parametrize("num_codes", [16, 64])
def test_random_codebook_costs_its_codes(num_codes):
    codes = torch.randint(0, num_codes, (1500, 2), generator=torch.Generator().manual_seed(1))
    z = normal(num_codes, 128)[codes]
    decoder = normal(128, 8, seed=2)
    blind = measured(z, decoder)  # as if it were unconstrained
    bits = math.log2(num_codes)
    finest = next(point for point in blind.curves["points"] if point["coder"] == "vector")
    assert finest["bits"] == pytest.approx(bits, rel=0.05)
    assert finest["rise"] == pytest.approx(0, abs=1e-6 * blind.curves["points"][0]["error"])
    assert 0.9 * bits < own(blind)[0] < 1.02 * bits
    scalar = [point for point in blind.curves["points"] if point["coder"] == "scalar"]
    assert min(p["bits"] for p in scalar if p["rise"] <= 0.01 * blind.curves["points"][0]["rise"]) > 1.2 * bits  # marginals

    told = measured(z, decoder, codes=codes[:, :, None], bits=bits)
    assert told.curves["points"][-1]["coder"] == "code"
    assert told.curves["points"][-1]["rise"] == 0
    assert all(found <= told.metrics["bits_capacity"] + 1e-6 for found in own(told))


def test_latent_of_known_entropy_within_five_percent():
    p = torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625])
    codes = torch.multinomial(p, 2 * 1500, replacement=True, generator=torch.Generator().manual_seed(0)).view(1500, 2)
    found = measured(normal(5, 6)[codes], normal(6, 8, seed=2))
    exact = [point["bits"] for point in found.curves["points"] if point["coder"] == "vector" and abs(point["rise"]) < 1e-4]
    assert exact[0] == pytest.approx(1.875, rel=0.05)


def test_constant_latents_cost_nothing():
    for value in (0.0, 0.3):
        results = measured(torch.full((40, 2, 5), value), normal(5, 8))
        assert own(results) == [0, 0, 0]
        assert [point["coder"] for point in results.curves["points"]] == ["mean"]


def test_a_forward_model_that_ignores_z_needs_no_bits():
    assert own(measured(normal(100, 2, 5), torch.zeros(5, 8))) == [0, 0, 0]


def test_values_of_clips_average_to_the_points_and_come_from_the_other_half():
    results = measured(normal(100, 2, 3), normal(3, 8))
    where, unquantized = results.clips["unquantized"]
    assert len(where) == 50
    assert len(measured(normal(1200, 2, 3), normal(3, 8)).clips["unquantized"][0]) == 256  # 512 transitions
    assert results.curves["points"][0]["bits"] == 0
    for i, point in enumerate(results.curves["points"]):
        (_, bits), (positions, error) = results.clips[f"point/{i:02}/bits"], results.clips[f"point/{i:02}/error"]
        assert torch.equal(positions, where)
        assert bits.mean().item() == pytest.approx(point["bits"])
        assert error.mean().item() == pytest.approx(point["error"])
        assert (error - unquantized).mean().item() == pytest.approx(point["rise"], abs=1e-9)
    assert f"point/{len(results.curves['points']):02}/bits" not in results.clips


def test_half_precision_and_inference_mode_are_no_obstacle():
    z, decoder = normal(200, 2, 4), torch.nn.Linear(4, 8, bias=False)

    class Learned(Linear):
        """Its map is a layer with weights that autocast turns into half precision, and keeps."""

        def predict(self, states, z):
            return states + decoder(z.flatten(2)).view_as(states)

    def found(half: bool) -> list[float]:
        rate = Rate(num_clips=200)
        rate.autocast = lambda: torch.autocast("cpu", torch.bfloat16, enabled=half)
        states = torch.cat([torch.zeros(200, 1, 1, 8), decoder(z).detach()[:, :, None].cumsum(dim=1)], dim=1)
        return own(evaluate(rate, observed(z, states=states), model=Learned(decoder.weight.detach().T.clone())))

    assert found(half=True) == pytest.approx(found(half=False), rel=0.02)


def test_a_nested_latent_is_coded_at_every_length():
    """Numbers of variance 1 to 1/16, of which the first few pass: the error left over is the sum of the other variances."""
    std = torch.tensor([1.0, 0.5, 0.25, 0.25])
    z = normal(1000, 2, 4) * std
    model = Linear(torch.eye(4))
    model.bottleneck = Nested(4, 1, num_floats=4).eval()
    states = torch.cat([torch.zeros(1000, 1, 4), z.cumsum(dim=1)], dim=1)[:, :, None]
    results = evaluate(Rate(num_clips=1000, max_clips=1000), observed(z, states=states), model=model)
    left = z[results.clips["unquantized"][0]].square().mean(dim=(0, 1)).double()
    for length in (1, 2, 3):
        assert results.metrics[f"error@{length}"] == pytest.approx(left[length:].sum().item(), rel=1e-4)
    assert results.clips["unquantized"][1].mean().item() == pytest.approx(0, abs=1e-9)
    coders = {point["coder"] for point in results.curves["points"]}
    assert coders == {f"{coder}{cut}" for coder in ("mean", "scalar", "vector") for cut in ("", "@1", "@2", "@3")}
    for length in (1, 2, 3):  # no code of a truncated latent errs less than the truncated latent, beyond what chance fits
        errors = [point["error"] for point in results.curves["points"] if point["coder"].endswith(f"@{length}")]
        assert min(errors) > 0.99 * results.metrics[f"error@{length}"]
        closed = max(errors) - results.metrics[f"error@{length}"]
        assert min(errors) < results.metrics[f"error@{length}"] + COARSE.negligible * closed
    assert len(results.clips) == 1 + 3 + 2 * len(results.curves["points"])


def test_nested_codes_cost_fewer_bits_at_shorter_lengths():
    torch.manual_seed(0)
    bottleneck = NestedRVQ(4, 1, num_quantizers=3, num_codes=4).eval()
    z = normal(400, 2, 4, seed=4)
    output = bottleneck(z[:, :, None])
    model = Linear(torch.eye(4))
    model.bottleneck = bottleneck
    change = output.z.detach()[:, :, 0]
    states = torch.cat([torch.zeros(400, 1, 4), change.cumsum(dim=1)], dim=1)[:, :, None]
    observation = observed(change, states=states, codes=output.codes, bits=6.0)
    observation.latent = z[:, :, None]
    results = evaluate(Rate(num_clips=400, max_clips=400), observation, model=model)
    codes = {point["coder"]: point for point in results.curves["points"] if point["coder"].startswith("code")}
    assert codes["code@1"]["bits"] < codes["code@2"]["bits"] < codes["code"]["bits"] <= 6
    assert codes["code@1"]["error"] > codes["code@2"]["error"] > codes["code"]["error"]
    assert codes["code@2"]["error"] == pytest.approx(results.metrics["error@2"])
