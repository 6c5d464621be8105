"""What a generated world contains: its parameters and the bodies agents can have."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple, TypedDict

Color = tuple[float, float, float]


class Embodiment(NamedTuple):
    """Body of an agent: the same command looks different and moves it differently far.

    Attributes:
        shape: 0 disc, 1 square, 2 triangle.
        color: Red, green, blue in [0, 1].
        radius: Half its size, as a share of the picture.
        gain: Its displacement for a full command, in units of the parameter ``step``.
    """

    shape: int
    color: Color
    radius: float
    gain: float


EMBODIMENTS = (
    Embodiment(0, (0.90, 0.20, 0.15), 0.12, 1.0),
    Embodiment(1, (0.15, 0.35, 0.95), 0.09, 0.6),
    Embodiment(2, (0.95, 0.80, 0.10), 0.13, 1.4),
    Embodiment(0, (0.10, 0.70, 0.30), 0.08, 0.8),
)


class WorldParameters(TypedDict, total=False):
    """Parameters of a world; lengths are shares of the picture's side, so that a larger ``size`` shows the same world finer.

    Args:
        size: Side of the square picture, pixels.
        frames: Frames of a clip.
        fps: Frames a second.
        agents: Bodies that act by themselves.
        embodiments: How many bodies agents are drawn from (1 to 4); they differ in shape, color, size and gain.
        step: Largest displacement of an agent with gain 1 in a step, along an axis.
        start: Where agents start: 0 the middle of the picture, 1 anywhere in it.
        num_moves: 0: a command is uniform in [-1, 1]^2. Otherwise one of so many: stand still, or a full step in one of
            num_moves - 1 evenly spaced directions.
        policy_entropy: Share of steps whose command ignores the state; the others follow a script that is a function of
            the picture (agents circle its middle or go for the nearest block, the camera follows the agent or moves right).
        poses: Camera poses, 1 to 8, drawn a clip: quarter turns, then mirrored ones, of the map from command to picture.
            Above 1 the agent is drawn as the end of an arm whose base and right-hand mark show the pose.
        locations: Record where agents are before each step.
        pan: Largest camera movement in a step, along an axis.
        balls: Passive balls of constant velocity.
        ball_speed: Their largest speed, a step.
        entrances: Chance that something enters the picture during a clip.
        blocks: Passive bodies that agents push.
        deflection: Degrees by which a pushed block is deflected, to the left or right with equal chance.
        texture_cells: Entropy of the background: independent colors along a side; 0 plain, 4 low-frequency, ``size``
            white noise.
        texture_contrast: Range of the background's brightness around its mean, in [0, 1].
        flicker: Standard deviation of the brightness of each patch, drawn anew every frame; full brightness is 1.
        flicker_grid: Patches along a side that flicker.
        distractors: Large bodies that move together, behind the agents.
        distractor_strength: Their opacity: 0 invisible, 1 solid.
        distractor_step: Their largest displacement in a step, along an axis.
        distractor_correlation: Correlation of their displacement with the agent's (with the camera's where there is no agent).
    """

    size: int
    frames: int
    fps: float
    agents: int
    embodiments: int
    step: float
    start: float
    num_moves: int
    policy_entropy: float
    poses: int
    locations: bool
    pan: float
    balls: int
    ball_speed: float
    entrances: float
    blocks: int
    deflection: float
    texture_cells: int
    texture_contrast: float
    flicker: float
    flicker_grid: int
    distractors: int
    distractor_strength: float
    distractor_step: float
    distractor_correlation: float


@dataclass(frozen=True)
class WorldSettings:
    """Values of all ``WorldParameters``, where they are explained; by default one agent on a plain background."""

    size: int = 32
    frames: int = 8
    fps: float = 4.0
    agents: int = 1
    embodiments: int = 1
    step: float = 0.1
    start: float = 1.0
    num_moves: int = 0
    policy_entropy: float = 1.0
    poses: int = 1
    locations: bool = False
    pan: float = 0.0
    balls: int = 0
    ball_speed: float = 0.06
    entrances: float = 0.0
    blocks: int = 0
    deflection: float = 0.0
    texture_cells: int = 0
    texture_contrast: float = 0.5
    flicker: float = 0.0
    flicker_grid: int = 4
    distractors: int = 0
    distractor_strength: float = 0.5
    distractor_step: float = 0.1
    distractor_correlation: float = 0.0

    def __post_init__(self) -> None:
        values = asdict(self)
        for name, (low, high) in _RANGES.items():
            if not low <= values[name] <= high:
                raise ValueError(f"{name} is {values[name]}, expected {low} to {high}. Change --{name}.")
        if self.flicker and self.size % self.flicker_grid:
            raise ValueError(f"flicker_grid {self.flicker_grid} does not divide size {self.size}. Change --flicker_grid.")
        if self.blocks and not self.agents:
            raise ValueError("blocks need an agent that pushes them. Set --agents 1 or --blocks 0.")


_RANGES: dict[str, tuple[float, float]] = {
    "size": (8, 1024),
    "frames": (2, 10_000),
    "fps": (0.01, 1000),
    "agents": (0, 16),
    "embodiments": (1, len(EMBODIMENTS)),
    "step": (0.001, 1),
    "start": (0, 1),
    "num_moves": (0, 1000),
    "policy_entropy": (0, 1),
    "poses": (1, 8),
    "pan": (0, 1),
    "balls": (0, 16),
    "ball_speed": (0, 1),
    "entrances": (0, 1),
    "blocks": (0, 16),
    "deflection": (0, 90),
    "texture_cells": (0, 1024),
    "texture_contrast": (0, 1),
    "flicker": (0, 1),
    "flicker_grid": (1, 1024),
    "distractors": (0, 64),
    "distractor_strength": (0, 1),
    "distractor_step": (0, 1),
    "distractor_correlation": (-1, 1),
}
