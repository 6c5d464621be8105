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

FOLDER, TAGS = "boards/", "visual/"
"""Begin the names of files in a run's folder, and of cards in TensorBoard."""
CARD_CLIPS = 3
"""Clips on a card."""
MORE = "The run's folder boards/ and the report have more clips, and pictures of other kinds."


class Visualization(Evaluation):
    """Evaluation that draws one picture at the end of a validation pass instead of computing numbers; one subclass a file.

    The picture goes to the run's folder as ``boards/<what>.png`` (``.gif`` where it moves), where the report finds it. What
    is worth a card of TensorBoard is drawn once more for it, small, under ``visual/<what>``, which stands behind the curves, as
    tags are in the order of their names. A visualization that has nothing to show writes nothing and removes
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

    def draw_card(self, model: WorldModel) -> bytes | None:
        """Draw the file that TensorBoard shows on a card, some 300 pixels wide; None where the report is the place for it.

        Called on all processes, after ``draw`` where that found something to show.
        """
        return None

    def write(self, drawn: Any, logger: TensorBoardLogger, step: int) -> None:
        """Write what was drawn to the run's folder."""
        write_bytes(self.path(logger), drawn)

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
        card = None if drawn is None else self.draw_card(as_world_model(pl_module))
        if trainer.is_global_zero:
            for logger in self.loggers:
                if drawn is None:
                    self.erase(logger)
                else:
                    self.write(drawn, logger, trainer.global_step or self._loaded_step)
                if card is not None:
                    about = inspect.cleandoc(type(self).__doc__ or "").split("\n\n")[0]
                    tag = self.name.replace(FOLDER, TAGS, 1)
                    add_file(logger, tag, card, trainer.global_step or self._loaded_step, f"{about}\n\n{MORE}")
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
    metadata = SummaryMetadata(summary_description=description)
    value = Summary.Value(tag=tag, image=image, metadata=metadata)
    logger.experiment._get_file_writer().add_summary(Summary(value=[value]), step)
