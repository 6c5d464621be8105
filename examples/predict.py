"""Imagine what latent actions lead to, and write it as a GIF.

    python examples/predict.py --run runs/demo/noisy/seed0 --out predicted.gif

From the first frame of a clip alone: what was recorded (left), what the model imagines under the latent actions that it
inferred from the recording (middle), and under latent actions drawn from its prior (right).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import lam
from lam.runs.load import load_run


def main() -> None:
    """Imagine two futures of one frame and write them beside the recorded one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo/noisy/seed0"), help="folder of a run")
    parser.add_argument("--out", type=Path, default=Path("predicted.gif"))
    parser.add_argument("--scale", type=int, default=8, help="how many times larger than the model's pictures")
    options = parser.parse_args()

    model = lam.load(options.run)
    _, data = load_run(options.run)
    clip = next(iter(data.val_dataloader())).frames[0].permute(0, 2, 3, 1)  # (F, H, W, 3)

    each = model.frames_per_state
    first, recorded = clip[:each], clip[2 * each - 1 :: each]  # the first state, and a picture of each that follows
    z = model.label(clip).z
    inferred = model.imagine(first, z).frames
    drawn = model.imagine(first, model.sample_prior(len(z), torch.Generator().manual_seed(0))).frames

    rows = torch.cat([recorded, inferred, drawn], dim=2).numpy()  # side by side
    pictures = [Image.fromarray(np.kron(row, np.ones((options.scale, options.scale, 1), np.uint8))) for row in rows]
    pictures[0].save(options.out, save_all=True, append_images=pictures[1:], duration=300, loop=0)
    print(f"{len(pictures)} pictures are in {options.out}")


if __name__ == "__main__":
    main()
