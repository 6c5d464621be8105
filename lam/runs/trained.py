"""A trained model in use: from video to latent actions, and from latent actions to what they lead to."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from lam.bottlenecks.base import BottleneckOutput
from lam.data.resize import Fit, SquareResizer, check_aspect, check_video, resize_pictures
from lam.encoders.cached import Cached
from lam.models.base import WorldModel


class VideoLabels(NamedTuple):
    """Latent actions of a video, one for each transition between states; of a batch with B in front.

    Attributes:
        z: What the bottleneck lets through, (T-1, L, A) float32.
        codes: Integers (T-1, C) where latent actions are discrete.
        bits: Bits of each transition, (T-1,), where the bottleneck has a finite rate.
    """

    z: Tensor
    codes: Tensor | None
    bits: Tensor | None


class ImaginedVideo(NamedTuple):
    """What a model expects to see, one picture a state; of a batch with B in front.

    Attributes:
        frames: Pictures (T, H, W, 3) uint8. Of encoders that cannot be undone they show three directions of the features.
        states: States (T, N, D) float32.
    """

    frames: Tensor
    states: Tensor


class TrainedModel:
    """A trained model in use; what ``lam.load`` returns.

    It stays in eval mode, so that equal video gives equal labels, and computes in float32 without gradients. Video is
    (F, H, W, 3) uint8, a numpy array or a tensor, or a batch of equally long ones, (B, F, H, W, 3). Its frames lie as far
    apart in time as those the model was trained on: the frame rate of its shards divided by ``stride``. Pictures of another
    size are resized as data_prep does it; what is returned lies on the CPU.

    Attributes:
        world: The model itself, with its encoder, bottleneck and all else.
        frames: Frames of the windows it was trained on; it never looks at more of them at once.
        stride: Every how many frames of its shards one was taken.
        image_size: Height and width in pixels of the pictures it sees.
        frames_per_state: Frames that make one state.

    Args:
        world: The model.
        frames: Frames of the windows it was trained on.
        stride: Every how many frames of its shards one was taken.
    """

    def __init__(self, world: WorldModel, frames: int, stride: int = 1) -> None:
        self.world = world.requires_grad_(False).eval()
        self.frames, self.stride = frames, stride
        self.image_size, self.frames_per_state = world.encoder.image_size, world.encoder.frames_per_state

    def __repr__(self) -> str:
        latent = f"{self.world.bottleneck.num_latents} x {self.world.bottleneck.dim}"
        return (
            f"TrainedModel({type(self.world.encoder).__name__}, {type(self.world.bottleneck).__name__}: video of "
            f"{self.image_size} x {self.image_size} pixels, {self.frames_per_state} frames a state, z of {latent})"
        )

    def to(self, device: torch.device | str) -> TrainedModel:
        """Move the model to a device and return it."""
        self.world.to(device)
        return self

    @torch.no_grad()
    def encode(self, video: np.ndarray | Tensor, fit: Fit | None = None) -> Tensor:
        """Encode video, all of it at once, into states.

        Args:
            video: (F, H, W, 3) uint8 with F = T * frames_per_state, or a batch (B, F, H, W, 3).
            fit: How pictures that are not square become squares: "crop" or "pad", as in the model's data.

        Returns:
            States (T, N, D), of a batch (B, T, N, D).

        Raises:
            TypeError: The video is no array.
            ValueError: The video has another type, layout or range.
        """
        pixels, batched = self._check(video, fit, least_states=1)
        states = self._encode(np.stack([self._resize(clip, fit) for clip in pixels])).cpu()
        return states if batched else states[0]

    @torch.no_grad()
    def label(self, video: np.ndarray | Tensor, fit: Fit | None = None, at_once: int = 64) -> VideoLabels:
        """Infer the latent actions of video.

        A video longer than the training windows is seen through windows of that length that share one state, as
        ``lam predict`` sees it: memory does not grow with the video, and labels do not depend on ``at_once``.

        Args:
            video: (F, H, W, 3) uint8 with F = T * frames_per_state and T at least 2, or a batch (B, F, H, W, 3).
            fit: How pictures that are not square become squares: "crop" or "pad", as in the model's data.
            at_once: Windows that go through the model together; bounds the memory.

        Raises:
            TypeError: The video is no array, or the model takes its latents from recorded actions.
            ValueError: The video has another type, layout or range, or is too short.
        """
        pixels, batched = self._check(video, fit, least_states=2)
        each, window = self.frames_per_state, self.frames // self.frames_per_state
        num_states = pixels.shape[1] // each
        spans = [(first, min(first + window, num_states)) for first in range(0, num_states - 1, window - 1)]
        places = [(clip, first, last) for clip in range(len(pixels)) for first, last in spans]
        places.sort(key=_length)  # stable, and only windows of one length fit into one batch
        found: dict[tuple[int, int], VideoLabels] = {}
        for _, equally_long in groupby(places, key=_length):
            group = list(equally_long)
            for chunk in (group[i : i + at_once] for i in range(0, len(group), at_once)):
                windows = np.stack([self._resize(pixels[clip, first * each : last * each], fit) for clip, first, last in chunk])
                output = self.world.apply_bottleneck(self.world.infer(self._encode(windows)))
                for (clip, first, _), labels in zip(chunk, _rows(output), strict=True):
                    found[clip, first] = labels
        joined = [_join([found[clip, first] for first, _ in spans], torch.cat) for clip in range(len(pixels))]
        return _join(joined, torch.stack) if batched else joined[0]

    @torch.no_grad()
    def imagine(self, video: np.ndarray | Tensor, z: np.ndarray | Tensor, fit: Fit | None = None) -> ImaginedVideo:
        """Predict how a video goes on under given latent actions, each prediction fed back as the next input.

        z counts from the first of the given states, as ``label`` returns it: z[t] leads from state t to state t + 1. With
        P given states the first P - 1 latents lie between them, and the T - P that follow are imagined.

        Args:
            video: The given frames, (P * frames_per_state, H, W, 3) uint8 with P at least 1, or a batch of them.
            z: (T-1, L, A) with T - 1 at least P, or a batch (B, T-1, L, A): from ``label``, from ``sample_prior``, or edited.
            fit: How pictures that are not square become squares: "crop" or "pad".

        Returns:
            Pictures and states of the T - P states that follow the given ones.

        Raises:
            TypeError: Something is no array.
            ValueError: Something has another type or shape.
        """
        pixels, batched = self._check(video, fit, least_states=1)
        latents = self._check_latents(z, pixels, batched)
        # no more states than the model was trained to look back at, as far as there were any
        each, context = self.frames_per_state, max(1, self.frames // self.frames_per_state - 1)
        skipped = max(0, pixels.shape[1] // each - context)
        recent, latents = pixels[:, skipped * each :], latents[:, skipped:]
        states = self._encode(np.stack([self._resize(clip, fit) for clip in recent]))
        given = states.shape[1]
        for end in range(given, latents.shape[1] + 1):
            begin = max(0, end - context)
            following = self.world.predict(states[:, begin:end], latents[:, begin:end])[:, -1:]
            states = torch.cat([states, following.to(states.dtype)], dim=1)
        imagined = states[:, given:]
        pictures = (255 * self.world.encoder.to_image(imagined)).round().to(torch.uint8).movedim(-3, -1)
        result = ImaginedVideo(pictures.cpu(), imagined.cpu())
        return result if batched else ImaginedVideo(*(part[0] for part in result))

    @torch.no_grad()
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n latent actions, (n, L, A), from what the bottleneck believes before seeing anything."""
        return self.world.bottleneck.sample_prior(n, generator).cpu()

    # ------------------------------------------------------------------ from pixels to states

    def _check(self, video: np.ndarray | Tensor, fit: Fit | None, least_states: int) -> tuple[np.ndarray, bool]:
        """Check video and return it as (B, F, H, W, 3), and whether it was a batch."""
        if isinstance(self.world.encoder, Cached):
            info = self.world.encoder.features.encoder
            raise ValueError(
                f"This model was trained on cached states of {info['class_path']} from {info['source']} and sees no "
                "pictures. Run that encoder over the video (data_prep features) and label its states with lam predict, or "
                "train on the pictures with that encoder as model.encoder."
            )
        pixels = check_video(video)
        num_frames, each = pixels.shape[-4], self.frames_per_state
        if num_frames < least_states * each:
            raise ValueError(
                f"Got video of {num_frames} frames, expected {least_states * each} or more: {least_states} states of {each} "
                "frames each."
            )
        if num_frames % each:
            raise ValueError(
                f"Got video of {num_frames} frames, expected a multiple of {each}, as {each} frames make a state. Leave the "
                f"last frames out: video[:{num_frames - num_frames % each}]."
            )
        check_aspect(pixels.shape[-3], pixels.shape[-2], self.image_size, fit)
        batched = pixels.ndim == 5
        return pixels if batched else pixels[None], batched

    def _check_latents(self, z: np.ndarray | Tensor, pixels: np.ndarray, batched: bool) -> Tensor:
        """Check latents for given frames (B, F, H, W, 3) and return them as (B, T-1, L, A) on the model's device."""
        if not isinstance(z, np.ndarray | Tensor):
            raise TypeError(f"Got a {type(z).__name__} for z, expected a tensor: model.label(video).z.")
        latents = torch.as_tensor(z)
        layout = (self.world.bottleneck.num_latents, self.world.bottleneck.dim)
        shape = tuple(latents.shape)
        if latents.ndim != 3 + batched or shape[-2:] != layout or (batched and len(latents) != len(pixels)):
            sizes = f"({len(pixels)}, T-1, {layout[0]}, {layout[1]})" if batched else f"(T-1, {layout[0]}, {layout[1]})"
            raise ValueError(f"Got z of shape {shape}, expected {sizes} for this video, as model.label returns it.")
        if not latents.is_floating_point():
            raise ValueError(f"Got z of type {latents.dtype}, expected floating point: z itself, not its codes.")
        given = pixels.shape[1] // self.frames_per_state
        if shape[-3] < given:
            raise ValueError(
                f"Got {given} states of video and {shape[-3]} latents; the first {given - 1} lie between those states, so "
                f"nothing is left to imagine. Give {given} latents or more, or fewer frames."
            )
        latents = latents if batched else latents[None]
        return latents.to(device=self.world.device, dtype=torch.float32)

    def _resize(self, pictures: np.ndarray, fit: Fit | None) -> np.ndarray:
        """Squares (n, S, S, 3) of pictures (n, H, W, 3)."""
        return resize_pictures(pictures, SquareResizer(self.image_size, fit or "crop"))

    def _encode(self, squares: np.ndarray) -> Tensor:
        """States (B, T, N, D) of squares (B, F, S, S, 3)."""
        frames = torch.from_numpy(squares).movedim(-1, -3).contiguous()
        states: Tensor = self.world.encoder(frames.to(self.world.device))
        return states


def _length(place: tuple[int, int, int]) -> int:
    """Number of states of a window (clip, first, last)."""
    return place[2] - place[1]


def _rows(output: BottleneckOutput) -> list[VideoLabels]:
    """Split what the bottleneck returned into clips."""
    z, codes, bits = output.z.cpu(), output.codes, output.rate_bits
    codes, bits = None if codes is None else codes.cpu(), None if bits is None else bits.cpu()
    return [VideoLabels(z[i], None if codes is None else codes[i], None if bits is None else bits[i]) for i in range(len(z))]


def _join(parts: list[VideoLabels], join: Callable[[list[Tensor]], Tensor]) -> VideoLabels:
    """Join windows of a clip in time (``torch.cat``), or clips to a batch (``torch.stack``)."""
    codes = [part.codes for part in parts if part.codes is not None]
    bits = [part.bits for part in parts if part.bits is not None]
    return VideoLabels(join([part.z for part in parts]), join(codes) if codes else None, join(bits) if bits else None)
