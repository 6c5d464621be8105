"""E2, rate: bits a transition, by the bottleneck's own account and as the forward model uses them.

The own account is the capacity of codes, the entropy of those used, or the divergence of a posterior; families without a
finite rate have none. The bits that the forward model uses are measured the same way for every family: z is coded, and the
prediction from the decoded z shows whether anything was lost.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lam.evals.base import Evaluation, Results
from lam.evals.common.rate_distortion import COARSE, FINE, ClipPredictor, CoderGrid, RatePoint, discrete_bits, rate_error_points
from lam.evals.common.split import few_sources, fit_half
from lam.metrics.operational import operational_bits
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import BufferedClips, ClipSample, source_ids
from lam.runs.columns import Column

RISES = (1, 5, 10)
"""Rises of the error, in percent of what z closes, at which bits are reported."""

MAX_CODED = 512
"""Transitions, at most, that are predicted from coded latents."""

MAX_SENSITIVITY = 256
"""Transitions, at most, from which the sensitivity of predictions to z is estimated."""


class Rate(Evaluation):
    """Measure capacity, nominal and operational bits of a transition.

    Keys of discrete latents: ``bits_capacity``, log2 of the number of code tuples; ``bits_nominal``, plug-in entropy of
    the held-out tuples, which cannot exceed ``bits_limit``, log2 of the number of transitions; ``bits_coded``, mean length
    of the held-out tuples of one half of the sources in the best of three codes fitted on the other half (whole tuples,
    each code by itself, and log2 of the number of tuples); left out where all clips come from one source.

    Keys of Gaussian latents: ``bits_nominal``, the mean divergence from the prior; what these bits pay for is a z drawn from
    the posterior, so the error that belongs to them is ``error_drawn`` of ``capacity``.

    Operational bits: z, all L A numbers of a transition at once and each transition by itself, is coded in several ways, by
    coders fitted on one half of the sources, and the clips of the other half are predicted from the decoded z. Coders are
    ``mean`` (its mean, 0 bits), ``scalar`` (rounding after the transform of covariance times sensitivity), ``vector``
    (entropy-constrained clustering) and ``code`` (``bits_coded``, at no loss). Curve ``points``: coder, bits, error, and rise
    of the error, of each; ``point/<i>/bits`` and ``point/<i>/error`` are the i-th's values of single clips, ``unquantized`` the
    error of these clips with z as it is. ``bits_own@<percent>``: the fewest bits, on the convex hull of the points, at which
    the error has risen by so much of what z closes in this run alone (the error with the mean z minus the error); the report
    takes the gap between the reference rows instead. Left out where all clips come from one source.

    A latent that one bottleneck was trained to cut to several lengths (``Bottleneck.truncations``) is coded at each of them, in
    fewer ways, so that its points are those of one model at every rate; their coders are called ``<coder>@<length>``.
    ``error@<length>`` is the error of the coded clips with z cut and not coded, beside ``unquantized`` at full length.

    Bias: these are lengths of codes that work, so too high rather than too low. A component that counts costs up to 0.25 bit
    more than the rate-distortion function asks for; for being fitted on n transitions it costs another 0.07 (n = 250), 0.03
    (1000) or 0.02 (2000), for the chord between two points up to 0.02. A vector quantizer has no more than n / 4 codes.
    Only the choice of the best of some 25 points, by the clips they are measured on, errs downwards. Directions that the
    forward model ignores begin to cost bits at a rise of 0.1 %.

    Args:
        num_clips: Buffered clips, at most: of one half up to 512 transitions are coded and predicted, of the other up to
            256 give the sensitivity.
        max_clips: Clips, at most, from which come, by half, the latents that coders are fitted on.
        batch: Clips at a time.
    """

    name: ClassVar[str] = "rate"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "bits_nominal",
            "nominal bits",
            digits=2,
            explanation="the held-out entropy of codes or the divergence of a Gaussian from its prior",
            order=130,
            brief=True,
        ),
        Column("bits_capacity", "capacity", digits=1, explanation="what the codebook could carry at most", order=140),
    )

    def __init__(self, num_clips: int = 256, max_clips: int = 2048, batch: int = 32) -> None:
        super().__init__()
        self.num_clips = num_clips
        self.max_clips = max_clips
        self.batch = batch
        self.reset()

    @override
    def prepare(self, model: WorldModel) -> None:
        model.clip_buffer.require(self.num_clips)

    @override
    def reset(self) -> None:
        self.sample = ClipSample()
        self.latents = ClipSample(max(self.max_clips, self.num_clips))

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        output, clip = observation.bottleneck_output, observation.clip
        values = {"source": source_ids(clip.source)}
        if output.rate_bits is not None:
            values["bits"] = output.rate_bits.double()
            if output.codes is not None:
                values["codes"] = output.codes
        self.sample.add(clip.position, values)
        latents = {"z": output.z.float().flatten(2)}
        for length, shorter in model.bottleneck.truncations(observation.latent).items():
            latents[f"z@{length}"] = shorter.z.float().flatten(2)
            if shorter.codes is not None and shorter.rate_bits is not None:
                latents |= {f"codes@{length}": shorter.codes, f"bits@{length}": shorter.rate_bits.double()}
        self.latents.add(clip.position, latents)

    @override
    def compute(self, model: WorldModel) -> Results:
        positions, values = self.sample.gather()
        if not len(positions):
            return Results()
        fit = fit_half(values["source"])
        results = Results()
        if "codes" in values:
            results = discrete_bits(positions, values["codes"], values["bits"], fit)
        elif "bits" in values:
            nominal = values["bits"].mean(dim=1)
            results.metrics = {"bits_nominal": nominal.mean().item()}
            results.clips = {"bits_nominal": (positions, nominal)}
        latents = self.latents.gather()
        if not fit.all():
            self._operational(model, positions[fit], latents, results)
        elif reason := few_sources(values["source"]):
            results.skipped = f"bits that a code takes: {reason}"
        return results

    def _operational(
        self, model: WorldModel, for_fitting: Tensor, latents: tuple[Tensor, dict[str, Tensor]], results: Results
    ) -> None:
        """Add rate-error points, of coders fitted on the clips at some positions, to the results."""
        clips = model.clip_buffer.clips(self.num_clips)
        if clips is None:
            return
        fit = torch.isin(clips.position, for_fitting)
        if fit.all() or not fit.any():
            return
        known, new = (clips.take(_first_chosen(of, clips, most)) for of, most in ((fit, MAX_SENSITIVITY), (~fit, MAX_CODED)))
        coded = results.clips.get("bits_coded")
        unquantized, points = self._points(model, known, new, latents[1]["z"][torch.isin(latents[0], for_fitting)], coded)
        for length in truncations(latents[1]):
            of_clips, shorter = self._points_of_truncation(model, known, new, latents, for_fitting, length)
            results.clips[f"error@{length}"] = (new.position, of_clips)
            results.metrics[f"error@{length}"] = of_clips.mean().item()
            points += shorter
        position = new.position
        results.clips["unquantized"] = (position, unquantized)
        for i, point in enumerate(points):
            results.clips |= {f"point/{i:02}/bits": (position, point.bits), f"point/{i:02}/error": (position, point.error)}
        bits, errors = (np.array([x.mean().item() for x in xs]) for xs in ([p.bits for p in points], [p.error for p in points]))
        error = unquantized.mean().item()
        results.curves["points"] = [
            {"coder": p.coder, "bits": b, "rise": e - error, "error": e}
            for p, b, e in zip(points, bits.tolist(), errors.tolist(), strict=True)
        ]
        for rise in RISES:
            needed = operational_bits(bits, errors, error + rise / 100 * (errors[0] - error))
            if not math.isnan(needed):
                results.metrics[f"bits_own@{rise}"] = needed

    def _points(
        self,
        model: WorldModel,
        known: BufferedClips,
        new: BufferedClips,
        z: Tensor,
        coded: tuple[Tensor, Tensor] | None,
        grid: CoderGrid = FINE,
    ) -> tuple[Tensor, list[RatePoint]]:
        """Measure rate-error points of one latent.

        Args:
            model: The model.
            known: Clips that give the sensitivity.
            new: Clips that are coded.
            z: Latents that coders are fitted on, (n, T-1, L A).
            coded: Positions and bits of clips coded by the latent's own codes, where it has some.
            grid: How many points.

        Returns:
            The error of each coded clip with z as it is, and the points.
        """
        gradients = ClipPredictor(model, known, self.batch, self.autocast).gradients()
        predictor = ClipPredictor(model, new, self.batch, self.autocast)
        unquantized = predictor.error(new.z)
        points = list(rate_error_points(predictor, z.flatten(0, 1), gradients, unquantized, grid))
        if coded is not None:
            points.append(RatePoint("code", coded[1][torch.isin(coded[0], new.position)], unquantized))
        return unquantized, points

    def _points_of_truncation(
        self,
        model: WorldModel,
        known: BufferedClips,
        new: BufferedClips,
        latents: tuple[Tensor, dict[str, Tensor]],
        for_fitting: Tensor,
        length: int,
    ) -> tuple[Tensor, list[RatePoint]]:
        """Measure the same of latents that are cut to a length."""
        position, values = latents
        z, fit = values[f"z@{length}"], torch.isin(position, for_fitting)
        coded = None
        if f"codes@{length}" in values:
            bits = discrete_bits(position, values[f"codes@{length}"], values[f"bits@{length}"], fit)
            coded = bits.clips["bits_coded"]
        known, new = (replace(clips, z=z[torch.isin(position, clips.position)].view_as(clips.z)) for clips in (known, new))
        error, points = self._points(model, known, new, z[fit], coded, COARSE)
        return error, [replace(point, coder=f"{point.coder}@{length}") for point in points]


def truncations(latents: dict[str, Tensor]) -> list[int]:
    """Return the lengths, ascending, that latents by name were cut to."""
    return sorted(int(name.removeprefix("z@")) for name in latents if name.startswith("z@"))


def _first_chosen(chosen: Tensor, clips: BufferedClips, transitions: int) -> Tensor:
    """Return indices of the first chosen clips, (n,) bool, by position: so many transitions at most, two clips at least."""
    indices = chosen.nonzero()[: max(2, transitions // clips.z.shape[1]), 0]
    return indices[clips.position[indices].argsort()]
