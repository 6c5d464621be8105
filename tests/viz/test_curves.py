from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lam.viz.base import TAGS
from lam.viz.curves import CurveLogger


def written(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Points of each chart."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def logger(folder: Path) -> CurveLogger:
    return CurveLogger(folder, name="", version="")


def test_there_is_no_chart_of_the_epoch_and_none_of_a_number_that_came_once(tmp_path):
    one = logger(tmp_path)
    one.log_metrics({"train/prediction": 1.0, "epoch": 0}, 1)
    one.log_metrics({"train/prediction": 0.5, "epoch": 0}, 2)
    one.log_metrics({"val/prediction": 0.75, "eval/leakage/ratio": 2.0, "epoch": 0}, 2)
    one.log_metrics({"val/prediction": 0.75, "eval/leakage/ratio": 2.0, "epoch": 0}, 2)  # validated again at the end
    one.save()
    assert written(tmp_path) == {"train/prediction": [(1, 1.0), (2, 0.5)], "val/prediction": [(2, 0.75), (2, 0.75)]}


def test_numbers_that_come_more_than_once_are_a_curve_from_the_first_on(tmp_path):
    one = logger(tmp_path)
    for step, value in ((5, 2.0), (10, 1.5), (15, 1.25)):
        one.log_metrics({"eval/leakage/ratio": value}, step)
    one.save()
    assert written(tmp_path) == {"val_eval/leakage/ratio": [(5, 2.0), (10, 1.5), (15, 1.25)]}


def test_a_resumed_run_goes_on_with_its_curves(tmp_path):
    (tmp_path / "events.out.tfevents.1.earlier.0").touch()
    one = logger(tmp_path)
    one.log_metrics({"eval/leakage/ratio": 2.0}, 20)
    one.save()
    assert written(tmp_path) == {"val_eval/leakage/ratio": [(20, 2.0)]}


def test_a_pass_without_training_writes_no_dots(tmp_path):
    (tmp_path / "events.out.tfevents.1.earlier.0").touch()
    one = logger(tmp_path)
    one.log_metrics({"val/prediction": 0.5, "eval/leakage/ratio": 2.0}, 0)
    one.save()
    assert written(tmp_path) == {}


def test_training_and_validation_come_first_and_pictures_last(tmp_path):
    """TensorBoard shows groups of tags in the order of their names, whatever their kind."""
    one = logger(tmp_path)
    for step in (1, 2):
        one.log_metrics({"z/perplexity": 1.0, "train/prediction": 1.0, "val/prediction": 1.0, "eval/usage/norm": 1.0}, step)
    one.save()
    groups = sorted({tag.partition("/")[0] for tag in [*written(tmp_path), TAGS]})
    assert groups == ["train", "val", "val_eval", "visual", "z"]
