"""The catalogue of bottlenecks; contract tests run over it."""

from lam.bottlenecks.fsq import FSQ
from lam.bottlenecks.identity import Identity
from lam.bottlenecks.noisy import Noisy
from lam.bottlenecks.none import NoLatent
from lam.bottlenecks.nsvq import NSVQ
from lam.bottlenecks.residual import Residual
from lam.bottlenecks.rvq import RVQ
from lam.bottlenecks.sparse import Sparse
from lam.bottlenecks.vq import VQ

__all__ = ["FSQ", "NSVQ", "RVQ", "VQ", "Identity", "NoLatent", "Noisy", "Residual", "Sparse"]
