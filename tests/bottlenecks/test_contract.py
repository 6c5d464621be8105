"""The contract of all bottlenecks; a class in the catalogue is tested by being there."""

import copy
import importlib
import inspect
import pkgutil

import pytest
import torch
from torch.optim import Adam

import lam.bottlenecks
from lam.bottlenecks import NSVQ, DiVeQ, Nested, NestedRVQ, Noisy, NoLatent
from lam.bottlenecks.base import Bottleneck

CATALOGUE = [getattr(lam.bottlenecks, name) for name in lam.bottlenecks.__all__]
SHAPE = (6, 2, 2, 16)  # (B, T-1, L, A)
DISCRETE = {"VQ", "NSVQ", "DiVeQ", "FSQ", "RVQ", "NestedRVQ"}


@pytest.fixture(params=CATALOGUE, ids=lambda cls: cls.__name__)
def bottleneck(request):
    torch.manual_seed(0)
    return request.param(16, 2)


@pytest.fixture
def z():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


class BottleneckBehindLinear(torch.nn.Module):
    """A bottleneck behind one layer, so that parameter-free ones have something to train, with noise keyed by clip."""

    def __init__(self, bottleneck):
        super().__init__()
        self.map = torch.nn.Linear(16, 16)
        self.bottleneck = bottleneck

    def forward(self, z):
        return self.bottleneck(self.map(z), noise_keys=torch.arange(len(z)))


def train(model, optimizer, steps, first=0):
    for step in range(first, first + steps):
        z = torch.randn(SHAPE, generator=torch.Generator().manual_seed(100 + step))
        out = model(z)
        optimizer.zero_grad()
        ((out.z - z).square().mean() + out.loss).backward()
        optimizer.step()
        model.bottleneck.on_optimizer_step(optimizer)


def test_the_catalogue_is_complete():
    files = pkgutil.iter_modules(lam.bottlenecks.__path__, "lam.bottlenecks.")
    found = [cls for file in files for cls in vars(importlib.import_module(file.name)).values() if inspect.isclass(cls)]
    assert {cls for cls in found if issubclass(cls, Bottleneck) and not inspect.isabstract(cls)} == set(CATALOGUE)


def test_the_knob_is_the_third_argument(bottleneck):
    arguments = list(inspect.signature(type(bottleneck)).parameters.values())
    assert [argument.name for argument in arguments[:2]] == ["dim", "num_latents"]
    if bottleneck.knob is None:
        assert len(arguments) == 2
    else:
        assert arguments[2].name == bottleneck.knob
        assert all(argument.default is not inspect.Parameter.empty for argument in arguments[2:])
        assert getattr(bottleneck, bottleneck.knob) == arguments[2].default


@pytest.mark.parametrize("training", [True, False])
def test_record(bottleneck, z, training):
    out = bottleneck.train(training)(z)
    assert out.z.shape == z.shape
    assert out.z.dtype == z.dtype
    assert out.loss.shape == ()
    assert (out.codes is not None) == (type(bottleneck).__name__ in DISCRETE)
    if out.codes is not None:
        assert out.codes.dtype == torch.int64
        assert out.codes.shape[:2] == z.shape[:2]
    if out.rate_bits is not None:
        assert out.rate_bits.shape == z.shape[:2]
        assert not out.rate_bits.requires_grad
    assert all(value.shape == () and not value.requires_grad for value in out.stats.values())


def test_eval_is_deterministic_and_leaves_no_trace(bottleneck, z):
    bottleneck.eval()
    before = copy.deepcopy(bottleneck.state_dict())
    first, second = bottleneck(z), bottleneck(z)
    bottleneck.on_optimizer_step(Adam([torch.zeros(1, requires_grad=True)]))
    assert torch.equal(first.z, second.z)
    assert all(torch.equal(value, before[name]) for name, value in bottleneck.state_dict().items())


def test_loss_is_the_same_formula_in_train_and_eval(bottleneck, z):
    torch.testing.assert_close(bottleneck.train()(z).loss, bottleneck.eval()(z).loss)


def test_gradient_reaches_the_input_and_every_parameter(bottleneck, z):
    z.requires_grad_()
    out = bottleneck.train()(z)
    (out.z.square().sum() + out.loss).backward()
    assert z.grad is not None
    assert (z.grad.abs().sum() > 0) != isinstance(bottleneck, NoLatent)
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in bottleneck.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in bottleneck.parameters())


def test_state_round_trip_continues_bit_for_bit(bottleneck):
    undisturbed = BottleneckBehindLinear(copy.deepcopy(bottleneck))
    optimizer = Adam(undisturbed.parameters(), lr=1e-2)
    train(undisturbed, optimizer, 15)
    saved = copy.deepcopy((undisturbed.state_dict(), optimizer.state_dict()))
    train(undisturbed, optimizer, 10, first=15)

    resumed = BottleneckBehindLinear(type(bottleneck)(16, 2))
    resumed.load_state_dict(saved[0])
    optimizer = Adam(resumed.parameters(), lr=1e-2)
    optimizer.load_state_dict(saved[1])
    train(resumed, optimizer, 10, first=15)
    expected = undisturbed.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())
    assert all(
        isinstance(value, torch.Tensor) for value in expected.values()
    )  # loads with weights_only, exports to safetensors


def test_bf16_autocast_is_close_to_fp32(bottleneck, z):
    train(BottleneckBehindLinear(bottleneck), Adam([*bottleneck.parameters(), torch.zeros(1, requires_grad=True)]), 2)
    bottleneck.eval()
    z = z.bfloat16()
    expected = bottleneck(z.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = bottleneck(z)
    assert out.loss.dtype == torch.float32
    torch.testing.assert_close(out.z.float(), expected.z, rtol=0.02, atol=0.02)
    torch.testing.assert_close(out.loss, expected.loss, rtol=1e-3, atol=1e-6)
    if out.codes is not None:
        assert torch.equal(out.codes, expected.codes)
    if out.rate_bits is not None:
        torch.testing.assert_close(out.rate_bits, expected.rate_bits)


def test_prior(bottleneck):
    first, second = (bottleneck.sample_prior(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (5, 2, 16)
    assert torch.equal(first, second)
    assert first.isfinite().all()
    assert not first.requires_grad
    other = bottleneck.sample_prior(5, torch.Generator().manual_seed(4))
    assert torch.equal(first, other) == isinstance(bottleneck, NoLatent)


def test_codes_stand_for_the_latents_that_have_them(bottleneck, z):
    out = bottleneck.eval()(z)
    used = bottleneck.used_codes()
    if out.codes is None:
        assert used == []
        with pytest.raises(TypeError, match="not codes"):
            bottleneck.decode_codes(torch.zeros(3, 2, dtype=torch.int64))
        return
    decoded = bottleneck.decode_codes(out.codes.flatten(0, 1))
    torch.testing.assert_close(decoded.unflatten(0, z.shape[:2]), out.z)
    assert len(used) == out.codes.shape[-1]
    for numbers, codes in zip(used, out.codes.unbind(-1), strict=True):
        assert torch.isin(codes, numbers).all()  # before training all are in use


def test_noise_belongs_to_the_clip(bottleneck, z):
    keys = torch.arange(len(z))
    whole = bottleneck(z, noise_keys=keys).z
    flipped = bottleneck(z.flip(0), noise_keys=keys.flip(0)).z.flip(0)
    torch.testing.assert_close(whole, flipped)
    noisy = isinstance(bottleneck, Noisy | NSVQ | DiVeQ | Nested | NestedRVQ)
    assert torch.equal(bottleneck(z).z, bottleneck(z).z) != noisy


# resuming after the graph break around vector-quantize-pytorch, torch 2.13 looks at .grad of a tensor that is no leaf
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning")
@pytest.mark.parametrize("training", [True, False])
def test_compiled_gives_the_same_numbers(bottleneck, z, training):
    torch.compiler.reset()
    model = BottleneckBehindLinear(bottleneck).train(training)
    plain = model(z)
    (plain.z.square().mean() + plain.loss).backward()
    gradient = model.map.weight.grad.clone()
    model.zero_grad()
    compiled = torch.compile(model, backend="eager")(z)  # tracing is what can fail; inductor would take a minute
    (compiled.z.square().mean() + compiled.loss).backward()
    torch.testing.assert_close(compiled.z, plain.z)
    torch.testing.assert_close(compiled.loss, plain.loss)
    torch.testing.assert_close(model.map.weight.grad, gradient)


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        ("VQ", {"num_codes": 1}),
        ("VQ", {"commitment": -0.1}),
        ("VQ", {"reset_every": 0}),
        ("NSVQ", {"num_codes": 0}),
        ("DiVeQ", {"num_codes": 1}),
        ("DiVeQ", {"noise_variance": -1e-3}),
        ("RVQ", {"num_quantizers": 0}),
        ("RVQ", {"num_codes": 1}),
        ("FSQ", {"num_levels": 1}),
        ("FSQ", {"num_channels": 0}),
        ("FSQ", {"num_levels": 64, "num_channels": 6}),
        ("Noisy", {"beta": -1.0}),
        ("Sparse", {"lambda_l1": 0.0}),
        ("Sparse", {"lambda_l1": 5.0}),
        ("Residual", {"num_floats": 0}),
        ("Residual", {"num_floats": 33}),  # L A is 32: the 33rd could add nothing
        ("Nested", {"num_floats": 0}),
        ("Nested", {"num_floats": 33}),
        ("NestedRVQ", {"num_quantizers": 0}),
    ],
)
def test_arguments_out_of_range_say_so_in_one_line(cls, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))) as error:
        getattr(lam.bottlenecks, cls)(16, 2, **arguments)
    assert "\n" not in str(error.value)
