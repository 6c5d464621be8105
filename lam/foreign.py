"""Models trained elsewhere, judged like our own: an adapter says how frames become latents and latents become frames.

``python -m lam.foreign SETTING --adapter my_module.MyAdapter --name SETTING/my_model`` runs every evaluation of a setting on it
and leaves a row for the setting's table.
"""

from __future__ import annotations

import dataclasses
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import LightningArgumentParser
from torch import Generator, Tensor, nn

from lam.bottlenecks.base import Bottleneck, BottleneckOutput
from lam.bottlenecks.prior import draw_normal
from lam.cli import LamCLI, SettingsError, digest, hush, run
from lam.encoders import Encoder, Patches
from lam.evaluated import EvaluatedModel
from lam.results import Provenance, write_results

COPY_ERROR_CLIPS = 1024


class Adapter(nn.Module, ABC):
    """A latent action model trained elsewhere. It resizes and normalizes as its model wants; here frames are plain pictures.

    Attributes:
        latent_dim: Numbers A of a latent, all of a transition's tokens joined.
        num_codes: Number of values that a latent's code tuple can have; None where latents are not discrete.
    """

    latent_dim: int
    num_codes: int | None = None

    @abstractmethod
    def infer(self, frames: Tensor) -> Tensor:
        """Latents (B, F-1, A) of frames (B, F, 3, H, W) in [0, 1]; latent t may see frames up to t + 1."""

    @abstractmethod
    def predict(self, frames: Tensor, z: Tensor) -> Tensor:
        """Predictions of frames 1..F-1, (B, F-1, 3, H, W) in [0, 1]; prediction t may see frames and latents up to t.

        Args:
            frames: Frames 0..F-2, (B, F-1, 3, H, W) in [0, 1].
            z: Latents, (B, F-1, A).
        """

    def codes(self, z: Tensor) -> Tensor:
        """Codes (B, F-1, C) int64 of latents (B, F-1, A); needed where ``num_codes`` is set."""
        raise NotImplementedError(f"{type(self).__name__} sets num_codes, so it must say what the codes of its latents are.")

    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draws (n, A) from what the model believes before seeing anything; N(0, I) unless replaced."""
        device = torch.device("cpu") if generator is None else generator.device
        return draw_normal((n, self.latent_dim), device, generator)


class ForeignBottleneck(Bottleneck):
    """Lets latents of an adapter through as they are and says what their codes are.

    Args:
        adapter: The model.
    """

    def __init__(self, adapter: Adapter) -> None:
        super().__init__(adapter.latent_dim, 1)
        self.adapter = adapter

    def forward(self, z: Tensor, sample: bool = False) -> BottleneckOutput:
        """Passes z (B, T-1, 1, A) on."""
        if self.adapter.num_codes is None:
            return BottleneckOutput(z, z.new_zeros(()))
        bits = torch.full(z.shape[:2], float(self.adapter.num_codes), device=z.device).log2()
        return BottleneckOutput(z, z.new_zeros(()), self.adapter.codes(z[:, :, 0]), bits)

    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        """The adapter's draws, (n, 1, A)."""
        return self.adapter.sample_prior(n, generator)[:, None]


class ForeignModel(EvaluatedModel):
    """A model trained elsewhere as evaluations see it; its errors are measured in the setting's own states and unit.

    Args:
        adapter: The model.
        encoder: The setting's encoder, whose states are pixels.
        distance: The setting's distance.
    """

    encoder: Patches

    def __init__(self, adapter: Adapter, encoder: Encoder, distance: nn.Module) -> None:
        if not isinstance(encoder, Patches):
            raise ValueError(
                f"The setting's states come from {type(encoder).__name__}. A model that predicts frames can be judged only "
                "where states are pixels: choose a setting whose model.encoder is Patches."
            )
        super().__init__(encoder, distance)
        self.adapter = adapter.requires_grad_(False).eval()
        self.bottleneck = ForeignBottleneck(adapter)

    def on_validation_start(self) -> None:
        """Measures the unit of errors as training would have."""
        self.measure_copy_error(COPY_ERROR_CLIPS)

    def infer(self, states: Tensor) -> Tensor:
        """Latents (B, T-1, 1, A) of states (B, T, N, D)."""
        frames = self.encoder.picture(states)
        z = self.adapter.infer(frames)
        self._check("infer", z, (*frames.shape[:1], frames.shape[1] - 1, self.adapter.latent_dim))
        return z[:, :, None]

    def predict(self, states: Tensor, z: Tensor) -> Tensor:
        """Predictions of states 1..T-1, (B, T-1, N, D), from states 0..T-2 and z (B, T-1, 1, A)."""
        frames = self.encoder.picture(states)
        predicted = self.adapter.predict(frames, z[:, :, 0])
        self._check("predict", predicted, tuple(frames.shape))
        return self.encoder(255 * predicted)

    def _check(self, method: str, found: Tensor, expected: tuple[int, ...]) -> None:
        if found.shape != expected:
            name = type(self.adapter).__name__
            raise ValueError(f"{name}.{method} returned shape {tuple(found.shape)}, expected {expected}. Change the adapter.")


class ForeignCLI(LamCLI):
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
        self.model = ForeignModel(adapter, self.model.encoder, self.model.distance)

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


def judge(setting: str, *arguments: str, folder: Path = Path("experiments"), **trainer_defaults: Any) -> LamCLI:
    """Runs every evaluation of a setting on a foreign model.

    Args:
        setting: A file ``experiments/<setting>.yaml``.
        arguments: Further arguments as on the command line, ``--adapter`` and ``--name`` among them.
        folder: Where the settings are.
        trainer_defaults: Defaults of the trainer that are no settings of the run.
    """
    # the setting's own heads are built and thrown away, so that its file can be used as it is
    configs = [f"--config={folder / name}.yaml" for name in ("base", setting, "bottlenecks/none")]
    return run(["validate", *configs, *arguments], ForeignCLI, **trainer_defaults)


def main() -> None:
    """Reads the command line; an error that a person can mend is one line."""
    hush()
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(str(__doc__).strip())
    sys.path.insert(0, "")  # an adapter is most often a file in the working directory
    words, sys.argv = sys.argv[1:], sys.argv[:1]  # LightningCLI warns when it is given arguments while the process has its own
    try:
        judge(*words)
    except (ValueError, OSError) as error:
        sys.exit(f"lam.foreign: error: {str(error).strip().splitlines()[-1]}")


if __name__ == "__main__":
    from lam.foreign import main as run_main  # an adapter derives from that module's Adapter, not from this copy's

    run_main()
