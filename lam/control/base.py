"""The interface that planners, closed loops and their evaluations require of a world model that acts on known actions."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from lam.data.schema import ActionField, ActionStatistics
from lam.models.base import WorldModel


class ActionConditionedModel(WorldModel):
    """World model with controllers, which turn known actions into latent actions, and the reverse.

    Attributes:
        action_fields: What the numbers of a recorded action are.
        action_statistics: Statistics of the recorded actions; plans stay within their bounds.
        horizon: Actions H between the first and the last state of a clip.
        labeled_clips: Clips whose actions the controllers were trained on, the label budget; keys of results carry it.
        unlabeled_clips: Clips from which latents were cloned, without their actions; 0 where they were not.
    """

    action_fields: list[ActionField]
    action_statistics: ActionStatistics
    horizon: int
    labeled_clips: int
    unlabeled_clips: int = 0

    @property
    def is_given_actions(self) -> bool:
        """Whether the world model takes recorded actions itself, so that its plans need no controller."""
        return self.encode_actions(torch.zeros(1, len(self.action_statistics.mean), device=self.device)) is not None

    @property
    @abstractmethod
    def controllers(self) -> list[str]:
        """Names of the controllers: ``controller``, ``blind``, and ``classifier`` where latents are codes."""

    @abstractmethod
    def run_controller(self, name: str, actions: Tensor, states: Tensor) -> Tensor:
        """Return latents (n, L, A) for actions (n, U) in states (n, N, D)."""

    @abstractmethod
    def decode_actions(self, name: str, z: Tensor, states: Tensor) -> Tensor:
        """Return actions (n, U) for latents (n, L, A) in states (n, N, D).

        Args:
            name: ``action_decoder`` or ``blind_action_decoder``, which does not see the state.
            z: Latents.
            states: States before the transitions.
        """

    @abstractmethod
    def clone_actions(self, states: Tensor, goals: Tensor) -> Tensor:
        """Return the actions (n, H, U) of behavior cloning from states to goals, each (n, N, D)."""

    def clone_latents(self, states: Tensor, goals: Tensor) -> Tensor:
        """Return the latents (n, H, L, A) of cloning from states to goals, each (n, N, D).

        Raises:
            TypeError: None were cloned; ``unlabeled_clips`` is 0.
        """
        raise TypeError(f"{type(self).__name__} has cloned no latents.")


def as_action_conditioned(model: WorldModel) -> ActionConditionedModel:
    """Return a model as what evaluations of control require it to be.

    Raises:
        TypeError: It has no controllers.
    """
    if not isinstance(model, ActionConditionedModel):
        raise TypeError(
            f"Planning and control need a world model with controllers, got {type(model).__name__}. "
            "Run these evaluations with lam control."
        )
    return model
