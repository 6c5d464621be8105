"""A model whose numbers can be computed by hand, and observations with a chosen z, for tests of evaluations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lam.bottlenecks.base import Bottleneck, BottleneckOutput
from lam.data.clip import Clip
from lam.encoders.base import Encoder
from lam.evals.base import Evaluation, Results
from lam.models.base import Observation, WorldModel
from lam.noise import normal_like

PATCH = 4


class ToyEncoder(Encoder):
    """Means over patches of 4 x 4 pixels, from -1 to 1; two frames make one state where asked for: the last counts."""

    def __init__(self, frames_per_state: int = 1):
        super().__init__()
        self.dim, self.grid, self.image_size = 3, (2, 2), 8
        self.frames_per_state = frames_per_state

    def forward(self, frames: Tensor) -> Tensor:
        frames = frames[:, self.frames_per_state - 1 :: self.frames_per_state]
        means = nn.functional.avg_pool2d(frames.flatten(0, 1).float() / 127.5 - 1, PATCH)
        states: Tensor = means.flatten(2).transpose(1, 2).unflatten(0, frames.shape[:2])
        return states

    def to_image(self, states: Tensor) -> Tensor:
        side = int(states.shape[2] ** 0.5)
        pictures: Tensor = states.transpose(2, 3).unflatten(3, (side, side))
        return (pictures + 1) / 2


class ToyBottleneck(Bottleneck):
    """Adds noise of a known size where sampling is asked for, at a price of 2 bits."""

    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        noisy = z + 0.5 * normal_like(z, noise_keys) if sample else z
        return BottleneckOutput(noisy, z.new_zeros(()), rate_bits=z.new_full(z.shape[:2], 2.0))

    def sample_prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        raise AssertionError("no evaluation tested here draws from the prior")


class ToyModel(WorldModel):
    """Latents are half of the mean change of each channel, which the prediction adds to every token."""

    def __init__(self, frames_per_state: int = 1):
        super().__init__(ToyEncoder(frames_per_state), nn.L1Loss(reduction="none"))
        self.bottleneck = ToyBottleneck(3, 1)
        self.copy_error.fill_(0.1)

    def setup(self, stage: str) -> None:
        """Ask nothing of a data module: clips come without one."""

    def infer(self, states: Tensor) -> Tensor:
        return 0.5 * (states[:, 1:] - states[:, :-1]).mean(dim=2, keepdim=True)

    def predict(self, states: Tensor, z: Tensor) -> Tensor:
        return states + z

    def error(self, predicted: Tensor, target: Tensor) -> Tensor:
        return (predicted - target).abs().mean(dim=(-2, -1)) / self.copy_error

    def validation_step(self, clip: Clip, batch_idx: int = 0) -> Observation:  # type: ignore[override]  # narrower than Lightning's
        states = self.encoder(clip.frames)
        latent = self.infer(states)
        bottleneck_output = self.apply_bottleneck(latent)
        predicted = self.predict(states[:, :-1], bottleneck_output.z)
        error, copy_error = (self.error(x, states[:, 1:]) for x in (predicted, states[:, :-1]))
        z_drawn = self.apply_bottleneck(latent, sample=True, noise_keys=clip.position).z
        return Observation(clip, states, latent, bottleneck_output, predicted, error, copy_error, z_drawn)


def clips(count: int, frames: int = 3, size: int = 8, seed: int = 0, factors: dict[str, Tensor] | None = None) -> Clip:
    """Clips of random pixels, every one from a source of its own."""
    generator = torch.Generator().manual_seed(seed)
    return Clip(
        frames=torch.randint(0, 256, (count, frames, 3, size, size), generator=generator, dtype=torch.uint8),
        times=torch.arange(frames, dtype=torch.float64).expand(count, -1),
        position=torch.arange(count),
        key=[f"clip{i}" for i in range(count)],
        source=[f"source{i}" for i in range(count)],
        factors=factors or {},
    )


def part(clip: Clip, start: int, stop: int) -> Clip:
    """Some of the clips."""
    return Clip(
        frames=clip.frames[start:stop],
        times=clip.times[start:stop],
        position=clip.position[start:stop],
        key=clip.key[start:stop],
        source=clip.source[start:stop],
        factors={name: value[start:stop] for name, value in clip.factors.items()},
    )


def observed(
    z: Tensor,
    states: Tensor | None = None,
    factors: dict[str, Tensor] | None = None,
    codes: Tensor | None = None,
    bits: float = 0,
) -> Observation:
    """What an evaluation sees of a model whose z, (n, T-1, A), is given."""
    clip = clips(len(z), z.shape[1] + 1, size=PATCH, factors=factors)
    states = torch.zeros(len(z), z.shape[1] + 1, 1, 1) if states is None else states
    rate = None if codes is None else torch.full(z.shape[:2], float(bits))
    bottleneck_output = BottleneckOutput(z[:, :, None], torch.zeros(()), codes, rate)
    error = torch.ones(z.shape[:2])
    return Observation(clip, states, z[:, :, None], bottleneck_output, states[:, 1:], error, error, z[:, :, None])


def evaluate(evaluation: Evaluation, *observations: Observation, model: ToyModel | None = None) -> Results:
    """One validation pass."""
    model = (model or ToyModel()).eval()
    evaluation.prepare(model)
    evaluation.reset()
    model.clip_buffer.reset()
    with torch.inference_mode():
        for observation in observations:
            position = observation.clip.position
            observation.z_drawn = model.apply_bottleneck(observation.latent, sample=True, noise_keys=position).z
            labels = observation.clip.labels(model.encoder.frames_per_state)
            model.clip_buffer.add(
                observation.clip, observation.states, observation.bottleneck_output.z, observation.z_drawn, labels
            )
            evaluation.observe(observation, model)
        return evaluation.compute(model)
