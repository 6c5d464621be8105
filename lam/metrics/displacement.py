"""Displacement between two pictures, of a body around a known point or of the whole view by the camera, and its scores.

Both measurements search whole pixels, then refine by Gauss-Newton steps between them. They return (right, down) in pixels, 0
where nothing changed. ``main_direction`` asks less: which way most of what moved went, whatever it was and wherever.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

EXPLAINED = 0.4
"""Share of the mismatch of no movement that a body's movement must explain, if it is more than a pixel. There is always
something nearby that looks a little more like the body than what is now where it was."""

OUTLIER = 0.05
"""Difference in brightness from which a pixel counts as something that moved by itself when the camera's movement is sought."""


def body_shift(before: Tensor, after: Tensor, center: Tensor, radius: int, reach: int) -> Tensor:
    """Measure the movement of what is around a point, (n, 2), from pictures before to pictures after, each (n, 3, h, w).

    Template matching: the disc of one picture around the point is sought in the other by its sum of squared differences. A
    body that a prediction shows blurred or pale is found where most of it is; one that appears several times, where it is
    most like itself; one that vanishes, or pales to less than a third, counts as not moved, to a pixel (``EXPLAINED``).

    Args:
        before: Pictures before.
        after: Pictures after.
        center: Points (right, down) in pixels from the upper left corner, (n, 2).
        radius: Radius of the disc.
        reach: How far to look along each axis.
    """
    corner = torch.tensor([before.shape[-1] - 1, before.shape[-2] - 1], device=before.device)
    pixel = center.floor().long().clamp(min=torch.zeros_like(corner), max=corner)  # pixel i spans i to i + 1
    disc = _grid(radius, device=before.device)
    points = pixel[:, None] + disc
    inside = ((points >= 0) & (points <= corner)).all(dim=-1) & (disc.square().sum(dim=-1) <= radius**2)
    weight = inside.to(before.dtype)[:, None]  # (n, 1, m)
    template = _window(before, pixel, radius).flatten(2)

    def search(start: Tensor, far: int, step: int) -> Tensor:
        """Find the best of the moves (n, 2) around a start, some pixels apart."""
        window = _window(after, pixel + start, radius + far)
        side = 2 * radius + 1
        best, lowest = start, torch.full_like(unmoved, torch.inf)
        for right, down in _nearest_first(far, step):
            seen = window[:, :, far + down : far + down + side, far + right : far + right + side].flatten(2)
            move = start + torch.tensor([right, down], device=start.device)
            cost = (weight * (seen - template).square()).sum(dim=(1, 2))
            better = (cost < lowest) & ((cost <= (1 - EXPLAINED) * unmoved) | (move == 0).all(dim=1))
            better &= ((pixel + move >= 0) & (pixel + move <= corner)).all(dim=1)
            best, lowest = torch.where(better[:, None], move, best), torch.where(better, cost, lowest)
        return best

    unmoved = (weight * (_window(after, pixel, radius).flatten(2) - template).square()).sum(dim=(1, 2))
    step = max(1, radius // 3)  # the disc still overlaps itself by far
    best = search(torch.zeros_like(pixel), reach // step * step, step)
    best = search(best, step - 1, 1) if step > 1 else best
    return _refine(after, template, points, lambda difference: weight, best)


def camera_shift(before: Tensor, after: Tensor, reach: int) -> Tensor:
    """Measure the movement of most of the picture, (n, 2), from pictures before to pictures after, each (n, 3, h, w).

    The part of a picture that stays in view is sought in the other by its mean absolute difference, cut off at ``OUTLIER``,
    so that bodies that move by themselves do not count for more than their area. Phase correlation, which weighs every
    wave alike, follows their edges instead where the background is smooth: on the generated world ``wild`` it is off by
    more than 3 pixels in the median.

    Args:
        before: Pictures before.
        after: Pictures after.
        reach: How far to look along each axis, less than half of the picture.
    """
    height, width = before.shape[-2:]
    stride = max(1, min(height, width) // 32)
    rows, columns = (torch.arange(reach, size - reach, stride, device=before.device) for size in (height, width))
    points = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1).expand(len(before), -1, -1)
    template = before[:, :, rows[:, None], columns]
    best = torch.zeros(len(before), 2, dtype=torch.int64, device=before.device)
    lowest = torch.full((len(before),), torch.inf, dtype=before.dtype, device=before.device)
    for right, down in _nearest_first(reach, 1):
        seen = after[:, :, reach + down : height - reach + down : stride, reach + right : width - reach + right : stride]
        cost = (seen - template).abs().mean(dim=1).clamp(max=OUTLIER).mean(dim=(-2, -1))
        move = torch.tensor([right, down], device=before.device)
        better = cost < lowest
        best, lowest = torch.where(better[:, None], move, best), torch.where(better, cost, lowest)

    def weigh(difference: Tensor) -> Tensor:
        return 1 / (1 + (difference / OUTLIER).square().mean(dim=1, keepdim=True))

    return _refine(after, template.flatten(2), points, weigh, best)


def main_direction(before: Tensor, after: Tensor) -> Tensor:
    """Fit one movement to what changed, (n, 2), from pictures before to pictures after, each (n, 3, h, w).

    Least squares of the optical flow constraint over the whole picture, slightly blurred
    (https://www.ijcai.org/Proceedings/81-2/Papers/017.pdf, with one window). Where part of the picture moves, the direction is
    that part's and the length is too short, since all that rests votes for no movement; so lengths are not comparable
    between pictures.

    Args:
        before: Pictures before.
        after: Pictures after.
    """
    before, after = (F.avg_pool2d(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), 3, 1) for x in (before, after))
    middle, change = (before + after) / 2, (after - before)[..., 1:-1, 1:-1]
    slopes = torch.stack(
        [middle[..., 1:-1, 2:] - middle[..., 1:-1, :-2], middle[..., 2:, 1:-1] - middle[..., :-2, 1:-1]], dim=-1
    )
    slopes = (slopes / 2).flatten(1, 3)  # (n, 3 h w, 2)
    curvature = torch.einsum("nmi,nmj->nij", slopes, slopes)
    # a plain picture has no slope, and then no movement
    ridge = 1e-3 * curvature.diagonal(dim1=1, dim2=2).sum(dim=1) + 1e-3
    curvature = curvature + ridge[:, None, None] * torch.eye(2, dtype=slopes.dtype, device=slopes.device)
    move: Tensor = torch.linalg.solve(curvature, -torch.einsum("nmi,nm->ni", slopes, change.flatten(1)))
    return move


def _refine(
    picture: Tensor, template: Tensor, points: Tensor, weigh: Callable[[Tensor], Tensor], start: Tensor, steps: int = 6
) -> Tensor:
    """Find the move (n, 2), within a pixel of a start, for which the picture at points (n, m, 2) is most like the template.

    Args:
        picture: Pictures (n, 3, h, w).
        template: Colors at the points in the other picture, (n, 3, m).
        points: Pixels (right, down).
        weigh: Weights (n, 1, m) of points, given differences (n, 3, m).
        start: Moves at whole pixels, (n, 2).
        steps: Gauss-Newton steps.
    """
    points, begin = points.to(picture.dtype), start.to(picture.dtype)
    half = 0.5 * torch.eye(2, dtype=points.dtype, device=points.device)

    def difference(move: Tensor) -> Tensor:
        return _sample(picture, points + move[:, None]) - template

    shift = begin
    for _ in range(steps):
        now = difference(shift)
        slope = torch.stack([difference(shift + h) - difference(shift - h) for h in half], dim=-1)  # (n, 3, m, 2)
        weighted = weigh(now)[..., None] * slope
        gradient = (weighted * now[..., None]).sum(dim=(1, 2))
        curvature = torch.einsum("ncmi,ncmj->nij", weighted, slope)
        # a plain area has no slope, and then no step
        ridge = 1e-3 * curvature.diagonal(dim1=1, dim2=2).sum(dim=1) + 1e-9
        step = torch.linalg.solve(curvature + 2 * ridge[:, None, None] * half, gradient)
        shift = begin + (shift - step - begin).clamp(-1, 1)
    # a whole pixel away from the start it follows something else
    return torch.where(((shift - begin).abs() < 1).all(dim=1, keepdim=True), shift, begin)


def _nearest_first(reach: int, step: int) -> list[tuple[int, int]]:
    """List moves (right, down) some pixels apart, the shortest first, so that they win ties."""
    steps = range(-reach, reach + 1, step)
    return sorted(((right, down) for right in steps for down in steps), key=lambda move: move[0] ** 2 + move[1] ** 2)


def _grid(radius: int, device: torch.device) -> Tensor:
    """List pixels (right, down) of a square around the origin, row by row, (m, 2)."""
    offsets = torch.arange(-radius, radius + 1, device=device)
    return torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), dim=-1).flatten(0, 1)


def _window(pictures: Tensor, pixel: Tensor, radius: int) -> Tensor:
    """Cut squares (n, 3, k, k) out of pictures around pixels (n, 2); the border is repeated outside."""
    offsets = torch.arange(-radius, radius + 1, device=pictures.device)
    columns, rows = (
        (pixel[:, axis, None] + offsets).clamp(0, size - 1)
        for axis, size in enumerate((pictures.shape[-1], pictures.shape[-2]))
    )
    n = torch.arange(len(pictures), device=pictures.device)[:, None, None]
    return pictures.movedim(1, -1)[n, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _sample(pictures: Tensor, points: Tensor) -> Tensor:
    """Sample colors (n, 3, m) of pictures (n, 3, h, w) at points (n, m, 2), bilinear; the border is repeated outside."""
    size = torch.tensor([pictures.shape[-1], pictures.shape[-2]], dtype=points.dtype, device=points.device)
    grid = (2 * points + 1) / size - 1
    return F.grid_sample(pictures, grid[:, None], padding_mode="border", align_corners=False)[:, :, 0]


def regression_slope(induced: Tensor, true: Tensor) -> float | None:
    """Regress induced on true movements, each (n, 2), through the origin, both axes as one; None where no true one is there."""
    squared = true.square().sum()
    return ((induced * true).sum() / squared).item() if squared > 0 else None


def direction_error(induced: Tensor, true: Tensor, threshold: float) -> float | None:
    """Compute the mean angle in degrees between induced and true movements, each (n, 2), where the true one is this long.

    A movement that was not induced at all has no direction and counts as 90, the mean by chance.

    Returns:
        Degrees; None where no true movement is long enough.
    """
    long = true.norm(dim=1) >= threshold
    if not long.any():
        return None
    induced, true = induced[long].double(), true[long].double()
    lengths = induced.norm(dim=1) * true.norm(dim=1)
    cosine = (induced * true).sum(dim=1) / lengths.clamp(min=1e-6)
    return torch.rad2deg(cosine.clamp(-1, 1).acos()).mean().item()
