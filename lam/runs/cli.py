"""The command line: ``lam fit | validate | test | predict``, one LightningCLI over one model and one data module."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import lightning.pytorch as pl
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

import lam.bottlenecks
import lam.encoders
import lam.optimizers  # noqa: F401  parts are imported so that their short names work in YAML and on the command line
from lam.data.datamodule import ClipDataModule
from lam.models.latent_action import LatentActionModel
from lam.runs.base import RunCLI
from lam.runs.errors import SettingsError
from lam.runs.predictions import LatentWriter
from lam.runs.provenance import Provenance, code_revision, provenance_of, read_provenance
from lam.runs.results import logged, skip_lines, source_warning, timing_summary, write_metrics, write_results
from lam.runs.terminal.summary import LastPass, error_line, where_it_lies

CHECKPOINT_DEFAULTS = {"filename": "last", "every_n_train_steps": 1000, "save_top_k": 1, "enable_version_counter": False}
"""Defaults of ``--checkpoint.*``: the last state, written again every thousand steps."""


class LamCLI(RunCLI):
    """``lam fit`` leaves config.yaml and checkpoints in the run's folder, ``lam validate`` metrics.json and its like."""

    model_type = LatentActionModel
    data_type = ClipDataModule

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add where ``predict`` writes and when checkpoints are saved."""
        super().add_arguments_to_parser(parser)
        parser.add_lightning_class_args(LatentWriter, "latents")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults({f"checkpoint.{key}": value for key, value in CHECKPOINT_DEFAULTS.items()})

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build a trainer that knows which weights its last pass over validation clips saw."""
        trainer = super().instantiate_trainer(**kwargs)
        self.last_pass = LastPass()
        trainer.callbacks.append(self.last_pass)  # type: ignore[attr-defined]  # Lightning sets it in a connector
        return trainer

    def provenance(self, data_hash: str) -> Provenance:
        """Return the provenance of this run, before it is trained."""
        text = self._parser(self.subcommand).dump(self.settings, skip_none=False)
        return provenance_of(yaml.safe_load(text), data_hash, code_revision())

    def before_fit(self) -> None:
        """Note the provenance of this run, so that a killed one can be told from a stale one."""
        if self.trainer.is_global_zero and not self.settings["trainer"]["fast_dev_run"]:
            self.run_directory.mkdir(parents=True, exist_ok=True)
            self.provenance(self.datamodule.index.digest).write(self.run_directory / "started.json")

    def after_fit(self) -> None:
        """Save the last step and note that training has ended."""
        super().after_fit()
        if self.trainer.is_global_zero and not self.settings["trainer"]["fast_dev_run"]:
            self.provenance(self.datamodule.index.digest).write(self.run_directory / "trained.json")

    def before_validate(self) -> None:
        """Refuse to put numbers of other settings or data into a run's folder."""
        started = read_provenance(self.run_directory / "started.json")
        if started and not started.same_weights(self.provenance(self.datamodule.index.digest)):
            raise SettingsError(
                f"{self.run_directory} was trained with other settings or data. Validate from its own config.yaml without "
                "flags that change the model or the data; lam test is for other data."
            )

    def evaluate(self) -> None:
        """Evaluate what was trained just now and write its numbers, as ``lam validate`` does.

        Where the last pass of the training saw the weights it ended with, its numbers are taken.
        """
        if self.last_pass.step != self.trainer.global_step:
            self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
        self.after_validate()

    def after_validate(self) -> None:
        """Write the findings of the evaluations, of which tables are made; only a run that has ended counts as a row."""
        today = self.provenance(self.datamodule.index.digest)
        trained = read_provenance(self.run_directory / "trained.json")
        write_results(self.run_directory, self.trainer, today, finished=trained is not None and trained.same_weights(today))

    def after_test(self) -> None:
        """Write the numbers of a pass over other data beside the run's own, named after that data's folder."""
        if self.trainer.is_global_zero:
            write_metrics(self.run_directory / f"test-{self.datamodule.index.name}.json", self.trainer)


def run(args: ArgsType = None, cli_class: type[LamCLI] = LamCLI, **trainer_defaults: object) -> LamCLI:
    """Build and run what the arguments say; errors are raised, not printed.

    Args:
        args: Arguments as typed on the command line; those of the process if not given.
        cli_class: The command line to build.
        trainer_defaults: Defaults of the trainer that are no settings of the run, such as a progress bar.
    """
    return cli_class(args, **trainer_defaults)


def filter_known_warnings() -> None:
    """Silence warnings of libraries that are known and harmless."""
    # the line after Ctrl-C is ours, and lam.runs.terminal.hardware has one line for what Lightning says of devices in five
    unwanted = ("litlogger", "Detected KeyboardInterrupt", "GPU available", "TPU available", "You are using a CUDA device")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: not any(word in record.getMessage() for word in unwanted)
    )
    warnings.filterwarnings("ignore", r"GPU available but not used.*")
    # the frozen encoder is in eval mode on purpose
    warnings.filterwarnings("ignore", r".*in eval mode at the start of training.*")
    # Lightning-AI/pytorch-lightning: its tree utilities lag behind torch 2.13
    warnings.filterwarnings("ignore", r".*LeafSpec.* is deprecated.*")
    # a resumed run goes on in its own folder
    warnings.filterwarnings("ignore", r"Checkpoint directory .* exists and is not empty.*")
    # sizes in the model summary are those of 32-bit weights, which mixed precision keeps
    warnings.filterwarnings("ignore", r".*is not supported by the model summary.*")


def main(arguments: list[str]) -> None:
    """Run ``lam fit``, ``validate``, ``test`` or ``predict``; the subcommand comes first.

    A training ends with an evaluation. Numbers are files; a line of them is shown, all with ``--verbose true``.
    """
    filter_known_warnings()
    command, *rest = arguments
    cli = run([command, *(["--verbose=false"] if command in ("validate", "test") else []), *rest])
    if cli.settings["trainer"]["fast_dev_run"] or cli.subcommand == "predict":
        return
    if cli.subcommand == "fit":
        if not cli.trainer.limit_val_batches:
            return
        with cli.locked():
            cli.evaluate()
    if cli.trainer.is_global_zero:
        print(*ending(cli), sep="\n")


def ending(cli: LamCLI) -> list[str]:
    """Say what came of a training or an evaluation."""
    clips = cli.model.val_clip_sources
    lines = [error_line(logged(cli.trainer), clips), *source_warning(clips), *skip_lines(cli.trainer)]
    if cli.subcommand == "fit":
        return lines + where_it_lies(cli.run_directory)
    return [*lines, timing_summary(cli.trainer)]
