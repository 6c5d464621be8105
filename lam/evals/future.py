"""E14, future: tests of the code itself that no part of the model sees what comes later.

An encoder that attends over a whole clip puts the future into every state, and no other number would look wrong.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Generator, Tensor
from typing_extensions import override

from lam.distributed import gather_objects
from lam.evals.base import Evaluation, Results
from lam.models.base import Observation, WorldModel
from lam.runs.columns import Flag

MIN_STATES = 4
"""States of a sequence on which the heads are checked, at least; shorter clips are joined to it."""

TOLERANCE = 1e-5
"""Largest allowed change. Batches have the same shape before and after, so honest models change by exactly 0; the margin
is for devices whose sums have no fixed order."""


class Future(Evaluation):
    """Replace everything later by noise and check that nothing earlier changes, at every state of a clip.

    Three checks: states up to t when the frames of later states change (``encoder``); latents, latents after the bottleneck and
    predictions up to t when the states after t + 1 change, which latent t may not see (``inverse``); predictions up to t when
    the states and latents after the bottleneck after t change (``forward``).

    Keys: ``passed``, 1 if no change exceeds 1e-5 and the changed frames did change the states after them (a check that changed
    nothing proves nothing), else 0; ``change_encoder``, ``change_inverse``, ``change_forward``, the largest changes, in
    units of the standard deviation of what was compared.

    Args:
        num_clips: Clips checked on each process, the first of its share.
    """

    name: ClassVar[str] = "future"
    flags: ClassVar[tuple[Flag, ...]] = (
        Flag("passed", "peeks", value=0.0, explanation="the code sees what comes later", order=400),
    )

    def __init__(self, num_clips: int = 4) -> None:
        super().__init__()
        self.num_clips = num_clips
        self.reset()

    @override
    def reset(self) -> None:
        self.changes: dict[str, float] = {}

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        if self.changes:
            return
        frames = observation.clip.frames[: self.num_clips]
        generator = Generator().manual_seed(0)
        states = model.encoder(frames)
        self.changes = {"encoder": 0.0, "inverse": 0.0, "forward": 0.0, "frozen": 0.0}
        for t in range(states.shape[1] - 1):
            changed = model.encoder(_noisy_frames(frames, (t + 1) * model.encoder.frames_per_state, generator))
            self._record_change("encoder", changed[:, : t + 1], states[:, : t + 1])
            if torch.equal(changed[:, t + 1 :], states[:, t + 1 :]):
                self.changes["frozen"] = 1.0
        if states.shape[1] < MIN_STATES:  # too short to have a future: the heads see consecutive clips as one longer clip
            states = states.flatten(0, 1)[None, :MIN_STATES]
        for t in range(states.shape[1] - 1):
            self._check_inverse(model, states, t, generator)
            self._check_forward(model, states, t, generator)

    @override
    def compute(self, model: WorldModel) -> Results:
        shares = [share for share in gather_objects(self.changes) if share]
        if not shares:
            return Results()
        worst = {name: max(share[name] for share in shares) for name in shares[0]}
        frozen = worst.pop("frozen")
        passed = frozen == 0 and all(change <= TOLERANCE for change in worst.values())
        return Results(metrics={"passed": float(passed), **{f"change_{name}": change for name, change in worst.items()}})

    def _check_inverse(self, model: WorldModel, states: Tensor, t: int, generator: Generator) -> None:
        """Check that latent t sees states t and t + 1, nothing after."""
        if t + 2 == states.shape[1]:
            return
        noisy = _noisy_after(states, t + 1, generator)
        for after, before in zip(_run_model(model, noisy), _run_model(model, states), strict=True):
            self._record_change("inverse", after[:, : t + 1], before[:, : t + 1])

    def _check_forward(self, model: WorldModel, states: Tensor, t: int, generator: Generator) -> None:
        """Check that prediction t sees states and latents up to t, nothing after."""
        past, z = states[:, :-1], model.apply_bottleneck(model.infer(states)).z
        changed = model.predict(_noisy_after(past, t, generator), _noisy_after(z, t, generator))
        self._record_change("forward", changed[:, : t + 1], model.predict(past, z)[:, : t + 1])

    def _record_change(self, check: str, after: Tensor, before: Tensor) -> None:
        """Record the largest change; a change to or from something that is not a number counts as infinite."""
        after, before = after.float(), before.float()
        change = ((after - before).abs().max() / before.std().clamp(min=1e-12)).nan_to_num(nan=torch.inf).item()
        self.changes[check] = max(self.changes[check], change)


def _run_model(model: WorldModel, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute latents, latents after the bottleneck and predictions, each (B, T-1, ...)."""
    latent = model.infer(states)
    z = model.apply_bottleneck(latent).z
    return latent, z, model.predict(states[:, :-1], z)


def _noisy_frames(frames: Tensor, start: int, generator: Generator) -> Tensor:
    """Replace frames (B, F, 3, H, W) by random pixels from one frame on."""
    noisy = frames.clone()
    noisy[:, start:] = torch.randint(0, 256, noisy[:, start:].shape, generator=generator, dtype=torch.uint8).to(noisy.device)
    return noisy


def _noisy_after(values: Tensor, t: int, generator: Generator) -> Tensor:
    """Add large noise to values (B, T, ...) at all steps after t."""
    noisy = values.clone()
    noise = torch.randn(noisy[:, t + 1 :].shape, generator=generator)
    noisy[:, t + 1 :] += (10 * (1 + values.float().std().cpu()) * noise).to(noisy)
    return noisy
