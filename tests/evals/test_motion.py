"""True transfer in generated clips, against hand-made models that move the agent as they are told."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from data_prep.worlds.clip import make_clip
from data_prep.worlds.settings import WorldSettings
from lam.bottlenecks.base import BottleneckOutput
from lam.data.clip import Clip
from lam.encoders.patches import Patches
from lam.evals import Motion
from lam.models.base import Observation
from lam.models.clip_buffer import ClipBuffer
from tests.evals.toy import ToyModel, evaluate

SIZE, COUNT = 32, 16
# a plain ground and a small step, so that an agent can be cut out and put down elsewhere
ONE = WorldSettings(size=SIZE, frames=4, step=0.12, start=0.6, locations=True)
MOVING = dataclasses.replace(ONE, pan=0.06, texture_cells=8, texture_contrast=0.6)
CAMERA = dataclasses.replace(MOVING, agents=0)


def world(settings: WorldSettings) -> Clip:
    made = [make_clip(settings, 0, 1, index) for index in range(COUNT)]
    names = [f"video{i}" for i in range(COUNT)]
    return Clip(
        frames=torch.from_numpy(np.stack([clip.frames for clip in made])).movedim(-1, 2).contiguous(),
        times=torch.arange(settings.frames, dtype=torch.float64).expand(COUNT, -1),
        position=torch.arange(COUNT),
        key=names,
        source=names,
        factors={name: torch.from_numpy(np.stack([clip.factors[name] for clip in made])) for name in made[0].factors},
    )


class Mover(ToyModel):
    """States are the pixels. Latents (dx, dy, x, y) are what the test knows of each transition; of equal states, nothing.

    Args:
        clip: The clips that will be seen.
        strength: Share of the movement that is carried out.
        near: Distance from the source's place up to which an agent listens.
    """

    def __init__(self, clip: Clip, strength: float = 1.0, near: float = 100.0):
        super().__init__()
        self.encoder, self.clip_buffer = Patches(SIZE, patch=4), ClipBuffer()
        self.strength, self.near = strength, near
        self.states = self.encoder(clip.frames)
        names = ("agent_dx", "agent_dy", "agent_x", "agent_y")
        self.known = torch.stack([clip.factors[name] for name in names], dim=-1)

    def find(self, states, known):
        """Rows of what is known, (b, t, ...), for states (b, t, N, D)."""
        all_states, asked = self.states[:, :-1].flatten(2).flatten(0, 1), states.flatten(2)
        nearest = torch.cdist(asked.flatten(0, 1), all_states).argmin(dim=1)
        return known.flatten(0, 1)[nearest].unflatten(0, asked.shape[:2])

    def infer(self, states):
        known = self.find(states[:, :-1], self.known)
        moved = (states[:, 1:] != states[:, :-1]).flatten(2).any(dim=2)
        known[..., :2] *= moved[..., None]
        return known[:, :, None]

    def apply_bottleneck(self, latent, sample=False, noise_keys=None):
        return BottleneckOutput(latent, latent.new_zeros(()))

    def predict(self, states, z):
        z = z[:, :, 0]
        place = self.find(states, self.known)[..., 2:]
        hears = (place - z[..., 2:]).norm(dim=-1, keepdim=True) <= self.near
        pictures = self.encoder.to_image(states).flatten(0, 1)
        moved = put_elsewhere(pictures, place.flatten(0, 1), (self.strength * hears * z[..., :2]).flatten(0, 1))
        return self.encoder((255 * moved).round().to(torch.uint8).unflatten(0, z.shape[:2]))

    def validation_step(self, clip, batch_idx=0):
        states = self.encoder(clip.frames)
        latent = self.infer(states)
        predicted = self.predict(states[:, :-1], latent)
        error = self.error(predicted, states[:, 1:])
        return Observation(clip, states, latent, self.apply_bottleneck(latent), predicted, error, error, latent)


def put_elsewhere(pictures, place, move):
    """Moves what is within 6 pixels of a place over a ground that takes over where it was."""
    axis = torch.arange(SIZE) + 0.5
    right, down = axis[None, None, :] - move[:, 0, None, None], axis[None, :, None] - move[:, 1, None, None]
    grid = torch.stack(torch.broadcast_tensors(right, down), dim=-1) * 2 / SIZE - 1
    shifted = torch.nn.functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)

    def disc(center):
        across, along = axis[None, None, :] - center[:, 0, None, None], axis[None, :, None] - center[:, 1, None, None]
        distance = across.square() + along.square()
        return (distance <= 36)[:, None].float()

    ground = torch.full_like(pictures, 0.5)
    emptied = torch.where(disc(place) > 0, ground, pictures)
    return torch.where(disc(place + move) > 0, shifted, emptied)


def measured(clip: Clip, model, **arguments):
    return evaluate(Motion(num_clips=COUNT, **arguments), model.validation_step(clip), model=model)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return world(ONE)


def test_perfect_transfer_has_slope_one(clip):
    results = measured(clip, Mover(clip))
    metrics = results.metrics
    assert metrics["slope/agent"] == pytest.approx(1, abs=0.05)
    assert metrics["self/agent"] == pytest.approx(1, abs=0.05)
    assert metrics["measured/agent"] == pytest.approx(1, abs=0.05)
    assert metrics["direction_error/agent"] < 5
    assert metrics["static/agent"] == pytest.approx(0, abs=0.01)
    assert metrics["locality/agent"] == pytest.approx(0, abs=0.1)
    assert len(results.curves["response/agent"]["slope"]) == 8
    assert results.curves["response/agent"]["slope"] == pytest.approx([1] * 8, abs=0.15)
    induced, true = (results.clips[f"{name}/agent"][1].mean().item() for name in ("response", "displacement"))
    assert metrics["slope/agent"] == pytest.approx(induced / true)


@pytest.mark.parametrize("strength", [0.0, 0.5, -1.0])
def test_slope_is_the_share_that_is_carried_out(clip, strength):
    metrics = measured(clip, Mover(clip, strength)).metrics
    assert metrics["slope/agent"] == pytest.approx(strength, abs=0.07)
    assert metrics["direction_error/agent"] == pytest.approx({0.0: 90, 0.5: 0, -1.0: 180}[strength], abs=12)


class Half(Mover):
    """What passes the channel moves half as far."""

    predictions = 0

    def apply_bottleneck(self, latent, sample=False, noise_keys=None):
        share = latent.new_tensor([0.5, 0.5, 1, 1]) if sample else 1
        return BottleneckOutput(share * latent, latent.new_zeros(()))

    def predict(self, states, z):
        self.predictions += 1
        return super().predict(states, z)


def test_a_drawn_latent_moves_as_what_passed_the_channel_says(clip):
    results = measured(clip, Half(clip))
    assert results.metrics["slope/agent"] == pytest.approx(1, abs=0.05)
    assert results.metrics["slope_drawn/agent"] == pytest.approx(0.5, abs=0.07)
    assert results.metrics["direction_error_drawn/agent"] < 12
    drawn, true = (results.clips[f"{name}/agent"][1].mean().item() for name in ("response_drawn", "displacement"))
    assert results.metrics["slope_drawn/agent"] == pytest.approx(drawn / true)


def test_where_nothing_is_drawn_nothing_is_measured_again(clip):
    class Whole(Half):
        apply_bottleneck = Mover.apply_bottleneck

    half, whole = Half(clip), Whole(clip)
    measured(clip, half)
    results = measured(clip, whole)
    assert whole.predictions < half.predictions
    for key in ("slope", "direction_error", "slope_near", "slope_far", "locality"):
        assert results.metrics[f"{key}_drawn/agent"] == results.metrics[f"{key}/agent"]
    assert torch.equal(results.clips["response_drawn/agent"][1], results.clips["response/agent"][1])


def test_a_local_latent_moves_near_agents_only_and_follows_its_source(clip):
    local = Mover(clip, near=8.0)
    results = measured(clip, local)
    assert results.metrics["slope_near/agent"] > results.metrics["slope_far/agent"] + 0.4
    assert results.metrics["locality/agent"] > 0.4
    curve = results.curves["response/agent"]
    assert curve["distance"] == sorted(curve["distance"])
    assert curve["slope"][0] == pytest.approx(1, abs=0.1) and curve["slope"][-1] == pytest.approx(0, abs=0.1)
    # the same movements, seen from places in another order: what was near is no longer
    moved = Mover(clip, near=8.0)
    moved.known = torch.cat([moved.known[..., :2], SIZE - moved.known[..., 2:]], dim=-1)
    moved.find = lambda states, known: local.find(states, known)
    assert measured(clip, moved).metrics["locality/agent"] < 0.4


def test_a_latent_that_always_moves_is_caught_by_static_pairs(clip):
    class Restless(Mover):
        def infer(self, states):
            return self.find(states[:, :-1], self.known)[:, :, None]

    metrics = measured(clip, Restless(clip)).metrics
    assert metrics["slope/agent"] == pytest.approx(1, abs=0.05)
    assert metrics["static/agent"] == pytest.approx(1, abs=0.2)


class Recorder(Motion):
    """Also keeps what was found for each transition."""

    def values(self, model):
        self.found = super().values(model)
        return self.found


@pytest.mark.parametrize("settings", [MOVING, CAMERA], ids=["agent and camera", "camera"])
def test_movements_are_over_the_ground_in_worlds_whose_camera_moves(settings):
    """A model that always predicts the truth: its own latents are perfect, foreign ones change nothing."""
    clip = world(settings)

    class Knowing(ToyModel):
        def __init__(self):
            super().__init__()
            self.encoder = Patches(SIZE, patch=4)
            self.states = self.encoder(clip.frames)

        def predict(self, states, z):
            nearest = torch.cdist(states.flatten(2).flatten(0, 1), self.states[:, :-1].flatten(2).flatten(0, 1)).argmin(dim=1)
            return self.states[:, 1:].flatten(0, 1)[nearest].unflatten(0, states.shape[:2])

    model = Knowing()
    motion = Recorder(num_clips=COUNT)
    metrics = evaluate(motion, model.validation_step(clip), model=model).metrics
    found = motion.found[1]
    for thing in ["pan", "agent"] if settings.agents else ["pan"]:
        assert metrics[f"self/{thing}"] == metrics[f"measured/{thing}"] == pytest.approx(1, abs=0.05)
        assert abs(metrics[f"slope/{thing}"]) < 0.35  # B's own movement, which has nothing to do with A's
        recorded = torch.stack([clip.factors[f"{thing}_dx"], clip.factors[f"{thing}_dy"]], dim=-1).double()
        assert (found[f"self/{thing}"] - recorded).norm(dim=-1).median() < 0.25
    assert not any(key.startswith("slope_near/pan") for key in metrics)


def test_nothing_is_said_without_places_or_pixels(clip):
    unknown = dataclasses.replace(clip, factors={n: v for n, v in clip.factors.items() if n not in ("agent_x", "agent_y")})
    found = measured(unknown, Mover(clip))
    assert found.metrics == {}
    assert found.skipped == "needs recorded displacements of what moves, the shards have none"
    model = Mover(clip)
    model.encoder.shows_pixels = False
    assert measured(clip, model).metrics == {}


def test_low_precision_of_the_run_does_not_blur_the_ruler(clip):
    model, motion = Mover(clip), Motion(num_clips=COUNT)
    motion.autocast = lambda: torch.autocast("cpu", torch.bfloat16)
    assert evaluate(motion, model.validation_step(clip), model=model).metrics["measured/agent"] == pytest.approx(1, abs=0.05)


def test_transitions_that_would_leave_the_picture_do_not_count(clip):
    motion = Recorder(num_clips=COUNT)
    evaluate(motion, Mover(clip).validation_step(clip), model=(model := Mover(clip)))
    clips = model.clip_buffer.clips(COUNT)
    order = clips.position.argsort()
    cross_source_pairs = clips.cross_source_pairs()
    start = torch.stack([clips.labels["agent_x"], clips.labels["agent_y"]], dim=-1)[cross_source_pairs][order]
    end = start + torch.stack([clips.labels["agent_dx"], clips.labels["agent_dy"]], dim=-1)[order]
    margin = 0.12 * SIZE
    expected = ((end > margin) & (end < SIZE - margin)).all(dim=-1)
    assert torch.equal(motion.found[1]["counted/agent"].bool(), expected)
    assert 0 < expected.double().mean() < 1
