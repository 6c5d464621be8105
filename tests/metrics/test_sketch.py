import torch
from sklearn.decomposition import PCA

from lam.metrics.sketch import count_sketch, principal_components


def test_short_vectors_stay():
    x = torch.randn(3, 8)
    assert count_sketch(x, 8) is x


def test_sketch_is_linear_and_keeps_distances():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 10, 5000, generator=generator)
    torch.testing.assert_close(count_sketch(x + y, 256), count_sketch(x, 256) + count_sketch(y, 256), atol=1e-3, rtol=1e-3)
    ratio = (count_sketch(x, 256) - count_sketch(y, 256)).norm(dim=1) / (x - y).norm(dim=1)
    assert (ratio - 1).abs().max() < 0.25  # the error is about 1 / sqrt(256)


def test_sketch_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    count_sketch(torch.ones(2, 600), 256)
    assert torch.equal(torch.get_rng_state(), before)


def test_components_match_scikit_learn_up_to_sign_and_scale():
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.1])
    fit = torch.arange(0, 40, 2)
    found = principal_components(x, fit, 3)
    model = PCA(3).fit(x[fit].numpy())
    expected = torch.from_numpy(model.transform(x.numpy()))
    expected /= expected[fit, 0].std(correction=0)
    torch.testing.assert_close(found.abs(), expected.abs(), atol=1e-4, rtol=1e-4)


def test_more_components_than_coordinates_are_all_of_them():
    assert principal_components(torch.randn(10, 4), torch.arange(10), 32).shape == (10, 4)
