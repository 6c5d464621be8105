"""A generated world and settings small enough to train on in a second."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import lightning.pytorch as pl
import yaml

import lam.evals
import lam.viz  # noqa: F401  evaluations and visualizations are imported so that their short names work in YAML
from data_prep.worlds.settings import WorldParameters, WorldSettings

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
WORLDS = sorted(path.stem for path in (EXPERIMENTS / "worlds").glob("*.yaml"))


def world_settings(name: str) -> WorldSettings:
    """Return the parameters of a world of the benchmark."""
    values = yaml.safe_load((EXPERIMENTS / "worlds" / f"{name}.yaml").read_text())
    return WorldSettings(**{name: value for name, value in values.items() if name in WorldParameters.__annotations__})


def make_world(folder: Path, seed: int = 0, size: int = 16) -> Path:
    """Shards of 40 training and 12 validation clips of five frames at 16 pixels."""
    from data_prep.worlds.generate import world

    parameters = asdict(world_settings("demo")) | {"size": size, "frames": 5}
    world(folder, train=40, val=12, seed=seed, jobs=1, **parameters)
    return folder


def arguments(shards: Path, runs: Path, family: str = "noisy", name: str = "tiny/row", steps: int = 4) -> list[str]:
    """What one would type after ``lam fit`` for a tiny run of a family."""
    configs = ["demo", f"bottlenecks/{family}"]
    return [
        *(f"--config={EXPERIMENTS / config}.yaml" for config in configs),
        f"--data.shards={shards}",
        *("--data.frames=3", "--data.batch_size=4", "--data.num_workers=0"),
        *("--model.encoder.image_size=16", "--model.encoder.patch=8", "--model.latent_dim=8"),
        *(
            f"--model.{head}.{size}"
            for head in ("inverse_model", "forward_model")
            for size in ("width=16", "depth=1", "heads=2")
        ),
        *(f"--trainer.max_steps={steps}", "--trainer.precision=32-true", "--trainer.log_every_n_steps=1"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        f"--trainer.logger.init_args.save_dir={runs}",
        f"--name={name}",
    ]


class KilledError(BaseException):
    """Ends a run as abruptly as an exception can."""


class KillAtStep3(pl.Callback):
    """Saves as ModelCheckpoint does, at the end of a batch, and ends the run."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.global_step == 3:
            trainer.save_checkpoint(Path(str(trainer.log_dir), "checkpoints", "last.ckpt"), weights_only=False)
            raise KilledError
