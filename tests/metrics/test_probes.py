import pytest
import torch
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPRegressor

from lam.metrics.mlp import LabelSplit, fit_mlps
from lam.metrics.probes import PENALTIES, ProbeInputs, fit_probes, ridge

N = 1024


def labels(places: torch.Tensor) -> LabelSplit:
    return LabelSplit(places[places % 4 != 3], places[places % 4 == 3])


FIT, TEST = torch.arange(N // 2), torch.arange(N // 2, N)


def nonlinear_problem() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(N, 8, generator=torch.Generator().manual_seed(0))
    y = torch.stack([torch.cos(x[:, 0]) + x[:, 4] / 2, x[:, 3].abs() + x[:, 4] / 2], dim=1)
    return x, (y - y.mean(dim=0)) / y.std(dim=0)


def r2(y: torch.Tensor, predicted: torch.Tensor) -> list[float]:
    return r2_score(y[TEST].numpy(), predicted.numpy(), multioutput="raw_values").tolist()


@pytest.fixture(scope="module")
def fitted() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, y = nonlinear_problem()
    inputs = torch.stack([x, torch.cat([x[:, :4], torch.zeros(N, 4)], dim=1)])
    return x, y, fit_mlps(inputs, torch.stack([y, y]), [labels(FIT)] * 2, torch.tensor([0, 1]), TEST).predicted


def test_network_is_as_good_as_scikit_learns(fitted):
    x, y, predicted = fitted
    reference = MLPRegressor(hidden_layer_sizes=(64,), alpha=1e-2, learning_rate_init=5e-3, random_state=0)
    reference.fit(x[FIT].numpy(), y[FIT].numpy())
    expected = r2_score(y[TEST].numpy(), reference.predict(x[TEST].numpy()), multioutput="raw_values")
    assert min(expected) > 0.8
    assert r2(y, predicted[0]) == pytest.approx(expected.tolist(), abs=0.05)


def test_a_probe_knows_only_its_own_inputs(fitted):
    _, y, predicted = fitted
    assert max(r2(y, predicted[1])) < 0.6  # about half of the variance hangs on x[4]


def test_fits_are_repeatable_and_leave_the_global_generator_alone():
    x, y = nonlinear_problem()
    before = torch.get_rng_state()
    first, second = (fit_probes([ProbeInputs(x, labels(FIT[:40]))], y, torch.tensor([0, 1]), TEST) for _ in range(2))
    assert torch.equal(first.predicted, second.predicted)
    assert torch.equal(torch.get_rng_state(), before)


def test_fits_in_inference_mode():
    with torch.inference_mode():
        x, y = nonlinear_problem()
        predicted = fit_probes([ProbeInputs(x, labels(FIT[:256]))], y, torch.tensor([0, 1]), TEST).predicted[0]
    assert min(r2(y, predicted)) > 0.6


def test_unrelated_inputs_score_about_zero():
    x = torch.randn(N, 40, generator=torch.Generator().manual_seed(1))
    y = torch.randn(N, 2, generator=torch.Generator().manual_seed(2))
    predicted = fit_probes([ProbeInputs(x, labels(FIT))], y, torch.tensor([0, 1]), TEST).predicted[0]
    assert r2(y, predicted) == pytest.approx([0, 0], abs=0.04)


def test_a_linear_answer_behind_many_correlated_inputs_is_found():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, 32, generator=generator)
    x = hidden @ torch.randn(32, 48, generator=generator)
    x /= x.std(dim=0)
    predicted = fit_probes([ProbeInputs(x, labels(FIT))], hidden[:, :1], torch.tensor([0]), TEST).predicted[0]
    assert r2(hidden[:, :1], predicted)[0] > 0.98


def test_ridge_is_scikit_learns():
    x, y = nonlinear_problem()
    expected = RidgeCV(PENALTIES, alpha_per_target=True).fit(x[FIT].numpy(), y[FIT].numpy()).predict(x[TEST].numpy())
    torch.testing.assert_close(ridge(x, y, FIT, TEST), torch.from_numpy(expected).float(), atol=1e-4, rtol=1e-3)


def test_loss_is_that_of_the_labels_held_back():
    x, y = nonlinear_problem()
    own = labels(FIT)
    fitted = fit_probes([ProbeInputs(x, own)], y, torch.tensor([0, 0]), own.held_back)
    expected = (fitted.predicted[0] - y[own.held_back]).square().mean()
    torch.testing.assert_close(fitted.loss[0, 0], expected, atol=1e-4, rtol=1e-4)
