"""Evaluating models trained elsewhere: every evaluation of a setting, and a row for its table.

``python -m lam.runs.external SETTING --adapter my_module.MyAdapter --name SETTING/my_model``
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from lam.models.external import Adapter, ExternalModel
from lam.runs.cli import LamCLI, digest, filter_known_warnings, run
from lam.runs.errors import SettingsError
from lam.runs.results import Provenance, write_results


class ExternalCLI(LamCLI):
    """``lam validate`` without training: the model comes from an adapter."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds ``--adapter``."""
        super().add_arguments_to_parser(parser)
        parser.add_subclass_arguments(Adapter, "adapter", required=True)

    def before_instantiate_classes(self) -> None:
        """There is no checkpoint to ask for and no training to take over."""
        self.save_config_callback = None
        if (self.run_directory / "trained.json").exists():
            raise SettingsError(f"{self.run_directory} holds a model that was trained here. Choose another --name.")

    def instantiate_classes(self) -> None:
        """Puts the adapter's model in the place of the one that would have been trained."""
        super().instantiate_classes()
        adapter = self.config_init[str(self.subcommand)]["adapter"]
        self.model = ExternalModel(adapter, self.model.encoder, self.model.distance)

    def provenance(self, data_hash: str) -> Provenance:
        """What makes this row: the setting and the adapter with its arguments."""
        ours = super().provenance(data_hash)
        return dataclasses.replace(ours, config_hash=digest(ours.config_hash, self.settings["adapter"].as_dict()))

    def after_validate(self) -> None:
        """Writes the row and its settings."""
        write_results(self.run_directory, self.trainer, self.provenance(self.datamodule.index.digest), finished=True)
        if self.trainer.is_global_zero:
            text = self._parser(self.subcommand).dump(self.settings, skip_none=False)
            (self.run_directory / "config.yaml").write_text(text)


def evaluate_external(setting: str, *arguments: str, folder: Path = Path("experiments"), **trainer_defaults: Any) -> LamCLI:
    """Runs every evaluation of a setting on a external model.

    Args:
        setting: A file ``experiments/<setting>.yaml``.
        arguments: Further arguments as on the command line, ``--adapter`` and ``--name`` among them.
        folder: Where the settings are.
        trainer_defaults: Defaults of the trainer that are no settings of the run.
    """
    # the setting's own heads are built and thrown away, so that its file can be used as it is
    configs = [f"--config={folder / name}.yaml" for name in (setting, "bottlenecks/none")]
    return run(["validate", *configs, *arguments], ExternalCLI, **trainer_defaults)


def main() -> None:
    """Reads the command line; an error that a person can mend is one line."""
    filter_known_warnings()
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(str(__doc__).strip())
    sys.path.insert(0, "")  # an adapter is most often a file in the working directory
    words, sys.argv = sys.argv[1:], sys.argv[:1]  # LightningCLI warns when it is given arguments while the process has its own
    try:
        evaluate_external(*words)
    except (ValueError, OSError) as error:
        sys.exit(f"lam.models.external: error: {str(error).strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
