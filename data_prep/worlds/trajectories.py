"""How agents, pushed blocks and camera move in a clip: policy, walls and contact, step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from data_prep.worlds.policy import nearest, orbit, random_commands, toward
from data_prep.worlds.settings import EMBODIMENTS, WorldSettings
from data_prep.worlds.streams import RandomStreams

BLOCK_RADIUS = 0.08
NO_CONTACT, LEFT, RIGHT = 0, 1, 2
_QUARTER_TURN = np.array([[0, -1], [1, 0]])
POSES = np.stack([np.diag([side, 1]) @ np.linalg.matrix_power(_QUARTER_TURN, k) for side in (1, -1) for k in range(4)]).astype(
    np.float64
)
"""Camera poses, (8, 2, 2): a pose times a column vector of the agent's own frame is a vector of the picture."""


@dataclass(frozen=True)
class Trajectories:
    """Positions and movements of agents, blocks and camera; vectors are (right, down) in shares of the image's side.

    Attributes:
        bodies: Embodiment of each agent, the one nearest the middle at the start first, (agents,).
        pose: Index into ``POSES``.
        positions: Agents in the picture, (F, agents, 2).
        displacements: Their executed movements over the ground, (F-1, agents, 2).
        commands: The same in units of each body's full step and in the agent's own frame, (F-1, agents, 2).
        camera_commands: Commands of the camera, (F-1, 2).
        pan: Movements of the camera over the ground, (F-1, 2).
        blocks: Pushed blocks in the picture, (F, blocks, 2).
        block_displacements: Their movements over the ground, (F-1, blocks, 2).
        contacts: NO_CONTACT or the side to which a block was deflected, (F-1, blocks) int64.
    """

    bodies: np.ndarray
    pose: int
    positions: np.ndarray
    displacements: np.ndarray
    commands: np.ndarray
    camera_commands: np.ndarray
    pan: np.ndarray
    blocks: np.ndarray
    block_displacements: np.ndarray
    contacts: np.ndarray

    @property
    def camera(self) -> np.ndarray:
        """Return where the camera is over the ground, (F, 2), 0 at the start."""
        return np.concatenate([np.zeros((1, 2)), np.cumsum(self.pan, axis=0)])

    @property
    def leading(self) -> np.ndarray:
        """Return the first agent's commands as seen in the picture, or the camera's where there is no agent, (F-1, 2)."""
        return self.commands[:, 0] @ POSES[self.pose].T if len(self.bodies) else self.camera_commands


def simulate(settings: WorldSettings, streams: RandomStreams) -> Trajectories:
    """Let agents act for a clip."""
    steps, num_moves = settings.frames - 1, settings.num_moves
    bodies, start = _draw_agents(settings, streams)
    radius, reach = _radii(bodies), _gains(bodies) * settings.step
    pose = int(streams.of("pose").integers(settings.poses)) if settings.poses > 1 else 0
    free, ignores = _draw_commands(settings, streams)
    free_pan, camera_ignores = _draw_camera(settings, streams)
    positions, blocks = [start], [_draw_blocks(settings, streams, start, radius)]
    sides = _draw_sides(settings, streams)
    contacts, camera = np.zeros((steps, settings.blocks), dtype=np.int64), np.zeros((steps, 2))
    for t in range(steps):
        here, block = positions[t], blocks[t]
        command = free[t] @ POSES[pose].T
        if not ignores[t].all():
            goal = nearest(here, block) if settings.blocks else orbit(here)
            command = np.where(ignores[t], command, toward(goal, here, reach, num_moves))
        camera[t] = free_pan[t] if camera_ignores[t] else _follow(settings, here)
        pan = settings.pan * camera[t]
        # walls are the borders of the picture
        positions.append(np.minimum(np.maximum(here + command * reach - pan, radius), 1 - radius))
        if settings.blocks:
            block, contacts[t] = push(block - pan, positions[-1], radius, sides[t], settings.deflection)
        blocks.append(block.clip(BLOCK_RADIUS, 1 - BLOCK_RADIUS))

    pans = settings.pan * camera
    displacements = np.diff(positions, axis=0) + pans[:, None]
    return Trajectories(
        bodies=bodies,
        pose=pose,
        positions=np.stack(positions),
        displacements=displacements,
        commands=displacements / reach @ POSES[pose],
        camera_commands=camera,
        pan=pans,
        blocks=np.stack(blocks),
        block_displacements=np.diff(blocks, axis=0) + pans[:, None],
        contacts=contacts,
    )


def _follow(settings: WorldSettings, positions: np.ndarray) -> np.ndarray:
    """Return the camera's scripted command, (2,): after the first agent, or to the right where there is none."""
    if not settings.agents:
        return np.array([1.0, 0.0])
    command: np.ndarray = toward(positions[:1], np.array([[0.5, 0.5]]), np.array([[settings.pan]]), settings.num_moves)[0]
    return command


def _draw_agents(settings: WorldSettings, streams: RandomStreams) -> tuple[np.ndarray, np.ndarray]:
    """Return bodies (agents,) and starting positions (agents, 2), the one nearest the middle first."""
    generators = [streams.of("agents", number) for number in range(settings.agents)]
    bodies = np.array([generator.integers(settings.embodiments) for generator in generators], dtype=np.int64)
    offsets = np.array([generator.random(2) - 0.5 for generator in generators]).reshape(-1, 2)
    positions = 0.5 + settings.start * (1 - 2 * _radii(bodies)) * offsets
    order = np.square(positions - 0.5).sum(axis=1).argsort(kind="stable")
    return bodies[order], positions[order]


def _draw_commands(settings: WorldSettings, streams: RandomStreams) -> tuple[np.ndarray, np.ndarray]:
    """Return random commands of each agent, (F-1, agents, 2), and whether they replace the script, (F-1, agents, 1)."""
    steps = settings.frames - 1
    drawn = [_draw_policy(settings, streams.of("commands", number)) for number in range(settings.agents)]
    free = np.array([command for command, _ in drawn]).reshape(settings.agents, steps, 2)
    ignores = np.array([ignore for _, ignore in drawn], dtype=bool).reshape(settings.agents, steps, 1)
    return free.swapaxes(0, 1), ignores.swapaxes(0, 1)


def _draw_camera(settings: WorldSettings, streams: RandomStreams) -> tuple[np.ndarray, np.ndarray]:
    """Return random commands of the camera, (F-1, 2), and whether they replace its script, (F-1,); 0 where it is fixed."""
    if not settings.pan:
        return np.zeros((settings.frames - 1, 2)), np.ones(settings.frames - 1, dtype=bool)
    return _draw_policy(settings, streams.of("camera"))


def _draw_policy(settings: WorldSettings, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    steps = settings.frames - 1
    ignores = generator.random(steps) < settings.policy_entropy
    return random_commands(generator, steps, settings.num_moves), ignores


def _draw_blocks(settings: WorldSettings, streams: RandomStreams, agents: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return starting positions of blocks around the first agent, out of its reach but near, (blocks, 2)."""
    if not settings.blocks:
        return np.zeros((0, 2))
    generator = streams.of("blocks")
    angle = 2 * np.pi * (generator.random() + np.arange(settings.blocks)[:, None] / settings.blocks)
    gap = generator.uniform(0, 0.2, (settings.blocks, 1))
    around = agents[0] + (radii[0] + BLOCK_RADIUS + gap) * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    positions: np.ndarray = np.clip(around, BLOCK_RADIUS, 1 - BLOCK_RADIUS)
    return positions


def _draw_sides(settings: WorldSettings, streams: RandomStreams) -> np.ndarray:
    """Return the side to which each block would be deflected in each step, (F-1, blocks)."""
    if not settings.blocks:
        return np.zeros((settings.frames - 1, 0), dtype=np.int64)
    return streams.of("blocks", 1).integers(LEFT, RIGHT + 1, (settings.frames - 1, settings.blocks))


def _radii(bodies: np.ndarray) -> np.ndarray:
    """Return the radius of each agent, (agents, 1)."""
    return np.array([EMBODIMENTS[body].radius for body in bodies]).reshape(-1, 1)


def _gains(bodies: np.ndarray) -> np.ndarray:
    """Return the gain of each agent, (agents, 1)."""
    return np.array([EMBODIMENTS[body].gain for body in bodies]).reshape(-1, 1)


def push(
    blocks: np.ndarray, agents: np.ndarray, agent_radii: np.ndarray, sides: np.ndarray, deflection: float
) -> tuple[np.ndarray, np.ndarray]:
    """Move blocks out of agents.

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
