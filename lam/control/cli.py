"""``lam control fit | validate``: controllers and plans for a world model that has been trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

import lam.control.controller_error
import lam.control.planning
import lam.control.viz  # noqa: F401  evaluations and visualizations are imported so that their short names work in YAML
from lam.control.closed_loop import MANIFESTS, ClosedLoop
from lam.control.training import ControlledModel
from lam.runs.base import RunCLI
from lam.runs.cli import filter_known_warnings
from lam.runs.errors import SettingsError
from lam.runs.provenance import Provenance, changed, code_revision, digest, read_provenance, short
from lam.runs.recovery.places import Settings
from lam.runs.results import write_results


class ControlCLI(RunCLI):
    """Results live in the world model's own folder: runs/<setting>/<row>/seed<k>/control/clips<label budget>."""

    model: ControlledModel
    model_type = ControlledModel
    command = "lam control"
    offers = ("fit", "validate")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what follows from the run."""
        parser.link_arguments("model.run", "trainer.logger.init_args.save_dir", compute_fn=str)

    def identity(self, settings: Settings) -> list[str]:
        """Return what tells heads from others: the world model's run, the label budget and the seed."""
        model = settings["model"]
        return [str(model["run"]), _budget_folder(model["labeled_clips"]), str(settings["seed_everything"])]

    @property
    def named_directory(self) -> Path:
        """Where results go."""
        run, budget, _ = self.identity(self.settings)
        return Path(run, "control", budget)

    def place(self, settings: Settings) -> None:
        """Find the world model too, where its run was moved with the heads that lie in it."""
        super().place(settings)
        if self.given_run is not None:
            settings["model"]["run"] = self.given_run.parents[1]

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        """Build the trainer; closed loops find their episodes beside the setting's runs."""
        trainer = super().instantiate_trainer(**kwargs)
        if not self.is_trial:
            setting = self.run_directory.resolve().parents[3]
            for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it in a connector
                if isinstance(callback, ClosedLoop):
                    callback.manifests = setting / MANIFESTS
        return trainer

    def needs_a_checkpoint(self) -> str:
        """Return the message of a validation without trained heads."""
        return f"{self.command} {self.subcommand} needs trained heads: --ckpt_path {self.run_directory / self.result}."

    def is_taken(self) -> str:
        """Return the message of a fit whose folder holds heads of the same label budget."""
        return f"{self.run_directory} already holds controllers. Remove it, or give another --model.labeled_clips."

    def provenance(self) -> Provenance:
        """Return the provenance of these heads, before they are trained."""
        settings = yaml.safe_load(self.settings_text())
        settings["model"]["run"] = str(self.run_directory.parents[1])
        return control_provenance(settings, "", code_revision())

    def shaping(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Pick the settings that shape heads; the world model's run is known by the folder that they are in."""
        own = {key: value for key, value in settings["model"].items() if key != "run"}
        return super().shaping(settings | {"model": own})

    def after_fit(self) -> None:
        """Save the last step and validate."""
        super().after_fit()
        if self.is_trial:
            return
        self.trainer.validate(self.model, verbose=False)
        self.after_validate()

    def after_validate(self) -> None:
        """Write what the evaluations found."""
        if not self.is_trial:
            write_results(self.run_directory, self.trainer, self.provenance(), finished=True)


def control_provenance(settings: dict[str, Any], data_hash: str, revision: str) -> Provenance:
    """Return the provenance of heads: the world model, whose data are theirs, and the settings of their training.

    Args:
        settings: All settings, as config.yaml holds them.
        data_hash: Not used: the world model says it.
        revision: Revision of the code.

    Raises:
        SettingsError: The world model's run is not finished.
    """
    run_folder = settings["model"]["run"]
    world = read_provenance(Path(run_folder) / "trained.json")
    if world is None:
        raise SettingsError(f"{run_folder} has no trained.json that can be read: it is not a finished run.")
    model = changed({key: value for key, value in settings["model"].items() if key != "run"}, ControlledModel)
    trainer = changed({key: settings["trainer"][key] for key in ("max_steps", "precision", "gradient_clip_val")}, Trainer)
    return dataclasses.replace(
        world,
        config_hash=digest(world.config_hash, model, trainer, int(settings["seed_everything"])),
        steps=None,
        evaluation_hash=digest(short(settings["trainer"]["callbacks"])),
        code_revision=revision,
    )


def _budget_folder(labeled_clips: int) -> str:
    return f"clips{labeled_clips}"


def main(arguments: list[str]) -> None:
    """Run ``lam control fit`` or ``validate``; the subcommand comes first."""
    filter_known_warnings()
    ControlCLI(arguments)
