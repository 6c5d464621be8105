"""``lam autoencoder fit``: train an autoencoder for the states of an experiment."""

from __future__ import annotations

from lam.data.datamodule import ClipDataModule
from lam.encoders.autoencoder.training import AutoencoderTraining
from lam.runs.base import RunCLI


class AutoencoderCLI(RunCLI):
    """The run directory is runs/<name>/seed<k>, as for all runs; encoder.safetensors there is what encoders read."""

    model_type = AutoencoderTraining
    data_type = ClipDataModule
    command = "lam autoencoder"
    offers = ("fit",)
    default_name = "autoencoder"
    result = "encoder.safetensors"

    def is_taken(self) -> str:
        """Return the message of a fresh run whose folder holds an autoencoder that runs may depend on."""
        return f"{self.run_directory} already holds a run. Choose another --name or remove that folder."

    def after_fit(self) -> None:
        """Leave it at the export, which the model writes itself."""


def main(arguments: list[str]) -> None:
    """Train as the arguments say."""
    AutoencoderCLI(arguments)
