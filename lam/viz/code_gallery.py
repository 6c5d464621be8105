"""Code gallery: the effect of each code on the same start frames."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lam.metrics.entropy import symbols
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import ClipSample
from lam.viz.base import Visualization
from lam.viz.canvas import GAP, blank, caption, enlarge, hstack, pad, png, signed_difference, vstack

COLUMNS = 11


class CodeGalleryVisualization(Visualization):
    """Draw one step from a few start frames with each of the most frequent codes; of discrete latents only.

    Below each prediction is its signed difference to the start frame, twice as strong: gray is no change. The z of a code
    is that of the first transition in which the code, a whole tuple where several make a latent, was observed.

    Args:
        num_codes: Codes shown, at most.
        num_starts: Start frames.
        max_clips: Clips the codes come from, at most.
    """

    name: ClassVar[str] = "boards/code_gallery"

    def __init__(self, num_codes: int = 32, num_starts: int = 2, max_clips: int = 2048) -> None:
        super().__init__()
        self.num_codes = num_codes
        self.num_starts = num_starts
        self.max_clips = max_clips
        self.reset()

    @override
    def prepare(self, model: WorldModel) -> None:
        model.clip_buffer.require(self.num_starts)

    @override
    def reset(self) -> None:
        self.sample = ClipSample(self.max_clips)

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        if observation.bottleneck_output.codes is not None:
            values = {"codes": observation.bottleneck_output.codes, "z": observation.bottleneck_output.z.float()}
            self.sample.add(observation.clip.position, values)

    @override
    def draw(self, model: WorldModel) -> bytes | None:
        _, values = self.sample.gather()
        clips = model.clip_buffer.clips(self.num_starts)
        if not values or clips is None:
            return None
        tuples, z, shares = rank_codes(values["codes"].flatten(0, 1), values["z"].flatten(0, 1))
        z = z[: self.num_codes].to(model.device)
        starts = clips.states[:, :1].to(model.device)
        with self.autocast():
            predicted = model.predict(
                starts.repeat_interleave(len(z), dim=0), z.repeat(len(starts), 1, 1)[:, None].to(starts.dtype)
            )
        after = model.encoder.to_image(predicted.to(starts.dtype))[:, 0].unflatten(0, (len(starts), len(z)))
        before = model.encoder.to_image(starts)  # (S, 1, 3, h, w)
        images, changes, first = enlarge(after), enlarge(signed_difference(after, before)), enlarge(before[:, 0])
        width = first.shape[2]
        blocks = []
        for start in range(0, len(z), COLUMNS):
            line = range(start, min(start + COLUMNS, len(z)))
            texts = [f"{_name(tuples[k])}\n{100 * shares[k]:.1f} %" for k in line]
            rows = [hstack(caption("start\nframe", width), *(caption(text, width) for text in texts))]
            for s in range(len(starts)):
                rows.append(hstack(first[s], *(images[s, k] for k in line)))
                rows.append(hstack(caption("change x2", width), *(changes[s, k] for k in line)))
                rows.append(blank(GAP, width))
            blocks.append(vstack(*rows, gap=GAP // 2))
        return png(pad(vstack(*blocks, gap=4 * GAP)))


def _name(code: Tensor) -> str:
    """Return the label of a code tuple (C,)."""
    return f"code {code.item()}" if len(code) == 1 else ", ".join(str(each) for each in code.tolist())


def rank_codes(codes: Tensor, z: Tensor) -> tuple[Tensor, Tensor, list[float]]:
    """Rank distinct code tuples (k, C), most frequent first, with the first z (k, ...) of each and shares of all transitions.

    Args:
        codes: Codes of n transitions, (n, C).
        z: Their latents, (n, ...).
    """
    symbol = symbols(codes)
    counts = torch.bincount(symbol)
    place = torch.arange(len(symbol))
    first = torch.full_like(counts, len(symbol)).scatter_reduce(0, symbol, place, "amin")
    order = counts.argsort(descending=True, stable=True)
    first = first[order]
    return codes[first], z[first], (counts[order].double() / len(codes)).tolist()
