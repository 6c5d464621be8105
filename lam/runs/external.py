"""Models trained elsewhere: every evaluation of a setting, and a row for its table.

``lam external SETTING --adapter my_module.MyAdapter --name SETTING/my_model``
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lightning.pytorch.cli import LightningArgumentParser

from lam.io import write_text
from lam.models.external import Adapter, ExternalModel
from lam.runs.cli import LamCLI, filter_known_warnings, run
from lam.runs.errors import SettingsError
from lam.runs.results import write_card, write_results


class ExternalCLI(LamCLI):
    """``lam validate`` without training: the model comes from an adapter."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--adapter``."""
        super().add_arguments_to_parser(parser)
        parser.add_subclass_arguments(Adapter, "adapter", required=True)

    def before_instantiate_classes(self) -> None:
        """Ask for no checkpoint, and leave rows that were trained alone."""
        self.save_config_callback = None
        if (self.run_directory / "trained.json").exists():
            raise SettingsError(f"{self.run_directory} holds a model that was trained here. Choose another --name.")

    def instantiate_classes(self) -> None:
        """Put the adapter's model in the place of the one that would have been trained."""
        super().instantiate_classes()
        adapter = self.config_init[str(self.subcommand)]["adapter"]
        self.model = ExternalModel(adapter, self.model.encoder, self.model.distance)

    def after_validate(self) -> None:
        """Write the row, its settings and its result card."""
        if self.is_trial:
            return
        write_results(self.run_directory, self.trainer, self.provenance(self.datamodule.index.digest), finished=True)
        if self.trainer.is_global_zero:
            write_text(self.run_directory / "config.yaml", self.settings_text())
            write_card(self.run_directory)


def evaluate_external(setting: str, *arguments: str, folder: Path = Path("experiments"), **trainer_defaults: object) -> LamCLI:
    """Run every evaluation of a setting on an external model.

    Args:
        setting: A file ``experiments/<setting>.yaml``.
        arguments: Further arguments as on the command line, ``--adapter`` and ``--name`` among them.
        folder: Where the settings are.
        trainer_defaults: Defaults of the trainer that are no settings of the run.
    """
    # the setting's own heads are built and thrown away, so that its file can be used as it is
    configs = [f"--config={folder / name}.yaml" for name in (setting, "bottlenecks/none")]
    return run(["validate", *configs, *arguments], ExternalCLI, **trainer_defaults)


def main(arguments: list[str]) -> None:
    """Evaluate a model that was trained elsewhere.

    Args:
        arguments: What is typed after ``lam external``.
    """
    parser = argparse.ArgumentParser(
        prog="lam external",
        description="Run every evaluation of a setting on a model that was trained elsewhere and make a row for its table. "
        "All settings of lam validate can be given too.",
        epilog="Example: lam external arm --adapter my_module.MyAdapter --adapter.weights my.pt --name arm/my_model",
    )
    parser.add_argument("setting", help="a file experiments/SETTING.yaml")
    parser.add_argument(
        "--adapter", required=True, help="class of an adapter (lam.models.external); its arguments: --adapter.NAME"
    )
    parser.add_argument("--name", required=True, help="folder under runs/ that receives the row")
    options, extra = parser.parse_known_args(arguments)
    filter_known_warnings()
    evaluate_external(options.setting, f"--adapter={options.adapter}", *extra, f"--name={options.name}")
