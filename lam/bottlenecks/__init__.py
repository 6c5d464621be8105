"""Bottlenecks, one file an idea. A class listed here can be named in YAML by its name alone; contract tests run over all."""

from lam.bottlenecks.diveq import DiVeQ
from lam.bottlenecks.fsq import FSQ
from lam.bottlenecks.identity import Identity
from lam.bottlenecks.nested import Nested, NestedRVQ
from lam.bottlenecks.noisy import Noisy
from lam.bottlenecks.none import NoLatent
from lam.bottlenecks.nsvq import NSVQ
from lam.bottlenecks.residual import Residual
from lam.bottlenecks.rvq import RVQ
from lam.bottlenecks.sparse import Sparse
from lam.bottlenecks.vq import VQ

__all__ = [
    "FSQ",
    "NSVQ",
    "RVQ",
    "VQ",
    "DiVeQ",
    "Identity",
    "Nested",
    "NestedRVQ",
    "NoLatent",
    "Noisy",
    "Residual",
    "Sparse",
]
