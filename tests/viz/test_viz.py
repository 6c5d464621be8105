"""Visualizations in a validation pass: each writes its tag and its file, or nothing where there is nothing to show."""

import io

import pytest
import torch
from PIL import Image

import lam.viz
from lam.evals import Rate, Results
from lam.viz import EmbeddingVisualization, PredictionVisualization, RateVisualization, RolloutVisualization
from tests.evals.toy import ToyBottleneck
from tests.processes import run_processes
from tests.viz.toy import Model, Mute, Signs, batches, images, validate

CATALOG = [getattr(lam.viz, name) for name in lam.viz.__all__ if name != "Visualization"]
ALWAYS = {"boards/prediction", "boards/rollout", "boards/transfer", "boards/leakage"}


class Curve(Rate):
    """Has measured a curve."""

    def compute(self, model):
        points = [{"coder": "scalar", "bits": bits, "rise": 0.0, "error": 1 / (1 + bits)} for bits in (0.0, 2.0, 1.0)]
        return Results(curves={"points": points}, clips={"unquantized": (torch.arange(2), torch.tensor([0.2, 0.4]))})


@pytest.mark.parametrize("frames", [2, 8])
@pytest.mark.parametrize(
    ("bottleneck", "tags"),
    [
        (ToyBottleneck(3, 1), ALWAYS | {"boards/rate", "boards/traversal"}),
        (Signs(3, 1), ALWAYS | {"boards/rate", "boards/code_gallery", "boards/code_usage"}),
        (Mute(3, 1), ALWAYS | {"boards/rate"}),
    ],
    ids=["continuous", "discrete", "none"],
)
def test_tags_and_files_of_each_kind_of_latent(bottleneck, tags, frames, tmp_path):
    visualizations = [each() for each in CATALOG]
    last = Curve()  # the order of callbacks does not matter
    validate(tmp_path, *visualizations, last, model=Model(bottleneck), data=batches(frames=frames))
    written = {f"boards/{path.stem}": path for path in tmp_path.glob("boards/*.*")}
    assert set(written) == tags
    for tag, path in written.items():
        picture = Image.open(io.BytesIO(path.read_bytes()))
        assert picture.format == ("GIF" if tag == "boards/rollout" else "PNG")
        low, high = picture.convert("L").getextrema()
        assert low < 60 and high > 240, f"{tag} is blank"
        assert 400 <= picture.size[0] <= 2000
        if tag == "boards/rollout":
            assert picture.n_frames == frames
    assert (tmp_path / "projector_config.pbtxt").exists() == (not isinstance(bottleneck, Mute))
    for each in visualizations:
        assert each.results.curves["seconds"] > 0
        assert each.results.metrics == {}


def test_a_card_of_tensorboard_has_few_clips_and_text_that_can_be_read(tmp_path):
    trainer = validate(tmp_path, *(each() for each in CATALOG), Curve(), model=Model(), data=batches(frames=8))
    shown = images(trainer)
    assert set(shown) == {"visual/prediction", "visual/rollout"}
    for tag, (event,) in shown.items():
        picture = Image.open(io.BytesIO(event.encoded_image_string))
        assert picture.size == (event.width, event.height)
        # a card is some 300 pixels wide: letters of 20 pixels are then 13 or more
        assert 300 <= picture.size[0] <= 450
        low, high = picture.convert("L").getextrema()
        assert low < 60 and high > 240, f"{tag} is blank"
        assert getattr(picture, "n_frames", 1) == (8 if tag == "visual/rollout" else 1)


def test_a_single_source_has_no_pairs_and_no_rate_no_curve(tmp_path):
    data = batches(sources=["one"] * 40)
    trainer = validate(tmp_path, *(each() for each in CATALOG), model=Model(), data=data)
    assert {path.stem for path in tmp_path.glob("boards/*.*")} == {"prediction", "rollout", "traversal"}
    assert set(images(trainer)) == {"visual/prediction", "visual/rollout"}


def test_what_an_earlier_pass_showed_goes_when_there_is_nothing_to_show_any_more(tmp_path):
    validate(tmp_path, *(each() for each in CATALOG), model=Model(Signs(3, 1)))
    assert (tmp_path / "boards" / "code_usage.png").exists()
    validate(tmp_path, *(each() for each in CATALOG), model=Model(Mute(3, 1)))
    assert {path.name for path in tmp_path.glob("boards/*.*")} == {
        "prediction.png",
        "rollout.gif",
        "transfer.png",
        "leakage.png",
    }
    assert not (tmp_path / "projector_config.pbtxt").exists()


def test_nothing_is_written_without_tensorboard_or_by_test(tmp_path):
    validate(tmp_path, PredictionVisualization(), EmbeddingVisualization(), logger=False)
    assert list(tmp_path.rglob("*")) == []


class TestModel(Model):
    """Can be tested, as models of the project can."""

    __test__ = False
    test_step = Model.validation_step
    on_test_epoch_start = Model.on_validation_epoch_start


def test_other_data_leave_the_pictures_of_the_run_alone(tmp_path):
    validate(tmp_path, PredictionVisualization(), EmbeddingVisualization(), model=TestModel(), method="test")
    assert not (tmp_path / "boards").exists() and not (tmp_path / "projector_config.pbtxt").exists()


class Precise(PredictionVisualization):
    """Notes in which precision the model is asked and whether gradients are off."""

    def draw(self, model):
        infer, self.found = model.predict, []
        model.predict = lambda *args: (
            self.found.append((torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled())) or infer(*args)
        )
        drawn = super().draw(model)
        del model.predict
        return drawn


def test_the_model_is_asked_in_the_precision_of_the_run(tmp_path):
    visualization = Precise()
    validate(tmp_path, visualization, precision="bf16-mixed")
    assert visualization.found == [(True, True)]


def test_all_visualizations_work_in_mixed_precision(tmp_path):
    validate(tmp_path, *(each() for each in CATALOG), Curve(), precision="bf16-mixed")
    validate(tmp_path, *(each() for each in CATALOG), Curve(), model=Model(Signs(3, 1)), precision="bf16-mixed")


def test_two_passes_draw_the_same(tmp_path):
    for name in ("one", "other"):
        validate(tmp_path / name, *(each() for each in CATALOG), Curve())
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one" / "boards").rglob("*.*"))
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes(), file


def drawn(share: slice | None = None) -> dict:
    """What visualizations draw when this process sees a share of the clips."""
    import torch.distributed as dist

    from tests.viz.toy import batches

    found = {}
    for kind in (ToyBottleneck, Signs):
        model, visualizations = Model(kind(3, 1)).eval(), [each() for each in CATALOG if each is not EmbeddingVisualization]
        for each in visualizations:
            each.prepare(model)
        model.clip_buffer.reset()
        turn = dist.get_rank() if dist.is_initialized() else 0
        count = dist.get_world_size() if dist.is_initialized() else 1
        with torch.inference_mode():
            for batch in list(batches(48))[turn::count]:
                observation = model.validation_step(batch)
                for each in visualizations:
                    each.observe(observation, model)
            found[kind.__name__] = {each.name: each.draw(model) for each in visualizations}
            found[f"{kind.__name__} cards"] = {each.name: each.draw_card(model) for each in visualizations}
    return found


def test_two_processes_draw_what_one_draws(tmp_path):
    alone = drawn()
    assert sum(file is not None for files in alone.values() for file in files.values()) == 11 + 4
    assert run_processes(drawn, folder=tmp_path) == [alone, alone]


def test_the_step_is_that_of_the_weights(tmp_path):
    visualization = RolloutVisualization()
    trainer = validate(tmp_path, visualization)
    visualization.on_load_checkpoint(trainer, trainer.lightning_module, {"global_step": 250})
    trainer.validate(Model(), batches(), verbose=False)
    assert [event.step for event in images(trainer)["visual/rollout"]] == [0, 250]


def test_rate_curves_of_an_earlier_pass_are_not_shown(tmp_path):
    rate = Curve()
    trainer = validate(tmp_path, RateVisualization(), rate)
    assert (tmp_path / "boards" / "rate.png").exists()
    rate.compute = lambda model: Results()
    trainer.validate(Model(), batches(), verbose=False)
    assert not (tmp_path / "boards" / "rate.png").exists()
