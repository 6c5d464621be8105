"""Plug in a simulator of your own: adapt an environment of gymnasium, record it, and act in it. Needs pip install 'lam[sim]'.

    python examples/own_simulator.py --out cartpole.gif

Any environment works as it is, by its id: data_prep sim gym:CartPole-v1 shards/cartpole. A class adds what
gymnasium does not know: an expert, and when a goal is reached. It is named by its import path:

    PYTHONPATH=examples data_prep sim own_simulator.CartPole shards/cartpole --policy "{random: 1, expert: 1}"

In closed loop it is the simulator of lam.control.closed_loop.ClosedLoop: simulator: own_simulator.CartPole.
"""

import argparse

import numpy as np
from PIL import Image

from lam.control.closed_loop import ClosedLoop
from lam.control.ladder.oracle import solve
from lam.control.planners import CEM
from lam.control.policies import Search
from lam.data.schema import ActionStatistics
from lam.io.trust import trust
from lam.simulators import record_episode
from lam.simulators.gym import GymSimulator


class CartPole(GymSimulator):
    """Cart that balances a pole; an action pushes it to the left or to the right for 0.1 s."""

    def __init__(self, size: int) -> None:
        super().__init__(size, "CartPole-v1", hold=5)

    def get_env_state(self) -> np.ndarray:
        """Return position and speed of the cart, angle and speed of the pole: copying four numbers is faster than the whole."""
        return np.array(self.env.unwrapped.state, dtype=np.float64)

    def set_env_state(self, state: np.ndarray) -> None:
        """Put cart and pole there."""
        self.env.unwrapped.state = tuple(state)
        self.env.unwrapped.steps_beyond_terminated = None  # the episode has not ended there

    def distance(self, goal: np.ndarray) -> float:
        """Return the larger ratio to a threshold: that of the position, 10 cm, or of the angle, 0.1 rad."""
        position, _, angle, _ = np.abs(self.get_env_state() - goal[:4])
        return max(position / 0.1, angle / 0.1)

    def expert_action(self) -> np.ndarray:
        """Push to the side where the pole falls."""
        _, _, angle, speed = self.get_env_state()
        return np.eye(2)[int(angle + 0.3 * speed > 0)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="cartpole.gif")
    parser.add_argument("--episodes", type=int, default=5)
    options = parser.parse_args()
    played = record_episode(CartPole(size=96), np.random.default_rng(0), steps=24, policy={"random": 0.3, "expert": 0.7})
    first, *others = (Image.fromarray(frame) for frame in played.frames)
    first.save(options.out, save_all=True, append_images=others, duration=100, loop=0)
    print(f"{options.out}: {len(played.frames)} frames, actions {played.actions.shape}, factors {', '.join(played.factors)}")

    # the planner in the true simulator, an upper reference for world models that learn from the recording
    actions = played.actions.astype(float)
    numbers = (actions.mean(0), actions.std(0), actions.min(0), actions.max(0), 0 * actions[0], 0 * actions[0])
    trust("own_simulator")  # names of others are not imported
    loop = ClosedLoop("own_simulator.CartPole", Search(CEM(16, 4, 3)), num_episodes=options.episodes, budget=10)
    results, _ = solve(loop, ActionStatistics(*([*column] for column in numbers)), horizon=5)
    print(f"Goals reached by planning in the simulator: {results.metrics['success@all']:.2f} of {options.episodes} episodes")
