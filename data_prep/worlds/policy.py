"""Where commands come from: at random, or by a script that is a function of the picture."""

from __future__ import annotations

import math

import numpy as np

ORBIT_RADIUS = 0.3
ORBIT_ANGLE = math.radians(50)


def random_commands(generator: np.random.Generator, steps: int, num_moves: int) -> np.ndarray:
    """Return commands that know nothing of the state, (steps, 2): uniform in [-1, 1]^2, or one of ``num_moves``."""
    if num_moves == 0:
        return generator.uniform(-1, 1, (steps, 2))
    return moves(num_moves)[generator.integers(num_moves, size=steps)]


def moves(num_moves: int) -> np.ndarray:
    """Return the discrete commands: stand still, then full steps in evenly spaced directions, (num_moves, 2)."""
    angles = 2 * np.pi * np.arange(num_moves - 1) / max(num_moves - 1, 1)
    return np.concatenate([np.zeros((1, 2)), np.stack([np.cos(angles), np.sin(angles)], axis=1).round(12)])


def toward(goal: np.ndarray, position: np.ndarray, reach: np.ndarray, num_moves: int) -> np.ndarray:
    """Return commands (n, 2) that bring what is at ``position`` nearest their goal with full steps of ``reach``, (n, 1)."""
    wanted: np.ndarray = np.clip((goal - position) / reach, -1, 1)
    if num_moves == 0:
        return wanted
    table = moves(num_moves)
    chosen: np.ndarray = table[np.square(wanted[:, None] - table).sum(axis=2).argmin(axis=1)]
    return chosen


def orbit(positions: np.ndarray) -> np.ndarray:
    """Return where agents that circle the middle of the picture go next, (n, 2)."""
    offset = positions - 0.5
    angle = np.arctan2(offset[:, 1], offset[:, 0]) + ORBIT_ANGLE
    return 0.5 + ORBIT_RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def nearest(positions: np.ndarray, things: np.ndarray) -> np.ndarray:
    """Return for each of ``positions`` (n, 2) the nearest of ``things`` (m, 2), (n, 2)."""
    chosen: np.ndarray = things[np.square(positions[:, None] - things).sum(axis=2).argmin(axis=1)]
    return chosen
