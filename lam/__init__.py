"""Latent action models, compared fairly.

A latent action model learns from video alone what happened between two states, and to predict the second from the first and
that latent action. What is listed here is the public interface; parts to plug in live in the packages below it.

Ten words that are used in one meaning everywhere:

=================== ==============================================================================================
state               what the encoder makes of one frame, or of a few: a grid of tokens
transition          from one state to the next
latent action, z    what the inverse model and the bottleneck say of a transition; the forward model sees nothing else
bottleneck          what limits a latent action: the only part in which the rows of a table differ
capacity knob       the one argument of a bottleneck that is swept
code                integer (or several) that stands for a discrete latent action
rate, bits          how much a latent action says, in bits
copy error          error of predicting that nothing changes: the unit of all prediction errors
controller          head from known actions to latent actions, trained on few labeled clips
setting, row, run   data and sizes that are compared; a bottleneck at one value of its knob; a row with one seed
=================== ==============================================================================================

Letters used for shapes in every docstring and shape comment of the package:

====== ==================================================================
B      clips in a batch
F      frames of a clip
H, W   height and width of a frame, in pixels
T      states of a clip, T = F / frames_per_state
N      tokens of a state, N = rows * columns of the encoder's grid
D      width of a token
L      latent tokens of a transition
A      width of a latent token
C      codes of a transition
K      codes in a codebook
U      numbers of a recorded action
====== ==================================================================
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lam.bottlenecks.base import Bottleneck, BottleneckOutput
    from lam.control.trained import plan
    from lam.data.datamodule import ClipDataModule
    from lam.encoders.base import Encoder
    from lam.evals.base import Evaluation
    from lam.models.base import WorldModel
    from lam.models.latent_action import LatentActionModel
    from lam.runs.load import load
    from lam.runs.trained import TrainedModel

    __version__: str

__all__ = [
    "Bottleneck",
    "BottleneckOutput",
    "ClipDataModule",
    "Encoder",
    "Evaluation",
    "LatentActionModel",
    "TrainedModel",
    "WorldModel",
    "load",
    "plan",
]

# torch and Lightning take seconds to import, so each name is imported when it is first used
_MODULES = {
    "Bottleneck": "lam.bottlenecks.base",
    "BottleneckOutput": "lam.bottlenecks.base",
    "ClipDataModule": "lam.data.datamodule",
    "Encoder": "lam.encoders.base",
    "Evaluation": "lam.evals.base",
    "LatentActionModel": "lam.models.latent_action",
    "TrainedModel": "lam.runs.trained",
    "WorldModel": "lam.models.base",
    "load": "lam.runs.load",
    "plan": "lam.control.trained",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("lam")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
