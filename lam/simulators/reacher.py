"""Reacher of the DeepMind Control Suite: an arm of two links from above or aslant (https://arxiv.org/abs/1801.00690)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from lam.data.schema import ActionField
from lam.simulators.base import Simulator
from lam.simulators.scene import Scene, mujoco  # sets up the graphics before dm_control looks for them

# isort: split
from dm_control.suite import reacher

REACH = 0.5
"""Farthest target from a joint's angle, radians."""
HOLD = 12
"""Steps of 0.02 s that a target is held; the joints nearly arrive."""
STIFFNESS, DAMPING, TORQUE = 0.4, 0.02, 0.05
"""Of the servos, Nm a radian, Nm s, Nm; the torque is the suite's own limit."""
LINK, BALL = 0.12, 0.015
"""Length of a link and radius of the ball, meters; the suite's."""
NEAR = 0.03
"""Threshold of success, meters."""


class Reacher(Simulator):
    """Two joints are drawn toward angles; recorded are those relative to the present ones, 1 being ``REACH``.

    Arm, arena, starts and the ball of the suite's task *hard*; the motors are servos, so that an action says where it goes. The
    habit is to bring the finger to the ball. A state is two angles, their velocities and where the ball lies, 6 numbers.
    """

    fps = 50 / HOLD
    actions = [ActionField("joints", 2, "sum")]  # noqa: RUF012  # as the base class declares it
    low, high = -np.ones(2), np.ones(2)
    camera: ClassVar[str] = "fixed"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._scene = Scene(servo_arm(), self.camera, size)
        self._model, self._data = self._scene.model, self._scene.data
        self._ball = self._model.geom("target").id
        self._range = self._model.joint("wrist").range

    def reset(self, seed: int) -> None:
        """The arm anywhere and at rest, the ball 5 to 20 cm from the shoulder."""
        generator = np.random.default_rng(seed)
        shoulder, wrist = generator.uniform(-np.pi, np.pi), generator.uniform(*self._range)
        angle, radius = generator.uniform(0, 2 * np.pi), generator.uniform(0.05, 0.2)
        self.restore(np.array([shoulder, wrist, 0, 0, radius * np.sin(angle), radius * np.cos(angle)]))

    def state(self) -> np.ndarray:
        """Angles, velocities, ball."""
        return np.concatenate([self._data.qpos, self._data.qvel, self._model.geom_pos[self._ball, :2]])

    def restore(self, state: np.ndarray) -> None:
        """Sets them."""
        self._data.qpos[:], self._data.qvel[:] = state[:2], state[2:4]
        self._model.geom_pos[self._ball, :2] = state[4:]
        mujoco.mj_forward(self._model, self._data)

    def distance(self, goal: np.ndarray) -> float:
        """The larger way of elbow and finger to where the goal has them, over 3 cm: the pose counts, not the place alone."""
        return float(np.linalg.norm(joints(self.state()) - joints(goal), axis=1).max()) / NEAR

    def picture(self) -> np.ndarray:
        """Arm and ball."""
        return self._scene.picture()

    def random(self, generator: np.random.Generator) -> np.ndarray:
        """Any displacement of both angles."""
        return generator.uniform(-1, 1, 2)

    def habit(self) -> np.ndarray:
        """Along the damped least-squares solution toward the ball, as far as one may."""
        elbow, finger = joints(self.state())
        arms = finger - np.stack([np.zeros(2), elbow])  # from each joint to the finger
        jacobian = np.stack([-arms[:, 1], arms[:, 0]])
        damped = jacobian.T @ jacobian + 1e-3 * np.eye(2)
        return np.clip(np.linalg.solve(damped, jacobian.T @ (self.state()[4:] - finger)) / REACH, -1, 1)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, dict[str, float | int]]:
        """Moves; factors are radians of both joints, and centimeters of the finger to the right and away from the viewer."""
        before = self.state()
        target = before[:2] + REACH * np.clip(action, -1, 1)
        target[1] = np.clip(target[1], *self._range)
        self._data.ctrl[:] = target
        mujoco.mj_step(self._model, self._data, HOLD)
        now = self.state()
        turned, moved = now[:2] - before[:2], 100 * (joints(now) - joints(before))[1]
        factors = {"shoulder_turn": turned[0], "wrist_turn": turned[1], "finger_dx": moved[0], "finger_dy": moved[1]}
        return (target - before[:2]) / REACH, factors


class ReacherTilted(Reacher):
    """The same arm seen aslant from the front: another camera for the same task."""

    camera = "tilted"


def joints(state: np.ndarray) -> np.ndarray:
    """Elbow and finger in the plane, (2, 2) meters, of a state, (6,)."""
    angles = np.cumsum(state[:2])
    return np.cumsum(LINK * np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0)


def servo_arm() -> mujoco.MjSpec:
    """The suite's model with servos in place of motors, and a second camera."""
    spec = mujoco.MjSpec.from_string(*reacher.get_model_and_assets())
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST  # damping of the servos at 0.02 s a step
    for actuator in spec.actuators:
        actuator.set_to_position(kp=STIFFNESS, kv=DAMPING)
        actuator.gear[0], actuator.ctrllimited = 1, 0
        actuator.forcelimited, actuator.forcerange = 1, (-TORQUE, TORQUE)
    spec.geom("target").size[0] = BALL
    spec.worldbody.add_camera(name="tilted", pos=(0, -0.45, 0.4), xyaxes=(1, 0, 0, 0, 0.4, 0.45))
    return spec
