"""Names that stood in the configs of earlier releases, and what they are called now.

Applied to every YAML given by ``--config`` and to the config.yaml of every run that is loaded.
"""

from __future__ import annotations

from typing import Any

MODULES = {
    "lam.boards": "lam.viz",
    "lam.control.episode_board": "lam.control.viz",
    "lam.control.error": "lam.control.controller_error",
    "lam.control.latent": "lam.control.latent_planning",
    "lam.control.plan_board": "lam.control.viz",
    "lam.foreign": "lam.models.external",
    "lam.forward": "lam.models.forward",
    "lam.inverse": "lam.models.inverse",
    "lam.layers": "lam.models.layers",
}
"""Modules whose classes moved, by their old names."""

CLASSES = {
    "CodeGalleryBoard": "lam.viz.CodeGalleryVisualization",
    "CodeUsageBoard": "lam.viz.CodeUsageVisualization",
    "EmbeddingBoard": "lam.viz.EmbeddingVisualization",
    "EpisodeBoard": "lam.control.viz.EpisodeVisualization",
    "LeakageBoard": "lam.viz.LeakageVisualization",
    "PlanBoard": "lam.control.viz.PlanVisualization",
    "PredictionBoard": "lam.viz.PredictionVisualization",
    "RateBoard": "lam.viz.RateVisualization",
    "RolloutBoard": "lam.viz.RolloutVisualization",
    "TransferBoard": "lam.viz.TransferVisualization",
    "TraversalBoard": "lam.viz.TraversalVisualization",
    "Chance": "lam.control.planners.RandomPlan",
    "Nothing": "lam.bottlenecks.NoLatent",
    "Stay": "lam.control.planners.MeanAction",
}
"""Classes that were renamed, by their old names without a module; none of these names is used again."""

_SAMPLES = {"candidates": "num_samples", "elites": "num_elites", "turns": "num_iterations"}
ARGUMENTS: dict[str, dict[str, str]] = {
    "CEM": {**_SAMPLES, "smallest_std": "min_std"},
    "ClosedLoop": {"episodes": "num_episodes", "every": "replan_every", "at_a_time": "batch_size"},
    "GradientDescent": {"starts": "num_starts", "turns": "num_iterations"},
    "LatentSearch": _SAMPLES,
    "MPPI": _SAMPLES,
    "Planning": {"numbers": "displacement_dims", "at_a_time": "batch_size", "alternatives": "ablation_clips"},
    "StraightLines": _SAMPLES,
    "latent": _SAMPLES,
    "search": {"at_once": "chunk_size"},
}
"""Arguments that were renamed, by the class or the key of the settings that they belong to."""

CHECKPOINT = "lightning.pytorch.callbacks.ModelCheckpoint"


def upgrade(settings: Any) -> Any:
    """Return settings as read from YAML with every old name replaced by the new one.

    A ``ModelCheckpoint`` among ``trainer.callbacks`` becomes the key ``checkpoint``.

    Args:
        settings: What a YAML file holds; it is left as it is.
    """
    settings = _rename(settings)
    if isinstance(settings, dict):
        _move_checkpoint(settings)
    return settings


def _rename(value: Any, owner: str = "") -> Any:
    """Replace class paths and names of arguments; ``owner`` is the class or the key that a mapping belongs to."""
    if isinstance(value, list):
        return [_rename(item) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("class_path"), str):
        path = new_class_path(value["class_path"])
        rest = {key: _rename(item, path) for key, item in value.items() if key != "class_path"}
        return {"class_path": path, **rest}
    new = ARGUMENTS.get(owner.rpartition(".")[2], {})
    return {new.get(key, key): _rename(item, str(key)) for key, item in value.items()}


def new_class_path(path: str) -> str:
    """Return today's path of a class."""
    module, _, name = path.rpartition(".")
    if name in CLASSES and (not module or module.startswith("lam.")):
        return CLASSES[name]
    return f"{MODULES[module]}.{name}" if module in MODULES else path


def _move_checkpoint(settings: dict[str, Any]) -> None:
    """Take the ``ModelCheckpoint`` out of the callbacks, where it stood before it had a key of its own."""
    trainer = settings.get("trainer")
    if not isinstance(trainer, dict) or "checkpoint" in settings or not isinstance(trainer.get("callbacks"), list):
        return
    callbacks = trainer["callbacks"]
    found = [item for item in callbacks if isinstance(item, dict) and item.get("class_path") in (CHECKPOINT, "ModelCheckpoint")]
    if found:
        trainer["callbacks"] = [item for item in callbacks if item is not found[0]]
        settings["checkpoint"] = found[0].get("init_args", {})
