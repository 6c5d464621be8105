"""Evaluations, one file each; every one is a Lightning callback with a name of its own."""

from lam.evals.algebra import Algebra
from lam.evals.base import Evaluation, Results
from lam.evals.capacity import Capacity
from lam.evals.distractors import Distractors
from lam.evals.future import Future
from lam.evals.leakage import Leakage
from lam.evals.motion import Motion
from lam.evals.probe import Probe
from lam.evals.rate import Rate
from lam.evals.rollout import Rollout
from lam.evals.sampling import Sampling
from lam.evals.transfer import Transfer
from lam.evals.usage import Usage
from lam.models.base import Observation

__all__ = [
    "Algebra",
    "Capacity",
    "Distractors",
    "Evaluation",
    "Future",
    "Leakage",
    "Motion",
    "Observation",
    "Probe",
    "Rate",
    "Results",
    "Rollout",
    "Sampling",
    "Transfer",
    "Usage",
]
