"""Reacher of the DeepMind Control Suite: an arm of two links from above or aslant (https://arxiv.org/abs/1801.00690)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from typing_extensions import override

from lam.data.schema import ActionField
from lam.simulators.base import Simulator, Step, direction
from lam.simulators.mujoco_scene import MujocoScene, mujoco  # sets up the graphics before dm_control looks for them

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
    """Arm of two joints that are drawn toward angles; an action is these relative to the present ones, 1 being ``REACH``.

    Arm, arena, starts and the ball of the suite's task *hard*; the motors are servos, so that an action says where it goes. The
    expert brings the finger to the ball. A state is two angles, their velocities and where the ball lies, 6 numbers.
    """

    fps = 50 / HOLD
    action_fields = [ActionField("joints", 2, "sum")]  # noqa: RUF012  # as the base class declares it
    action_low, action_high = -np.ones(2), np.ones(2)
    camera: ClassVar[str] = "fixed"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._scene = MujocoScene(servo_arm(), self.camera, size)
        self._model, self._data = self._scene.model, self._scene.data
        self._ball = self._model.geom("target").id
        self._range = self._model.joint("wrist").range

    @override
    def reset(self, seed: int) -> None:
        # the arm anywhere and at rest, the ball 5 to 20 cm from the shoulder
        generator = np.random.default_rng(seed)
        shoulder, wrist = generator.uniform(-np.pi, np.pi), generator.uniform(*self._range)
        angle, radius = generator.uniform(0, 2 * np.pi), generator.uniform(0.05, 0.2)
        self.set_state(np.array([shoulder, wrist, 0, 0, radius * np.sin(angle), radius * np.cos(angle)]))

    @override
    def get_state(self) -> np.ndarray:
        return np.concatenate([self._data.qpos, self._data.qvel, self._model.geom_pos[self._ball, :2]])

    @override
    def set_state(self, state: np.ndarray) -> None:
        self._data.qpos[:], self._data.qvel[:] = state[:2], state[2:4]
        self._model.geom_pos[self._ball, :2] = state[4:]
        mujoco.mj_forward(self._model, self._data)

    @override
    def distance(self, goal: np.ndarray) -> float:
        """Return the larger way of elbow and finger to where the goal has them, over 3 cm: the pose counts, not the place."""
        return float(np.linalg.norm(joints(self.get_state()) - joints(goal), axis=1).max()) / NEAR

    @override
    def render(self) -> np.ndarray:
        return self._scene.render()

    @override
    def sample_action(self, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(-1, 1, 2)

    @override
    def expert_action(self) -> np.ndarray:
        """Follow the damped least-squares solution toward the ball, as far as bounds allow."""
        elbow, finger = joints(self.get_state())
        arms = finger - np.stack([np.zeros(2), elbow])  # from each joint to the finger
        jacobian = np.stack([-arms[:, 1], arms[:, 0]])
        damped = jacobian.T @ jacobian + 1e-3 * np.eye(2)
        return np.clip(np.linalg.solve(damped, jacobian.T @ (self.get_state()[4:] - finger)) / REACH, -1, 1)

    @override
    def step(self, action: np.ndarray) -> Step:
        """Move the joints; factors are radians of both, and centimeters of the finger to the right and away from the viewer."""
        before = self.get_state()
        target = before[:2] + REACH * np.clip(action, -1, 1)
        target[1] = np.clip(target[1], *self._range)
        self._data.ctrl[:] = target
        mujoco.mj_step(self._model, self._data, HOLD)
        now = self.get_state()
        turned, moved = now[:2] - before[:2], 100 * (joints(now) - joints(before))[1]
        factors = {"shoulder_turn": turned[0], "wrist_turn": turned[1], "finger_dx": moved[0], "finger_dy": moved[1]}
        return Step((target - before[:2]) / REACH, factors)

    @override
    def state_factors(self) -> dict[str, float | np.ndarray]:
        """Return cosine and sine of both angles, and centimeters of the finger to the right and away from the viewer."""
        state = self.get_state()
        finger = 100 * joints(state)[1]
        angles: dict[str, float | np.ndarray] = {"shoulder": direction(state[0]), "wrist": direction(state[1])}
        return angles | {"finger_x": float(finger[0]), "finger_y": float(finger[1])}


class ReacherTilted(Reacher):
    """The arm of ``Reacher`` seen aslant from the front: another camera for the same task."""

    camera = "tilted"


def joints(state: np.ndarray) -> np.ndarray:
    """Return elbow and finger in the plane, (2, 2) meters, of a state, (6,)."""
    angles = np.cumsum(state[:2])
    return np.cumsum(LINK * np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0)


def servo_arm() -> mujoco.MjSpec:
    """Build the suite's model with servos in place of motors, and a second camera."""
    spec = mujoco.MjSpec.from_string(*reacher.get_model_and_assets())
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST  # damping of the servos at 0.02 s a step
    for actuator in spec.actuators:
        actuator.set_to_position(kp=STIFFNESS, kv=DAMPING)
        actuator.gear[0], actuator.ctrllimited = 1, 0
        actuator.forcelimited, actuator.forcerange = 1, (-TORQUE, TORQUE)
    spec.geom("target").size[0] = BALL
    spec.worldbody.add_camera(name="tilted", pos=(0, -0.45, 0.4), xyaxes=(1, 0, 0, 0, 0.4, 0.45))
    return spec
