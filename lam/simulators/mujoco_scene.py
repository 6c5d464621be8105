"""MuJoCo scenes that software draws fast: no shadows, reflections or multi-sampling (https://mujoco.readthedocs.io)."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from functools import cached_property

import numpy as np
from typing_extensions import override

if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")  # without a screen; MuJoCo reads it once, at its import

NO_GRAPHICS = (
    "MuJoCo finds no OpenGL to draw with (MUJOCO_GL={driver}). On Debian: apt-get install libegl1 libegl-mesa0 libgl1 "
    "libgles2 libopengl0 libgl1-mesa-dri, or apt-get install libosmesa6 and set MUJOCO_GL=osmesa."
)


def no_graphics() -> ValueError:
    """Return the error that says what is missing to draw."""
    return ValueError(NO_GRAPHICS.format(driver=os.environ.get("MUJOCO_GL", "")))


try:
    import mujoco
except ModuleNotFoundError:
    raise
except (ImportError, AttributeError) as error:  # PyOpenGL takes functions from a library that is not there: from None
    raise no_graphics() from error


__all__ = ["MujocoScene", "mujoco"]  # mujoco itself too: its import has set up the graphics


class MujocoScene:
    """MuJoCo model, its data, and one camera.

    Warm starts of the constraint solver are off: they are part of MuJoCo's state (mjSTATE_INTEGRATION) and hidden in ours.

    Args:
        spec: The model; changes to it come before.
        camera: Name of the camera.
        size: Side of the square image, pixels.
    """

    def __init__(self, spec: mujoco.MjSpec, camera: str, size: int) -> None:
        spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_WARMSTART)
        spec.visual.quality.offsamples = 0
        spec.visual.quality.shadowsize = 0
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self._camera, self._size = camera, size

    def render(self) -> np.ndarray:
        """Draw what the camera sees, (H, W, 3) uint8.

        Raises:
            ValueError: There is no OpenGL.
        """
        mujoco.mj_forward(self.model, self.data)  # positions of bodies and camera lag a step behind the joints
        self._renderer.update_scene(self.data, self._camera)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0
        image: np.ndarray = self._renderer.render()
        return image

    @cached_property
    def _renderer(self) -> ContextRenderer:
        try:
            renderer = ContextRenderer(self.model, self._size, self._size)
        except (ImportError, AttributeError, RuntimeError, mujoco.FatalError) as error:
            raise no_graphics() from error
        # Python itself would free it at exit after EGL is gone
        atexit.register(_close, weakref.ref(renderer))
        return renderer


class ContextRenderer(mujoco.Renderer):
    """MuJoCo's renderer, freed in its own context: in another's it would delete what has the same numbers there."""

    @override
    def close(self) -> None:
        if self._gl_context:
            self._gl_context.make_current()
        super().close()


def _close(reference: weakref.ref[ContextRenderer]) -> None:
    renderer = reference()
    if renderer is not None:
        renderer.close()
