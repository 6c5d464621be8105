"""Image strips: what was, what came and what the model says would come, for people to look at."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from lam.evals.base import Evaluation, Observation, Results
from lam.evals.sample import ClipSample

COLUMNS = ("past", "true", "predicted", "copy", "diff. x4")
AMPLIFY = 4.0
CELL = 144  # pixels a picture is enlarged to, at least
GAP = 2
CAPTION = 36
BACKGROUND = 1.0


class Strips(Evaluation):
    """Writes ``strips/prediction`` to TensorBoard: the last transition of a few fixed validation clips, one a row.

    Columns: the state before the last one (of clips of two states, the last one again), the true next state, the
    prediction, the last state that the copy baseline repeats, and the absolute difference between prediction and truth,
    four times enlarged. Pictures are the encoder's view of its states. Without TensorBoard there is nothing to do.

    Args:
        num_clips: Rows; the first clips of the validation pass.
    """

    name: ClassVar[str] = "strips"

    def __init__(self, num_clips: int = 8) -> None:
        super().__init__()
        self.num_clips = num_clips
        self.reset()

    def reset(self) -> None:
        """Forgets what was observed."""
        self.sample = ClipSample()
        self.kept = 0
        self.strips: Tensor | None = None

    def observe(self, observation: Observation, module: Any) -> None:
        """Keeps pictures of the first clips."""
        missing = self.num_clips - self.kept
        if missing <= 0:
            return
        chosen = slice(0, missing)
        self.kept += len(observation.clip.position[chosen])
        states, predicted = observation.states[chosen].float(), observation.predicted[chosen].float()
        last = states.shape[1] - 2
        shown = torch.stack([states[:, max(last - 1, 0)], states[:, -1], predicted[:, -1], states[:, last]], dim=1)
        self.sample.add(observation.clip.position[chosen], {"pictures": module.encoder.picture(shown).float()})

    def compute(self, module: Any) -> Results:
        """Puts the pictures together; there are no numbers."""
        _, values = self.sample.gather()
        self.strips = strips(values["pictures"][: self.num_clips]) if values else None
        return Results()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the image."""
        super().on_validation_epoch_end(trainer, pl_module)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero and self.strips is not None:
                logger.experiment.add_image("strips/prediction", self.strips, pl_module.global_step)


def strips(pictures: Tensor) -> Tensor:
    """One image (3, H, W) in [0, 1] of pictures (n, 4, 3, h, w): past, true next, predicted, copy baseline."""
    pictures = pictures.clamp(0, 1)
    difference = (AMPLIFY * (pictures[:, 2] - pictures[:, 1]).abs()).clamp(max=1)
    cells = torch.cat([pictures, difference[:, None]], dim=1)
    factor = -(-CELL // min(cells.shape[-2:]))
    cells = cells.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)
    framed = torch.nn.functional.pad(cells, (0, GAP, 0, GAP), value=BACKGROUND)
    rows = [torch.cat(list(row), dim=2) for row in framed]
    return torch.cat([_captions(cells.shape[-1] + GAP), *rows], dim=1)


def _captions(width: int) -> Tensor:
    """The row above the pictures, (3, CAPTION, width * columns)."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (width * len(COLUMNS), CAPTION), 255)
    draw = ImageDraw.Draw(image)
    for place, text in enumerate(COLUMNS):
        draw.text((place * width + 2, 1), text, fill=0, font=ImageFont.load_default(28))
    return torch.from_numpy(np.array(image)).float().div(255).expand(3, -1, -1)
