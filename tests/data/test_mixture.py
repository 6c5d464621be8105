import math

import jsonargparse
import numpy as np
import pytest

from lam.data.datamodule import ClipDataModule
from lam.data.mixture import open_index, open_mixture
from lam.data.schema import Storage
from lam.data.split_reader import SplitReader
from tests.data.shards import frame_of, write_set, write_states


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Samples 0 to 4 in one, 20 to 22 in the other."""
    root = tmp_path_factory.mktemp("sets")
    one = write_set(root / "one", train=[9, 12, 7], val=[10, 8])
    two = write_set(root / "two", train=[10, 11], val=[9], storage=Storage.mp4, first=20)
    return one, two


def mixed(folders, **settings):
    shards = {str(folders[0]): 3, str(folders[1]): 1}
    return ClipDataModule(shards, **{"frames": 3, "batch_size": 64, "num_workers": 0, **settings})


def samples(clips):
    return np.concatenate([frame_of(clip.frames.numpy())[:, 0, 0] for clip in clips])


def test_training_windows_have_their_shares(folders):
    stream = iter(mixed(folders).train_dataloader())
    counts = np.bincount(samples(next(stream) for _ in range(16)), minlength=23)  # 1024 windows
    assert counts[:3].sum() == 768 and counts[20:22].sum() == 256
    assert np.ptp(counts[:3]) <= 1 and np.ptp(counts[20:22]) <= 1  # passes of each set


def test_validation_and_prediction_see_all_sets(folders):
    data = mixed(folders, batch_size=4)
    val = list(data.val_dataloader())
    assert np.bincount(samples(val), minlength=23)[[3, 4, 22]].tolist() == [3, 2, 3]
    assert val[0].actions is not None and set(val[0].factors) == {"dx", "enters"}
    positions = np.concatenate([clip.position.numpy() for clip in data.predict_dataloader()])
    assert sorted(positions) == list(range(len(positions)))
    assert set(samples(data.predict_dataloader())) == {0, 1, 2, 3, 4, 20, 21, 22}


def test_the_common_index(folders):
    one, two = (open_index(folder) for folder in folders)
    index = open_index({str(folders[0]): 3, str(folders[1]): 1})
    assert index.name == "one+two" and index.action_dim == 2
    for i in range(3):
        mean = 0.75 * one.pixel_mean[i] + 0.25 * two.pixel_mean[i]
        squares = [each.pixel_std[i] ** 2 + each.pixel_mean[i] ** 2 for each in (one, two)]
        assert index.pixel_mean[i] == pytest.approx(mean)
        assert index.pixel_std[i] == pytest.approx(math.sqrt(0.75 * squares[0] + 0.25 * squares[1] - mean**2))
    others = [{str(folders[0]): 1, str(folders[1]): 1}, {str(folders[1]): 1, str(folders[0]): 3}, str(folders[0])]
    assert len({index.digest, *(open_index(other).digest for other in others)}) == 4
    assert open_index({str(folders[0]): 6, str(folders[1]): 2}).digest == index.digest
    assert open_index({str(folders[0]): 7}).digest == one.digest


def test_labels_only_where_all_record_the_same(folders, tmp_path):
    bare = write_set(tmp_path / "bare", train=[9], val=[9], labels=False)
    with pytest.warns(UserWarning, match=r"record different (actions|factors): none are read") as caught:
        data = ClipDataModule({str(folders[0]): 1, str(bare): 1}, frames=3, batch_size=4, num_workers=0)
    assert len(caught) == 2
    val = next(iter(data.val_dataloader()))
    assert val.actions is None and val.factors == {} and data.index.action_dim is None


def test_other_sizes_and_states_do_not_mix(folders, tmp_path):
    states, _ = write_states(tmp_path / "states", train=[9], val=[9])
    with pytest.raises(ValueError, match=r"one holds pictures of 16 x 16, .*states states of 2 x 3 tokens .*need the same"):
        open_mixture({str(folders[0]): 1, str(states): 1})


def test_states_of_one_encoder_mix_whatever_shards_it_read(tmp_path):
    one, _ = write_states(tmp_path / "one", train=[9], val=[9])
    two, _ = write_states(tmp_path / "two", train=[9], val=[9], shards="1")
    index = open_index({str(one): 1, str(two): 1})
    assert index.features is not None and len(index.splits["train"]) == 2
    other, _ = write_states(tmp_path / "other", train=[9], val=[9], fingerprint="another")
    with pytest.raises(ValueError, match=r"fingerprint made up, .*fingerprint another; .*need the same"):
        open_index({str(one): 1, str(other): 1})


def test_weights_that_make_no_sense(folders):
    for weights in ({}, {str(folders[0]): 0.0}, {str(folders[0]): 1, str(folders[1]): -1}):
        with pytest.raises(ValueError, match="weights above 0"):
            open_mixture(weights)


def test_a_set_without_long_enough_clips_is_named(folders):
    with pytest.raises(ValueError, match=r"two has no training clip of 12 frames\. Leave it out"):
        data = mixed(folders, frames=12, stride=1)
        data.training_order(SplitReader(data.mixture, "train"))


@pytest.mark.parametrize("value", ["{{{0}: 3, {1}: 1}}", "{0}"])
def test_written_on_the_command_line(folders, value):
    parser = jsonargparse.ArgumentParser()
    parser.add_class_arguments(ClipDataModule, "data")
    given = parser.parse_args([f"--data.shards={value.format(*folders)}", "--data.frames=3", "--data.batch_size=4"])
    data = parser.instantiate_classes(given).data
    assert [each.weight for each in data.mixture.sets] == ([3, 1] if "3" in value else [1])
    assert parser.dump(given)  # config.yaml
