"""Tabletop: a disc or a fork pushes colored blocks together, one to the other as an instruction says; contacts by pymunk."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from typing_extensions import override

from lam.data.schema import ActionField
from lam.simulators.base import Simulator, Step, direction
from lam.simulators.tabletop_blocks import (
    BLOCKS,
    DISC,
    FORK,
    HOLD,
    INSTRUCTIONS,
    RIM,
    SIDE,
    TICK,
    Instruction,
    Piece,
    prism,
    push,
)
from lam.simulators.tabletop_view import Above, Aslant, Camera, draw

REACH, TURN = 80.0, 0.6
"""Farthest way along each axis and turn of an action: units, radians."""
NEAR = 20.0
"""Threshold of success, units: that of Push-T on a table of the same size."""
PUSH, ASIDE, AWRY = 50.0, 10.0, 0.4
"""Longest push of the expert, and how far it may be beside the line of the push: units, units, radians."""


class Tabletop(Simulator):
    """Disc among four blocks, seen from above; an action is a displacement, 1 being ``REACH``.

    Blocks lie still unless they are pushed. Policies: ``random`` goes anywhere around the agent, ``near`` anywhere around the
    block of the instruction, ``expert`` does what the instruction says: it goes behind the block and pushes it to the other.
    When that is done the next instruction follows.

    A state is position and angle of the agent and of each block, and the number of the instruction, 16 numbers. pymunk's space
    is built anew from them for every action, so that the future is a function of the state.
    """

    fps = 1 / (HOLD * TICK)
    action_fields = [ActionField("displacement", 2, "sum")]  # noqa: RUF012  # as the base class declares it
    action_low, action_high = -np.ones(2), np.ones(2)
    policies = ("random", "near", "expert")
    body: ClassVar[tuple[Piece, ...]] = DISC
    camera: ClassVar[Camera] = Above(SIDE)

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.reach = max(float(part.corners[:, 0].max()) for part in self.body)  # from the agent's center to its front
        self.extent = max(part.extent for part in self.body)
        self.reset(0)

    @override
    def reset(self, seed: int) -> None:
        # blocks away from the rim and from each other, so that there is a way around each; the agent clear of them
        generator = np.random.default_rng(seed)
        places: list[np.ndarray] = []
        while len(places) < len(BLOCKS):
            place = generator.uniform(120, SIDE - 120, 2)
            if all(math.dist(place, other) > 110 for other in places):
                places.append(place)
        while len(places) == len(BLOCKS):
            place = generator.uniform(50, SIDE - 50, 2)
            if all(math.dist(place, other) > 85 for other in places):
                places.insert(0, place)
        angles = generator.uniform(-math.pi, math.pi, len(places)) * np.array([len(self.action_low) > 2, 1, 1, 1, 1])
        poses = np.column_stack([places, angles])
        self._state = np.append(poses.ravel(), generator.integers(len(INSTRUCTIONS))).astype(np.float64)

    @override
    def get_state(self) -> np.ndarray:
        return self._state.copy()

    @override
    def set_state(self, state: np.ndarray) -> None:
        self._state = np.array(state, dtype=np.float64)

    @property
    def instruction(self) -> Instruction:
        """What the expert does; its text is what ``str`` makes of it."""
        return INSTRUCTIONS[int(self._state[-1])]

    @property
    def _poses(self) -> np.ndarray:
        """Position and angle of the agent, then of the blocks, (5, 3)."""
        return self._state[:-1].reshape(-1, 3)

    @override
    def distance(self, goal: np.ndarray) -> float:
        """Return the farthest way from agent or a block to where the goal has it, over 20 units: places count, not angles."""
        apart = self._poses[:, :2] - goal[:-1].reshape(-1, 3)[:, :2]
        return float(np.linalg.norm(apart, axis=1).max()) / NEAR

    def instruction_distance(self, instruction: Instruction) -> float:
        """Return how far an instruction is from being done, in units of the threshold: below 1 its blocks are together."""
        block, to = self._poses[1 + instruction.block, :2], self._poses[1 + instruction.to, :2]
        return math.dist(block, to) / instruction.distance

    def instruction_goal(self, instruction: Instruction) -> np.ndarray:
        """Return a state in which an instruction is done, (16,): its block pushed straight, the agent behind it."""
        goal, poses = self._state.copy(), self._poses
        block, to = poses[1 + instruction.block, :2], poses[1 + instruction.to, :2]
        along = (to - block) / math.dist(to, block)
        pushed = to - along * instruction.distance
        behind = pushed - along * (self.reach + BLOCKS[instruction.block].extent)
        changed = goal[:-1].reshape(-1, 3)
        changed[1 + instruction.block, :2] = pushed
        changed[0, :2] = behind
        return goal

    @override
    def render(self) -> np.ndarray:
        prisms = [prism(part, pose) for part, pose in zip(BLOCKS, self._poses[1:], strict=True)]
        prisms += [prism(part, self._poses[0]) for part in self.body]
        return draw(self.camera, SIDE, RIM, prisms, self.size)

    @override
    def sample_action(self, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(-1, 1, len(self.action_low))

    @override
    def policy_action(self, policy: str, sampled: np.ndarray) -> np.ndarray:
        if policy != "near":
            return super().policy_action(policy, sampled)
        way = self._poses[1 + self.instruction.block, :2] - self._poses[0, :2] + REACH * sampled[:2]
        action: np.ndarray = np.clip(np.append(way / REACH, sampled[2:]), -1, 1)
        return action

    @override
    def expert_action(self) -> np.ndarray:
        poses, (number, other) = self._poses, self.instruction
        agent, block, to = poses[0, :2], poses[1 + number, :2], poses[1 + other, :2]
        along = (to - block) / math.dist(to, block)
        across = np.array([-along[1], along[0]])
        ahead, aside = float(along @ (agent - block)), float(across @ (agent - block))
        awry = math.remainder(math.atan2(along[1], along[0]) - poses[0, 2], 2 * math.pi)
        turn = np.clip(np.full(len(self.action_low) - 2, awry / TURN), -1, 1)
        extent, clear = BLOCKS[number].extent, self.extent + BLOCKS[number].extent + 4
        behind = self.reach + extent + 6
        if ahead < 0 and abs(aside) < ASIDE and (not len(turn) or abs(awry) < AWRY):
            left = math.dist(to, block) - self.instruction.distance + 2
            way = along * min(PUSH, max(-ahead - self.reach - extent, 0) + left) - across * aside
        else:
            side = math.copysign(1, aside)
            if ahead < 8 - behind or (abs(aside) < ASIDE and ahead < 0):
                aim = block - along * behind  # behind the block
            elif abs(aside) < clear - 2:
                aim = block + along * ahead + across * side * (clear + 2)  # beside it
            else:
                aim = block - along * behind + across * side * (clear + 2)  # past it
            way = aim - agent
        return np.append(way / max(REACH, float(np.abs(way).max())), turn)

    @override
    def step(self, action: np.ndarray) -> Step:
        """Move the agent; factors are pixels to the right and down in the picture, of a fork the turn in radians, too."""
        seen, before = self._seen(), self._poses[0].copy()
        target = np.clip(before[:2] + REACH * np.clip(action[:2], -1, 1), RIM, SIDE - RIM)
        way, turn = target - before[:2], TURN * np.clip(action[2:], -1, 1)
        self._state[:-1] = push(self.body, self._poses, way, float(turn.sum())).ravel()
        if self.instruction_distance(self.instruction) < 1:
            self._state[-1] = (self._state[-1] + 5) % len(INSTRUCTIONS)  # 5 and 12 have no divisor in common: each has its turn
        moved = self._seen() - seen
        factors = {f"{name}_d{axis}": float(moved[i, k]) for i, name in enumerate(NAMES) for k, axis in enumerate("xy")}
        if len(turn):
            factors["agent_turn"] = float(self._poses[0, 2] - before[2])
        return Step(np.append(way / REACH, turn / TURN), factors)

    @override
    def state_factors(self) -> dict[str, float | np.ndarray]:
        """Return where the feet of agent and blocks are seen, pixels to the right and down, and the direction of a fork."""
        factors: dict[str, float | np.ndarray] = {
            f"{name}_{axis}": float(place[k])
            for name, place in zip(NAMES, self._seen(), strict=True)
            for k, axis in enumerate("xy")
        }
        return factors | ({"agent_heading": direction(self._poses[0, 2])} if len(self.action_low) > 2 else {})

    def _seen(self) -> np.ndarray:
        """Return where agent and blocks are seen, (5, 2) pixels."""
        return self.size * self.camera.project(self._poses * np.array([1, 1, 0]))


NAMES = ("agent", *(block.name.partition(" ")[0] for block in BLOCKS))
"""Of agent and blocks in factors."""


class TabletopTilted(Tabletop):
    """The table of ``Tabletop`` seen aslant from the front, where things have a height: another camera for the same task."""

    camera = Aslant(SIDE)


class TabletopFork(Tabletop):
    """The table of ``Tabletop`` with a fork for an agent, which also turns; the third number of an action, 1 being ``TURN``."""

    action_fields = [ActionField("displacement", 2, "sum"), ActionField("turn", 1, "sum")]  # noqa: RUF012
    action_low, action_high = -np.ones(3), np.ones(3)
    body = FORK
