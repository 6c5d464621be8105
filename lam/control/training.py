"""Training of controllers: a few labeled clips, a frozen world model, and heads between its latents and the known actions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from typing_extensions import override

from lam.bottlenecks.base import BottleneckOutput
from lam.control.base import ActionConditionedModel
from lam.control.heads import ActionOnlyHead, BehaviorCloning, CodeClassifier, Head, StateConditionedHead
from lam.control.latent_cloning import LatentCloning, infer_latents
from lam.data.clip import Clip
from lam.data.loader import BatchList
from lam.noise import keyed_uniform, splitmix64
from lam.optimizers import scheduled
from lam.runs.load import load_run

ACTION_DECODERS = {"action_decoder": "reader", "blind_action_decoder": "blind_reader"}
"""Heads from latents to actions, the others go from actions to latents; beside them the names in checkpoints of earlier
releases, which TensorBoard keeps."""
FORMER_KEYS = {
    ".reader.": ".action_decoder.",
    ".blind_reader.": ".blind_action_decoder.",
    ".look.": ".attention.",
    ".places": ".positions",
}
"""Parts of keys in checkpoints of earlier releases, and what they are called now."""


class LabeledBatches(IterableDataset[list[Tensor]]):
    """Batches of labeled clips, and of others beside them: batch i is a function of seed and i alone, also in a resumed run.

    Args:
        labeled: The clips.
        batch_size: Clips of a batch, each drawn at random, and as many of the others.
        seed: Seed of the draws.
        first: Batch to begin with.
        unlabeled: The others, drawn by themselves; none if not given.
    """

    def __init__(
        self, labeled: TensorDataset, batch_size: int, seed: int, first: int, unlabeled: TensorDataset | None = None
    ) -> None:
        self.labeled, self.batch_size, self.seed, self.first = labeled, batch_size, seed, first
        self.unlabeled = unlabeled

    @override
    def __iter__(self) -> Iterator[list[Tensor]]:
        for batch in itertools.count(self.first):
            key = splitmix64(torch.tensor([self.seed])) + batch
            drawn = self._draw(self.labeled, key)
            yield drawn if self.unlabeled is None else drawn + self._draw(self.unlabeled, splitmix64(key))

    def _draw(self, clips: TensorDataset, key: Tensor) -> list[Tensor]:
        """Return a batch of clips by its key (1,)."""
        rows = (keyed_uniform(key, (self.batch_size,))[0].double() * len(clips)).long()
        return [column[rows] for column in clips.tensors]


class ControlledModel(ActionConditionedModel):
    """A frozen world model with heads between its latents and the known actions; only the heads learn.

    All heads learn from the same labeled clips at once, so that they can be compared: ``controller`` from action and last state
    to z, ``blind`` from the action alone (its control), ``classifier``, where latents are codes, chooses one of those that
    occurred, ``action_decoder`` goes from z and last state to the action and ``blind_action_decoder`` from z alone. z is the
    output of the bottleneck without noise. ``clone`` is behavior cloning: from the first and the last state of a clip to its
    actions, without world model or latents, and the same whatever the bottleneck. ``latent_clone`` does the same in latents,
    from clips whose actions are not looked at, where the world model needs none to infer them.

    Args:
        run: Folder of the world model's run, runs/<setting>/<row>/seed<k>.
        shards: Set with the labeled clips and the episodes; the run's own if not given.
        labeled_clips: Clips of its training shards whose actions may be seen, evenly spread; the label budget.
        batch_size: Clips a step.
        learning_rate: Highest learning rate of AdamW, reached after a tenth of the steps; then it falls along a cosine.
        weight_decay: Weight decay of AdamW.
        width: Channels of a token of the heads that see the state; twice as many in those that do not.
        unlabeled_clips: Training clips, evenly spread, from which latents are cloned without their actions; 0 for no cloning of
            latents.
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
        unlabeled_clips: int = 0,
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
        num_actions, statistics = data.index.action_dim, data.index.action_statistics
        if not num_actions or statistics is None:
            raise ValueError(f"{data.index.path} has no recorded actions, and a controller learns from actions.")
        self.action_fields, self.action_statistics = data.index.actions, statistics
        latents = world.bottleneck.num_latents * world.bottleneck.dim
        shape = world.encoder.shape
        self.horizon = data.frames // world.encoder.frames_per_state - 1
        with torch.random.fork_rng(devices=[]):  # so that cloning begins alike in every row
            torch.manual_seed(torch.initial_seed())
            clone = BehaviorCloning(shape, num_actions, self.horizon, width)
        self.heads = nn.ModuleDict(
            {
                "clone": clone,
                "controller": StateConditionedHead(shape, num_actions, latents, width),
                "blind": ActionOnlyHead(shape, num_actions, latents, 2 * width),
                "action_decoder": StateConditionedHead(shape, latents, num_actions, width),
                "blind_action_decoder": ActionOnlyHead(shape, latents, num_actions, 2 * width),
            }
        )
        if world.apply_bottleneck(torch.zeros(1, 1, world.bottleneck.num_latents, world.bottleneck.dim)).codes is not None:
            self.heads["classifier"] = CodeClassifier(shape, num_actions, latents, labeled_clips * self.horizon, width)

        if not self.is_given_actions:  # else a latent is an action, and known only with its label
            self.unlabeled_clips = unlabeled_clips
        if self.unlabeled_clips:
            self.heads["latent_clone"] = LatentCloning(shape, latents, self.horizon, width)

    # ------------------------------------------------------------------ the world model

    @override
    def infer(self, states: Tensor) -> Tensor:
        return self.world.infer(states)

    @property
    @override
    def states_seen(self) -> int | None:
        return self.world.states_seen

    @override
    def predict(self, states: Tensor, z: Tensor) -> Tensor:
        return self.world.predict(states, z)

    @override
    def apply_bottleneck(self, latent: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        return self.world.apply_bottleneck(latent, sample, noise_keys)

    @override
    def infer_clip(self, clip: Clip, states: Tensor) -> Tensor:
        return self.world.infer_clip(clip, states)

    @override
    def encode_actions(self, actions: Tensor) -> Tensor | None:
        return self.world.encode_actions(actions)

    # ------------------------------------------------------------------ the heads

    @property
    def action_heads(self) -> dict[str, Head]:
        """Heads between actions and latents, by name."""
        return {name: head for name, head in self.heads.items() if isinstance(head, Head)}

    @property
    def cloning(self) -> BehaviorCloning:
        """The head of behavior cloning."""
        head = self.heads["clone"]
        assert isinstance(head, BehaviorCloning)  # a ModuleDict knows modules alone
        return head

    @property
    def latent_cloning(self) -> LatentCloning:
        """The head that clones latents."""
        head = self.heads["latent_clone"]
        assert isinstance(head, LatentCloning)  # likewise
        return head

    @property
    @override
    def controllers(self) -> list[str]:
        return [name for name in self.action_heads if name not in ACTION_DECODERS]

    @override
    def run_controller(self, name: str, actions: Tensor, states: Tensor) -> Tensor:
        # a world model that was trained with recorded actions needs no head
        known = self.encode_actions(actions.float())
        if known is not None:
            return self.apply_bottleneck(known[:, None]).z[:, 0]
        flat: Tensor = self.action_heads[name](actions.float(), states.float())
        z: Tensor = flat.unflatten(-1, (self.bottleneck.num_latents, self.bottleneck.dim))
        return z

    @override
    def decode_actions(self, name: str, z: Tensor, states: Tensor) -> Tensor:
        actions: Tensor = self.action_heads[name](z.flatten(1).float(), states.float())
        return actions

    @override
    def clone_actions(self, states: Tensor, goals: Tensor) -> Tensor:
        actions: Tensor = self.cloning(states.float(), goals.float())
        return actions

    @override
    def clone_latents(self, states: Tensor, goals: Tensor) -> Tensor:
        flat: Tensor = self.latent_cloning(states.float(), goals.float())
        z: Tensor = flat.unflatten(-1, (self.bottleneck.num_latents, self.bottleneck.dim))
        return z

    # ------------------------------------------------------------------ training the heads

    @override
    def setup(self, stage: str) -> None:
        # what the encoder took from the world's own data lies in the run's weights
        self.data.trainer = self.trainer
        self.encoder.check_index(self.data.index)

    @override
    def on_fit_start(self) -> None:
        self.labeled = self.encode_labeled_clips()
        self.unlabeled: TensorDataset | None = None
        if self.unlabeled_clips:
            self.unlabeled = infer_latents(self, self.data.training_sample(self.unlabeled_clips))
            self.latent_cloning.measure(self.unlabeled.tensors[1].flatten(0, 1).to(self.device))

    @torch.no_grad()
    def encode_labeled_clips(self) -> TensorDataset:
        """Encode the labeled clips, and measure the normalization of all heads on them.

        Returns:
            Actions (n, T-1, U), states (n, T, N, D) and latents (n, T-1, L * A).
        """
        self.eval()
        parts = []
        for clip in self.data.training_sample(self.labeled_clips, labels=True):
            states = self.encode(clip.to(self.device))
            z = self.apply_bottleneck(self.infer_clip(clip.to(self.device), states)).z
            actions = clip.labels(self.encoder.frames_per_state)["action"]
            parts.append([part.float().cpu() for part in (actions, states, z.flatten(2))])
        actions, states, z = (torch.cat(part) for part in zip(*parts, strict=True))
        known, latents = actions.flatten(0, 1).to(self.device), z.flatten(0, 1).to(self.device)
        for name, head in self.action_heads.items():
            head.measure(*((latents, known) if name in ACTION_DECODERS else (known, latents)))
        self.cloning.measure(known)
        self.train()
        return TensorDataset(actions, states, z)

    @override
    def train(self, mode: bool = True) -> ControlledModel:
        """Put the heads into training mode; the world model stays as it is."""
        super().train(mode)
        self.world.eval()
        return self

    @override
    def train_dataloader(self) -> DataLoader[list[Tensor]]:
        """Return labeled clips without end, the same on every process, continuing where the trainer stands."""
        seed, first = torch.initial_seed(), self.trainer.global_step
        batches = LabeledBatches(self.labeled, self.batch_size, seed, first, self.unlabeled)
        return DataLoader(batches, batch_size=None)

    @override
    def val_dataloader(self) -> BatchList:
        return self.data.val_dataloader()

    @override
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the sum of all heads' losses; they share no weights."""
        actions, states, z = batch[:3]
        losses = {"clone": self.cloning.loss(states[:, 0], states[:, -1], actions)}
        known, last, latents = actions.flatten(0, 1), states[:, :-1].flatten(0, 1), z.flatten(0, 1)
        for name, head in self.action_heads.items():
            losses[name] = head.loss(*((latents, last, known) if name in ACTION_DECODERS else (known, last, latents)))
        if self.unlabeled_clips:
            losses["latent_clone"] = self.latent_cloning.goals_loss(*batch[3:])
        for name, loss in losses.items():
            self.log(f"train/{ACTION_DECODERS.get(name, name)}", loss)
        return torch.stack(list(losses.values())).sum()

    @override
    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        # each head by itself, so that none learns differently beside others
        for head in self.heads.values():
            nn.utils.clip_grad_norm_(head.parameters(), gradient_clip_val or float("inf"))

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = AdamW(self.heads.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        return scheduled(optimizer, self.trainer, 0.1)

    # ------------------------------------------------------------------ checkpoints

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the heads alone: the world model lies in its own run."""
        for key in [key for key in checkpoint["state_dict"] if not key.startswith("heads.")]:
            del checkpoint["state_dict"][key]

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rename keys of earlier releases and put the world model's weights back, so that loading can be strict."""
        saved = checkpoint["state_dict"]
        for key in list(saved):
            new = key
            for former, name in FORMER_KEYS.items():
                new = new.replace(former, name)
            saved[new] = saved.pop(key)
        for key, value in self.state_dict().items():
            if not key.startswith("heads."):
                saved.setdefault(key, value)
