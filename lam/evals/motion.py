"""E7, motion: transfer in a generated world, the movement that one clip's z causes in another, in pixels.

After sections 5 and 6 of https://arxiv.org/abs/2601.05230, where transfer and locality are shown in pictures. Here the true
movements are recorded.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lam.evals.base import Results
from lam.evals.common.pairs import PairEvaluation
from lam.metrics.displacement import body_shift, camera_shift, direction_error, regression_slope
from lam.models.base import WorldModel
from lam.models.clip_buffer import BufferedClips
from lam.runs.columns import Column

PAN = "pan"
NUM_BINS = 8
"""Points of the response over the distance, of equally many transitions."""


class Motion(PairEvaluation):
    """Apply z of a transition of clip A to the state of clip B at the same time: does B's agent move as A's did?

    Movements are relative to the background: an agent's in the picture is its own minus the camera's, and both are measured
    in the pictures of the state before and of the prediction (``lam.metrics.displacement``). The past of B and its own latents
    come before, so only one z is from another clip. Transitions after which B's agent would have left the picture are not
    counted.

    Keys, for each of ``agent``, ``agent2``, ... whose location is recorded (by worlds with ``locations``, by Push-T,
    rooms and MiniGrid), and for ``pan``: ``slope`` of induced on true movement, 1 where z means the same movement everywhere
    and 0 where it moves nothing;
    ``direction_error``, mean angle in degrees, where the true movement is a pixel or more; ``static``, root mean square of
    the movement by z of a pair of equal states, over that of the true movements, 0 where such a z means no movement;
    ``self``, slope where z is applied to its own state, the ceiling; ``measured``, slope of true pictures, which shows how
    good the measurement is. Of agents also ``slope_near`` and ``slope_far``, B's agent nearer to where A's was than the median
    distance or farther, and ``locality``, their difference. Values of single clips: ``response`` and ``displacement``, whose
    means have the slope as ratio. Curves: ``response``, slopes over the distance.

    ``slope_drawn``, ``direction_error_drawn``, ``slope_near_drawn``, ``slope_far_drawn``, ``locality_drawn`` and the values and
    curve ``response_drawn`` are the same with what passed the channel, z drawn from its posterior, of A as of B's past; equal
    where nothing is drawn, and then not computed again. The controls are of the z without noise.

    Nothing is logged where movements and locations are not recorded, and where pictures are not pixels.

    Args:
        num_clips: Clips compared, at most.
        batch: Clips at a time.
        radius: Radius of the disc by which an agent is recognized, as a share of the picture.
        threshold: Length in pixels from which a movement has a direction.
    """

    name: ClassVar[str] = "motion"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "slope/*",
            "slope *",
            digits=2,
            better=1,
            explanation="movement that the latent of one clip causes in another, over the true one: 1 where it means the "
            "same movement everywhere, 0 where it moves nothing",
            order=600,
            most=2,
        ),
        Column(
            "slope_drawn/*",
            "slope drawn *",
            digits=2,
            better=1,
            explanation="the same with z drawn from its posterior, as it passes the channel; equal where z is not noisy",
            order=605,
            matched="too",
            most=2,
        ),
        Column(
            "direction_error/*",
            "direction error *",
            digits=0,
            better=-1,
            explanation="mean angle in degrees between both",
            order=610,
            most=2,
        ),
        Column(
            "locality/*",
            "locality *",
            digits=2,
            explanation="slope where the agent is nearer than the median to where it was in the other clip, less that where "
            "it is farther; 0 where a latent means the same at every place",
            order=620,
            most=1,
        ),
    )

    def __init__(self, num_clips: int = 128, batch: int = 32, radius: float = 0.12, threshold: float = 1.0) -> None:
        super().__init__(num_clips, batch)
        self.radius = radius
        self.threshold = threshold

    @override
    def compare(self, model: WorldModel, clips: BufferedClips, indices: Tensor) -> dict[str, Tensor]:
        a = clips.take(indices, model.device)
        b = clips.take(clips.cross_source_pairs()[indices], model.device)
        equal = torch.stack([a.states[:, :-1]] * 2, dim=2).flatten(0, 1)
        static = model.apply_bottleneck(model.infer(equal)).z.unflatten(0, a.z.shape[:2])[:, :, 0]
        predictions = {
            "induced": (b, _predict_with(model, b, b.z, a.z)),
            "static": (b, _predict_with(model, b, b.z, static)),
            "self": (a, model.predict(a.states[:, :-1], a.z)),
            "measured": (a, a.states[:, 1:]),
        }
        if not torch.equal(clips.z, clips.z_drawn):  # of all clips, so every process decides alike
            predictions["drawn"] = (b, _predict_with(model, b, b.z_drawn, a.z_drawn))
        values: dict[str, Tensor] = {}
        for kind, (clip, after) in predictions.items():
            pictures = (model.encoder.to_image(states).float() for states in (clip.states[:, :-1], after))
            with torch.autocast(after.device.type, enabled=False):  # fractions of a pixel need full precision
                moves = self._measure_movements(clips, clip, *pictures)
            values |= {f"{kind}/{name}": move for name, move in moves.items()}
        pan = _movement(a, PAN) if PAN in moving_objects(clips) else 0.0
        for name in moving_objects(clips):
            values[f"true/{name}"] = _movement(a, name)
            if name != PAN:
                start = _location(b, name)
                margin, end = self.radius * clips.frames.shape[-1], start + _movement(a, name) - pan
                values[f"counted/{name}"] = ((end > margin) & (end < clips.frames.shape[-1] - margin)).all(dim=-1)
                values[f"distance/{name}"] = (start - _location(a, name)).norm(dim=-1)
        return values

    def _measure_movements(self, clips: BufferedClips, clip: BufferedClips, before: Tensor, after: Tensor) -> dict[str, Tensor]:
        """Measure movements over the background, (b, T-1, 2), of each object, between pictures (b, T-1, 3, h, w)."""
        shape = before.shape[:2]
        before, after, size = before.flatten(0, 1), after.flatten(0, 1), before.shape[-1]
        found, pan = {}, torch.zeros(len(before), 2, device=before.device)
        if PAN in moving_objects(clips):
            pan = found[PAN] = -camera_shift(before, after, _search_range(_movement(clips, PAN), size))
        for name in moving_objects(clips) - {PAN}:
            furthest = _movement(clips, name) - (_movement(clips, PAN) if PAN in found else 0)
            center = _location(clip, name).flatten(0, 1)
            found[name] = pan + body_shift(before, after, center, round(self.radius * size), _search_range(furthest, size))
        return {name: move.unflatten(0, shape) for name, move in found.items()}

    @override
    def compute(self, model: WorldModel) -> Results:
        clips, results = model.clip_buffer.clips(self.num_clips), Results(skipped=self.too_few(model))
        if clips is None or not model.encoder.shows_pixels:
            return Results(skipped="needs states that show pixels, the encoder's are features")
        if not moving_objects(clips):
            return Results(skipped="needs recorded displacements of what moves, the shards have none")
        positions, values = self.values(model)
        for name in sorted(moving_objects(clips)) if values else []:
            kinds = ("true", "static", "self", "measured")
            true, static, own, measured = (values[f"{kind}/{name}"] for kind in kinds)
            counted = values[f"counted/{name}"].bool() if name != PAN else torch.ones_like(true[..., 0]).bool()
            found = {
                "static": (static.square().sum() / true.square().sum()).sqrt().item() if true.any() else None,
                "self": regression_slope(own.flatten(0, 1), true.flatten(0, 1)),
                "measured": regression_slope(measured.flatten(0, 1), true.flatten(0, 1)),
            }
            distance = values.get(f"distance/{name}")
            induced = values[f"induced/{name}"]
            for suffix, moved in (("", induced), ("_drawn", values.get(f"drawn/{name}", induced))):
                numbers, curve = self._transferred(
                    moved[counted], true[counted], None if distance is None else distance[counted]
                )
                found |= {key + suffix: number for key, number in numbers.items()}
                if curve is not None:
                    results.curves[f"response{suffix}/{name}"] = curve
                results.clips[f"response{suffix}/{name}"] = positions, ((moved * true).sum(dim=-1) * counted).mean(dim=1)
            results.metrics |= {f"{key}/{name}": value for key, value in found.items() if value is not None}
            results.clips[f"displacement/{name}"] = positions, (true.square().sum(dim=-1) * counted).mean(dim=1)
        return results

    def _transferred(
        self, moved: Tensor, intended: Tensor, distance: Tensor | None
    ) -> tuple[dict[str, float | None], dict[str, list[float]] | None]:
        """Compare induced with true movements of n transitions.

        Args:
            moved: Induced movements, (n, 2).
            intended: True ones, (n, 2).
            distance: How far the object is from where it was in the other clip, (n,); None of the camera, which is nowhere.

        Returns:
            Numbers by key, and the slopes over the distance.
        """
        found = {
            "slope": regression_slope(moved, intended),
            "direction_error": direction_error(moved, intended, self.threshold),
        }
        if distance is None:
            return found, None
        near, far = distance <= distance.median(), distance > distance.median()
        slopes = [regression_slope(moved[chosen], intended[chosen]) for chosen in (near, far)]
        found |= dict(zip(("slope_near", "slope_far"), slopes, strict=True))
        if slopes[0] is not None and slopes[1] is not None:
            found["locality"] = slopes[0] - slopes[1]
        return found, _slope_by_distance(moved, intended, distance)


def moving_objects(clips: BufferedClips) -> set[str]:
    """Return what moves and can be measured: the camera, and agents whose locations are recorded."""
    moving = {name.removesuffix("_dx") for name in clips.labels if name.endswith("_dx")}
    return {name for name in moving if name == PAN or (name.startswith("agent") and f"{name}_x" in clips.labels)}


def _movement(clips: BufferedClips, name: str) -> Tensor:
    """Return recorded movements over the background, (n, T-1, 2)."""
    return torch.stack([clips.labels[f"{name}_dx"], clips.labels[f"{name}_dy"]], dim=-1)


def _location(clips: BufferedClips, name: str) -> Tensor:
    """Return recorded locations in the picture before each step, (n, T-1, 2)."""
    return torch.stack([clips.labels[f"{name}_x"], clips.labels[f"{name}_y"]], dim=-1)


def _search_range(moves: Tensor, size: int) -> int:
    """Return how far to search: as far as anything moved in these clips and two pixels more."""
    return min(math.ceil(moves.abs().max().item()) + 2, size // 3)


def _predict_with(model: WorldModel, clip: BufferedClips, own: Tensor, z: Tensor) -> Tensor:
    """Predict states 1..T-1 of a clip, (b, T-1, N, D), each with one latent of z (b, T-1, L, A) after the clip's own ones."""
    steps = range(z.shape[1])
    latents = (torch.cat([own[:, :t], z[:, t : t + 1]], dim=1) for t in steps)
    pairs = zip(steps, latents, strict=True)
    return torch.cat([model.predict(clip.states[:, : t + 1], latent)[:, -1:] for t, latent in pairs], dim=1)


def _slope_by_distance(induced: Tensor, true: Tensor, distance: Tensor) -> dict[str, list[float]]:
    """Compute slopes in groups of transitions (n, 2) by distance (n,), and the mean distance of each."""
    curve: dict[str, list[float]] = {"distance": [], "slope": []}
    for group in distance.argsort(stable=True).chunk(NUM_BINS):
        response = regression_slope(induced[group], true[group])
        if response is not None:
            curve["distance"].append(distance[group].mean().item())
            curve["slope"].append(response)
    return curve
