"""Embedding: latents in TensorBoard's projector, colored by their ground-truth factors."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from typing_extensions import override

from lam.io import atomic_file, write_text
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import ClipSample
from lam.viz.base import Visualization


class EmbeddingVisualization(Visualization):
    """Fill the tab PROJECTOR with z of single transitions, their clip, source and ground-truth factors beside them.

    The tab shows one set of points a run: that of the last pass, in ``boards/embedding/``.  The summary writer's own
    ``add_embedding`` would keep one for each pass and show the first.

    Args:
        num_points: Transitions shown, at most.
    """

    name: ClassVar[str] = "boards/embedding"

    def __init__(self, num_points: int = 1000) -> None:
        super().__init__()
        self.num_points = num_points
        self.reset()

    @override
    def reset(self) -> None:
        self.sample = ClipSample(self.num_points)

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        labels = observation.clip.labels(model.encoder.frames_per_state)
        values = {f"factor/{name}": value for name, value in labels.items()}
        self.sample.add(observation.clip.position, values | {"z": observation.bottleneck_output.z.float()})

    @override
    def draw(self, model: WorldModel) -> tuple[np.ndarray, list[list[str]]] | None:
        positions, values = self.sample.gather()
        if not values:
            return None
        z = values.pop("z").flatten(2)
        shape = z.shape[:2]
        # whole clips, in an order that does not prefer any
        clip = torch.arange(len(z))[:, None].expand(shape).flatten()[: self.num_points]
        step = torch.arange(shape[1]).expand(shape).flatten()[: self.num_points]
        vectors = z[clip, step].numpy()
        if not vectors.std(axis=0).any():
            return None
        names = [model.val_clip_sources[position] for position in positions[clip].tolist()]
        columns: dict[str, list[str]] = {
            "clip": [name for name, _ in names],
            "source": [source for _, source in names],
            "step": [str(each) for each in step.tolist()],
        }
        for name, value in values.items():
            columns |= _columns(name.removeprefix("factor/"), value[clip, step])
        lines = [list(columns), *(list(line) for line in zip(*columns.values(), strict=True))]
        return vectors, lines

    @override
    def erase(self, logger: TensorBoardLogger) -> None:
        Path(logger.log_dir, "projector_config.pbtxt").unlink(missing_ok=True)

    @override
    def write(self, drawn: tuple[np.ndarray, list[list[str]]], logger: TensorBoardLogger, step: int) -> None:
        from tensorboard.plugins import projector

        vectors, lines = drawn
        folder = Path(logger.log_dir, self.name)
        with atomic_file(folder / "z.tsv") as file:
            np.savetxt(file, vectors, fmt="%.6g", delimiter="\t")
        write_text(folder / "causes.tsv", "".join("\t".join(line) + "\n" for line in lines))
        config = projector.ProjectorConfig()
        points = config.embeddings.add()
        points.tensor_name = f"z, step {step}"
        points.tensor_path, points.metadata_path = f"{self.name}/z.tsv", f"{self.name}/causes.tsv"
        projector.visualize_embeddings(logger.log_dir, config)


def _columns(name: str, value: Tensor) -> dict[str, list[str]]:
    """Make one column for each number of a factor (n, ...)."""
    value = value.flatten(1) if value.ndim > 1 else value[:, None]
    names = [name] if value.shape[1] == 1 else [f"{name}_{k}" for k in range(value.shape[1])]
    return {name: [f"{number:.4g}" for number in column.tolist()] for name, column in zip(names, value.T, strict=True)}
