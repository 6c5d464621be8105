"""The unit of errors: how far consecutive states are from each other, so that 1 is the error of predicting no change.

Training divides by the mean over training clips, a constant of the run. Evaluations divide by the mean over the very clips
that they evaluate: held-out video may move more or less, and an error in the training clips' unit would then say that a row is
twice as bad as doing nothing while it is better.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from lam.data.clip import Clip


def mean_changes(clips: Iterable[Clip], encode: Callable[[Clip], Tensor], distance: nn.Module) -> tuple[Tensor, Tensor]:
    """Compute the mean distance between consecutive states of each clip.

    Args:
        clips: Batches of clips, where the encoder is.
        encode: Encodes a batch into states (B, T, N, D).
        distance: Element-wise distance between states.

    Returns:
        Positions (n,) int64 and distances (n,) float64 on the CPU, in the order of the clips.
    """
    positions, changes = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.float64)]
    for clip in clips:
        states = encode(clip).float()
        positions.append(clip.position.cpu())
        changes.append(distance(states[:, :-1], states[:, 1:]).mean(dim=(-2, -1)).double().mean(dim=1).cpu())
    return torch.cat(positions), torch.cat(changes)


class HeldOutClips:
    """The clips of the validation or test pass that a trainer is in, this process's share, on its device.

    Two are equal where they are the same clips: of the same loader, and as many.

    Args:
        trainer: The trainer.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING
        loop = trainer.fit_loop.epoch_loop.val_loop if fitting else trainer.validate_loop
        loop = trainer.test_loop if trainer.testing else loop
        # the public trainer.val_dataloaders stays with the loader of fit when validate follows
        assert loop._combined_loader is not None
        self._loaders = list(zip(loop._combined_loader.flattened, loop.max_batches, strict=True))
        self._trainer = trainer

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HeldOutClips) or len(self._loaders) != len(other._loaders):
            return False
        pairs = zip(self._loaders, other._loaders, strict=True)
        return all(own[0] is its[0] and own[1] == its[1] for own, its in pairs)

    __hash__ = None  # type: ignore[assignment]  # loaders need not have one

    def __iter__(self) -> Iterator[Clip]:
        """Yield the batches as the pass will, limited as it is."""
        for loader, limit in self._loaders:
            for clip in itertools.islice(loader, None if limit == float("inf") else int(limit)):
                converted = self._trainer.precision_plugin.convert_input(clip)
                yield self._trainer.strategy.batch_to_device(converted)
