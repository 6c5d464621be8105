"""Training controllers: a few labeled clips, a frozen world model, and heads between its latents and the known actions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lam.bottlenecks.base import BottleneckOutput
from lam.control.heads import Blind, Classifying, Clone, Head, Seeing
from lam.data.clip import Clip
from lam.models.base import WorldModel
from lam.noise import keyed_uniform, splitmix64
from lam.optimizers import warmup_cosine
from lam.runs.load import load_run

ACTION_DECODERS = ("action_decoder", "blind_action_decoder")
"""Heads from latents to actions; the others go from actions to latents."""


class LabeledBatches(IterableDataset[list[Tensor]]):
    """Batches of labeled clips: batch i is a function of seed and i alone, so a resumed run sees what was to come.

    Args:
        labeled: The clips.
        batch_size: Clips of a batch, each drawn at random.
        seed: Seed of the draws.
        first: Batch to begin with.
    """

    def __init__(self, labeled: TensorDataset, batch_size: int, seed: int, first: int) -> None:
        self.labeled, self.batch_size, self.seed, self.first = labeled, batch_size, seed, first

    def __iter__(self) -> Iterator[list[Tensor]]:
        """Without end."""
        for batch in itertools.count(self.first):
            key = splitmix64(torch.tensor([self.seed])) + batch
            rows = (keyed_uniform(key, (self.batch_size,))[0].double() * len(self.labeled)).long()
            yield [column[rows] for column in self.labeled.tensors]


class ControlledModel(WorldModel):
    """A frozen world model with heads between its latents and the known actions; only the heads learn.

    All heads learn from the same labeled clips at once, so that what they reach can be compared: ``controller`` from action
    and last state to z, ``blind`` from the action alone (its foil), ``classifier``, where latents are codes, chooses one of
    those that occurred, ``action_decoder`` goes from z and last state to the action and ``blind_action_decoder`` from z alone.
    z is what the
    bottleneck lets through, without noise. ``clone`` is behavior cloning: from the first and the last state of a clip to
    its actions, without world model or latents, and the same whatever the bottleneck.

    Args:
        run: Folder of the world model's run, runs/<setting>/<row>/seed<k>.
        shards: Set with the labeled clips and the episodes; the run's own if not given.
        labeled_clips: Clips of its training shards whose actions may be seen, evenly spread; the label budget.
        batch_size: Clips a step.
        learning_rate: Highest learning rate of AdamW, reached after a tenth of the steps; then it falls along a cosine.
        weight_decay: Weight decay of AdamW.
        width: Channels of a token of the heads that see the state; twice as many in those that do not.
    """

    def __init__(
        self,
        run: Path,
        labeled_clips: int = 256,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-3,
        width: int = 64,
        shards: Path | None = None,
    ) -> None:
        world, data = load_run(Path(run), shards)
        super().__init__(world.encoder, world.distance)
        if labeled_clips < 1:
            raise ValueError(f"labeled_clips is {labeled_clips}; a controller needs at least one labeled clip.")
        self.world = world.requires_grad_(False).eval()
        self.bottleneck = world.bottleneck
        self.copy_error.copy_(world.copy_error)
        self.data = data
        self.labeled_clips, self.batch_size = labeled_clips, batch_size
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        actions = data.index.action_dim
        if not actions:
            raise ValueError(f"{data.index.path} has no recorded actions, and a controller learns from actions.")
        latents = world.bottleneck.num_latents * world.bottleneck.dim
        shape = world.encoder.shape
        self.steps = data.frames // world.encoder.frames_per_state - 1
        with torch.random.fork_rng(devices=[]):  # so that cloning begins alike in every row
            torch.manual_seed(torch.initial_seed())
            clone = Clone(shape, actions, self.steps, width)
        self.heads = nn.ModuleDict(
            {
                "clone": clone,
                "controller": Seeing(shape, actions, latents, width),
                "blind": Blind(shape, actions, latents, 2 * width),
                "action_decoder": Seeing(shape, latents, actions, width),
                "blind_action_decoder": Blind(shape, latents, actions, 2 * width),
            }
        )
        if world.apply_bottleneck(torch.zeros(1, 1, world.bottleneck.num_latents, world.bottleneck.dim)).codes is not None:
            self.heads["classifier"] = Classifying(shape, actions, latents, labeled_clips * self.steps, width)

    # ------------------------------------------------------------------ the world model

    def infer(self, states: Tensor) -> Tensor:
        """What the world's inverse model says of each transition, (B, T-1, L, A)."""
        return self.world.infer(states)

    def predict(self, states: Tensor, z: Tensor) -> Tensor:
        """The world's predictions of states 1..T-1, (B, T-1, N, D), from states 0..T-2 and z."""
        return self.world.predict(states, z)

    def apply_bottleneck(self, latent: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        """What the world's bottleneck lets through."""
        return self.world.apply_bottleneck(latent, sample, noise_keys)

    def infer_clip(self, clip: Clip, states: Tensor) -> Tensor:
        """The world's latents of a clip, (B, T-1, L, A)."""
        return self.world.infer_clip(clip, states)

    def encode_actions(self, actions: Tensor) -> Tensor | None:
        """The world's latents of recorded actions, (n, L, A), where it was trained with them."""
        return self.world.encode_actions(actions)

    def act(self, name: str, actions: Tensor, states: Tensor) -> Tensor:
        """Latents (n, L, A) of a controller by its name, for actions (n, U) in states (n, N, D).

        A world model that was trained with recorded actions needs none of them and is asked itself.
        """
        known = self.encode_actions(actions.float())
        if known is not None:
            return self.apply_bottleneck(known[:, None]).z[:, 0]
        head: Head = self.heads[name]  # type: ignore[assignment]  # a ModuleDict does not say of what
        z = head(actions.float(), states.float())
        return z.unflatten(-1, (self.bottleneck.num_latents, self.bottleneck.dim))

    # ------------------------------------------------------------------ training the heads

    def setup(self, stage: str) -> None:
        """Connects the data; what the encoder took from the world's own lies in the run's weights."""
        self.data.trainer = self.trainer
        self.encoder.check_index(self.data.index)

    def on_fit_start(self) -> None:
        """Encodes the labeled clips once."""
        self.labeled = self.label()

    @torch.no_grad()
    def label(self) -> TensorDataset:
        """Actions (n, T-1, U), states (n, T, N, D) and latents (n, T-1, L * A) of the labeled clips."""
        self.eval()
        parts = []
        for clip in self.data.training_sample(self.labeled_clips, labels=True):
            states = self.encode(clip.to(self.device))
            z = self.apply_bottleneck(self.infer_clip(clip.to(self.device), states)).z
            actions = clip.labels(self.encoder.frames_per_state)["action"]
            parts.append([part.float().cpu() for part in (actions, states, z.flatten(2))])
        actions, states, z = (torch.cat(part) for part in zip(*parts, strict=True))
        known, latents = actions.flatten(0, 1).to(self.device), z.flatten(0, 1).to(self.device)
        for name in self.translators:
            self.heads[name].measure(*((latents, known) if name in ACTION_DECODERS else (known, latents)))  # type: ignore[operator]  # see act
        self.heads["clone"].measure(known)  # type: ignore[operator]  # see act
        self.train()
        return TensorDataset(actions, states, z)

    @property
    def translators(self) -> list[str]:
        """Heads between actions and latents."""
        return [name for name in self.heads if name != "clone"]

    def train(self, mode: bool = True) -> ControlledModel:
        """Puts the heads into training mode; the world model stays as it is."""
        super().train(mode)
        self.world.eval()
        return self

    def train_dataloader(self) -> DataLoader[list[Tensor]]:
        """Labeled clips without end, the same on every process, continuing where the trainer stands."""
        batches = LabeledBatches(self.labeled, self.batch_size, torch.initial_seed(), self.trainer.global_step)
        return DataLoader(batches, batch_size=None)

    def val_dataloader(self) -> Any:
        """The run's validation clips."""
        return self.data.val_dataloader()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:  # type: ignore[override]  # narrower
        """The sum of all heads' losses; they share no weights."""
        actions, states, z = batch
        losses = {"clone": self.heads["clone"].loss(states[:, 0], states[:, -1], actions)}  # type: ignore[operator]  # see act
        known, last, latents = actions.flatten(0, 1), states[:, :-1].flatten(0, 1), z.flatten(0, 1)
        for name in self.translators:
            sides = (latents, last, known) if name in ACTION_DECODERS else (known, last, latents)
            losses[name] = self.heads[name].loss(*sides)  # type: ignore[operator]  # see act
        for name, loss in losses.items():
            self.log(f"train/{name}", loss)
        return torch.stack(list(losses.values())).sum()

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips each head by itself, so that none learns differently for the company it is in."""
        for head in self.heads.values():
            nn.utils.clip_grad_norm_(head.parameters(), gradient_clip_val or float("inf"))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW under a linear warm-up and a cosine to zero, stepped each batch."""
        optimizer = AdamW(self.heads.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = LambdaLR(optimizer, warmup_cosine(int(self.trainer.estimated_stepping_batches), 0.1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the heads alone: the world model lies in its own run."""
        for key in [key for key in checkpoint["state_dict"] if not key.startswith("heads.")]:
            del checkpoint["state_dict"][key]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts the world model's weights back, so that loading can be strict about all others."""
        for key, value in self.state_dict().items():
            checkpoint["state_dict"].setdefault(key, value)
