"""Episodes in a simulator: which ones, frozen in a manifest, and how they are run."""

from lam.control.episodes.manifest import WARMUP_ACTIONS, EpisodeRecipe, Manifest, StartGoal, frozen_manifest
from lam.control.episodes.running import (
    NUM_FILMED,
    STRICT,
    EpisodeRunner,
    GoalTask,
    Outcome,
    SimulatorHandle,
    prepare_task,
)

__all__ = [
    "NUM_FILMED",
    "STRICT",
    "WARMUP_ACTIONS",
    "EpisodeRecipe",
    "EpisodeRunner",
    "GoalTask",
    "Manifest",
    "Outcome",
    "SimulatorHandle",
    "StartGoal",
    "frozen_manifest",
    "prepare_task",
]
