"""What happens in a world without being done by an agent: balls, entrances, distractors, flicker; and the ground."""

from __future__ import annotations

import math

import numpy as np

from data_prep.worlds.policy import random_commands
from data_prep.worlds.render import SHAPES, Sprite
from data_prep.worlds.settings import Color, WorldSettings
from data_prep.worlds.streams import RandomStreams
from data_prep.worlds.trajectories import Trajectories

BALL_COLOR, BALL_RADIUS = (0.97, 0.97, 0.97), 0.06
DISTRACTOR_COLORS: tuple[Color, ...] = ((0.45, 0.15, 0.50), (0.10, 0.45, 0.50), (0.50, 0.30, 0.10))
DISTRACTOR_RADIUS = 0.2
ENTRANCE_COLORS: tuple[Color, ...] = (
    (0.80, 0.10, 0.60),
    (0.10, 0.80, 0.80),
    (1.00, 0.50, 0.00),
    (0.60, 1.00, 0.10),
    (0.05, 0.05, 0.05),
    (1.00, 0.70, 0.80),
)
ENTRANCE_RADIUS, ENTRANCE_SPEED, ENTRANCE_ROWS = 0.08, 0.07, 4
INWARD = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])  # from the left, right, top, bottom

Factors = dict[str, np.ndarray]


def vector_factor(name: str, steps: np.ndarray, settings: WorldSettings) -> Factors:
    """Return movements (F-1, 2) in shares of the image as factors in pixels, ``name_dx`` to the right and ``name_dy`` down."""
    pixels = (steps * settings.size).astype(np.float32)
    return {f"{name}_dx": pixels[:, 0], f"{name}_dy": pixels[:, 1]}


def numbered(name: str, number: int) -> str:
    """Return ``ball``, ``ball2``, ``ball3``, ..."""
    return name if number == 0 else f"{name}{number + 1}"


def balls(settings: WorldSettings, streams: RandomStreams, trajectories: Trajectories) -> tuple[list[Sprite], Factors]:
    """Return things that keep their velocity over the ground; each is in the picture in at least one frame."""
    sprites: list[Sprite] = []
    factors: Factors = {}
    for number in range(settings.balls):
        generator = streams.of("ball", number)
        angle, speed = generator.uniform(0, 2 * math.pi), settings.ball_speed * generator.uniform(0.5, 1)
        velocity = speed * np.array([math.cos(angle), math.sin(angle)])
        seen_at = generator.integers(settings.frames)
        clock = (np.arange(settings.frames) - seen_at)[:, None]
        ground = generator.random(2) + trajectories.camera[seen_at] + clock * velocity
        sprites.append(Sprite(0, BALL_COLOR, BALL_RADIUS, ground - trajectories.camera))
        factors |= vector_factor(numbered("ball", number), np.tile(velocity, (settings.frames - 1, 1)), settings)
    return sprites, factors


def entrance(settings: WorldSettings, streams: RandomStreams, trajectories: Trajectories) -> tuple[list[Sprite], Factors]:
    """Return something that is first seen just inside a border after a random step, then moves on across the picture.

    Factors are 0 where nothing enters; otherwise ``entrance`` is 1, side 1 left, 2 right, 3 top, 4 bottom, and row (place
    along the side), shape and color count from 1.
    """
    if settings.entrances == 0:
        return [], {}
    generator = streams.of("entrance")
    happens = generator.random() < settings.entrances
    side, row, shape, color, step = (
        int(generator.integers(count)) for count in (4, ENTRANCE_ROWS, len(SHAPES), len(ENTRANCE_COLORS), settings.frames - 1)
    )
    what = {"entrance": 0, "entrance_side": side, "entrance_row": row, "entrance_shape": shape, "entrance_color": color}
    factors = {name: np.zeros(settings.frames - 1, dtype=np.int64) for name in what}
    if not happens:
        return [], factors
    for name, value in what.items():
        factors[name][step] = value + 1
    inward, along = INWARD[side], (row + 0.5) / ENTRANCE_ROWS - 0.5
    border = 0.5 - inward * (0.5 - ENTRANCE_RADIUS) + along * np.abs(inward[::-1])
    clock = (np.arange(settings.frames) - (step + 1))[:, None]
    path = border + clock * ENTRANCE_SPEED * inward + trajectories.camera[step + 1] - trajectories.camera
    visible = (clock[:, 0] >= 0).astype(np.float32)
    return [Sprite(shape, ENTRANCE_COLORS[color], ENTRANCE_RADIUS, path, visible)], factors


def distractors(settings: WorldSettings, streams: RandomStreams, trajectories: Trajectories) -> tuple[list[Sprite], Factors]:
    """Return large discs that move together, leave on one side and come back on the other.

    Their displacement is rho c + sqrt(1 - rho^2) c', c the first agent's executed movement in the picture in units of its
    full step, c' an independent random command: correlation rho where policies are random and walls are far.
    """
    if settings.distractors == 0:
        return [], {}
    generator = streams.of("distractors")
    own = random_commands(generator, settings.frames - 1, settings.num_moves)
    rho = settings.distractor_correlation
    steps = settings.distractor_step * (rho * trajectories.leading + math.sqrt(1 - rho**2) * own)
    travelled = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)]) - trajectories.camera
    span = 1 + 2 * DISTRACTOR_RADIUS
    sprites = [
        Sprite(
            shape=0,
            color=DISTRACTOR_COLORS[number % len(DISTRACTOR_COLORS)],
            radius=DISTRACTOR_RADIUS,
            path=(streams.of("distractors", number + 1).random(2) * span + travelled) % span - DISTRACTOR_RADIUS,
            opacity=settings.distractor_strength,
        )
        for number in range(settings.distractors)
    ]
    return sprites, vector_factor("distractor", steps, settings)


def flicker(settings: WorldSettings, streams: RandomStreams) -> tuple[np.ndarray, Factors]:
    """Return brightness of each patch, (F, rows, columns) float32; the factor is its change, (F-1, rows * columns)."""
    shape = (settings.frames, settings.flicker_grid, settings.flicker_grid)
    if settings.flicker == 0:
        return np.zeros(shape, dtype=np.float32), {}
    drawn = (settings.flicker * streams.of("flicker").standard_normal(shape)).astype(np.float32)
    return drawn, {"flicker": np.diff(drawn, axis=0).reshape(settings.frames - 1, -1)}


def ground(settings: WorldSettings, streams: RandomStreams, trajectories: Trajectories) -> tuple[np.ndarray, np.ndarray]:
    """Return colors of the part of the ground that the camera sees, (3, rows, columns) float32, and its path there in pixels.

    The ground is a lattice of independent colors, large enough for the longest way, joined smoothly.
    """
    size, cells = settings.size, settings.texture_cells
    corner = np.floor(trajectories.camera.min(axis=0) * size)
    columns, rows = (np.ceil(trajectories.camera.max(axis=0) * size) - corner + size + 1).astype(int)
    path = trajectories.camera * size - corner
    if cells == 0:
        return np.full((3, rows, columns), 0.5, dtype=np.float32), path
    margin = math.ceil(settings.pan * (settings.frames - 1) * cells) + 1
    points = cells + 2 * margin + 1
    colors = streams.of("texture").random((3, points, points), dtype=np.float32) - np.float32(0.5)
    across, down = (
        _between_points((first + np.arange(length)) * cells / size + margin, points)
        for first, length in zip(corner, (columns, rows), strict=True)
    )
    return np.float32(0.5) + np.float32(settings.texture_contrast) * (down @ colors @ across.T), path


def _between_points(places: np.ndarray, points: int) -> np.ndarray:
    """Return weights of lattice points at places between them, (places, points) float32: a raised cosine two cells wide."""
    distance = np.abs(places[:, None] - np.arange(points)).clip(max=1)
    return (0.5 + 0.5 * np.cos(np.pi * distance)).astype(np.float32)
