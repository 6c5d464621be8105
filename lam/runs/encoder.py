"""``lam encoder fit``: train an encoder for the states of an experiment on the experiment's own video."""

from __future__ import annotations

from lam.data.datamodule import ClipDataModule
from lam.encoders.autoencoder.training import AutoencoderTraining
from lam.encoders.joint.training import JointTraining
from lam.encoders.keypoints.training import KeypointTraining
from lam.encoders.saved import WEIGHTS
from lam.encoders.training import EncoderTraining
from lam.runs.base import RunCLI
from lam.runs.results import logged, write_numbers

KINDS: tuple[type[EncoderTraining], ...] = (AutoencoderTraining, KeypointTraining, JointTraining)
"""What a config may name by its class alone."""


class EncoderCLI(RunCLI):
    """The run directory is runs/<name>/seed<k>, as for all runs; encoder.safetensors there is what encoders read."""

    model_type = EncoderTraining
    any_model = True
    data_type = ClipDataModule
    command = "lam encoder"
    offers = ("fit",)
    default_name = "encoder"
    result = WEIGHTS

    def is_taken(self) -> str:
        """Return the message of a fresh run whose folder holds an encoder that runs may depend on."""
        return f"{self.run_directory} already holds a run. Choose another --name or remove that folder."

    def after_fit(self) -> None:
        """Write what was measured beside the export, which the model writes itself, and say it."""
        if self.trainer.is_global_zero and not self.is_trial:
            write_numbers(self.run_directory / "metrics.json", logged(self.trainer) | self.model.measured)
            print(*(f"lam: {line}" for line in self.model.findings), sep="\n")


def main(arguments: list[str]) -> None:
    """Train as the arguments say."""
    EncoderCLI(arguments)
