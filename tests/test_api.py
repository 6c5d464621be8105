"""The Python API: public names, loading, labeling and imagining."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import lam
from lam.data.resize import SquareResizer, resize_pictures
from lam.data.schema import FeatureInfo
from lam.encoders import Cached
from lam.runs.cli import run
from lam.runs.load import load_run
from lam.runs.trained import TrainedModel
from tests.tiny import arguments, make_world

HEAVY = ("torch", "lightning", "numpy", "jsonargparse", "lam.models", "lam.data")


def test_importing_lam_imports_nothing_heavy():
    program = f"import sys, lam; dir(lam); print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_public_name_is_there():
    assert set(lam.__all__) <= set(dir(lam))
    for name in lam.__all__:
        assert getattr(lam, name).__name__ == name
    assert lam.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        lam.lode  # noqa: B018


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("api") / "shards")


@pytest.fixture(scope="module", params=["noisy", "vq"])
def folder(request, shards):
    """Folder of a run that ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        run(["fit", *arguments(shards, shards.parent / "runs", request.param, f"tiny/{request.param}")])
    return shards.parent / "runs" / "tiny" / request.param / "seed0"


@pytest.fixture(scope="module")
def model(folder):
    return lam.load(folder)


def video(*shape, seed=0):
    """Noise, blurred so that it survives resizing."""
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return (pixels // 2 + np.roll(pixels, 1, axis=-2) // 2).astype(np.uint8)


# ---------------------------------------------------------------------- loading


def test_a_model_loads_without_its_shards_and_leaves_the_callers_draws_alone(folder, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    config = moved / "config.yaml"
    config.write_text(config.read_text().replace("shards: /", "shards: /gone/"))
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    loaded = lam.load(str(moved))
    assert torch.equal(torch.randn(2), expected)
    assert not loaded.world.training
    assert not any(parameter.requires_grad for parameter in loaded.world.parameters())
    trained, _ = load_run(folder)
    state = loaded.world.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in trained.state_dict().items())
    assert (loaded.frames, loaded.stride, loaded.image_size, loaded.frames_per_state) == (3, 1, 16, 1)
    assert "16 x 16 pixels" in repr(loaded)


def test_weights_are_checked_by_their_hash(folder, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    checkpoint = torch.load(changed / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save(checkpoint | {"epoch": 7}, changed / "checkpoints" / "last.ckpt")
    with pytest.raises(ValueError, match="is not the file that training left"):
        lam.load(changed)


def test_a_run_of_an_earlier_release_loads(folder, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    (old / "checkpoints" / "last.sha256").unlink()
    config = (old / "config.yaml").read_text()
    assert "lam.models.inverse.ChannelPair" in config
    (old / "config.yaml").write_text(config.replace("lam.models.", "lam."))
    clip = video(3, 16, 16, 3)
    assert torch.equal(lam.load(old).label(clip).z, lam.load(folder).label(clip).z)


def test_loading_says_what_is_missing(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere"):
        lam.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="not the folder of a finished run"):
        lam.load(tmp_path)
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    config = changed / "config.yaml"
    config.write_text(config.read_text().replace("Patches", "my_module.MyEncoder"))
    with pytest.raises(ValueError, match=r"my_module.*see that Python finds its module"):
        lam.load(changed)


# ---------------------------------------------------------------------- labeling


def test_labels_are_what_the_model_says_in_eval_mode(model):
    clip = video(3, 16, 16, 3)
    labels = model.label(clip)
    frames = torch.from_numpy(clip).permute(0, 3, 1, 2)[None]
    with torch.no_grad():
        expected = model.world.apply_bottleneck(model.world.infer(model.world.encoder(frames)))
    assert torch.equal(labels.z, expected.z[0])
    assert torch.equal(model.encode(clip), model.world.encoder(frames)[0])
    assert labels.z.shape == (2, 1, 8)
    assert labels.bits.shape == (2,)
    assert torch.equal(labels.bits, expected.rate_bits[0])
    if expected.codes is None:
        assert labels.codes is None
    else:
        assert torch.equal(labels.codes, expected.codes[0])
    again = model.label(clip)
    assert torch.equal(labels.z, again.z)
    assert torch.equal(model.label(torch.from_numpy(clip)).z, labels.z)


def test_a_batch_gives_what_its_videos_give(model):
    batch = video(3, 6, 16, 16, 3)
    labels = model.label(batch)
    assert labels.z.shape == (3, 5, 1, 8)
    for one, z, bits in zip(batch, labels.z, labels.bits, strict=True):
        alone = model.label(one)
        torch.testing.assert_close(z, alone.z)
        torch.testing.assert_close(bits, alone.bits)


def test_a_long_video_is_labeled_as_at_once_with_bounded_memory(model, monkeypatch):
    clip = video(40, 16, 16, 3)
    seen = []
    encoder = model.world.encoder
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda frames: seen.append(frames.shape[:2].numel()) or forward(frames))
    in_chunks = model.label(clip, at_once=2)
    assert max(seen) == 2 * 3
    with torch.no_grad():
        states = forward(torch.from_numpy(clip).permute(0, 3, 1, 2)[None])
        whole = model.world.apply_bottleneck(model.world.infer(states))
    assert in_chunks.z.shape == (39, 1, 8)
    torch.testing.assert_close(in_chunks.z, whole.z[0])
    if whole.codes is not None:
        assert torch.equal(in_chunks.codes, whole.codes[0])
    torch.testing.assert_close(in_chunks.bits, model.label(clip).bits)


def test_labels_are_those_that_lam_predict_writes(model, folder, shards, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    checkpoint = folder / "checkpoints" / "last.ckpt"
    run(["predict", f"--config={folder / 'config.yaml'}", f"--ckpt_path={checkpoint}", "--data.predict_split=val"])
    written = pd.read_parquet(folder / "latents.parquet").sort_values(["key", "time"])
    _, data = load_run(folder)
    data.frames, data.stride, data.predict_split = 5, 1, "val"
    clips = {}
    for clip in data.predict_dataloader():
        clips |= dict(zip(clip.key, clip.frames.permute(0, 1, 3, 4, 2), strict=True))
    z = torch.cat([model.label(clips[key]).z.flatten(1) for key in sorted(clips)])
    torch.testing.assert_close(z, torch.from_numpy(np.stack(written["z"])))


def test_pictures_are_resized_as_preparation_does_it(model):
    large = video(3, 40, 40, 3)
    small = resize_pictures(large, SquareResizer(16))
    assert torch.equal(model.label(large).z, model.label(small).z)
    wide = video(3, 20, 40, 3)
    cropped = resize_pictures(wide, SquareResizer(16, "crop"))
    padded = resize_pictures(wide, SquareResizer(16, "pad"))
    assert torch.equal(model.label(wide, fit="crop").z, model.label(cropped).z)
    assert torch.equal(model.label(wide, fit="pad").z, model.label(padded).z)
    assert not np.array_equal(cropped, padded)


MISTAKES = {
    "floats from 0 to 1": (video(3, 16, 16, 3) / 255, r"type float64 with values from .* Multiply by 255"),
    "floats from 0 to 255": (video(3, 16, 16, 3).astype(np.float32), r"type float32 .* Convert to uint8"),
    "normalized": (torch.randn(3, 16, 16, 3), r"Undo the normalization"),
    "half precision": (torch.ones(3, 16, 16, 3).bfloat16(), r"type bfloat16 .*Multiply by 255"),
    "wide integers": (video(3, 16, 16, 3).astype(np.int64), r"type int64 .*Convert to uint8"),
    "not square": (video(3, 16, 36, 3), r'16 x 36 pixels, the model sees squares of 16 x 16.*fit="crop"'),
    "channels first": (video(3, 3, 16, 16), r"shape \(3, 3, 16, 16\).*Channels come last: .*movedim\(-3, -1\)"),
    "a batch with channels first": (torch.zeros(2, 3, 3, 16, 16).byte(), r"Channels come last"),
    "gray": (video(3, 16, 16, 1), r"Repeat the gray channel"),
    "alpha": (video(3, 16, 16, 4), r"Leave the fourth channel"),
    "a single picture": (video(16, 16, 3), r"a single picture; expected \(F, H, W, 3\).*video\[None\]"),
    "no picture at all": (video(16, 16), r"shape \(16, 16\).*expected \(F, H, W, 3\)"),
    "one frame": (video(1, 16, 16, 3), r"video of 1 frames, expected 2 or more"),
    "empty": (video(0, 16, 16, 3), r"empty; expected \(F, H, W, 3\)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_no_video_is_refused_with_advice(model, mistake):
    wrong, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        model.label(wrong)


def test_what_is_no_array_is_refused(model):
    with pytest.raises(TypeError, match=r"Got a list for video.*np.stack"):
        model.label([video(16, 16, 3)] * 3)
    with pytest.raises(TypeError, match="Got a list for z"):
        model.imagine(video(1, 16, 16, 3), [0.0])


def test_a_model_of_cached_states_says_that_it_needs_the_encoder(folder):
    world = lam.load(folder).world
    cached = Cached.__new__(Cached)
    torch.nn.Module.__init__(cached)
    cached.features = FeatureInfo("ab12", {"class_path": "Vision", "source": "dino", "image_size": 4}, 8, 1, "")
    cached.image_size = 4
    world.encoder = cached
    with pytest.raises(ValueError, match=r"cached states of Vision from dino and sees no pictures"):
        TrainedModel(world, frames=3).label(video(3, 16, 16, 3))


class TwoFrames(torch.nn.Module):
    """An encoder that makes a state of two frames."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.image_size, self.frames_per_state, self.to_image = inner, inner.image_size, 2, inner.to_image

    def forward(self, frames):
        return self.inner(frames[:, 1::2])


@pytest.fixture
def two_frames(folder):
    world = lam.load(folder).world
    world.encoder = TwoFrames(world.encoder)
    return TrainedModel(world, frames=6)


def test_several_frames_make_a_state(model, two_frames):
    clip = video(20, 16, 16, 3)
    torch.testing.assert_close(two_frames.label(clip).z, model.label(clip[1::2]).z)
    with pytest.raises(ValueError, match=r"video of 3 frames, expected 4 or more: 2 states of 2"):
        two_frames.label(clip[:3])
    with pytest.raises(ValueError, match=r"video of 7 frames, expected a multiple of 2.*video\[:6\]"):
        two_frames.label(clip[:7])
    z = two_frames.label(clip).z
    torch.testing.assert_close(two_frames.imagine(clip[:2], z).states, model.imagine(clip[1:2], z).states)


# ---------------------------------------------------------------------- imagining


def test_imagining_is_a_rollout(model):
    clip = video(3, 16, 16, 3)
    z = model.label(clip).z
    imagined = model.imagine(clip[:1], z)
    with torch.no_grad():
        first = model.world.encoder(torch.from_numpy(clip[:1]).permute(0, 3, 1, 2)[None])
        expected = model.world.rollout(first, z[None])[0]
        assert torch.equal(imagined.states, expected)
        pictures = model.world.encoder.to_image(expected[None])[0]
    assert imagined.frames.dtype == torch.uint8
    assert imagined.frames.shape == (2, 16, 16, 3)
    assert (imagined.frames.permute(0, 3, 1, 2) / 255 - pictures).abs().max() <= 0.5 / 255 + 1e-6


def test_latents_count_from_the_first_given_state(model):
    clip = video(3, 16, 16, 3)
    z = model.label(clip).z
    given = model.imagine(clip[:2], z)
    assert given.states.shape[0] == 1
    with torch.no_grad():
        states = model.world.encoder(torch.from_numpy(clip[:2]).permute(0, 3, 1, 2)[None])
        torch.testing.assert_close(given.states, model.world.predict(states, z[None])[0, -1:])


def test_a_long_future_looks_back_no_further_than_training_did(model):
    clip = video(1, 16, 16, 3)
    z = model.sample_prior(7, torch.Generator().manual_seed(0))
    assert z.shape == (7, 1, 8)
    imagined = model.imagine(clip, z).states
    assert len(imagined) == 7
    # windows were of three states, so a prediction sees two
    first = torch.cat([model.imagine(clip, z[:4]).states])
    torch.testing.assert_close(imagined[:4], first)
    with torch.no_grad():
        last = model.world.predict(imagined[None, 4:6], z[None, 5:7])[0, -1]
    torch.testing.assert_close(imagined[6], last)
    edited = z.clone()
    edited[6] += 1
    assert torch.equal(model.imagine(clip, edited).states[:6], imagined[:6])


def test_a_batch_imagines_what_its_videos_imagine(model):
    batch = video(2, 4, 16, 16, 3)
    z = model.label(batch).z
    together = model.imagine(batch[:, :1], z)
    for i in range(2):
        torch.testing.assert_close(together.states[i], model.imagine(batch[i, :1], z[i]).states)


def test_latents_that_do_not_fit_are_refused_with_advice(model):
    clip, z = video(3, 16, 16, 3), model.sample_prior(3)
    with pytest.raises(ValueError, match=r"z of shape \(3, 8\), expected \(T-1, 1, 8\)"):
        model.imagine(clip, z[:, 0])
    with pytest.raises(ValueError, match=r"expected \(2, T-1, 1, 8\)"):
        model.imagine(np.stack([clip, clip]), z[None])
    with pytest.raises(ValueError, match=r"z itself, not its codes"):
        model.imagine(clip[:1], z.long())
    with pytest.raises(ValueError, match=r"Got 3 states of video and 2 latents.*nothing is left to imagine"):
        model.imagine(clip, z[:2])
