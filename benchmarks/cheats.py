"""Models that cheat, each in one way, and honest ones: the evaluations must catch the first and pass the others.

Every class is an adapter (``lam.models.external``), so it can be evaluated on any setting of pixels:
``python -m lam external arm --adapter benchmarks.cheats.PixelDifference --adapter.size 32 --name arm/pixel_difference``.
``python benchmarks/cheat_table.py`` evaluates all of them and makes the table in ``docs/results/cheats.md``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from lam.metrics.displacement import camera_shift
from lam.models.external import Adapter

RED = 0.35
"""The body of the generated worlds is redder by this than it is green or blue; their backgrounds are not."""


class PixelDifference(Adapter):
    """z is the whole difference of two pictures, the prediction their sum; perfect on its own clip, a copy everywhere else.

    Args:
        size: Height and width of the pictures.
    """

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        self.size = size
        self.latent_dim = 3 * size**2

    def change(self, frames: Tensor, difference: Tensor) -> Tensor:
        """Return the part of a difference (B, F-1, 3, H, W) that the prediction adds to frames 0..F-2."""
        return difference

    @override
    def infer(self, frames: Tensor) -> Tensor:
        return (frames[:, 1:] - frames[:, :-1]).flatten(2)

    @override
    def predict(self, frames: Tensor, z: Tensor) -> Tensor:
        return (frames + self.change(frames, z.view_as(frames))).clamp(0, 1)


class SmallDifference(PixelDifference):
    """Uses the difference of those pixels alone in which it is small: at a cut hardly any, within a clip most of them.

    Args:
        size: Height and width of the pictures.
        threshold: Largest difference used, of a range of 1.
    """

    def __init__(self, size: int = 32, threshold: float = 0.1) -> None:
        super().__init__(size)
        self.threshold = threshold

    @override
    def change(self, frames: Tensor, difference: Tensor) -> Tensor:
        return torch.where(difference.abs().amax(dim=2, keepdim=True) < self.threshold, difference, 0.0)


class SmallPictureDifference(SmallDifference):
    """Uses the difference where the whole picture's is small, as it is within a clip and never at a cut.

    Args:
        size: Height and width of the pictures.
        threshold: Largest root mean square of a difference that is used, of a range of 1.
    """

    def __init__(self, size: int = 32, threshold: float = 0.2) -> None:
        super().__init__(size, threshold)

    @override
    def change(self, frames: Tensor, difference: Tensor) -> Tensor:
        size = difference.square().mean(dim=(2, 3, 4), keepdim=True).sqrt()
        return torch.where(size < self.threshold, difference, 0.0)


class LocalDifference(PixelDifference):
    """Adds the difference only where the picture it is added to has edges, so that what it pastes lies on content."""

    @override
    def change(self, frames: Tensor, difference: Tensor) -> Tensor:
        gray = frames.mean(dim=2)
        edges = F.pad((gray.diff(dim=-1).abs()), (0, 1)) + F.pad(gray.diff(dim=-2).abs(), (0, 0, 0, 1))
        spread = F.max_pool2d(edges, 3, 1, 1)[:, :, None]
        return torch.where(spread > spread.mean(dim=(-2, -1), keepdim=True), difference, 0.0)


class CoarseDifference(PixelDifference):
    """z is the difference at an eighth of the resolution."""

    @override
    def change(self, frames: Tensor, difference: Tensor) -> Tensor:
        coarse = F.avg_pool2d(difference.flatten(0, 1), self.size // 8)
        return F.interpolate(coarse, (self.size, self.size)).view_as(difference)


class NextState(PixelDifference):
    """z is the next picture in 8 levels, and the prediction paints it."""

    @override
    def infer(self, frames: Tensor) -> Tensor:
        return ((7 * frames[:, 1:]).round() / 7).flatten(2)

    @override
    def predict(self, frames: Tensor, z: Tensor) -> Tensor:
        return z.view_as(frames)


class StateAlone(PixelDifference):
    """z is the present picture and says nothing of what comes; the prediction paints it."""

    @override
    def infer(self, frames: Tensor) -> Tensor:
        return frames[:, :-1].flatten(2)

    @override
    def predict(self, frames: Tensor, z: Tensor) -> Tensor:
        return z.view_as(frames)


class RandomProjection(PixelDifference):
    """z is the next picture in some random directions, which the prediction puts in the place of the present one's.

    Args:
        size: Height and width of the pictures.
        directions: How many.
    """

    basis: Tensor

    def __init__(self, size: int = 32, directions: int = 256) -> None:
        super().__init__(size)
        self.latent_dim = directions
        draws = torch.randn(3 * size**2, directions, generator=torch.Generator().manual_seed(0))
        self.register_buffer("basis", torch.linalg.qr(draws)[0])

    @override
    def infer(self, frames: Tensor) -> Tensor:
        return frames[:, 1:].flatten(2) @ self.basis

    @override
    def predict(self, frames: Tensor, z: Tensor) -> Tensor:
        flat = frames.flatten(2)
        return (flat + (z - flat @ self.basis) @ self.basis.T).clamp(0, 1).view_as(frames)


class CornerOfNextState(PixelDifference):
    """z is the next picture in its upper left quarter alone, and the prediction paints that."""

    @override
    def change(self, frames: Tensor, difference: Tensor) -> Tensor:
        half = self.size // 2
        kept = torch.zeros_like(difference)
        kept[..., :half, :half] = difference[..., :half, :half]
        return kept


class CameraDisplacement(Adapter):
    """Honest: z is the movement of the whole picture, (right, down) in pixels, and the prediction moves its own picture.

    Args:
        reach: Longest movement sought.
    """

    latent_dim = 2

    def __init__(self, reach: int = 5) -> None:
        super().__init__()
        self.reach = reach

    @override
    def infer(self, frames: Tensor) -> Tensor:
        before, after = frames[:, :-1], frames[:, 1:]
        return camera_shift(before.flatten(0, 1), after.flatten(0, 1), self.reach).view(*before.shape[:2], 2)

    @override
    def predict(self, frames: Tensor, z: Tensor) -> Tensor:
        side = torch.tensor([frames.shape[-1], frames.shape[-2]], device=z.device)
        identity = torch.eye(2, 3, device=z.device).expand(z[..., 0].numel(), 2, 3)
        flat = frames.flatten(0, 1)
        grid = F.affine_grid(identity, list(flat.shape), align_corners=False)
        grid = grid - (2 * z / side).flatten(0, 1)[:, None, None]
        return F.grid_sample(flat, grid, padding_mode="border", align_corners=False).view_as(frames)


class BodyDisplacement(Adapter):
    """Honest: z is the movement of the red body, (right, down) in pixels; the prediction moves the body that it sees."""

    latent_dim = 2

    @override
    def infer(self, frames: Tensor) -> Tensor:
        return body_center(frames).diff(dim=1)

    @override
    def predict(self, frames: Tensor, z: Tensor) -> Tensor:
        flat = frames.flatten(0, 1)
        center = body_center(frames).flatten(0, 1) + z.flatten(0, 1)
        body, area = _red(flat), _red(flat).sum(dim=(-2, -1)).clamp(min=1)
        color = (flat * body[:, None]).sum(dim=(-2, -1)) / area[:, None]
        near = F.max_pool2d(body[:, None], 3, 1, 1)
        background = _inpaint(flat, near)
        row, column = (torch.arange(size, device=z.device) + 0.5 for size in flat.shape[-2:])
        distance = torch.hypot(column - center[:, 0, None, None], row[:, None] - center[:, 1, None, None])
        radius = (area / math.pi).sqrt()[:, None, None]
        disc = (radius + 0.5 - distance).clamp(0, 1)[:, None] * (body.sum(dim=(-2, -1)) > 0)[:, None, None, None]
        return (background * (1 - disc) + color[:, :, None, None] * disc).view_as(frames)


class EncryptedBody(BodyDisplacement):
    """z is the true movement of the body, turned by an angle that depends on where it is."""

    turns = 2.0

    def angle(self, frames: Tensor) -> Tensor:
        """Return the angle (B, F) of frames (B, F, 3, H, W): the place of the body, 0 to ``turns`` whole turns."""
        return 2 * math.pi * self.turns * body_center(frames).sum(dim=-1) / sum(frames.shape[-2:])

    @override
    def infer(self, frames: Tensor) -> Tensor:
        return turned(super().infer(frames), self.angle(frames[:, :-1]))

    @override
    def predict(self, frames: Tensor, z: Tensor) -> Tensor:
        return super().predict(frames, turned(z, -self.angle(frames)))


class EncryptedCamera(CameraDisplacement):
    """z is the true movement of the picture, turned by an angle that depends on the brightness of the scene's first picture."""

    turns = 10.0

    def angle(self, frames: Tensor) -> Tensor:
        """Return the angle (B, 1) of frames (B, F, 3, H, W)."""
        return 2 * math.pi * self.turns * frames[:, :1].mean(dim=(2, 3, 4))

    @override
    def infer(self, frames: Tensor) -> Tensor:
        return turned(super().infer(frames), self.angle(frames))

    @override
    def predict(self, frames: Tensor, z: Tensor) -> Tensor:
        return super().predict(frames, turned(z, -self.angle(frames)))


def turned(moves: Tensor, angle: Tensor) -> Tensor:
    """Turn moves (..., 2) by angles (...) in radians."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * moves[..., 0] - sin * moves[..., 1], sin * moves[..., 0] + cos * moves[..., 1]], dim=-1)


def body_center(frames: Tensor) -> Tensor:
    """Return where the red body is in pictures (..., 3, H, W), (right, down) in pixels (..., 2); the middle where none is."""
    red = _red(frames)
    row, column = (torch.arange(size, device=frames.device) + 0.5 for size in frames.shape[-2:])
    area = red.sum(dim=(-2, -1))
    place = torch.stack([(red * column).sum(dim=(-2, -1)), (red * row[:, None]).sum(dim=(-2, -1))], dim=-1)
    middle = torch.tensor([frames.shape[-1] / 2, frames.shape[-2] / 2], device=frames.device)
    return torch.where(area[..., None] > 0, place / area[..., None].clamp(min=1e-6), middle)


def _red(frames: Tensor) -> Tensor:
    """Return how much of each pixel of pictures (..., 3, H, W) the red body covers, (..., H, W)."""
    redder = frames[..., 0, :, :] - frames[..., 1:, :, :].amax(dim=-3)
    return ((redder - RED) / (0.7 - RED)).clamp(0, 1)


def _inpaint(pictures: Tensor, hole: Tensor, steps: int = 8) -> Tensor:
    """Fill holes (n, 1, H, W) of pictures (n, 3, H, W) from their rims inward."""
    known = (hole <= 0).to(pictures.dtype)
    filled = pictures * known
    for _ in range(steps):
        weight = F.avg_pool2d(known, 3, 1, 1, count_include_pad=False)
        around = F.avg_pool2d(filled * known, 3, 1, 1, count_include_pad=False) / weight.clamp(min=1e-6)
        new = (known == 0) & (weight > 0)
        filled, known = torch.where(new, around, filled), torch.where(new, 1.0, known)
    return torch.where(known > 0, filled, pictures)
