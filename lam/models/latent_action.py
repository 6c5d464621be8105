"""The latent action model: learns what happened between two states by having to predict the second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lam.bottlenecks.base import Bottleneck, BottleneckOutput
from lam.data.clip import Clip
from lam.encoders.base import Encoder, StateShape
from lam.models.base import WorldModel
from lam.models.forward import ForwardModel
from lam.models.inverse import InverseModel
from lam.noise import splitmix64
from lam.optimizers import parameter_groups, warmup_cosine


class NonFiniteLossError(ValueError):
    """Training produced a loss that is not a number."""


class LatentActionModel(WorldModel):
    """Learns what happened between two states by having to predict the second.

    Everything but the bottleneck is shared by all rows of a table. The loss is the prediction error, in units of the error
    of predicting that nothing changes, plus what the bottleneck charges.

    Args:
        encoder: Turns frames into states; frozen.
        inverse_model: Makes the inverse dynamics model, given the layout of a state, num_latents and latent_dim.
        bottleneck: Makes the bottleneck, given latent_dim and num_latents.
        forward_model: Makes the forward model, given the layout of a state, num_latents and latent_dim.
        optimizer: Makes the optimizer, given parameter groups.
        distance: Element-wise distance between predicted and true states.
        latent_dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition.
        warmup: Share of the steps over which the learning rate rises linearly; then it falls to zero along a cosine.
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
    ) -> None:
        super().__init__(encoder, distance)
        self.inverse_model = inverse_model(encoder.shape, num_latents, latent_dim)
        self.bottleneck = bottleneck(latent_dim, num_latents)
        self.forward_model = forward_model(encoder.shape, num_latents, latent_dim)
        self.make_optimizer = optimizer
        self.warmup = warmup
        self.copy_error_clips = copy_error_clips

    # ------------------------------------------------------------------ the parts, in the order data flows

    def infer(self, states: Tensor) -> Tensor:
        """What the inverse model says of each transition, (B, T-1, L, A)."""
        return self.inverse_model(states[:, :-1], states[:, 1:])

    def infer_clip(self, clip: Clip, states: Tensor) -> Tensor:
        """Latents (B, T-1, L, A) of a clip; recorded labels reach only an inverse model that asks for them."""
        return self.inverse_model.infer_clip(clip.labels(self.encoder.frames_per_state), states)

    def encode_actions(self, actions: Tensor) -> Tensor | None:
        """Latents (n, L, A) of recorded actions (n, U), where the inverse model was trained with them."""
        return self.inverse_model.encode_actions(actions)

    def predict(self, states: Tensor, z: Tensor) -> Tensor:
        """Predictions of states 1..T-1, (B, T-1, N, D), from states 0..T-2 and z."""
        return self.forward_model(states, z)

    # ------------------------------------------------------------------ training

    def on_fit_start(self) -> None:
        """Measures the unit of the loss on the training shards, once; a resumed run has it already."""
        if self.copy_error.isnan():
            self.inverse_model.use_index(self.trainer.datamodule.index)  # type: ignore[attr-defined]  # Lightning sets it
            self.measure_copy_error(self.copy_error_clips)

    def training_step(self, clip: Clip, batch_idx: int) -> Tensor:
        """Teacher forcing on every transition at once."""
        states = self.encode(clip)
        noise_keys = splitmix64(clip.position + torch.initial_seed())
        bottleneck_output = self.apply_bottleneck(self.infer_clip(clip, states), noise_keys=noise_keys)
        prediction = self.error(self.predict(states[:, :-1], bottleneck_output.z), states[:, 1:]).mean()
        loss = prediction + bottleneck_output.loss
        if not torch.isfinite(loss):
            self._stop(prediction=prediction, bottleneck=bottleneck_output.loss)
        self.log("train/prediction", prediction)
        self.log("train/bottleneck", bottleneck_output.loss)
        for name, value in bottleneck_output.stats.items():
            self.log(f"train/{name}", value)
        return loss

    def _stop(self, **terms: Tensor) -> NoReturn:
        """Stops training before a loss that is not finite reaches the weights."""
        found = ", ".join(f"the {name} loss is {value.item()}" for name, value in terms.items() if not torch.isfinite(value))
        raise NonFiniteLossError(
            f"At step {self.global_step} {found or 'the sum of losses is not finite'}. The last checkpoint is intact. Lower "
            "the learning rate or the bottleneck's weight, set trainer.gradient_clip_val, or train in 32-true."
        )

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Steps, then lets the bottleneck tidy up; both are done before any callback saves a checkpoint."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.bottleneck.on_optimizer_step(optimizer.optimizer)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The configured optimizer under a linear warm-up and a cosine to zero, stepped each batch."""
        optimizer = self.make_optimizer(parameter_groups(self))
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, warmup_cosine(steps, self.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # ------------------------------------------------------------------ prediction

    def predict_step(self, clip: Clip, batch_idx: int) -> BottleneckOutput:
        """Latent actions of a clip; ``LatentWriter`` puts them into a file."""
        return self.apply_bottleneck(self.infer(self.encode(clip)))

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves the frozen encoder's weights out: the config says where they came from."""
        for key in [key for key in checkpoint["state_dict"] if key.startswith("encoder.backbone.")]:
            del checkpoint["state_dict"][key]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts the frozen encoder's weights back, so that loading can be strict about all others."""
        for key, value in self.state_dict().items():
            if key.startswith("encoder.backbone."):
                checkpoint["state_dict"][key] = value
