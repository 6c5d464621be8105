"""Evaluations inside a Lightning validation pass, as a run has them."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from lam.evals import Capacity, Future, Probe, Rate, Results, Usage
from tests.evals.toy import ToyModel, clips, part


def trainer(folder, *callbacks, logger=True, precision="32-true"):
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        precision=precision,
        logger=TensorBoardLogger(folder) if logger else False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def loader(count=40):
    clip = clips(count, factors={"dx": torch.randn(count, 2, generator=torch.Generator().manual_seed(0))})
    batches = [part(clip, start, min(start + 16, count)) for start in range(0, count, 16)]
    return torch.utils.data.DataLoader(batches, batch_size=None)


@pytest.mark.filterwarnings("ignore:The 'val_dataloader' does not have many workers")
def test_all_together(tmp_path):
    evaluations = [Capacity(), Rate(), Probe(budgets=(8,)), Usage(), Future()]
    run = trainer(tmp_path, *evaluations)
    run.validate(ToyModel(), loader(), verbose=False)
    for evaluation in evaluations:
        assert evaluation.results.curves["seconds"] > 0
        for key, value in evaluation.results.metrics.items():
            assert run.callback_metrics[f"eval/{evaluation.name}/{key}"].item() == pytest.approx(value, rel=1e-6, abs=1e-6)
    for key in ("capacity/error", "rate/bits_nominal", "probe/gain/dx", "probe/gain@8/dx", "usage/collapsed", "future/passed"):
        assert f"eval/{key}" in run.callback_metrics


class Precision(Capacity):
    """Notes whether autocast is on."""

    name = "precision"

    def observe(self, observation, model):
        self.observing = torch.is_autocast_enabled("cpu")

    def compute(self, model):
        self.computing = torch.is_autocast_enabled("cpu")
        return Results()


@pytest.mark.filterwarnings("ignore:The 'val_dataloader' does not have many workers")
def test_the_model_is_asked_in_the_precision_of_the_run_and_numbers_are_made_in_full(tmp_path):
    evaluation = Precision()
    trainer(tmp_path, evaluation, logger=False, precision="bf16-mixed").validate(ToyModel(), loader(), verbose=False)
    assert (evaluation.observing, evaluation.computing) == (True, False)


def test_two_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="called 'probe'"):
        trainer(tmp_path, Probe(), Probe(components=8), logger=False).validate(ToyModel(), loader(), verbose=False)
