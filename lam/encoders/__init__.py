"""Encoders, one file an idea. A class listed here can be named in YAML by its name alone; contract tests run over all."""

from lam.encoders.autoencoder import Autoencoder
from lam.encoders.base import Encoder, StateShape
from lam.encoders.cached import Cached
from lam.encoders.joint import Joint
from lam.encoders.keypoints import Keypoints
from lam.encoders.patches import Patches
from lam.encoders.vision import Vision
from lam.encoders.vjepa import VJEPA

__all__ = ["VJEPA", "Autoencoder", "Cached", "Encoder", "Joint", "Keypoints", "Patches", "StateShape", "Vision"]
