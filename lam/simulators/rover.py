"""Rover: drives through a walled room among boxes and sees what lies ahead, by MuJoCo."""

from __future__ import annotations

import math

import numpy as np
from typing_extensions import override

from lam.data.schema import ActionField
from lam.simulators.base import Simulator, Step, direction
from lam.simulators.mujoco_scene import MujocoScene, mujoco

AHEAD, TURN = 0.3, 0.5
"""Farthest way and turn of an action: room units, radians. The room is 4 units wide, the rover 0.24."""
HOLD, TICK = 25, 0.01
"""Steps of an action and their length, s."""
NEAR, TURNED = 0.15, math.pi / 12
"""Thresholds of success: half of an action's farthest way and turn."""
CLEAR, EYE = 0.6, 0.2
"""Free way ahead below which the expert turns, and height of the camera."""
BOXES = {"red": ".85 .2 .2", "green": ".2 .7 .3", "yellow": ".9 .8 .2", "purple": ".6 .3 .8"}
WALLS = {(0, 1): ".8 .65 .45", (0, -1): ".45 .65 .8", (1, 0): ".8 .5 .65", (-1, 0): ".55 .75 .55"}
"""Colors, by the direction in which a wall stands."""
ROOM = """
<mujoco>
  <option timestep="{tick}" gravity="0 0 0"/>
  <visual><headlight ambient=".5 .5 .5" diffuse=".5 .5 .5" specular="0 0 0"/><map znear=".01"/></visual>
  <asset>
    <texture name="sky" type="skybox" builtin="flat" rgb1=".75 .85 .95" width="8" height="48"/>
    <texture name="tiles" type="2d" builtin="checker" rgb1=".35 .33 .3" rgb2=".55 .53 .5" width="64" height="64"/>
    <texture name="checks" type="2d" builtin="checker" rgb1=".8 .8 .8" rgb2="1 1 1" width="64" height="64"/>
    <material name="tiles" texture="tiles" texrepeat="2 2" texuniform="true"/>
    {materials}
  </asset>
  <default><geom condim="1"/></default>
  <worldbody>
    <geom type="plane" size="2 2 1" material="tiles" contype="0" conaffinity="0"/>
    {things}
    <body name="rover" pos="0 0 {eye}">
      <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/><joint type="hinge" axis="0 0 1"/>
      <geom type="sphere" size=".12" group="4"/>
      <camera name="ahead" xyaxes="0 -1 0 0 0 1" fovy="75"/>
    </body>
  </worldbody>
</mujoco>
"""
WALL = """
    <geom type="plane" pos="{x} {y} .3" zaxis="{into_x} {into_y} 0" size="{half} 1" material="{name}"/>"""
PAINT = """
    <material name="{name}" texture="checks" texrepeat="4 4" texuniform="true" rgba="{color} 1"/>"""
BOX = """
    <body name="{name}" mocap="true"><geom type="box" pos="0 0 .2" size=".2 .2 .2" rgba="{color} 1"/></body>"""


class Rover(Simulator):
    """Rover that drives at the speeds asked for until walls and boxes stop it; an action is the way ahead and the turn.

    It never backs up. The expert drives ahead, and turns left where the way is blocked. A state is the position and
    direction of the rover and where the four boxes stand, 11 numbers; they stand elsewhere in every episode.
    """

    fps = 1 / (HOLD * TICK)
    action_fields = [ActionField("drive", 2, "sum")]  # noqa: RUF012  # as the base class declares it
    action_low, action_high = np.array([0.0, -1.0]), np.ones(2)

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._scene = MujocoScene(mujoco.MjSpec.from_string(room()), "ahead", size)
        self._model, self._data = self._scene.model, self._scene.data
        self._rover = self._model.body("rover").id

    @override
    def reset(self, seed: int) -> None:
        # boxes and rover anywhere, clear of each other and of the walls
        generator = np.random.default_rng(seed)
        places: list[np.ndarray] = []
        while len(places) <= len(BOXES):
            place = generator.uniform(-1.6, 1.6, 2)
            if all(np.linalg.norm(place - other) > 0.8 for other in places):
                places.append(place)
        direction = generator.uniform(-math.pi, math.pi)
        self.set_state(np.concatenate([places[-1], [direction], *places[:-1]]))

    @override
    def get_state(self) -> np.ndarray:
        return np.concatenate([self._data.qpos, self._data.mocap_pos[:, :2].ravel()])

    @override
    def set_state(self, state: np.ndarray) -> None:
        self._data.qpos[:] = state[:3]
        self._data.mocap_pos[:, :2] = state[3:].reshape(-1, 2)
        mujoco.mj_forward(self._model, self._data)

    @override
    def distance(self, goal: np.ndarray) -> float:
        """Return the larger ratio to a threshold: that of the way, 0.15, or of the angle, 15 degrees."""
        apart = self._data.qpos - goal[:3]
        return max(float(np.linalg.norm(apart[:2])) / NEAR, abs(math.remainder(apart[2], 2 * math.pi)) / TURNED)

    @override
    def render(self) -> np.ndarray:
        return self._scene.render()

    @override
    def sample_action(self, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(self.action_low, self.action_high)

    @override
    def expert_action(self) -> np.ndarray:
        right, up, angle = self._data.qpos  # data.xpos lags a step behind
        eye, looks = np.array([right, up, EYE]), np.array([math.cos(angle), math.sin(angle), 0.0])
        hit = np.zeros(1, dtype=np.int32)
        free = mujoco.mj_ray(self._model, self._data, eye, looks, None, 1, self._rover, hit)
        return np.array([0.0, 1.0]) if free < CLEAR else np.array([1.0, 0.0])

    @override
    def step(self, action: np.ndarray) -> Step:
        """Drive; factors are the way ahead and to the left in room units, and the turn to the left in radians."""
        drive, before = np.clip(action, self.action_low, self.action_high), self._data.qpos.copy()
        speed, spin = drive * np.array([AHEAD, TURN]) / (HOLD * TICK)
        for _ in range(HOLD):
            angle = self._data.qpos[2]
            # asked for anew at every step, so that speed is no part of the state; contacts take from it what is blocked
            self._data.qvel[:] = speed * math.cos(angle), speed * math.sin(angle), spin
            mujoco.mj_step(self._model, self._data)
        way, turned = self._data.qpos[:2] - before[:2], self._data.qpos[2] - before[2]
        heading = np.array([math.cos(before[2]), math.sin(before[2])])
        aside = heading[0] * way[1] - heading[1] * way[0]
        return Step(drive, {"way_ahead": float(heading @ way), "way_left": float(aside), "turn_left": float(turned)})

    @override
    def state_factors(self) -> dict[str, float | np.ndarray]:
        """Return where the rover is from the middle of the room, in room units, and cosine and sine of its direction."""
        right, up, angle = self._data.qpos.tolist()
        return {"rover_x": right, "rover_y": up, "rover_heading": direction(angle)}


def room() -> str:
    """Write the room as MJCF."""
    materials = things = ""
    for (x, y), color in WALLS.items():
        name, half = f"wall {x} {y}", ".3 2" if x else "2 .3"  # a plane's first axis stands upright if its normal is along x
        materials += PAINT.format(name=name, color=color)
        things += WALL.format(x=2 * x, y=2 * y, into_x=-x, into_y=-y, half=half, name=name)
    for name, color in BOXES.items():
        things += BOX.format(name=name, color=color)
    return ROOM.format(tick=TICK, eye=EYE, materials=materials, things=things)
