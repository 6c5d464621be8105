import torch

from lam.encoders.features import color_features, normalize_channels


def test_normalization_is_the_formula() -> None:
    features = torch.randn(2, 5, 7) * 3 + 1
    mean, var = features.mean(-1, keepdim=True), features.var(-1, keepdim=True, correction=0)
    torch.testing.assert_close(normalize_channels(features), (features - mean) / (var + 1e-5).sqrt())


def test_colors_are_three_orthonormal_directions() -> None:
    dim = 16
    tokens = torch.eye(dim).view(1, 1, dim, dim)  # a grid of unit vectors reads the directions off
    directions = (color_features(tokens, (4, 4), 4)[0, 0].flatten(1) - 0.5) * 4  # (3, D)
    torch.testing.assert_close(directions @ directions.T, torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(directions.sum(1), torch.zeros(3), atol=1e-5, rtol=0)


def test_a_color_covers_its_tokens_square() -> None:
    states = torch.randn(1, 2, 4, 8)
    small, large = color_features(states, (2, 2), 2), color_features(states, (2, 2), 6)
    assert torch.equal(large, small.repeat_interleave(3, -2).repeat_interleave(3, -1))
