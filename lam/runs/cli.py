"""The command line: ``lam fit | validate | test | predict``, one LightningCLI over one model and one data module."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

import lam.bottlenecks
import lam.encoders
import lam.evals
import lam.optimizers
import lam.viz  # noqa: F401  parts are imported so that their short names work in YAML and on the command line
from lam.data.datamodule import ClipDataModule
from lam.models.latent_action import LatentActionModel
from lam.runs.latent_file import LatentWriter
from lam.runs.results import (
    Provenance,
    code_revision,
    read_provenance,
    split_name,
    timing_summary,
    write_metrics,
    write_results,
)

HASHED_TRAINER_KEYS = (
    *("precision", "max_steps", "max_epochs", "max_time", "accumulate_grad_batches"),
    *("gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches", "overfit_batches"),
)
"""Trainer settings that change what a run learns; the rest changes only how fast, where and how loudly."""


FAMILY_KEYS = ("bottleneck", "inverse_model", "forward_model")
"""Settings of the model that a family's overlay may set; all others must be equal in the rows of one table."""


class SettingsError(ValueError):
    """Settings that cannot be understood."""


class LamParser(LightningArgumentParser):
    """Says in one line what is wrong, and wants every name in full."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises instead of printing every option there is."""
        raise SettingsError(one_line(message)) from ex


def one_line(message: str) -> str:
    """A parser's message without the types and values that bury it, with the option that shows what is possible."""
    text = "; ".join(line.strip(" -") for line in re.sub(r" `lam fit.*", "", message).splitlines())
    text = re.sub(r"Type \S*Callable\[.*?\] expects a function or a callable class: ", "", text)
    text = re.sub(r"Expected a path but .*Expected a dot import path string: (\S+)", r"no class is named \1", text)
    text = re.sub(r"\.? Got value: Namespace\(.*", "", text).replace(": ;", ":").replace(":;", ":").rstrip(".")
    key = re.search(r'key "((?:model|data|trainer)[.]\w+)"', text)
    return f"{text}. `lam fit {f'--{key[1]}.help CLASS' if key else '--help'}` lists what there is."


class LamCLI(LightningCLI):
    """Runs live in runs/<name>/seed<k>: config.yaml and checkpoints from fit, metrics.json and its like from validate."""

    def __init__(self, args: ArgsType = None, **options: Any) -> None:
        words = sys.argv[1:] if args is None else args
        self._asked = words[0] if isinstance(words, list) and words else None
        super().__init__(args=args, **options)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # static in Lightning
        """The subcommand that is asked for, as describing all options of each of the four takes long; else all."""
        every = LightningCLI.subcommands()
        return {self._asked: every[self._asked]} if self._asked in every else every

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds ``--name``, what follows from it and from the seed, and where ``predict`` writes."""
        parser.add_argument(
            "--name", type=str, default="scratch/row", help="Run directory under runs/: <setting>/<family>@<knob>."
        )
        parser.link_arguments("name", "trainer.logger.init_args.name")
        parser.link_arguments("seed_everything", "trainer.logger.init_args.version", compute_fn=_seed_folder)
        parser.link_arguments("seed_everything", "data.seed")
        parser.add_lightning_class_args(LatentWriter, "latents")

    def before_instantiate_classes(self) -> None:
        """Lets only a fresh fit write config.yaml; validation and resumption read it and must not replace it."""
        if self.subcommand != "fit" and not self.settings["ckpt_path"]:
            raise SettingsError(
                f"lam {self.subcommand} needs a trained model: --ckpt_path {self.run_directory}/checkpoints/last.ckpt, with "
                f"--config {self.run_directory}/config.yaml."
            )
        if self.subcommand != "fit" or self.settings["ckpt_path"] or self.settings["trainer"]["fast_dev_run"]:
            self.save_config_callback = None
        elif not (self.run_directory / "checkpoints" / "last.ckpt").exists():
            (self.run_directory / "config.yaml").unlink(missing_ok=True)  # a start that failed leaves nothing to lose
        else:
            raise FileExistsError(
                f"{self.run_directory} already holds a run. Choose another --name, remove that folder, or resume it with "
                f"--ckpt_path {self.run_directory}/checkpoints/last.ckpt."
            )

    @property
    def settings(self) -> Any:
        """The resolved settings of the subcommand."""
        return self.config[str(self.subcommand)]

    @property
    def run_directory(self) -> Path:
        """Folder of this run, known before anything is built."""
        save_dir = self.settings["trainer"]["logger"]["init_args"]["save_dir"]
        return Path(save_dir, self.settings["name"], _seed_folder(self.settings["seed_everything"]))

    def provenance(self, data_hash: str) -> Provenance:
        """What makes this run, before it is made."""
        setting, family, knob = split_name(self.settings["name"])
        text = self._parser(self.subcommand).dump(self.settings, skip_link_targets=False, skip_none=False)
        settings = yaml.safe_load(text)
        data, model = settings["data"], settings["model"]
        windows = data.pop("val_windows")
        for key in ("shards", "num_workers", "predict_split", "damaged_share", "decoder", "cache", "cache_gib", "labels"):
            data.pop(key)  # the data's hash stands for the shards, the inverse model for the labels
        trainer = {key: settings["trainer"][key] for key in HASHED_TRAINER_KEYS}
        shared = {key: value for key, value in model.items() if key not in FAMILY_KEYS}
        return Provenance(
            setting=setting,
            family=family,
            knob=knob,
            seed=int(settings["seed_everything"]),
            config_hash=digest(model, data, trainer, settings["seed_everything"]),
            shared_hash=digest(shared, data | {"seed": None}, trainer),
            evaluation_hash=digest(settings["trainer"]["callbacks"], windows),
            data_hash=data_hash,
            code_revision=code_revision(),
        )

    def before_fit(self) -> None:
        """Notes what this run is, so that a killed one can be told from a stale one."""
        if self.trainer.is_global_zero and not self.settings["trainer"]["fast_dev_run"]:
            self.run_directory.mkdir(parents=True, exist_ok=True)
            self.provenance(self.datamodule.index.digest).write(self.run_directory / "started.json")

    def after_fit(self) -> None:
        """Saves the last step, wherever it fell between two scheduled checkpoints."""
        if not self.settings["trainer"]["fast_dev_run"]:
            self.trainer.save_checkpoint(self.run_directory / "checkpoints" / "last.ckpt", weights_only=False)
            if self.trainer.is_global_zero:
                self.provenance(self.datamodule.index.digest).write(self.run_directory / "trained.json")

    def before_validate(self) -> None:
        """Refuses to put numbers of other settings or data into a run's folder."""
        started = read_provenance(self.run_directory / "started.json")
        if started and not started.same_weights(self.provenance(self.datamodule.index.digest)):
            raise SettingsError(
                f"{self.run_directory} was trained with other settings or data. Validate from its own config.yaml without "
                "flags that change the model or the data; lam test is for other data."
            )

    def after_validate(self) -> None:
        """Writes what the evaluations found, for tables that are made from files; only a run that has ended counts as a row."""
        today = self.provenance(self.datamodule.index.digest)
        trained = read_provenance(self.run_directory / "trained.json")
        write_results(self.run_directory, self.trainer, today, finished=trained is not None and trained.same_weights(today))

    def after_test(self) -> None:
        """Writes the numbers of a pass over other data beside the run's own, named after that data's folder."""
        if self.trainer.is_global_zero:
            write_metrics(self.run_directory / f"test-{self.datamodule.index.name}.json", self.trainer)


def _seed_folder(seed: int | bool) -> str:
    return f"seed{int(seed)}"


def digest(*parts: Any) -> str:
    """Short hash of settings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def run(args: ArgsType = None, cli_class: type[LamCLI] = LamCLI, **trainer_defaults: Any) -> LamCLI:
    """Builds and runs what the arguments say; errors are raised, not printed.

    Args:
        args: Arguments as typed on the command line; those of the process if not given.
        cli_class: The command line to build.
        trainer_defaults: Defaults of the trainer that are no settings of the run, such as a progress bar.
    """
    return cli_class(
        args=args,
        model_class=LatentActionModel,
        datamodule_class=ClipDataModule,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        parser_class=LamParser,
        trainer_defaults=trainer_defaults,
    )


def filter_known_warnings() -> None:
    """Silences what libraries say about themselves at every start."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "litlogger" not in record.getMessage())
    # the frozen encoder is in eval mode on purpose
    warnings.filterwarnings("ignore", r".*in eval mode at the start of training.*")
    # Lightning-AI/pytorch-lightning: its tree utilities lag behind torch 2.13
    warnings.filterwarnings("ignore", r".*LeafSpec.* is deprecated.*")
    # a resumed run goes on in its own folder
    warnings.filterwarnings("ignore", r"Checkpoint directory .* exists and is not empty.*")
    # sizes in the model summary are those of 32-bit weights, which mixed precision keeps
    warnings.filterwarnings("ignore", r".*is not supported by the model summary.*")


def main() -> None:
    """What ``lam`` runs: an error that a person can mend is one line, without a traceback.

    LAM_TRACEBACK=1 shows where it came from.
    """
    filter_known_warnings()
    try:
        cli = run()
        if cli.subcommand == "validate" and cli.trainer.is_global_zero:
            print(timing_summary(cli.trainer))
    except (ValueError, OSError) as error:
        if os.environ.get("LAM_TRACEBACK"):
            raise
        sys.exit(f"lam: error: {str(error).strip().splitlines()[-1]}")
