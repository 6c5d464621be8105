"""How long a training lasts, by its flags: in steps, in time, or in epochs that end."""

from __future__ import annotations

from lam.runs.errors import SettingsError
from lam.runs.recovery.places import Settings

REMEDY = (
    "Set --trainer.max_steps, or --trainer.max_time 00:04:00:00 for four hours; --trainer.limit_train_batches makes an epoch "
    "of that many batches."
)


def check_budget(trainer: Settings, resumed: bool) -> None:
    """Refuse a training without end: shards are read over and over, and the learning rate falls until the end.

    Args:
        trainer: Settings of the trainer.
        resumed: Whether a run goes on, which may have been begun by a release that took epochs for nothing.

    Raises:
        SettingsError: Nothing that was given ends the training.
    """
    finite = any(isinstance(trainer[key], int) and trainer[key] > 0 for key in ("limit_train_batches", "overfit_batches"))
    epochs = trainer["max_epochs"] or 0
    if trainer["fast_dev_run"] or (finite and epochs > 0):
        return
    if epochs > 0 and not resumed:
        raise SettingsError(
            f"trainer.max_epochs is {epochs}, but shards are read over and over, so that no epoch ends. {REMEDY}"
        )
    if trainer["max_steps"] < 1 and trainer["max_time"] is None:
        raise SettingsError(
            f"trainer.max_steps is {trainer['max_steps']}, but shards are read over and over, and the learning rate has to "
            f"know its last step. {REMEDY}"
        )
