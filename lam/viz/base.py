"""Visualizations: pictures of the states that a model predicts, drawn at the end of a validation pass."""

from __future__ import annotations

import inspect
import io
import time
from abc import abstractmethod
from pathlib import Path
from typing import Any, TypeVar

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from typing_extensions import override

from lam.evals.base import Evaluation, Results, as_world_model
from lam.io import write_bytes
from lam.models.base import Observation, WorldModel

HINT = "Click on the picture, or check 'Show actual image size', to see it in full."


class Visualization(Evaluation):
    """Evaluation that draws one picture at the end of a validation pass instead of computing numbers; one subclass a file.

    The picture goes to TensorBoard under its name, ``boards/<what>``, and to the run's folder as ``boards/<what>.png``
    (``.gif`` where it moves), where the report finds it. A visualization that has nothing to show writes nothing and removes
    what an earlier pass left. It is drawn when all evaluations have computed, so the order of callbacks
    does not matter. Without TensorBoard, and in ``lam test``, which sees other data, nothing is drawn.
    """

    suffix = "png"

    def __init__(self) -> None:
        super().__init__()
        self.loggers: list[TensorBoardLogger] = []
        self._loaded_step = 0

    @override
    def reset(self) -> None:
        pass  # most draw clips of the clip buffer, which the model empties and fills

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        pass

    @override
    def compute(self, model: WorldModel) -> Results:
        return Results()

    @abstractmethod
    def draw(self, model: WorldModel) -> Any:
        """Draw what ``write`` writes, or return None where there is nothing to show; called on all processes.

        What it runs of the model it runs within ``self.autocast()``.
        """

    def write(self, drawn: Any, logger: TensorBoardLogger, step: int) -> None:
        """Write the file of a picture, as it is, to the run's folder and to TensorBoard."""
        write_bytes(self.path(logger), drawn)
        add_file(logger, self.name, drawn, step, inspect.cleandoc(type(self).__doc__ or "").split("\n\nArgs:")[0])

    def erase(self, logger: TensorBoardLogger) -> None:
        """Remove from the run's folder what an earlier pass wrote there."""
        self.path(logger).unlink(missing_ok=True)

    def path(self, logger: TensorBoardLogger) -> Path:
        """Return the path of the file in the run's folder."""
        return Path(logger.log_dir, f"{self.name}.{self.suffix}")

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]

    @override
    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._loaded_step = checkpoint["global_step"]  # in ``validate`` the trainer's own step is 0

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not self.loggers:
            return
        start = time.perf_counter()
        drawn = self.draw(as_world_model(pl_module))
        if trainer.is_global_zero:
            for logger in self.loggers:
                if drawn is None:
                    self.erase(logger)
                else:
                    self.write(drawn, logger, trainer.global_step or self._loaded_step)
        self.results.curves["seconds"] += time.perf_counter() - start


Kind = TypeVar("Kind")


def callbacks_of(trainer: pl.Trainer, kind: type[Kind]) -> list[Kind]:
    """Return the callbacks of a kind that run in the same trainer."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it, undeclared
    return [callback for callback in callbacks if isinstance(callback, kind)]


def add_file(logger: TensorBoardLogger, tag: str, file: bytes, step: int, description: str) -> None:
    """Write a PNG or GIF file to TensorBoard, which shows both; its own video summary writes nothing without moviepy 1."""
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata

    width, height = Image.open(io.BytesIO(file)).size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=file)
    metadata = SummaryMetadata(summary_description=f"{description}\n\n{HINT}")
    value = Summary.Value(tag=tag, image=image, metadata=metadata)
    logger.experiment._get_file_writer().add_summary(Summary(value=[value]), step)
