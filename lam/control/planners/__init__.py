"""Planners: search for sequences of actions that a world model predicts to be cheap, one file an idea."""

from lam.control.planners.base import Plan, Planner, Problem
from lam.control.planners.cem import CEM
from lam.control.planners.gradient import GradientDescent
from lam.control.planners.icem import ICEM
from lam.control.planners.mppi import MPPI
from lam.control.planners.references import MeanAction, RandomPlan, StraightLines

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "GradientDescent",
    "MeanAction",
    "Plan",
    "Planner",
    "Problem",
    "RandomPlan",
    "StraightLines",
]
