"""The base of all command lines that train: a folder for each run, which no other run writes over."""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl
import yaml
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from lam.io import write_text
from lam.io.trust import only_trusted_imports, trust_typed
from lam.runs.configs import expand_configs, read_yaml
from lam.runs.errors import SettingsError
from lam.runs.provenance import shaping_settings
from lam.runs.recovery.checkpoints import WholeCheckpointIO, restore_checkpoint
from lam.runs.recovery.heartbeat import Heartbeat
from lam.runs.recovery.locks import LEASE, lock_run
from lam.runs.recovery.places import CONFIG, Settings, given_run, place, runs_folder, search_places
from lam.runs.recovery.resuming import Beginning, check_resumed
from lam.runs.recovery.stopping import Stopping, is_requeued
from lam.runs.terminal.budget import check_budget
from lam.runs.terminal.hardware import hardware_hint, unused_accelerator
from lam.runs.terminal.parser import LamParser, with_own_loggers
from lam.runs.terminal.progress import Progress
from lam.runs.upgrade import upgrade

LAST = "checkpoints/last.ckpt"
"""Where a run's last checkpoint is in its folder."""


class RunCLI(LightningCLI):
    """Runs live in runs/<name>/seed<k>; only a fresh fit writes config.yaml there, and a run that is there stays.

    Args:
        args: Arguments as typed on the command line; those of the process if not given.
        trainer_defaults: Defaults of the trainer that are no settings of the run, such as a progress bar.
    """

    model_type: ClassVar[type[pl.LightningModule]]
    """Class of the LightningModule."""

    any_model: ClassVar[bool] = False
    """Whether settings name the class of the model, which is ``model_type`` or a subclass of it."""

    data_type: ClassVar[type[pl.LightningDataModule] | None] = None
    """Class of the LightningDataModule, where the model does not bring its own data."""

    command: ClassVar[str] = "lam"
    """Words that are typed before the subcommand."""

    offers: ClassVar[tuple[str, ...]] = ("fit", "validate", "test", "predict")
    """Subcommands."""

    default_name: ClassVar[str] = "scratch/row"
    """Name of a run that is given none."""

    result: ClassVar[str] = LAST
    """File in a run's folder that training leaves behind; a folder that has it is not written over."""

    replaces: ClassVar[bool] = False
    """Whether a fit may be asked for where another run lies; it is then moved aside when training begins."""

    patience: ClassVar[float] = 1.2 * LEASE
    """Seconds to wait for a sign of life of a process on another host that was making this run."""

    def __init__(self, args: ArgsType = None, **trainer_defaults: object) -> None:
        words = sys.argv[1:] if args is None else args
        self.words: list[str] = list(words) if isinstance(words, list) else []
        self._asked = words[0] if isinstance(words, list) and words else None
        trust_typed(self.words)
        self._expanded = with_own_loggers(expand_configs(words)) if isinstance(words, list) else []
        with contextlib.ExitStack() as self._locks, only_trusted_imports():
            super().__init__(
                self.model_type,
                self.data_type,
                args=self._expanded or words,
                seed_everything_default=0,
                auto_configure_optimizers=False,
                parser_class=LamParser,
                subclass_mode_model=self.any_model,
                save_config_callback=None,
                parser_kwargs={"prog": self.command},
                trainer_defaults=trainer_defaults,
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments that were given; Lightning would warn of those of the process."""
        self.config = parser.parse_args(args)  # type: ignore[arg-type]  # a list; see __init__

    def _parse_ckpt_path(self) -> None:
        """Take no settings out of a checkpoint: config.yaml has them, and a damaged one is dealt with later."""

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # static in Lightning
        """Return the subcommand that is asked for, as describing all options of each takes long; else all."""
        every = {name: skipped for name, skipped in LightningCLI.subcommands().items() if name in self.offers}
        return {self._asked: every[self._asked]} if self._asked in every else every

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--name`` and what follows from it and from the seed."""
        parser.add_argument(
            "--name", type=str, default=self.default_name, help="Run directory under runs/: <setting>/<family>@<knob>."
        )
        parser.link_arguments("seed_everything", "data.seed")

    @property
    def settings(self) -> Any:
        """Resolved settings of the subcommand."""
        return self.config[str(self.subcommand)]

    @functools.cached_property
    def given_run(self) -> Path | None:
        """Folder of the run whose own config was given; None where a name, a seed or a folder of runs makes it another run."""
        folder = given_run(self._expanded)
        if folder is None:
            return None
        written = upgrade(read_yaml(folder / CONFIG))
        return folder if self.identity(written) == self.identity(self.settings) else None

    @functools.cached_property
    def run_directory(self) -> Path:
        """Folder of this run, known before anything is built: where its config lies, or what its name says."""
        return self.given_run or self.named_directory

    @property
    def named_directory(self) -> Path:
        """Folder that the name and the seed say."""
        return Path(*self.identity(self.settings))

    def identity(self, settings: Settings) -> list[str]:
        """Return what tells a run from others: the folder of runs, its name and its seed."""
        return [str(runs_folder(settings["trainer"])), settings["name"], _seed_folder(settings["seed_everything"])]

    @property
    def is_trial(self) -> bool:
        """Whether this is ``fast_dev_run``, which tries whether everything works and writes nothing."""
        return bool(self.settings["trainer"]["fast_dev_run"])

    def instantiate_classes(self) -> None:
        """Build everything with the places of this run; settings stay as they were given, wherever the run lies."""
        _ = self.run_directory  # follows from what was given, before that is changed
        given, self.config = self.config, copy.deepcopy(self.config)
        self.place(self.settings)
        super().instantiate_classes()
        self.config = given

    def place(self, settings: Settings) -> None:
        """Let all that writes write into the run's folder, and all that reads find what lies beside a moved run."""
        folder, places = self.run_directory, search_places(self.run_directory) if self.given_run else []
        if self.subcommand == "predict":
            settings["trainer"]["logger"] = False
        place(settings, folder, places)

    def before_instantiate_classes(self) -> None:
        """Let only a fresh fit write config.yaml; validation and resumption read it and must not replace it."""
        if self.subcommand == "fit" and not self.is_trial:
            self.lock()
        if self.subcommand == "fit" and not self.settings.get("ckpt_path") and is_requeued() and self.is_begun():
            self.settings["ckpt_path"] = str(self.run_directory / self.result)
        ckpt_path = self.settings.get("ckpt_path")
        if self.subcommand != "fit" and not ckpt_path:
            raise SettingsError(self.needs_a_checkpoint())
        if self.subcommand != "fit" or ckpt_path or self.is_trial:
            self._check_checkpoint(ckpt_path)
        elif self.saved is not None and not self.replaces:
            raise FileExistsError(self.is_taken())
        if self.subcommand == "fit":
            check_budget(self.settings["trainer"], resumed=bool(ckpt_path))

    def lock(self) -> None:
        """Hold this run until it is made.

        Raises:
            RunTakenError: Another process makes it.
        """
        self._locks.enter_context(self.locked())

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Return a hold on this run for the time of a block; of several processes of one training the first has it for all."""
        is_first = rank_zero_only.rank == 0  # type: ignore[attr-defined]  # Lightning sets it
        return lock_run(self.run_directory, self.patience) if is_first else contextlib.nullcontext()

    def is_begun(self) -> bool:
        """Whether this very command has left a checkpoint here, so that a job that SLURM begins again goes on from it."""
        config = self.run_directory / "config.yaml"
        if self.result != LAST or not (self.run_directory / LAST).exists() or not config.exists():
            return False
        return config.read_text() == self.settings_text()

    def settings_text(self) -> str:
        """Return all settings as config.yaml holds them."""
        text: str = self._parser(self.subcommand).dump(self.settings, skip_none=False)
        return text

    def shaping(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Pick the settings that shape what is trained; a run is resumed with none of them changed."""
        return shaping_settings(settings, self.model_type, self.data_type)

    def write_beginning(self) -> None:
        """Write what the run is, when its first step begins; the config of a run that goes on stays as it is."""
        if not self.settings.get("ckpt_path"):
            write_text(self.run_directory / CONFIG, self.settings_text())

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Never unpickle a checkpoint, whatever settings say; Lightning would one behind a URL."""
        return {**super()._prepare_subcommand_kwargs(subcommand), "weights_only": True}

    def instantiate_trainer(self, **kwargs: object) -> pl.Trainer:
        """Build a trainer that writes checkpoints whole, and saves and leaves when it is asked to end."""
        plugins = self._get(self.config_init, "trainer").get("plugins") or []
        own = plugins if isinstance(plugins, list) else [plugins]
        if not any(isinstance(one, CheckpointIO) for one in own):
            own = [*own, WholeCheckpointIO()]
        callbacks = self._get(self.config_init, "trainer").get("callbacks") or []
        watched = callbacks if isinstance(callbacks, list) else [callbacks]
        if self.settings["trainer"]["enable_progress_bar"] is not False and not any(
            isinstance(c, ProgressBar) for c in watched
        ):
            watched = [*watched, Progress()]
        trainer = super().instantiate_trainer(**kwargs, plugins=own, callbacks=watched)
        if hint := hardware_hint(trainer) if self.subcommand == "fit" else unused_accelerator(trainer):
            rank_zero_info(f"lam: {hint}")
        self.beginning = Beginning(self.write_beginning)
        if not self.is_trial:
            watching = [self.beginning, Stopping(self.run_directory / LAST), Heartbeat()]
            trainer.callbacks.extend(watching)  # type: ignore[attr-defined]  # Lightning sets it in a connector
        return trainer

    @rank_zero_only  # the first process does it for all, before they meet
    def _check_checkpoint(self, ckpt_path: str | None) -> None:
        """Refuse a checkpoint that does not exist before anything is built; set a damaged one aside for the one before.

        Only a training does so: numbers of other commands would be those of other weights.
        """
        if ckpt_path and self.subcommand == "fit" and "://" not in ckpt_path:
            found = Path(ckpt_path).exists()
            if restore_checkpoint(Path(ckpt_path)) is None and found:
                raise ValueError(f"{ckpt_path} was damaged, and none before it is whole. Leave --ckpt_path out to begin anew.")
        if ckpt_path and "://" not in ckpt_path and not Path(ckpt_path).exists():
            folder = self.run_directory / "checkpoints"
            there = sorted(str(one) for one in folder.glob("*.ckpt"))
            raise FileNotFoundError(f"No checkpoint at {ckpt_path}. This run has {', '.join(there) or f'none in {folder}'}.")
        if ckpt_path and self.subcommand == "fit" and "://" not in ckpt_path:
            places = [self.run_directory / "checkpoints"]
            places += [Path(one) for one in [self.settings.get("checkpoint", {}).get("dirpath")] if one]
            today = yaml.safe_load(self.settings_text())
            check_resumed(self.run_directory, Path(ckpt_path), places, today, self.shaping)

    @property
    def saved(self) -> Path | None:
        """What a training has left here: its result, or the newest checkpoint where that is one; None where nothing."""
        left = [self.run_directory / self.result]
        if self.result == LAST:  # whatever it is called
            checkpoints = (self.run_directory / "checkpoints").glob("[!.]*.ckpt")
            left += sorted(checkpoints, key=lambda path: path.stat().st_mtime, reverse=True)
        return next((path for path in left if path.exists() and not path.name.startswith("damaged-")), None)

    def needs_a_checkpoint(self) -> str:
        """Return the message of a validation without a checkpoint."""
        return (
            f"{self.command} {self.subcommand} needs a trained model: --ckpt_path {self.run_directory / self.result}, with "
            f"--config {self.run_directory}/config.yaml."
        )

    def is_taken(self) -> str:
        """Return the message of a fresh run whose folder holds another one."""
        return (
            f"{self.run_directory} already holds a run. Choose another --name, remove that folder, or resume it with "
            f"--ckpt_path {self.saved}."
        )

    def after_fit(self) -> None:
        """Save the last step, wherever it fell between two scheduled checkpoints."""
        if self.is_trial:
            return
        if self.beginning.begun or not (self.run_directory / self.result).exists():
            self.trainer.save_checkpoint(self.run_directory / self.result, weights_only=False)


def _seed_folder(seed: int | bool) -> str:
    return f"seed{int(seed)}"
