"""E9, rollout: whole clips rolled out with inferred latents, for seconds, measured in states and in pixels.

After section 4.2 of https://arxiv.org/abs/2601.05230, which shows pictures; here they are also measured.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lam.evals.base import Evaluation, Results, cached_rollout, cached_rollout_drawn
from lam.metrics.images import SSIM_WINDOW, lpips, psnr, ssim
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import ClipSample
from lam.runs.columns import Column


class Rollout(Evaluation):
    """Predict clips from their first state and inferred latents alone, and compare with repeating the first state.

    Keys, all with values of single clips: ``error@h``, error of the state h steps after the first in units of the
    copy-last-state error (``unrolled@h`` of ``capacity``), ``error_drawn@h`` with z drawn from its posterior
    (``unrolled_drawn@h`` of ``capacity``), and ``copy@h``; where the encoder's pictures are pixels also, of some clips and
    of the z without noise, means over horizons of ``psnr`` in decibels and ``ssim``, of ``psnr_copy`` and ``ssim_copy`` (not of
    pictures smaller than the window of SSIM), and of ``lpips`` and ``lpips_copy`` where asked for. The true picture is
    the encoder's of the true state, so what the encoder loses counts neither for nor against the prediction; all have 8
    bits a color. ``seconds``, duration of clips. Curves: all of these over the horizon, and ``horizon``, in seconds.

    Args:
        num_clips: Clips whose pictures are compared, at most.
        lpips: Measure LPIPS too; needs torchvision and AlexNet's weights.
    """

    name: ClassVar[str] = "rollout"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "error@*",
            "unrolled error @*",
            better=-1,
            explanation="error so many steps after the first state, predictions fed back; 1 = predicting that nothing changes",
            order=650,
            most=1,
        ),
        Column(
            "psnr", "PSNR", digits=1, better=1, explanation="of predicted pictures, in decibels, mean over horizons", order=660
        ),
        Column("ssim", "SSIM", better=1, explanation="structural similarity of the same pictures", order=670),
        Column("lpips", "LPIPS", better=-1, explanation="perceptual distance of the same pictures", order=680),
    )

    def __init__(self, num_clips: int = 64, lpips: bool = False) -> None:
        super().__init__()
        self.num_clips = num_clips
        self.lpips = lpips
        self.reset()

    @override
    def prepare(self, model: WorldModel) -> None:
        if self.lpips:
            lpips(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))

    @override
    def reset(self) -> None:
        self.sample = ClipSample()
        self.pictures = ClipSample(self.num_clips)

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        states, predicted = observation.states, cached_rollout(model, observation)
        first = states[:, :1].expand_as(predicted)
        shown = {"error": predicted, "error_drawn": cached_rollout_drawn(model, observation), "copy": first}
        values = {name: model.error(unrolled, states[:, 1:]) for name, unrolled in shown.items()}
        last = observation.clip.times[:, model.encoder.frames_per_state - 1 :: model.encoder.frames_per_state]
        values["horizon"] = last[:, 1:] - last[:, :1]
        self.sample.add(observation.clip.position, {name: value.double() for name, value in values.items()})
        if model.encoder.shows_pixels:
            compared = {"predicted": predicted, "true": states}
            pictures = {name: (255 * model.encoder.to_image(x)).round().to(torch.uint8) for name, x in compared.items()}
            self.pictures.add(observation.clip.position, pictures)

    def _compare(self, predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """Measure the similarity (n, T-1) of predicted pictures (n, T-1, 3, h, w) to true ones (n, T, 3, h, w), uint8."""
        predicted, true = predicted / 255, true / 255
        copied, true = true[:, :1].expand_as(predicted), true[:, 1:]
        measures = {"psnr": psnr}
        if min(true.shape[-2:]) >= SSIM_WINDOW:
            measures["ssim"] = ssim
        if self.lpips:
            measures["lpips"] = lpips
        shape = true.shape[:2]
        return {
            name + suffix: measure(shown.flatten(0, 1), true.flatten(0, 1)).reshape(shape).double()
            for name, measure in measures.items()
            for suffix, shown in (("", predicted), ("_copy", copied))
        }

    @override
    def compute(self, model: WorldModel) -> Results:
        positions, values = self.sample.gather()
        if not len(positions):
            return Results()
        results = Results()
        for name in ("error", "error_drawn", "copy"):
            columns = enumerate(values[name].unbind(dim=1), start=1)
            results.clips |= {f"{name}@{h}": (positions, column) for h, column in columns}
        shown, pictures = self.pictures.gather()
        alike = self._compare(pictures["predicted"], pictures["true"]) if pictures else {}
        results.clips |= {name: (shown, value.mean(dim=1)) for name, value in alike.items()}
        results.curves = {name: value.mean(dim=0).tolist() for name, value in {**values, **alike}.items()}
        results.metrics = {name: value.mean().item() for name, (_, value) in results.clips.items()}
        results.metrics["seconds"] = values["horizon"][:, -1].mean().item()
        return results
