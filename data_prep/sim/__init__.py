"""Episodes of simulators: a second, independent source of known actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from data_prep.pipeline.generated import check_generated, write_generated
from data_prep.shards.sample import DatasetSpec, Sample, SampleGenerator
from data_prep.sources.base import Recording
from lam.data.schema import Storage
from lam.simulators import Simulator, SimulatorFactory, check_policy, find_simulator, record_episode


def sim(
    env: str,
    out: Path,
    train: int = 1024,
    val: int = 256,
    frames: int = 8,
    size: int = 64,
    policy: dict[str, float] = {"random": 1.0},  # noqa: B006  # read only; the command line shows it
    seed: int = 0,
    storage: Storage = Storage.jpeg,
    jobs: int | None = None,
) -> int:
    """Record episodes of a simulator with the actions that were executed and ground-truth factors of state and effect.

    Args:
        env: pusht (a disc pushes a T; actions are targets relative to the disc), rooms or rooms-fixed (a disc goes through a
            door, which lies anywhere or always in one place), tabletop, tabletop-tilted or tabletop-fork (a disc, the same
            aslant, or a fork pushes blocks to each other), minigrid (an arrow turns and steps in a room), reacher or
            reacher-tilted (an arm of two links from above or aslant; actions turn its joints), rover (drives and turns in a
            room of boxes, seen by itself), gym:ID (an environment of gymnasium, gym:CartPole-v1) or the import path of a class
            of your own. The listed ones but rooms need pip install 'lam[sim]'; reacher and rover also EGL or OSMesa.
        out: Folder for the shards: new, or of the same command before, which then goes on.
        train: Episodes to train on.
        val: Episodes to validate on.
        frames: Frames of an episode.
        size: Side of the square image, pixels.
        policy: Share of the steps that each policy takes, for example "{random: 1, near: 1, expert: 1}": random ignores the
            state, expert is a function of it, near (pusht, tabletop) keeps close to a block.
        seed: Seed of starts and policy; episode i of a split is a function of seed and i, whatever the number of episodes.
        storage: How to store frames.
        jobs: Processes; 1 works in this one. As many as there are cores if not given.

    Returns:
        Exit code.
    """
    check_generated(seed, storage)
    if frames < 2:
        raise ValueError(f"frames is {frames}, expected 2 at least. Change --frames.")
    settings = {"train": train, "val": val, "frames": frames, "size": size, "policy": policy, "seed": seed}
    record = {"generator": "sim", "env": env, "storage": storage.name, **settings}
    simulator = started(find_simulator(env), size)
    check_policy(simulator.policies, policy)
    simulator.reset(seed)
    simulator.render()  # reports missing graphics here and not of every episode
    spec = DatasetSpec(
        height=size,
        width=size,
        storage=storage,
        actions=simulator.action_fields,
        factor_aggregations={name: "first" for name in simulator.state_factors()},
    )
    maker = Episodes(env, size, frames, policy, seed)
    return write_generated(out, maker, spec, (train, val), frames, record, jobs)


@lru_cache(maxsize=1)
def started(make: SimulatorFactory, size: int) -> Simulator:
    """Return the one simulator of a process: to start drawing takes up to a second."""
    return make(size)


class Episodes(SampleGenerator):
    """Plays the episode of each recording.

    Args:
        env: Name of the simulator.
        size: Side of the image, pixels.
        frames: Frames of an episode.
        policy: Share of the steps that each policy takes.
        seed: Seed of starts and policy.
    """

    def __init__(self, env: str, size: int, frames: int, policy: Mapping[str, float], seed: int) -> None:
        self.env, self.size, self.frames = env, size, frames
        self.policy, self.seed = policy, seed

    def samples(self, recording: Recording, drop: Callable[[str], None]) -> Iterator[Sample]:
        """Play the episode; its start and what is drawn for each step do not depend on the policy."""
        simulator = started(find_simulator(self.env), self.size)
        generator = np.random.default_rng([self.seed, recording.place["split"], recording.place["clip"]])
        played = record_episode(simulator, generator, self.frames - 1, self.policy, keep_states=False)
        yield Sample(
            recording.name,
            recording.name,
            recording.name,
            played.frames,
            np.arange(self.frames) / simulator.fps,
            played.actions,
            played.factors,
        )
