"""The command line: ``lam fit | validate | test | predict``, one LightningCLI over one model and one data module."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import lightning.pytorch as pl
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info

import lam.bottlenecks
import lam.encoders
import lam.optimizers  # noqa: F401  parts are imported so that their short names work in YAML and on the command line
from lam.data.datamodule import ClipDataModule
from lam.io import hash_file, write_json
from lam.models.latent_action import LatentActionModel
from lam.runs.base import RunCLI
from lam.runs.errors import SettingsError
from lam.runs.predictions import LatentWriter
from lam.runs.provenance import Provenance, code_revision, provenance_of, read_provenance
from lam.runs.recovery.places import CONFIG
from lam.runs.recovery.resuming import owner_of
from lam.runs.recovery.warm_start import find_weights, read_weights, summary, take_weights
from lam.runs.results import logged, skip_lines, source_warning, timing_summary, write_metrics, write_results
from lam.runs.terminal.summary import LastPass, error_line, where_it_lies

CHECKPOINT_DEFAULTS = {"filename": "last", "every_n_train_steps": 1000, "save_top_k": 1, "enable_version_counter": False}
"""Defaults of ``--checkpoint.*``: the last state, written again every thousand steps."""


STARTED, TRAINED = "started.json", "trained.json"
"""Names of the files that say what a run was begun as, and that and as what its training has ended."""


class LamCLI(RunCLI):
    """``lam fit`` leaves config.yaml and checkpoints in the run's folder, ``lam validate`` metrics.json and its like."""

    model_type = LatentActionModel
    data_type = ClipDataModule
    warm_start: dict[str, Any] | None = None
    """What was taken from another run's weights and what was left, where this one begins with them."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add where ``predict`` writes and when checkpoints are saved."""
        super().add_arguments_to_parser(parser)
        texts = {
            "init_from": "Run, export, hub:owner/name or checkpoint whose weights a new run begins with.",
            "init_sha256": "SHA-256 of these weights; noted by itself, for the run's config and hash.",
        }
        for name, text in texts.items():
            parser.add_argument(f"--{name}", type=Optional[str], default=None, help=text)  # noqa: UP045  a type at run time
        parser.add_lightning_class_args(LatentWriter, "latents")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults({f"checkpoint.{key}": value for key, value in CHECKPOINT_DEFAULTS.items()})

    def instantiate_trainer(self, **kwargs: object) -> pl.Trainer:
        """Build a trainer that knows which weights its last pass over validation clips saw."""
        trainer = super().instantiate_trainer(**kwargs)
        self.last_pass = LastPass()
        trainer.callbacks.append(self.last_pass)  # type: ignore[attr-defined]  # Lightning sets it in a connector
        return trainer

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Note also which weights a new run begins with, as they are a part of what it is."""
        super().parse_arguments(parser, args)
        settings = self.config.get(self.config.get("subcommand") or "", {})
        if self._asked == "fit" and settings["init_from"] and not settings["init_sha256"]:
            settings["init_sha256"] = hash_file(find_weights(settings["init_from"]))

    def shaping(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Pick the settings that shape what is trained, the weights that it began with among them."""
        return super().shaping(settings) | {"init_sha256": settings.get("init_sha256")}

    def provenance(self, data_hash: str) -> Provenance:
        """Return the provenance of a run with these settings."""
        return provenance_of(yaml.safe_load(self.settings_text()), data_hash, code_revision())

    def before_fit(self) -> None:
        """Refuse to go on with a run on other data than it was begun with, or after its config was changed."""
        if self.settings.get("ckpt_path"):
            self._check_records(
                "Go on with its own data and its config.yaml as it was, or begin a new run from its weights (--init_from)"
            )
        elif self.settings["init_from"]:
            self._begin_warm(self.settings["init_from"], self.settings["init_sha256"])

    def _begin_warm(self, source: str, digest: str) -> None:
        """Take the weights of another run as far as they fit."""
        path = find_weights(source)
        if (found := hash_file(path)) != digest:
            raise SettingsError(
                f"{path} has SHA-256 {found[:12]}..., not {digest[:12]}... as init_sha256 says, so it is not what this run is "
                "to begin with. Leave --init_sha256 null to begin with what is there now."
            )
        self.warm_start = take_weights(self.model, read_weights(path)) | {"from": source, "sha256": digest}
        rank_zero_info(summary(source, digest, self.warm_start))

    def write_beginning(self) -> None:
        """Note the provenance of this run too, so that a killed one can be told from a stale one."""
        super().write_beginning()
        started = self.run_directory / STARTED
        if not self.settings.get("ckpt_path") or not started.exists():
            self.provenance(self.datamodule.index.digest).write(started)
        if self.warm_start:
            write_json(self.run_directory / "init_from.json", self.warm_start)
        (self.run_directory / TRAINED).unlink(missing_ok=True)  # its last checkpoint was lost, and training goes on

    def after_fit(self) -> None:
        """Save the last step and note that training has ended, and after how many steps."""
        super().after_fit()
        if self.trainer.is_global_zero and not self.is_trial:
            today = self.provenance(self.datamodule.index.digest)
            replace(today, steps=self.trainer.global_step).write(self.run_directory / TRAINED)

    def before_validate(self) -> None:
        """Refuse to put numbers of other settings, data or weights into a run's folder."""
        self._check_records(
            "Validate from its own config.yaml without flags that change the model or the data; lam test is for other data"
        )
        checkpoint = self.settings.get("ckpt_path")
        owner = owner_of(Path(checkpoint)) if checkpoint else None
        if owner and owner != self.run_directory.resolve():
            raise SettingsError(
                f"{checkpoint} is of another run than {self.run_directory}. Validate it with its own --config {owner / CONFIG}."
            )

    def _check_records(self, remedy: str) -> None:
        """Compare these settings and data with those that the run's folder was begun with."""
        started = read_provenance(self.run_directory / STARTED)
        if started and not started.same_weights(self.provenance(self.datamodule.index.digest)):
            raise SettingsError(f"{self.run_directory} was trained with other settings or data. {remedy}.")

    def evaluate(self) -> None:
        """Evaluate what was trained just now and write its numbers, as ``lam validate`` does.

        Where the last pass of the training saw the weights it ended with, its numbers are taken.
        """
        if self.last_pass.step != self.trainer.global_step:
            self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
        self.after_validate()

    def after_validate(self) -> None:
        """Write the findings of the evaluations, of which tables are made.

        Only a run whose training has ended counts as a row, with the weights that it has ended with; numbers of another
        checkpoint stand beside them, named after it.
        """
        if self.is_trial:
            return
        checkpoint = self.settings.get("ckpt_path")
        if self.subcommand == "validate" and Path(checkpoint).resolve() != (self.run_directory / self.result).resolve():
            if self.trainer.is_global_zero:
                write_metrics(self.run_directory / f"metrics-{Path(checkpoint).stem}.json", self.trainer)
            return
        steps = self.trainer.global_step or self.beginning.loaded_step
        today = replace(self.provenance(self.datamodule.index.digest), steps=steps)
        trained = read_provenance(self.run_directory / TRAINED)
        ended = trained is not None and trained.same_weights(today) and trained.steps in (None, steps)
        write_results(self.run_directory, self.trainer, today, finished=ended)

    def after_test(self) -> None:
        """Write the numbers of a pass over other data beside the run's own, named after that data's folder."""
        if self.trainer.is_global_zero and not self.is_trial:
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
    # what a checkpoint remembers of other checkpoints in a run's former place is of no use
    warnings.filterwarnings("ignore", r"The dirpath has changed from .*")
    # sizes in the model summary are those of 32-bit weights, which mixed precision keeps
    warnings.filterwarnings("ignore", r".*is not supported by the model summary.*")


def main(arguments: list[str]) -> None:
    """Run ``lam fit``, ``validate``, ``test`` or ``predict``; the subcommand comes first.

    A training ends with an evaluation. Numbers are files; a line of them is shown, all with ``--verbose true``.
    """
    filter_known_warnings()
    command, *rest = arguments
    cli = run([command, *(["--verbose=false"] if command in ("validate", "test") else []), *rest])
    if cli.is_trial or cli.subcommand == "predict":
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
