"""Trained controllers in use: actions that lead from one picture to another."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lam.control.policies import Search, initial_actions, planner_policy
from lam.control.training import ControlledModel
from lam.data.resize import Fit
from lam.noise import splitmix64
from lam.runs.load import read_config
from lam.runs.recovery.checkpoints import read_tensors
from lam.runs.trained import TrainedModel


def load_controller(folder: Path | str, shards: Path | str | None = None) -> ControlledModel:
    """Load the heads that ``lam control fit`` trained, together with their world model, in eval mode on the CPU.

    Args:
        folder: Folder of the controllers, inside that of their world model: runs/<setting>/<row>/seed<k>/control/clips<n>.
        shards: Set with the labeled clips, whose statistics bound the actions; where the run says it is if not given.

    Raises:
        FileNotFoundError: There are no controllers, or the run or the shards are missing.
    """
    folder = Path(folder)
    for path in (folder / "config.yaml", folder / "checkpoints" / "last.ckpt"):
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: {folder} holds no controllers. Train them with lam control fit.")
    arguments = {**read_config(folder)["model"], "run": folder.resolve().parents[1]}
    if shards is not None:
        arguments["shards"] = Path(shards)
    with torch.random.fork_rng(devices=[]):  # building heads draws weights, which are replaced; callers' draws stay theirs
        controller = ControlledModel(**arguments)
    checkpoint = read_tensors(folder / "checkpoints" / "last.ckpt")
    controller.on_load_checkpoint(checkpoint)
    controller.load_state_dict(checkpoint["state_dict"])
    return controller.requires_grad_(False).eval()


def plan(
    model: TrainedModel,
    controller: ControlledModel | Path | str,
    first: np.ndarray | Tensor,
    goal: np.ndarray | Tensor,
    horizon: int | None = None,
    search: Search | None = None,
    fit: Fit | None = None,
    seed: int = 0,
) -> Tensor:
    """Plan actions that lead from what one picture shows to what another shows, as far as the world model knows.

    Args:
        model: The world model, as ``lam.load`` returns it.
        controller: What turns actions into its latents: the folder that ``lam control fit`` wrote, or what
            ``load_controller`` returned.
        first: What is seen now, (H, W, 3) uint8.
        goal: What should be seen in the end, (H, W, 3) uint8.
        horizon: Number of actions; as many as the model's training windows had transitions if not given.
        search: How plans are searched for; the cross-entropy method with the papers' budget if not given.
        fit: How pictures that are not square become squares: "crop" or "pad", as in the model's data.
        seed: Seed of the search's draws.

    Returns:
        Actions (horizon, U), within the bounds of the recorded ones.

    Raises:
        TypeError: A picture is no array.
        ValueError: A picture has another type or shape, or the controller belongs to another world model.
    """
    if not isinstance(controller, ControlledModel):
        controller = load_controller(controller)
    ours, theirs = model.world.state_dict(), controller.world.state_dict()
    if ours.keys() != theirs.keys() or not all(torch.equal(value.cpu(), theirs[key].cpu()) for key, value in ours.items()):
        raise ValueError(
            "The controller belongs to another world model. Give the one inside the folder of the model's own run."
        )
    if horizon is not None and horizon < 1:
        raise ValueError(f"Got horizon {horizon}, expected a number of actions, 1 or more.")
    statistics, device = controller.action_statistics, controller.device
    state = _encode_picture(model, "first", first, fit).to(device)
    goal_state = _encode_picture(model, "goal", goal, fit).to(device)
    search = search or Search(window=min(2, controller.horizon))
    policy = planner_policy(controller, statistics, partial(controller.run_controller, "controller"), search)
    initial = initial_actions(statistics, 1, horizon or controller.horizon).to(device)
    with torch.no_grad():
        found = policy(state, goal_state, splitmix64(torch.tensor([seed], device=device)), initial)
    return found.actions[0].detach().cpu()


def _encode_picture(model: TrainedModel, name: str, picture: np.ndarray | Tensor, fit: Fit | None) -> Tensor:
    """Encode a picture (H, W, 3) as a state (1, N, D); where several frames make a state it is seen several times."""
    if not isinstance(picture, np.ndarray | Tensor):
        raise TypeError(f"Got a {type(picture).__name__} for {name}, expected a picture (H, W, 3), a numpy array or a tensor.")
    if picture.ndim != 3:
        raise ValueError(f"Got {name} of shape {tuple(picture.shape)}, expected one picture (H, W, 3): video[0].")
    pixels = picture.cpu().numpy() if isinstance(picture, Tensor) else picture
    return model.encode(np.stack([pixels] * model.frames_per_state), fit)
