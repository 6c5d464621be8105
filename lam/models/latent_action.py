"""The latent action model: infers what happened between two states and learns it by having to predict the second.

In the order in which data flow, ``LatentActionModel.training_step`` shows it in ten lines:

    states = encode(clip)                   frames become states (B, T, N, D), by the frozen encoder
    latent = infer_clip(clip, states)       the inverse model sees both states of a transition, (B, T-1, L, A)
    output = apply_bottleneck(latent)       the only part that differs between the rows of a table
    predicted = predict(states, output.z)   the forward model sees the past and the latents
    loss = error(predicted, states) + output.loss

``lam.models.base.WorldModel`` has the interface, the unit of the error and the validation step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from lam.bottlenecks.base import Bottleneck, BottleneckOutput
from lam.data.clip import Clip
from lam.encoders.base import Encoder, StateShape
from lam.models.base import WorldModel
from lam.models.forward import ForwardModel
from lam.models.inverse import InverseModel
from lam.models.residual_mlp import PairMLP, ResidualMLP  # noqa: F401  # configs name them
from lam.noise import splitmix64
from lam.optimizers import parameter_groups, scheduled


class NonFiniteLossError(ValueError):
    """The training loss is not a finite number."""


class LatentActionModel(WorldModel):
    """Latent action model: a frozen encoder, an inverse model, a bottleneck and a forward model.

    Everything but the bottleneck is shared by all rows of a table. The loss is the prediction error, in units of the error
    of predicting that nothing changes, plus the bottleneck's own loss.

    Args:
        encoder: Turns frames into states; frozen.
        inverse_model: Builds the inverse dynamics model, given the layout of a state, num_latents and latent_dim.
        bottleneck: Builds the bottleneck, given latent_dim and num_latents.
        forward_model: Builds the forward model, given the layout of a state, num_latents and latent_dim.
        optimizer: Builds the optimizer, given parameter groups.
        distance: Element-wise distance between predicted and true states.
        latent_dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition.
        warmup: Fraction of the budget of steps or time over which the learning rate rises linearly; then it falls to zero
            along a cosine.
        rollout: Weight of the error of predictions from the first state and latents alone, beside that of predictions from
            the true past.
        copy_error_clips: Training clips on which the unit of the loss, the copy-last-state error, is measured once.
    """

    def __init__(
        self,
        encoder: Encoder,
        inverse_model: Callable[[StateShape, int, int], InverseModel],
        bottleneck: Callable[[int, int], Bottleneck],
        forward_model: Callable[[StateShape, int, int], ForwardModel],
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        distance: nn.Module,
        latent_dim: int = 128,
        num_latents: int = 1,
        warmup: float = 0.1,
        copy_error_clips: int = 1024,
        rollout: float = 0.0,
    ) -> None:
        super().__init__(encoder, distance)
        self.inverse_model = inverse_model(encoder.shape, num_latents, latent_dim)
        self.bottleneck = bottleneck(latent_dim, num_latents)
        self.forward_model = forward_model(encoder.shape, num_latents, latent_dim)
        self.make_optimizer = optimizer
        self.warmup = warmup
        self.copy_error_clips = copy_error_clips
        self.rollout_weight = rollout

    # ------------------------------------------------------------------ the heads

    @override
    def infer(self, states: Tensor) -> Tensor:
        latents: Tensor = self.inverse_model(states[:, :-1], states[:, 1:])
        return latents

    @override
    def infer_clip(self, clip: Clip, states: Tensor) -> Tensor:
        # recorded actions reach only an inverse model that asks for them
        return self.inverse_model.infer_clip(clip.labels(self.encoder.frames_per_state), states)

    @override
    def encode_actions(self, actions: Tensor) -> Tensor | None:
        return self.inverse_model.encode_actions(actions)

    @property
    @override
    def states_seen(self) -> int | None:
        return self.forward_model.states_seen

    @override
    def predict(self, states: Tensor, z: Tensor) -> Tensor:
        predicted: Tensor = self.forward_model(states, z)
        return predicted

    # ------------------------------------------------------------------ training

    @override
    def on_fit_start(self) -> None:
        if self.copy_error.isnan():  # a resumed run has measured it already
            self.inverse_model.use_index(self.trainer.datamodule.index)  # type: ignore[attr-defined]  # Lightning sets it
            self.measure_copy_error(self.copy_error_clips)

    @override
    def training_step(self, clip: Clip, batch_idx: int) -> Tensor:
        """Compute the loss of a batch: the error of predicting every next state from the true past, plus the bottleneck's."""
        states = self.encode(clip)
        noise_keys = splitmix64(clip.position + torch.initial_seed())  # a clip has its noise on any rank
        bottleneck_output = self.apply_bottleneck(self.infer_clip(clip, states), noise_keys=noise_keys)
        prediction = self.error(self.predict(states[:, :-1], bottleneck_output.z), states[:, 1:]).mean()
        loss = prediction + bottleneck_output.loss
        if self.rollout_weight:
            unrolled = self.error(self.rollout(states[:, :1], bottleneck_output.z), states[:, 1:]).mean()
            loss = loss + self.rollout_weight * unrolled
            self.log("train/rollout", unrolled)
        if not torch.isfinite(loss):
            self._raise_non_finite(prediction=prediction, bottleneck=bottleneck_output.loss)
        self.log("train/prediction", prediction)
        self.log("train/bottleneck", bottleneck_output.loss)
        for name, value in bottleneck_output.stats.items():
            self.log(f"z/{name}", value)
        return loss

    def _raise_non_finite(self, **terms: Tensor) -> NoReturn:
        """Stop training before a loss that is not finite reaches the weights."""
        found = ", ".join(f"the {name} loss is {value.item()}" for name, value in terms.items() if not torch.isfinite(value))
        raise NonFiniteLossError(
            f"At step {self.global_step} {found or 'the sum of losses is not finite'}. The last checkpoint is intact. Lower "
            "the learning rate or the bottleneck's weight, set trainer.gradient_clip_val, or train in 32-true."
        )

    @override
    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        # the bottleneck's dead-code resets and statistics belong to the step: callbacks save checkpoints after both
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        assert isinstance(optimizer, LightningOptimizer)  # which automatic optimization wraps
        self.bottleneck.on_optimizer_step(optimizer.optimizer)

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer under a linear warm-up and a cosine to zero, stepped each batch."""
        optimizer = self.make_optimizer(parameter_groups(self))
        return scheduled(optimizer, self.trainer, self.warmup)

    # ------------------------------------------------------------------ labeling

    @override
    def predict_step(self, clip: Clip, batch_idx: int) -> BottleneckOutput:
        """Label a batch of clips with latent actions; ``LatentWriter`` writes them to a file."""
        return self.apply_bottleneck(self.infer(self.encode(clip)))

    # ------------------------------------------------------------------ checkpoints

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen encoder's weights out: the config says where they came from."""
        for key in [key for key in checkpoint["state_dict"] if key.startswith("encoder.backbone.")]:
            del checkpoint["state_dict"][key]

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the frozen encoder's weights back, so that loading can be strict about all others."""
        for key, value in self.state_dict().items():
            if key.startswith("encoder.backbone."):
                checkpoint["state_dict"][key] = value
