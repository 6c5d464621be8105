"""Evaluations, one file each; every one is a Lightning callback with a name of its own."""

from lam.evals.base import Evaluation, Observation, Results
from lam.evals.capacity import Capacity
from lam.evals.future import Future
from lam.evals.probe import Probe
from lam.evals.rate import Rate
from lam.evals.usage import Usage

__all__ = ["Capacity", "Evaluation", "Future", "Observation", "Probe", "Rate", "Results", "Usage"]
