"""Plan actions that lead from one picture to another, through a world model and a controller.

    lam control fit --config experiments/control.yaml --model.run runs/demo/noisy/seed0 --model.labeled_clips 256
    python examples/plan.py --run runs/demo/noisy/seed0 --labels 256

First picture and goal are those of a recorded clip, so that the plan can be compared with the actions that were taken.
"""

import argparse
from pathlib import Path

import lam
from lam.control.planners import CEM
from lam.control.policies import Search
from lam.control.trained import load_controller


def main() -> None:
    """Plan and print what was planned beside what was recorded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo/noisy/seed0"), help="folder of the world model's run")
    parser.add_argument("--labels", type=int, default=256, help="label budget of the controller, in clips")
    parser.add_argument("--samples", type=int, default=64, help="candidates of an iteration of the search")
    options = parser.parse_args()

    model = lam.load(options.run)
    controller = load_controller(options.run / "control" / f"clips{options.labels}")
    clip = next(iter(controller.data.val_dataloader()))
    video = clip.frames[0].permute(0, 2, 3, 1)  # (F, H, W, 3)

    planner = CEM(num_samples=options.samples, num_elites=8, num_iterations=5)
    search = Search(planner, window=min(2, controller.horizon))
    planned = lam.plan(model, controller, first=video[0], goal=video[-1], search=search)

    recorded = clip.labels(model.frames_per_state)["action"][0]
    print("planned ", planned.tolist())
    print("recorded", recorded.tolist())
    print(f"sum of the plan minus sum of the recorded actions: {(planned.sum(dim=0) - recorded.sum(dim=0)).tolist()}")


if __name__ == "__main__":
    main()
