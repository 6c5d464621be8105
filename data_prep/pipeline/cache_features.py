"""The feature cache: a frozen encoder runs once over a set, and its states are stored in place of the pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from data_prep.pipeline.engine import Engine
from data_prep.pipeline.reader import list_stored_samples, load_image_index, read_samples, repeat_plan, repeat_spec
from data_prep.pipeline.run import write_set
from data_prep.shards.sample import Sample, SampleGenerator
from data_prep.sources.base import Recording, sha256
from lam.data.index import DataIndex
from lam.data.schema import FeatureInfo, Storage, aggregate_steps

if TYPE_CHECKING:  # preparation does not load the encoders; the command line resolves the name when it is asked for one
    from lam.encoders.frozen import FrozenEncoder

Precision = Literal["fp32", "bf16"]
_HOW_ONLY = ("source", "frames_at_once", "clips_at_once")
"""Attributes of encoders on which states do not depend: where the weights lie, how much is done together."""
_ABOUT_FILE = ("architectures", "dtype", "transformers_version")


class EncoderError(BaseException):
    """Failure of the encoder; no Exception, as those speak of damaged recordings, which are left out while the rest is done."""


class FeatureGenerator(SampleGenerator):
    """Generator of the states of stored samples; the encoder sees each sample whole, from its beginning.

    Args:
        index: The set.
        encoder: The encoder.
        device: Where it computes.
        precision: What it computes in.

    Raises:
        ValueError: The encoder does not fit the set, makes no numbers, or its states depend on later frames.
    """

    def __init__(self, index: DataIndex, encoder: FrozenEncoder, device: torch.device, precision: Precision) -> None:
        encoder.check_index(index)
        self.index, self.encoder, self.device, self.precision = index, encoder.to(device), device, precision
        self._check_past()

    @override
    def samples(self, recording: Recording, drop: Callable[[str], None]) -> Iterator[Sample]:
        """Yield states of the samples of a recording; their times are those of the last frame that each has seen."""
        each = self.encoder.frames_per_state
        for sample in read_samples(self.index, recording):
            last = np.arange(each - 1, len(sample.times), each)
            if len(last) < 2:
                drop(f"fewer than two states of {each} frames")
                continue
            aggregations = {name: self.index.factors[name].aggregation for name in sample.factors}
            yield dataclasses.replace(
                sample,
                frames=self._states(sample.frames[: len(last) * each]),
                times=sample.times[last],
                actions=None
                if sample.actions is None
                else aggregate_steps(sample.actions, last, self.index.action_aggregations),
                factors={name: aggregate_steps(steps, last, aggregations[name]) for name, steps in sample.factors.items()},
            )

    def _states(self, frames: np.ndarray) -> np.ndarray:
        """Return states (T, N, D), the bits of bfloat16, of pixels (F, H, W, 3)."""
        try:
            states = self.encode(torch.from_numpy(frames).permute(0, 3, 1, 2)).to(torch.bfloat16).cpu()
        except Exception as error:
            raise EncoderError from error
        return states.view(torch.int16).numpy().view(np.uint16)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Return states (T, N, D) of frames (F, 3, H, W)."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            states: Tensor = self.encoder(frames[None].to(self.device))[0]
        if not states.isfinite().all():
            raise ValueError(f"{self.encoder.source} makes states that are infinite or not a number. Are its weights damaged?")
        return states

    def _check_past(self) -> None:
        """Check that no state depends on later frames: training, which sees states only, could not notice."""
        size = (4 * self.encoder.frames_per_state, 3, self.index.height, self.index.width)
        frames = torch.randint(0, 256, size, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        later = frames.clone()
        later[len(frames) // 2 :] = 255 - later[len(frames) // 2 :]
        before, after = self.encode(frames)[:2], self.encode(later)[:2]
        if not torch.allclose(before, after, rtol=0, atol=1e-5 * before.std().item()):
            raise ValueError(f"States of {type(self.encoder).__name__} depend on later frames, so they tell the future.")


def features(
    shards: Path,
    out: Path,
    *,
    encoder: FrozenEncoder,
    device: str = "auto",
    precision: Precision = "fp32",
    part: str | None = None,
) -> int:
    """Run a frozen encoder once over a set and store its states, from which training then reads (encoder Cached).

    Keys, splits, times, actions and factors stay. A state sees its sample from the beginning: for encoders that see frame by
    frame (Vision, Autoencoder) that changes nothing; VJEPA knows more of the past than in training on pictures, where a
    window's first state has none, and needs memory for a whole sample at once. Where several frames make a state, it has the
    time of the last one, and steps are joined as the set says.

    Args:
        shards: Folder of the set.
        out: Folder for the states: new, or of the same command before, which then goes on.
        encoder: A class with learned weights, as Vision with --encoder.path_or_name DIR, or a file of experiments/encoders.
        device: Where the encoder computes, such as cpu or cuda:1; auto takes an accelerator if there is one.
        precision: What the encoder computes in: fp32, or bf16 (autocast), which is several times faster on most accelerators.
            States are stored in bfloat16 either way.
        part: Which of how many parts to do, for example 3/16, on a device each; when all are done the same command without
            it ends the work.

    Returns:
        Exit code: 3 if something could not be read and was left out, else 0.
    """
    index = load_image_index(shards)
    generator = FeatureGenerator(index, encoder, pick_device(device), precision)
    info = feature_info(encoder, precision, index)
    rows, columns = encoder.grid
    spec = dataclasses.replace(repeat_spec(index), height=rows, width=columns, storage=Storage.states, features=info)
    listing = list_stored_samples(index)
    settings = {"source": "features", "fingerprint": info.fingerprint, "shards": index.digest, "made_with": index.settings}
    try:
        return write_set(
            out, generator, spec, listing, lambda: repeat_plan(index, listing, generator), settings, Engine(jobs=1, part=part)
        )
    except EncoderError as error:
        assert error.__cause__ is not None
        raise error.__cause__ from None


def pick_device(name: str) -> torch.device:
    """Return a device by its name; auto is the accelerator, or the CPU where there is none."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return (found or torch.device("cpu")) if name == "auto" else torch.device(name)


def feature_info(encoder: FrozenEncoder, precision: Precision, index: DataIndex) -> FeatureInfo:
    """Return what the index of a cache says of its encoder."""
    kind = type(encoder)
    if not getattr(encoder, "digest", ""):  # caches of other weights would pass for the same
        raise ValueError(f"{kind.__name__} has no digest. Set self.digest = hash_weights(...), from lam.encoders.frozen.")
    plain = {name: value for name, value in vars(encoder).items() if name[0] != "_" and name != "training" and _is_plain(value)}
    settings = json.loads(json.dumps({**plain, "frames_per_state": encoder.frames_per_state, "precision": precision}))
    decides = {name: value for name, value in settings.items() if name not in _HOW_ONLY}
    identity = [kind.__qualname__, decides, _buffers(encoder), _architecture(encoder)]
    return FeatureInfo(
        fingerprint=sha256(json.dumps(identity, sort_keys=True)),
        encoder={"class_path": f"{kind.__module__}.{kind.__qualname__}", **settings},
        dim=encoder.dim,
        frames_per_state=encoder.frames_per_state,
        shards=index.digest,
    )


def _is_plain(value: object) -> bool:
    with contextlib.suppress(TypeError):
        json.dumps(value)
        return True
    return False


def _buffers(encoder: FrozenEncoder) -> dict[str, str]:
    """Return hashes of what ``digest`` does not cover, such as the statistics of colors."""
    own = {name: value for name, value in encoder.named_buffers() if not name.startswith("backbone.")}
    return {name: hashlib.sha256(value.cpu().numpy().tobytes()).hexdigest() for name, value in own.items()}


def _architecture(encoder: FrozenEncoder) -> dict[str, Any]:
    """Return settings of a transformer that its weights do not show, such as its number of heads."""
    from lam.encoders.pretrained import PretrainedEncoder

    if not isinstance(encoder, PretrainedEncoder):
        return {}
    config = encoder.backbone.config.to_diff_dict()  # type: ignore[operator, union-attr]  # modules' attributes have no types
    return {name: value for name, value in config.items() if name[0] != "_" and name not in _ABOUT_FILE}
