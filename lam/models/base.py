"""What evaluations ask of a model, whoever built and trained it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from lam.bottlenecks.base import Bottleneck, BottleneckOutput
from lam.data.clip import Clip
from lam.distributed import gather, gather_mapping
from lam.encoders.base import Encoder
from lam.models.clip_buffer import ClipBuffer


@dataclass
class Observation:
    """What one validation step saw, detached; what ``LatentActionModel.validation_step`` returns.

    Attributes:
        clip: The batch.
        states: Encoded states, (B, T, N, D).
        latent: What the inverse model said, before the bottleneck, (B, T-1, L, A).
        bottleneck_output: What the bottleneck let through and what it cost.
        predicted: Predictions of states 1..T-1, (B, T-1, N, D).
        error: Prediction error of each transition in units of the copy-last-state error, (B, T-1).
        copy_error: Error of predicting that nothing changes, same unit, (B, T-1); about 1 on the training set.
        unrolled: Predictions of states 1..T-1 from the first state and latents alone, (B, T-1, N, D); None until an
            evaluation asks ``lam.evals.common.unroll.unrolled`` for them.
    """

    clip: Clip
    states: Tensor
    latent: Tensor
    bottleneck_output: BottleneckOutput
    predicted: Tensor
    error: Tensor
    copy_error: Tensor
    unrolled: Tensor | None = field(default=None, init=False)


class WorldModel(pl.LightningModule, ABC):
    """A model that infers latent actions and predicts with them, as evaluations see it.

    Attributes:
        bottleneck: What limits the latents; a subclass sets it.
        bank: The sample of validation clips that evaluations of pairs share, filled anew in each pass.
        val_clip_sources: Name and source of the validation clip at each position, after a pass.

    Args:
        encoder: Turns frames into states; frozen.
        distance: Element-wise distance between predicted and true states.
    """

    bottleneck: Bottleneck
    copy_error: Tensor

    def __init__(self, encoder: Encoder, distance: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.distance = distance
        self.clip_buffer = ClipBuffer()
        self.register_buffer("copy_error", torch.tensor(float("nan")))

    def setup(self, stage: str) -> None:
        """Checks that the data fit the encoder, before anything is computed."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
        self.encoder.check_index(data.index)
        if data.frames_per_state != self.encoder.frames_per_state:
            raise ValueError(
                f"The encoder makes a state of {self.encoder.frames_per_state} frames, data.frames_per_state is "
                f"{data.frames_per_state}. Set --data.frames_per_state {self.encoder.frames_per_state}."
            )

    def measure_copy_error(self, num_clips: int) -> None:
        """Measures the unit of all errors, the mean distance between consecutive states, on clips of the training shards.

        The same on every process, as all read the same clips.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
        self.encoder.use_index(data.index)
        total, count = torch.zeros((), dtype=torch.float64), 0
        for clip in data.training_sample(num_clips):
            states = self.encode(clip.to(self.device)).float()
            errors = self.distance(states[:, :-1], states[:, 1:]).mean(dim=(-2, -1))
            total += errors.double().sum().cpu()
            count += errors.numel()
        error = total / count
        if not error > 0:
            raise ValueError(
                f"Consecutive states of {count} training transitions differ by {error.item()} on average, nothing can be "
                "learned from that. Is the video static, or the frame rate far too high? Prepare it with a lower --fps."
            )
        self.copy_error.copy_(error)

    def encode(self, clip: Clip) -> Tensor:
        """States (B, T, N, D) of a clip's frames."""
        with torch.no_grad():
            return self.encoder(clip.frames)

    @abstractmethod
    def infer(self, states: Tensor) -> Tensor:
        """What the inverse model says of each transition between states (B, T, N, D), (B, T-1, L, A)."""

    def infer_clip(self, clip: Clip, states: Tensor) -> Tensor:
        """Latents (B, T-1, L, A) of a clip with states (B, T, N, D); a model that is told actions takes them from the clip."""
        return self.infer(states)

    def apply_bottleneck(self, latent: Tensor, sample: bool = False) -> BottleneckOutput:
        """What the bottleneck lets through."""
        return self.bottleneck(latent, sample=sample)

    @abstractmethod
    def predict(self, states: Tensor, z: Tensor) -> Tensor:
        """Predictions of states 1..T-1, (B, T-1, N, D), from states 0..T-2 and z (B, T-1, L, A)."""

    def rollout(self, first: Tensor, z: Tensor) -> Tensor:
        """Predict states 1..T-1, (B, T-1, N, D), from the first state (B, 1, N, D) and latents (B, T-1, L, A) alone."""
        states = first
        for h in range(1, z.shape[1] + 1):
            states = torch.cat([states, self.predict(states, z[:, :h])[:, -1:].to(first.dtype)], dim=1)
        return states[:, 1:]

    def error(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Error of each transition, (B, T-1), in units of the copy-last-state error."""
        return self.distance(predicted.float(), target.float()).mean(dim=(-2, -1)) / self.copy_error

    def validation_step(self, clip: Clip, batch_idx: int) -> Observation:  # type: ignore[override]  # narrower than Lightning's
        """Runs the model without learning; evaluations watch what it returns."""
        states = self.encode(clip)
        latent = self.infer_clip(clip, states)
        bottleneck_output = self.apply_bottleneck(latent)
        predicted = self.predict(states[:, :-1], bottleneck_output.z)
        observation = Observation(
            clip=clip,
            states=states,
            latent=latent,
            bottleneck_output=bottleneck_output,
            predicted=predicted,
            error=self.error(predicted, states[:, 1:]),
            copy_error=self.error(states[:, :-1], states[:, 1:]),
        )
        self.clip_buffer.add(observation, clip.labels(self.encoder.frames_per_state))
        return observation

    def on_validation_epoch_start(self) -> None:
        """Starts a pass."""
        self._errors: list[tuple[Tensor, Tensor]] = []
        self.val_clip_sources: dict[int, tuple[str, str]] = {}
        self.clip_buffer.reset()

    def on_validation_batch_end(self, outputs: Observation, batch: Clip, batch_idx: int) -> None:  # type: ignore[override]
        """Keeps each clip's error, so that the mean over all processes is exact, and which clip it was."""
        self._errors.append((outputs.clip.position.cpu(), outputs.error.mean(dim=1).cpu()))
        self.val_clip_sources |= zip(batch.position.tolist(), zip(batch.key, batch.source, strict=True), strict=True)

    def on_validation_epoch_end(self) -> None:
        """Logs the mean error of all validation clips, each counted once."""
        positions, errors = (torch.cat(column) for column in zip(*self._errors, strict=True))
        self.log("val/prediction", gather(positions, errors)[1].mean())
        self.val_clip_sources = gather_mapping(self.val_clip_sources)

    def test_step(self, clip: Clip, batch_idx: int) -> Observation:  # type: ignore[override]  # narrower than Lightning's
        """The validation step, for ``lam test`` on any other set of shards."""
        return self.validation_step(clip, batch_idx)

    def on_test_epoch_start(self) -> None:
        """Starts a pass."""
        self.on_validation_epoch_start()

    def on_test_batch_end(self, outputs: Observation, batch: Clip, batch_idx: int) -> None:  # type: ignore[override]
        """Keeps what validation keeps."""
        self.on_validation_batch_end(outputs, batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Logs what validation logs."""
        self.on_validation_epoch_end()
