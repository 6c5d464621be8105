"""Contact: blocks that agents push, straight or deflected to a random side (after https://arxiv.org/abs/2605.07079)."""

from __future__ import annotations

import math

import numpy as np

BLOCK_RADIUS = 0.08
NO_CONTACT, LEFT, RIGHT = 0, 1, 2


def push(
    blocks: np.ndarray, agents: np.ndarray, agent_radii: np.ndarray, sides: np.ndarray, deflection: float
) -> tuple[np.ndarray, np.ndarray]:
    """Moves blocks out of agents.

    Args:
        blocks: Where blocks are, (m, 2).
        agents: Where agents are, (n, 2).
        agent_radii: Their radii, (n, 1).
        sides: LEFT or RIGHT of the line of contact as seen from the agent, in a picture whose y points down, (m,).
        deflection: Degrees.

    Returns:
        Where blocks are afterwards, (m, 2), and for each the side if it was touched, otherwise NO_CONTACT, (m,) int64.
    """
    angle = np.radians(deflection) * np.where(sides == LEFT, -1, 1)
    cos, sin = np.cos(angle), np.sin(angle)
    touched = np.zeros(len(blocks), dtype=bool)
    for agent, radius in zip(agents, agent_radii[:, 0], strict=True):
        offset = blocks - agent
        distance = np.sqrt(np.square(offset).sum(axis=1)).clip(min=1e-9)
        depth = (radius + BLOCK_RADIUS - distance).clip(min=0)
        x, y = offset[:, 0] / distance, offset[:, 1] / distance
        deflected = np.stack([cos * x - sin * y, sin * x + cos * y], axis=1)
        # the part along the line of contact undoes the overlap
        blocks = blocks + deflected * (depth / math.cos(math.radians(deflection)))[:, None]
        touched |= depth > 0
    return blocks, np.where(touched, sides, NO_CONTACT)
