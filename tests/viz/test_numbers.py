"""What visualizations write beside pictures, against the formula written out for the toy model, whose latents add up."""

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from tensorboard.plugins.projector import ProjectorConfig

from lam.viz import (
    CodeGalleryVisualization,
    CodeUsageVisualization,
    EmbeddingVisualization,
    LeakageVisualization,
    PredictionVisualization,
    RolloutVisualization,
    TransferVisualization,
    TraversalVisualization,
    code_gallery,
    code_usage,
    leakage,
    prediction,
    rate,
    rollout,
    transfer,
    traversal,
)
from tests.viz.toy import Model, Signs, batches, read_captions, validate


@pytest.fixture
def model():
    return Model()


def latent(states):
    return 0.5 * (states[:, 1:] - states[:, :-1]).mean(dim=2, keepdim=True)


def error(predicted, true):
    """Of each clip and transition, (n, T-1)."""
    return (predicted - true).abs().mean(dim=(2, 3)) / 0.1


def unrolled(states, z):
    """From the first state of each clip, with z added up."""
    return states[:, :1] + z.cumsum(dim=1)


def test_prediction(monkeypatch, tmp_path, model):
    texts = read_captions(monkeypatch, prediction)
    validate(tmp_path, PredictionVisualization(num_clips=3), model=model)
    states = model.clip_buffer.clips(3).states
    guess = states[:, -2] + latent(states)[:, -1]
    for n in range(3):
        wrong, still = (error(x[n][None, None], states[n : n + 1, -1:]).item() for x in (guess, states[:, -2]))
        assert texts[5 + n] == f"error {wrong:.2f}\nno change {still:.2f}"
        assert texts[5 + 3 + 3 + n] == f"error {wrong:.2f}, of no change {still:.2f}"  # on the card
    assert len(texts) == 5 + 3 + 3 + 3


def test_rollout(monkeypatch, tmp_path, model):
    texts = read_captions(monkeypatch, rollout)
    validate(tmp_path, RolloutVisualization(num_clips=2), model=model, data=batches(frames=4))
    states = model.clip_buffer.clips(3).states
    errors = error(unrolled(states, latent(states)), states[:, 1:])
    drawn = [*errors[:2].T.flatten().tolist(), *errors.T.flatten().tolist()]  # two clips in the file, three on the card
    assert [text for text in texts if text.startswith("error")] == [f"error {x:.2f}" for x in drawn]
    assert texts.count("given") == 2 + 3
    for before in ("", "true, "):
        assert [one for one in texts if one.startswith(f"{before}state")] == [f"{before}state {t} of 4" for t in (1, 2, 3, 4)]


def test_leakage(monkeypatch, tmp_path, model):
    texts = read_captions(monkeypatch, leakage)
    validate(tmp_path, LeakageVisualization(num_pairs=3, num_clips=20), model=model, data=batches(frames=5))
    clips = model.clip_buffer.clips(20)
    for row, place in enumerate((0, 2, 4)):
        a, b = clips.states[place], clips.states[clips.cross_source_pairs()[place]]
        last, expected = a[1], []  # states 2, 3 and 4 come from the other clip
        for true in (a[2], b[2]):
            z = 0.5 * (true - last).mean(dim=0, keepdim=True)
            wrong, still = ((x - true).abs().mean().item() / 0.1 for x in (last + z, last))
            expected.append(f"error {wrong:.2f}\nno change {still:.2f}")
        assert texts[5 + 5 * row : 10 + 5 * row] == ["", "", expected[0], "", expected[1]]


def test_transfer(monkeypatch, tmp_path, model):
    texts = read_captions(monkeypatch, transfer)
    validate(tmp_path, TransferVisualization(num_pairs=2, num_clips=20), model=model, data=batches(frames=7))
    clips = model.clip_buffer.clips(20)
    assert texts.pop().startswith("Time runs to the right, states 0, 2, 3, 4, 6 of each clip.")
    for pair, place in enumerate((0, 3)):
        a, b, c = (
            clips.states[k][None] for k in (place, clips.cross_source_pairs()[place], clips.cross_source_pairs(2)[place])
        )

        def far(predicted, true):
            return f"{error(predicted, true[:, 1:]).mean().item():.2f}"

        moved = unrolled(b, latent(a))
        again = latent(torch.cat([b[:, :1], moved], dim=1))  # half of what A's latents did
        torch.testing.assert_close(again, 0.5 * latent(a))
        scores = [
            f"no change {far(a[:, :1], a)}",
            f"no change {far(b[:, :1], b)}",
            f"to B {far(moved, b)}, to A {far(moved, a)}",
            f"to B {far(unrolled(b, latent(b)), b)}",
            f"to B {far(unrolled(b, latent(c)), b)}",
            f"to A {far(unrolled(a, again), a)} (own {far(unrolled(a, latent(a)), a)})",
        ]
        block = texts[13 * pair : 13 * pair + 13]
        assert block[0] == f"Pair {pair + 1}"
        assert block[2::2] == scores


def test_pairs_show_each_clip_once(tmp_path, monkeypatch, model):
    seen = {}
    monkeypatch.setattr(transfer, "filmstrips", lambda model, a, b, c: seen.update(a=a, b=b, c=c) or original(model, a, b, c))
    validate(tmp_path, TransferVisualization(), model=model)
    z = torch.cat([seen["a"][1], seen["b"][1], seen["c"]])
    assert len(torch.unique(z, dim=0)) == len(z) == 12


original = transfer.filmstrips


def test_codes_are_ranked_with_the_z_they_first_came_with():
    codes = torch.tensor([[3, 1], [0, 0], [3, 1], [2, 2], [0, 0], [3, 1]])
    tuples, z, shares = code_gallery.rank_codes(codes, torch.arange(6)[:, None])
    assert tuples.tolist() == [[3, 1], [0, 0], [2, 2]]
    assert z.flatten().tolist() == [0, 1, 3]
    assert shares == pytest.approx([1 / 2, 1 / 3, 1 / 6])
    assert code_usage.code_shares(codes).tolist() == pytest.approx(shares)


def test_gallery_and_usage_say_how_often_each_code_occurs(monkeypatch, tmp_path):
    texts = read_captions(monkeypatch, code_gallery)
    model, titles = Model(Signs(3, 1)), []
    monkeypatch.setattr(code_usage, "axes", lambda title, *rest: titles.append(title) or axes(title, *rest))
    validate(tmp_path, CodeGalleryVisualization(num_codes=5), CodeUsageVisualization(), model=model)
    codes = torch.cat([model.validation_step(batch).bottleneck_output.codes for batch in batches()]).flatten(0, 1)
    names, counts = torch.unique(codes, dim=0, return_counts=True)
    said = [text.split("\n") for text in texts if "%" in text]
    assert len(said) == 5
    for name, share in said:
        place = [", ".join(map(str, each)) for each in names.tolist()].index(name)
        assert share == f"{100 * counts[place].item() / 80:.1f} %"
    p = counts / 80
    assert titles == [f"{len(names)} of 8 codes occur in 80 transitions; perplexity {(-(p * p.log()).sum()).exp():.1f}"]


axes = code_usage.axes


def test_the_gallery_predicts_with_the_code_that_it_names(tmp_path):
    asked = {}
    model = Model(Signs(3, 1))
    predict = model.predict
    model.predict = lambda states, z: asked.update(states=states, z=z) or predict(states, z)
    validate(tmp_path, CodeGalleryVisualization(num_codes=4, num_starts=2), model=model)
    model.predict = predict
    starts = model.clip_buffer.clips(2).states[:, :1]
    codes = torch.cat([model.validation_step(batch).bottleneck_output.codes for batch in batches()]).flatten(0, 1)
    tuples, _, _ = code_gallery.rank_codes(codes, codes)
    assert torch.equal(asked["states"], starts.repeat_interleave(4, dim=0))
    torch.testing.assert_close(asked["z"], (0.2 * tuples[:4] - 0.1)[:, None, None].repeat(2, 1, 1, 1))


def test_directions_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    mixing = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    z = torch.randn(400, 5, generator=torch.Generator().manual_seed(1)) @ mixing + 3
    mean, moves, shares = traversal.principal_directions(z, 3)
    pca = PCA(3).fit(z.double().numpy())
    np.testing.assert_allclose(mean, pca.mean_, rtol=1e-5)
    np.testing.assert_allclose(shares, pca.explained_variance_ratio_, rtol=1e-5)
    expected = pca.components_ * np.sqrt(pca.explained_variance_ * 399 / 400)[:, None]
    expected *= np.sign(expected[np.arange(3), np.abs(expected).argmax(axis=1)])[:, None]
    np.testing.assert_allclose(moves, expected, rtol=1e-4, atol=1e-5)


def test_directions_without_variance_are_left_out():
    z = torch.zeros(50, 4)
    assert traversal.principal_directions(z, 3)[1].shape == (0, 4)
    z[:, 2] = torch.linspace(-1, 1, 50)
    _, moves, shares = traversal.principal_directions(z + 1, 3)
    assert shares == pytest.approx([1.0])
    torch.testing.assert_close(moves, torch.tensor([[0, 0, z[:, 2].std(correction=0).item(), 0]]))


def test_traversals_leave_the_mean_by_standard_deviations(tmp_path):
    asked, model = {}, Model()
    predict = model.predict
    model.predict = lambda states, z: asked.update(states=states, z=z) or predict(states, z)
    validate(tmp_path, TraversalVisualization(num_directions=2, num_starts=3), model=model)
    model.predict = predict
    z = torch.cat([model.validation_step(batch).bottleneck_output.z for batch in batches()]).flatten(0, 1)[:, 0]
    path = asked["z"][:, 0, 0].view(3, 2, 5, 3)
    torch.testing.assert_close(path[:, :, 2], z.mean(dim=0).expand(3, 2, 3))
    step = path[:, :, 3] - path[:, :, 2]
    for times, place in ((-2, 0), (-1, 1), (2, 4)):
        torch.testing.assert_close(path[:, :, place] - path[:, :, 2], times * step)
    along = (z - z.mean(dim=0)) @ (step[0] / step[0].norm(dim=1, keepdim=True)).T
    torch.testing.assert_close(along.std(dim=0, correction=0), step[0].norm(dim=1))


def test_rate_points_are_joined_coder_by_coder():
    points = [{"coder": c, "bits": b, "rise": 0.0, "error": e} for c, b, e in (("b", 2, 0.1), ("a", 3, 0.2), ("b", 1, 0.5))]
    assert rate.by_coder(points) == {"b": [(1, 0.5), (2, 0.1)], "a": [(3, 0.2)]}


def test_the_projector_finds_latents_and_factors_of_each_transition(tmp_path):
    model = Model()
    validate(tmp_path, EmbeddingVisualization(num_points=25), model=model)
    (points,) = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings
    vectors = np.loadtxt(tmp_path / points.tensor_path, delimiter="\t")
    head, *lines = [line.split("\t") for line in (tmp_path / points.metadata_path).read_text().splitlines()]
    assert head == ["clip", "source", "step", "dx_0", "dx_1"]
    assert vectors.shape == (25, 3) and len(lines) == 25
    assert points.tensor_path.startswith("boards/") and points.metadata_path.startswith("boards/")
    found = [model.validation_step(batch) for batch in batches()]
    z = torch.cat([each.bottleneck_output.z for each in found])[:, :, 0]
    dx = torch.cat([each.clip.factors["dx"] for each in found])
    assert len({(clip, step) for clip, _, step, *_ in lines}) == 25
    for vector, (clip, source, step, *factors) in zip(vectors, lines, strict=True):
        place, step = int(clip.removeprefix("clip")), int(step)
        assert source == f"source{place}"
        np.testing.assert_allclose(vector, z[place, step], rtol=1e-4)
        assert factors == [f"{x:.4g}" for x in dx[place, step].tolist()]
