"""The interface that evaluations, planners and policies require of a world model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from typing_extensions import override

from lam.bottlenecks.base import Bottleneck, BottleneckOutput
from lam.data.clip import Clip
from lam.distributed import gather, gather_mapping
from lam.encoders.base import Encoder
from lam.models.clip_buffer import ClipBuffer
from lam.models.unit import HeldOutClips, mean_changes


@dataclass
class Observation:
    """One validation step as evaluations observe it, detached; ``WorldModel.validation_step`` returns it.

    Attributes:
        clip: The batch.
        states: Encoded states, (B, T, N, D).
        latent: Output of the inverse model, before the bottleneck, (B, T-1, L, A).
        bottleneck_output: Output of the bottleneck: z, its cost, codes and rate.
        predicted: Predictions of states 1..T-1, (B, T-1, N, D).
        error: Prediction error of each transition in units of the copy-last-state error of the pass's clips, (B, T-1).
        copy_error: Error of predicting that nothing changes, same unit, (B, T-1); 1 in the mean over the pass.
        z_drawn: Latents that pass the channel, (B, T-1, L, A): a draw from the posterior where there is one, each clip's noise
            a function of its position; elsewhere equal to the bottleneck's z.
        unrolled: Predictions of states 1..T-1 from the first state and latents alone, (B, T-1, N, D); None until an
            evaluation asks ``lam.evals.base.cached_rollout`` for them.
        unrolled_drawn: The same with ``z_drawn``; None until an evaluation asks ``cached_rollout_drawn``.
        error_drawn: Error with ``z_drawn`` and the true states before, (B, T-1); None until one asks ``cached_error_drawn``.
    """

    clip: Clip
    states: Tensor
    latent: Tensor
    bottleneck_output: BottleneckOutput
    predicted: Tensor
    error: Tensor
    copy_error: Tensor
    z_drawn: Tensor
    unrolled: Tensor | None = field(default=None, init=False)
    unrolled_drawn: Tensor | None = field(default=None, init=False)
    error_drawn: Tensor | None = field(default=None, init=False)


class WorldModel(pl.LightningModule, ABC):
    """A model that infers latent actions and predicts the next states with them.

    Evaluations, visualizations, planners and policies use what is declared here and nothing else of a model. A subclass sets
    ``bottleneck`` and implements ``infer`` and ``predict``; ``LatentActionModel`` is the one that is trained here,
    ``lam.models.external.ExternalModel`` adapts one that was trained elsewhere.

    Attributes:
        encoder: Turns frames into states; frozen.
        bottleneck: Limits the latents; set by the subclass.
        distance: Element-wise distance between predicted and true states.
        copy_error: Unit of errors in training, the mean distance between consecutive states of the training set; NaN until
            measured.
        held_out_copy_error: Unit of errors in evaluation, the same of the clips of a validation or test pass; None before the
            first.
        clip_buffer: Validation clips that evaluations of pairs share, filled anew in each pass.
        val_clip_sources: Name and source of the validation clip at each position, after a pass.

    Args:
        encoder: Turns frames into states; is frozen here.
        distance: Element-wise distance between predicted and true states.
    """

    encoder: Encoder
    bottleneck: Bottleneck
    distance: nn.Module
    copy_error: Tensor
    held_out_copy_error: float | None
    clip_buffer: ClipBuffer
    val_clip_sources: dict[int, tuple[str, str]]

    def __init__(self, encoder: Encoder, distance: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.distance = distance
        self.clip_buffer = ClipBuffer()
        self.val_clip_sources = {}
        self.register_buffer("copy_error", torch.tensor(float("nan")))
        self.held_out_copy_error = None
        self._held_out_clips: HeldOutClips | None = None

    # ------------------------------------------------------------------ from clips to states, latents and predictions

    @property
    def states_seen(self) -> int | None:
        """Of how many of the last states, with the latents after them, a prediction is a function; None where it is of all."""
        return None

    def encode(self, clip: Clip) -> Tensor:
        """Encode a clip's frames into states (B, T, N, D)."""
        with torch.no_grad():
            states: Tensor = self.encoder(clip.frames)
        return states

    @abstractmethod
    def infer(self, states: Tensor) -> Tensor:
        """Infer the latents (B, T-1, L, A) of the transitions between states (B, T, N, D), before the bottleneck."""

    def infer_clip(self, clip: Clip, states: Tensor) -> Tensor:
        """Infer the latents (B, T-1, L, A) of a clip with states (B, T, N, D).

        The same as ``infer``, except in a model that is given recorded actions and takes them from the clip.
        """
        return self.infer(states)

    def encode_actions(self, actions: Tensor) -> Tensor | None:
        """Encode recorded actions (n, U) as latents (n, L, A), before the bottleneck.

        Returns:
            None where the way from actions to latents has to be learned, as in all models but those that were trained with
            recorded actions.
        """
        return None

    def apply_bottleneck(self, latent: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        """Limit latents (B, T-1, L, A); see ``Bottleneck.forward``."""
        output: BottleneckOutput = self.bottleneck(latent, sample=sample, noise_keys=noise_keys)
        return output

    @abstractmethod
    def predict(self, states: Tensor, z: Tensor) -> Tensor:
        """Predict states 1..T-1, (B, T-1, N, D), from states 0..T-2 and z (B, T-1, L, A)."""

    def rollout(self, first: Tensor, z: Tensor) -> Tensor:
        """Predict states 1..T-1, (B, T-1, N, D), from the first state (B, 1, N, D) and latents (B, T-1, L, A) alone."""
        predicted = [first]
        for steps in range(1, z.shape[1] + 1):
            seen = steps if self.states_seen is None else min(steps, self.states_seen)
            states = torch.cat(predicted[-seen:], dim=1)
            predicted.append(self.predict(states, z[:, steps - seen : steps])[:, -1:].to(first.dtype))
        return torch.cat(predicted[1:], dim=1)

    # ------------------------------------------------------------------ errors and their unit

    def error(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Compute the error of each transition, (B, T-1), in units of the copy-last-state error.

        Of training clips in training mode and before the first validation pass; else of the clips of the last pass.
        """
        distance: Tensor = self.distance(predicted.float(), target.float())
        held_out = None if self.training else self.held_out_copy_error
        return distance.mean(dim=(-2, -1)) / (self.copy_error if held_out is None else held_out)

    def measure_copy_error(self, num_clips: int) -> None:
        """Measure the unit of training, the mean distance between consecutive states, on clips of the training shards.

        All processes read the same clips and get the same number.

        Raises:
            ValueError: Consecutive states do not differ.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
        self.encoder.use_index(data.index)
        clips = (clip.to(self.device) for clip in data.training_sample(num_clips))
        self.copy_error.copy_(_positive(mean_changes(clips, self.encode, self.distance)[1], "training"))

    def measure_held_out_copy_error(self) -> None:
        """Measure the unit of evaluation on all clips of the pass that begins, each once over all processes.

        Once for the same clips in a process. It costs a second reading and encoding of them: errors are linear in the unit
        and could be divided by it at the end instead, but then every evaluation would have to say which of the numbers that
        it kept are errors.

        Raises:
            ValueError: Consecutive states do not differ.
        """
        clips = HeldOutClips(self.trainer)
        if clips == self._held_out_clips:
            return
        with self.trainer.precision_plugin.val_step_context():
            found = mean_changes(clips, self.encode, self.distance)
        self.held_out_copy_error = _positive(gather(*found)[1], "held-out").item()
        self._held_out_clips = clips

    # ------------------------------------------------------------------ validation

    @override
    def setup(self, stage: str) -> None:
        # before anything is computed: the data must fit the encoder
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
        self.encoder.check_index(data.index)
        if data.frames_per_state != self.encoder.frames_per_state:
            raise ValueError(
                f"The encoder makes a state of {self.encoder.frames_per_state} frames, data.frames_per_state is "
                f"{data.frames_per_state}. Set --data.frames_per_state {self.encoder.frames_per_state}."
            )

    @override
    def teardown(self, stage: str) -> None:
        self._held_out_clips = None  # the loaders end with the trainer's work

    @override
    def validation_step(self, clip: Clip, batch_idx: int) -> Observation:  # type: ignore[override]  # narrower than Lightning's
        """Run the model without learning; evaluations observe what it returns."""
        states = self.encode(clip)
        latent = self.infer_clip(clip, states)
        bottleneck_output = self.apply_bottleneck(latent)
        z_drawn = self.apply_bottleneck(latent, sample=True, noise_keys=clip.position).z
        predicted = self.predict(states[:, :-1], bottleneck_output.z)
        observation = Observation(
            clip=clip,
            states=states,
            latent=latent,
            bottleneck_output=bottleneck_output,
            predicted=predicted,
            error=self.error(predicted, states[:, 1:]),
            copy_error=self.error(states[:, :-1], states[:, 1:]),
            z_drawn=z_drawn,
        )
        self.clip_buffer.add(clip, states, bottleneck_output.z, z_drawn, clip.labels(self.encoder.frames_per_state))
        return observation

    @override
    def on_validation_epoch_start(self) -> None:
        if not self.trainer.sanity_checking:  # two batches, from which nothing is computed
            self.measure_held_out_copy_error()
        self._errors: list[tuple[Tensor, Tensor]] = []
        self.val_clip_sources = {}
        self.clip_buffer.reset()

    @override
    def on_validation_batch_end(self, outputs: Observation, batch: Clip, batch_idx: int) -> None:  # type: ignore[override]  # likewise
        # each clip's error is kept, so that the mean over all processes is exact
        self._errors.append((outputs.clip.position.cpu(), outputs.error.mean(dim=1).cpu()))
        self.val_clip_sources |= zip(batch.position.tolist(), zip(batch.key, batch.source, strict=True), strict=True)

    @override
    def on_validation_epoch_end(self) -> None:
        """Log the mean error of all validation clips, each counted once."""
        positions, errors = (torch.cat(column) for column in zip(*self._errors, strict=True))
        self.log("val/prediction", gather(positions, errors)[1].mean())
        self.val_clip_sources = gather_mapping(self.val_clip_sources)

    # ``lam test`` is validation on another set of shards

    @override
    def test_step(self, clip: Clip, batch_idx: int) -> Observation:  # type: ignore[override]  # likewise
        return self.validation_step(clip, batch_idx)

    @override
    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    @override
    def on_test_batch_end(self, outputs: Observation, batch: Clip, batch_idx: int) -> None:  # type: ignore[override]  # likewise
        self.on_validation_batch_end(outputs, batch, batch_idx)

    @override
    def on_test_epoch_end(self) -> None:
        self.on_validation_epoch_end()


def _positive(changes: Tensor, kind: str) -> Tensor:
    """Return the mean of changes (n,), of clips of a kind.

    Raises:
        ValueError: Nothing changes.
    """
    error = changes.mean()
    if not error > 0:
        raise ValueError(
            f"Consecutive states of {len(changes)} {kind} clips differ by {error.item()} on average, nothing can be learned "
            "from that or told apart by it. Is the video static, or the frame rate far too high? Prepare it with a lower --fps."
        )
    return error
