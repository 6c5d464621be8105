"""Videos and sources whose pixels say which frame they are."""

from fractions import Fraction

import av
import numpy as np
import pyarrow.parquet as pq

from data_prep.sources.base import Listing, Recording, Source, Stream, array_frames
from lam.data.schema import ActionField


def write_video(path, times=None, count=24, size=(32, 48), codec="libx264", shade=0):
    """A video whose frame i has brightness 8 i + shade, at these times (8 a second if not given)."""
    times = np.arange(count) / 8 if times is None else times
    frames = [np.full((*size, 3), (8 * i + shade) % 256, np.uint8) for i in range(len(times))]
    return write_frames(path, frames, times, codec)


def write_frames(path, frames, times, codec="libx264"):
    """A video of these frames at these times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1000)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 1000)
        for pixels, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def rows(folder, split="train"):
    """Rows of all side indices of a split, in order."""
    return [row for path in sorted(folder.glob(f"{split}-*.parquet")) for row in pq.read_table(path).to_pylist()]


class Made(Source):
    """Recordings made by the test: noise, with labels.

    Args:
        lengths: Frames of each recording; negative ones break after so many.
        fps: Their rate.
        fields: What their actions consist of.
        labels: Makes the actions of a recording of so many frames.
        factors: Makes its factors.
    """

    def __init__(self, lengths, fps=8.0, fields=(), labels=None, factors=None):
        self.lengths, self.fps, self.fields = lengths, fps, list(fields)
        self.labels, self.factors = labels, factors
        self.opened = []

    def find(self):
        names = [f"r{i:03d}" for i in range(len(self.lengths))]
        return Listing([Recording(name, name, abs(n), {"n": n}) for name, n in zip(names, self.lengths, strict=True)])

    def open(self, recording):
        self.opened.append(recording.name)
        steps = abs(recording.place["n"])
        actions = None if self.labels is None else self.labels(steps)
        return Stream(self._pictures(recording), actions, {} if self.factors is None else self.factors(steps))

    def _pictures(self, recording):
        rng = np.random.default_rng(int(recording.name[1:]))
        noise = rng.integers(0, 256, (abs(recording.place["n"]), 16, 16, 3), dtype=np.uint8)
        yield from ((i / self.fps, frame) for i, frame in enumerate(array_frames(noise)))
        if recording.place["n"] < 0:
            raise ValueError("the tape is torn")

    def action_fields(self):
        return self.fields


PUSH = ActionField("push", 1, "sum")
