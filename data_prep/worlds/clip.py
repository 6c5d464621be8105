"""Clips of a generated world: everything that happens in one, drawn and recorded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_prep.worlds.passive import Factors, balls, distractors, entrance, flicker, ground, numbered, vector_factor
from data_prep.worlds.render import Sprite, WorldScene, render
from data_prep.worlds.settings import EMBODIMENTS, Color, WorldSettings
from data_prep.worlds.streams import RandomStreams
from data_prep.worlds.trajectories import BLOCK_RADIUS, POSES, Trajectories, simulate

ARM_COLOR, BASE_RADIUS, LINK_RADIUS = (0.15, 0.15, 0.18), 0.06, 0.035
MARK_COLOR, MARK_RADIUS = (0.10, 0.75, 0.75), 0.05
BLOCK_COLORS: tuple[Color, ...] = ((0.20, 0.30, 0.80), (0.90, 0.75, 0.15), (0.25, 0.65, 0.30))


class WorldClip(NamedTuple):
    """Frames, actions and factors of a generated clip.

    Attributes:
        frames: Pictures, (F, size, size, 3) uint8.
        actions: Executed commands, (F-1, U) float32: the first agent's two numbers where there are agents, then the
            camera's two where it pans. 1 is a full step; less where a wall stopped the agent, and an agent that the border
            of a moving picture pushed along may have more. None where nothing acts.
        factors: Recorded factors by name, (F-1, ...): movements over the ground in pixels, right and down.
    """

    frames: np.ndarray
    actions: np.ndarray | None
    factors: Factors


def make_clip(settings: WorldSettings, seed: int, split: int, clip: int) -> WorldClip:
    """Generate one clip, a pure function of the arguments."""
    streams = RandomStreams(seed, split, clip)
    trajectories = simulate(settings, streams)
    sprites: list[Sprite] = []
    factors = _agent_factors(settings, trajectories)
    for layer, found in (
        distractors(settings, streams, trajectories),
        (_base(settings, trajectories), {}),
        _blocks(settings, trajectories),
        balls(settings, streams, trajectories),
        entrance(settings, streams, trajectories),
        (_agents(settings, trajectories), {}),
    ):
        sprites += layer
        factors |= found
    brightness, flickered = flicker(settings, streams)
    colors, camera = ground(settings, streams, trajectories)
    scene = WorldScene(colors, camera, sprites, brightness)
    return WorldClip(render(scene, settings.size), _actions(settings, trajectories), factors | flickered)


def _actions(settings: WorldSettings, trajectories: Trajectories) -> np.ndarray | None:
    """Return executed commands of agent and camera, (F-1, U) float32."""
    parts = [trajectories.commands[:, 0]] if settings.agents else []
    parts += [trajectories.pan / settings.pan] if settings.pan else []
    return np.concatenate(parts, axis=1).astype(np.float32) if parts else None


def _agent_factors(settings: WorldSettings, trajectories: Trajectories) -> Factors:
    """Return factors that come from the policy: agents, their bodies and pose, the camera."""
    steps = settings.frames - 1
    factors: Factors = vector_factor("pan", trajectories.pan, settings) if settings.pan else {}
    for number in range(settings.agents):
        name = numbered("agent", number)
        factors |= vector_factor(name, trajectories.displacements[:, number], settings)
        if settings.locations:
            before = (trajectories.positions[:-1, number] * settings.size).astype(np.float32)
            factors |= {f"{name}_x": before[:, 0], f"{name}_y": before[:, 1]}
        if settings.embodiments > 1:
            factors[f"{name}_body"] = np.full(steps, trajectories.bodies[number], dtype=np.int64)
    if settings.poses > 1:
        factors["pose"] = np.full(steps, trajectories.pose, dtype=np.int64)
    return factors


def _blocks(settings: WorldSettings, trajectories: Trajectories) -> tuple[list[Sprite], Factors]:
    """Return blocks, their movements, and ``block_contact``: 0 none, otherwise the side of the deflection."""
    sprites: list[Sprite] = []
    factors: Factors = {}
    for number in range(settings.blocks):
        name = numbered("block", number)
        color = BLOCK_COLORS[number % len(BLOCK_COLORS)]
        sprites.append(Sprite(0, color, BLOCK_RADIUS, trajectories.blocks[:, number]))
        factors |= vector_factor(name, trajectories.block_displacements[:, number], settings)
        factors[f"{name}_contact"] = trajectories.contacts[:, number]
    return sprites, factors


def _base(settings: WorldSettings, trajectories: Trajectories) -> list[Sprite]:
    """Return sprites that show the pose: the arm's base, behind the agent in its own frame, and a mark on its right."""
    if settings.poses == 1:
        return []
    still = np.ones((settings.frames, 1))
    base, mark = POSES[trajectories.pose] @ [0, 0.46], POSES[trajectories.pose] @ [0.45, 0]
    return [
        Sprite(1, MARK_COLOR, MARK_RADIUS, 0.5 + still * mark),
        Sprite(1, ARM_COLOR, BASE_RADIUS, 0.5 + still * base),
    ]


def _agents(settings: WorldSettings, trajectories: Trajectories) -> list[Sprite]:
    """Return agents, the first in front, each at the end of its arm where camera poses vary."""
    sprites: list[Sprite] = []
    base = 0.5 + POSES[trajectories.pose] @ [0, 0.46]
    for number in reversed(range(settings.agents)):
        path, body = trajectories.positions[:, number], EMBODIMENTS[trajectories.bodies[number]]
        if settings.poses > 1:
            links = np.linspace(0, 1, 8)[1:-1]
            sprites += [Sprite(0, ARM_COLOR, LINK_RADIUS, base + share * (path - base)) for share in links]
        sprites.append(Sprite(body.shape, body.color, body.radius, path))
    return sprites
