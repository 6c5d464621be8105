"""Label a video with latent actions: a z for each transition, its codes if it has any, and its bits.

    python examples/label_video.py --run runs/demo/noisy/seed0 --video my_video.mp4 --fit crop

Without a video it labels a clip that the model's shards hold. Frames should lie as far apart in time as those the model was
trained on; --every leaves frames out.
"""

import argparse
from pathlib import Path

import av
import numpy as np

import lam
from lam.runs.load import load_run


def read_video(path: Path, every: int) -> np.ndarray:
    """Read every so many frames of a video, (F, H, W, 3) uint8."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for i, frame in enumerate(container.decode(video=0)) if i % every == 0]
    return np.stack(frames)


def read_clip(run: Path) -> np.ndarray:
    """Read a validation clip of the shards that a run was trained on, (F, H, W, 3) uint8."""
    _, data = load_run(run)
    return next(iter(data.val_dataloader())).frames[0].permute(0, 2, 3, 1).numpy()


def main() -> None:
    """Label a video and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo/noisy/seed0"), help="folder of a run or an export")
    parser.add_argument("--video", type=Path, help="any file that FFmpeg reads")
    parser.add_argument("--fit", choices=["crop", "pad"], help="how pictures become squares, if they are none")
    parser.add_argument("--every", type=int, default=1, help="take every so many frames")
    options = parser.parse_args()

    model = lam.load(options.run)
    video = read_video(options.video, options.every) if options.video else read_clip(options.run)
    z, codes, bits = model.label(video, fit=options.fit)

    print(model)
    for i in range(len(z)):
        code = "" if codes is None else f"  codes {codes[i].tolist()}"
        rate = "" if bits is None else f"  {bits[i]:.1f} bits"
        print(f"state {i} -> {i + 1}: |z| {z[i].norm():.2f}{code}{rate}")


if __name__ == "__main__":
    main()
