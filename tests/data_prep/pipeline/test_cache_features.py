import dataclasses
import io
import json
import shutil
import struct
import tarfile

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import data_prep.pipeline.cache_features
from data_prep.cli import main
from data_prep.pipeline.cache_features import feature_info, features
from data_prep.pipeline.reader import repeat_spec
from data_prep.shards.sample import DatasetSpec, Sample
from data_prep.shards.writer import ShardWriter
from lam.data.index import DataIndex
from lam.data.schema import ActionField, Storage
from lam.encoders import VJEPA, Autoencoder, Vision
from lam.encoders.autoencoder.network import ConvAutoencoder
from lam.encoders.frozen import FrozenEncoder
from lam.encoders.saved import save_encoder
from tests.data_prep.sources.recordings import rows
from tests.encoders.conftest import save_transformer, write_colors

SIZE = 32
LENGTHS = {"train": [6, 11, 3, 8], "val": [7]}
COMMON = ("key", "source", "episode", "first")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A set of noise with all that samples can have; step i does 10 ** i, so sums show what was added."""
    folder = tmp_path_factory.mktemp("source") / "set"
    actions = [ActionField("push", 1, "sum"), ActionField("grip", 1, "last")]
    rng = np.random.default_rng(0)
    with ShardWriter(folder, DatasetSpec(SIZE, SIZE, Storage.jpeg, actions, {"turn": "mean"}, samples_per_shard=3)) as writer:
        for split, lengths in LENGTHS.items():
            for i, count in enumerate(lengths):
                steps = np.arange(count - 1)
                sample = Sample(
                    key=f"{split}/{i}",
                    source=f"tape {i // 2}",
                    episode=f"take {i}",
                    frames=rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8),
                    times=np.arange(count) / 4 + 0.01 * i,
                    actions=np.stack([10.0**steps, steps], axis=1),
                    factors={"turn": 2.0 * steps, "hit": steps % 3},
                    first=50 + i,
                )
                writer.add(split, sample)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Folders of tiny random weights."""
    root = tmp_path_factory.mktemp("weights")
    for kind in ("dinov2", "vjepa2"):
        save_transformer(kind, root / kind)
    torch.manual_seed(0)
    save_encoder("autoencoder", ConvAutoencoder(dim=12, width=8, num_halvings=3), SIZE, root / "autoencoder")
    return root


def members(folder, split):
    """Members of all samples by key and ending, read from the tars alone."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob(f"{split}-*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                key, _, ending = info.name.partition(".")
                found.setdefault(key, {})[ending] = tar.extractfile(info).read()
    return found


def pictures(row):
    """Frames (F, 3, H, W) of a packed row, decoded by Pillow."""
    (count,) = struct.unpack_from("<i", row)
    sizes = struct.unpack_from(f"<{count}i", row, 4)
    ends = 4 + 8 * count + np.cumsum(sizes)
    decoded = [np.array(Image.open(io.BytesIO(row[end - size : end]))) for size, end in zip(sizes, ends, strict=True)]
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)


def states(member, shape):
    """States (T, N, D) of a member: sums of four bytes, then bfloat16."""
    count = len(member) // (4 + 2 * shape[0] * shape[1])
    bits = np.frombuffer(member, "<u2", offset=4 * count).astype(np.uint32) << 16  # bfloat16 begins a float32
    return torch.from_numpy(bits.view(np.float32).reshape(count, *shape).copy())


def encoders(weights):
    return {
        "dinov2": lambda: Vision(str(weights / "dinov2"), image_size=SIZE, frames_at_once=4),
        "autoencoder": lambda: Autoencoder(str(weights / "autoencoder")),
        "vjepa2": lambda: VJEPA(str(weights / "vjepa2"), image_size=SIZE),
    }


@pytest.mark.parametrize("kind", ["dinov2", "autoencoder", "vjepa2"])
def test_states_are_those_of_the_pictures_up_to_rounding(kind, source, weights, tmp_path):
    encoder = encoders(weights)[kind]()
    assert features(source, tmp_path / "out", encoder=encoder, device="cpu") == 0
    index = DataIndex.load(tmp_path / "out")
    each = encoder.frames_per_state
    assert (index.storage, (index.height, index.width)) == (Storage.states, encoder.grid)
    assert (index.features.dim, index.features.frames_per_state) == (encoder.dim, each)
    assert index.features.shards == DataIndex.load(source).digest
    for split, lengths in LENGTHS.items():
        given, made = members(source, split), members(tmp_path / "out", split)
        usable = [key for key, length in zip(given, lengths, strict=True) if length >= 2 * each]
        assert list(made) == usable
        for key in usable:
            seen = pictures(given[key]["jpgs"])
            seen = seen[: len(seen) // each * each]
            expected = encoder(seen[None])[0]
            found = states(made[key]["states"], (encoder.shape.tokens, encoder.dim))
            assert found.shape == expected.shape
            torch.testing.assert_close(found, expected, rtol=2**-8, atol=1e-5)  # bfloat16 keeps eight bits
            assert not torch.equal(found, expected)
    assert index.dropped == ({"fewer than two states of 2 frames": 1} if each == 2 else {})


def test_what_lies_beside_the_pictures_stays(source, weights, tmp_path):
    features(source, tmp_path / "out", encoder=encoders(weights)["dinov2"](), device="cpu")
    before, after = DataIndex.load(source), DataIndex.load(tmp_path / "out")
    for name in ("actions", "action_statistics", "factors", "fps"):
        assert getattr(after, name) == getattr(before, name)
    for split in LENGTHS:
        one, other = rows(source, split), rows(tmp_path / "out", split)
        assert [[row[name] for name in (*COMMON, "times")] for row in other] == [
            [row[name] for name in (*COMMON, "times")] for row in one
        ]
        for old, new in zip(members(source, split).values(), members(tmp_path / "out", split).values(), strict=True):
            assert old["actions.npy"] == new["actions.npy"]
            assert old["causes.npz"] == new["causes.npz"]


def test_where_two_frames_make_a_state_times_are_the_last_and_steps_are_joined(source, weights, tmp_path):
    features(source, tmp_path / "out", encoder=encoders(weights)["vjepa2"](), device="cpu")
    assert [row["key"] for row in rows(tmp_path / "out")] == ["train/0", "train/1", "train/3"]  # three frames are one state
    row, other = rows(tmp_path / "out")[0], rows(tmp_path / "out")[1]
    assert row["first"] == 50
    assert row["times"] == [0.25, 0.75, 1.25]  # of frames 1, 3 and 5
    assert len(other["times"]) == 5  # the eleventh frame has no partner
    found = members(tmp_path / "out", "train")["train/0"]
    actions = np.load(io.BytesIO(found["actions.npy"]))
    np.testing.assert_array_equal(actions, [[10 + 100, 2], [1000 + 10000, 4]])  # steps 1, 2 and steps 3, 4
    factors = np.load(io.BytesIO(found["causes.npz"]))
    np.testing.assert_array_equal(factors["turn"], [3, 7])
    np.testing.assert_array_equal(factors["hit"], [2, 1])


class Encoded(FrozenEncoder):
    """Counts the frames it has seen, and may be told to fail."""

    image_size, grid, dim, source, digest = SIZE, (1, 1), 3, "nowhere", "00"

    def __init__(self, fail_after=None, peek=0.0, scale=1.0):
        super().__init__()
        self.seen, self.fail_after, self.peek, self.scale = 0, fail_after, peek, scale

    def forward(self, frames):
        if self.fail_after is not None and self.seen > self.fail_after:
            raise RuntimeError("the device has gone")
        self.seen += frames.shape[1]
        colors = self.scale * frames.float().mean(dim=(-1, -2))[:, :, None]
        return colors + self.peek * colors.mean(dim=1, keepdim=True)

    def to_image(self, states):
        raise NotImplementedError


@pytest.fixture
def _small_shards(monkeypatch):
    """A shard is closed after every sample, so that a run can be interrupted between them."""
    monkeypatch.setattr(
        data_prep.pipeline.cache_features,
        "repeat_spec",
        lambda index: dataclasses.replace(repeat_spec(index), bytes_per_shard=1),
    )
    monkeypatch.setattr(
        data_prep.pipeline.cache_features, "_HOW_ONLY", (*data_prep.pipeline.cache_features._HOW_ONLY, "seen", "fail_after")
    )


@pytest.mark.usefixtures("_small_shards")
def test_an_interrupted_run_goes_on_and_ends_the_same(source, tmp_path):
    straight = Encoded()
    assert features(source, tmp_path / "straight", encoder=straight) == 0
    half = Encoded(fail_after=8 + 6 + 10)  # eight frames are for the check, then samples of 6, 11, 3 ...
    with pytest.raises(RuntimeError, match="the device has gone"):
        features(source, tmp_path / "half", encoder=half)
    assert not (tmp_path / "half" / "index.json").exists()
    assert len(list((tmp_path / "half").glob("*.tar"))) == 2
    rest = Encoded()
    assert features(source, tmp_path / "half", encoder=rest) == 0
    names = sorted(path.name for path in (tmp_path / "straight").iterdir() if path.suffix in (".tar", ".parquet"))
    assert len(names) == 2 * 5 + 1
    for name in names:
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    assert features(source, tmp_path / "half", encoder=Encoded()) == 0  # nothing to do


def test_what_was_done_before_an_interruption_is_not_done_again(source, tmp_path, monkeypatch):
    monkeypatch.setattr(
        data_prep.pipeline.cache_features, "_HOW_ONLY", (*data_prep.pipeline.cache_features._HOW_ONLY, "seen", "fail_after")
    )
    training = sum(LENGTHS["train"])
    with pytest.raises(RuntimeError, match="the device has gone"):
        features(source, tmp_path / "out", encoder=Encoded(fail_after=8 + training - 1))
    rest = Encoded()
    features(source, tmp_path / "out", encoder=rest)
    assert rest.seen == 8 + sum(LENGTHS["val"])


def test_another_encoder_cannot_go_on(source, weights, tmp_path):
    first = Vision(str(weights / "dinov2"), image_size=SIZE)
    features(source, tmp_path / "out", encoder=first)
    for other, precision in (
        (Vision(str(weights / "dinov2"), image_size=SIZE, input_size=48), "fp32"),
        (encoders(weights)["autoencoder"](), "fp32"),
        (first, "bf16"),
    ):
        with pytest.raises(ValueError, match=r"made with other settings \(fingerprint\)"):
            features(source, tmp_path / "out", encoder=other, precision=precision)


def test_states_that_are_no_numbers_stop_the_run_and_blame_no_recording(source, tmp_path):
    with pytest.raises(ValueError, match="nowhere makes states that are infinite or not a number"):
        features(source, tmp_path / "out", encoder=Encoded(scale=1e38))
    assert not (tmp_path / "out" / "index.json").exists()


def test_an_encoder_that_knows_the_future_is_refused(source, tmp_path):
    with pytest.raises(ValueError, match="States of Encoded depend on later frames"):
        features(source, tmp_path / "out", encoder=Encoded(peek=0.01))
    assert not (tmp_path / "out").exists()


def test_a_damaged_sample_is_left_out_and_named(source, tmp_path):
    broken = shutil.copytree(source, tmp_path / "broken")
    shard = broken / "train-000000-001.tar"
    data = bytearray(shard.read_bytes())
    data[rows(broken)[3]["video_offset"] + 200] ^= 1
    shard.write_bytes(data)
    assert features(broken, tmp_path / "out", encoder=Encoded()) == 3
    assert [row["key"] for row in rows(tmp_path / "out")] == ["train/0", "train/1", "train/2"]
    (left_out,) = DataIndex.load(tmp_path / "out").quarantined
    assert "train/3" in left_out.reason


def change_config(folder, **changed):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changed}))


def test_the_fingerprint_is_of_what_states_depend_on_and_of_nothing_else(source, weights, tmp_path):
    index = DataIndex.load(source)

    def fingerprint(folder=weights / "dinov2", precision="fp32", **options):
        return feature_info(Vision(str(folder), **{"image_size": SIZE, **options}), precision, index).fingerprint

    first = fingerprint()
    moved = shutil.copytree(weights / "dinov2", tmp_path / "moved")
    assert fingerprint(moved) == first
    assert fingerprint(frames_at_once=3) == first
    others = [fingerprint(input_size=48), fingerprint(precision="bf16"), fingerprint(image_size=16, input_size=SIZE)]
    change_config(moved, num_attention_heads=3)  # the same weights, other states
    others.append(fingerprint(moved))
    change_config(moved, num_attention_heads=2)
    assert fingerprint(moved) == first
    write_colors(str(moved), [0.5] * 3, [0.5] * 3)
    others.append(fingerprint(moved))
    torch.manual_seed(1)
    save_encoder("autoencoder", ConvAutoencoder(dim=12, width=8, num_halvings=3), SIZE, tmp_path / "other")
    others += [
        feature_info(Autoencoder(str(f)), "fp32", index).fingerprint for f in (weights / "autoencoder", tmp_path / "other")
    ]
    assert len({first, *others}) == 1 + len(others)


def test_the_command_line_takes_a_class_or_a_file(source, weights, tmp_path, capsys):
    part = {"class_path": "Vision", "init_args": {"path_or_name": str(weights / "dinov2"), "image_size": 224}}
    (tmp_path / "encoder.yaml").write_text(yaml.safe_dump(part))
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump({"model": {"encoder": part}}))  # as those of experiments/encoders
    chosen = {
        "class": ["--encoder", "Vision", "--encoder.path_or_name", str(weights / "dinov2")],
        "file": ["--encoder", str(tmp_path / "encoder.yaml")],
        "overlay": ["--encoder", str(tmp_path / "overlay.yaml")],
    }
    for name, encoder in chosen.items():
        order = ["features", str(source), str(tmp_path / name), *encoder, "--encoder.image_size", str(SIZE), "--device", "cpu"]
        assert main(order) == 0
    assert "4 training and 1 validation clips" in capsys.readouterr().out
    one, other, third = (DataIndex.load(tmp_path / name) for name in chosen)
    assert one.features == other.features == third.features
    assert one.features.encoder["class_path"] == "lam.encoders.vision.Vision"
    assert one.features.encoder["source"] == str(weights / "dinov2")
    assert [info.sha256 for info in one.splits["train"]] == [info.sha256 for info in other.splits["train"]]


def test_errors_say_what_to_do(source, weights, tmp_path, capsys):
    features(source, tmp_path / "out", encoder=Encoded())
    with pytest.raises(ValueError, match=r"holds states of an encoder, no pictures\. Give the shards they were made of"):
        features(tmp_path / "out", tmp_path / "again", encoder=Encoded())
    with pytest.raises(ValueError, match="32 x 32 pixels, the encoder is set to image_size 16"):
        features(source, tmp_path / "again", encoder=Vision(str(weights / "dinov2"), image_size=16))
    assert main(["features", str(source), str(tmp_path / "again"), "--encoder", "lam.encoders.Patches"]) == 2
    assert "not correspond to a subclass of FrozenEncoder" in capsys.readouterr().err


def test_an_encoder_that_does_not_say_which_weights_it_has_is_refused(source, tmp_path):
    encoder = Encoded()
    encoder.digest = ""
    with pytest.raises(ValueError, match=r"Encoded has no digest\. Set self\.digest"):
        features(source, tmp_path / "out", encoder=encoder)
