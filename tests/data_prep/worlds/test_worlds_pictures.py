"""Generated worlds: what is recorded is what the pictures show."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from data_prep.worlds.clip import make_clip
from data_prep.worlds.passive import BALL_COLOR, ENTRANCE_COLORS, ENTRANCE_RADIUS, ENTRANCE_ROWS
from data_prep.worlds.settings import EMBODIMENTS, WorldSettings
from tests.tiny import world_settings

PLAIN = WorldSettings(size=32, frames=6)
BACKGROUND = 128


def centroids(frames):
    """Center of all that differs from the plain background, in pixels, (F, 2): right, down."""
    weight = np.abs(frames.astype(float) - BACKGROUND).sum(axis=3)
    places = np.arange(frames.shape[1]) + 0.5
    total = weight.sum(axis=(1, 2))
    return np.stack([weight.sum(axis=1) @ places / total, weight.sum(axis=2) @ places / total], axis=1)


def vectors(clip, name):
    return np.stack([clip.factors[f"{name}_dx"], clip.factors[f"{name}_dy"]], axis=1)


@pytest.mark.parametrize("body", range(len(EMBODIMENTS)))
@pytest.mark.parametrize("step", [0.05, 0.4])
def test_agent_displacement_is_that_of_the_picture(body, step):
    settings = replace(PLAIN, embodiments=len(EMBODIMENTS), step=step, locations=True)
    clips = [make_clip(settings, 0, 0, i) for i in range(25)]
    clips = [clip for clip in clips if clip.factors["agent_body"][0] == body]
    assert len(clips) > 3
    for clip in clips:
        seen = centroids(clip.frames)
        np.testing.assert_allclose(np.diff(seen, axis=0), vectors(clip, "agent"), atol=0.15)
        places = np.stack([clip.factors["agent_x"], clip.factors["agent_y"]], axis=1)
        np.testing.assert_allclose(seen[:-1] - places, (seen[0] - places[0])[None].repeat(5, axis=0), atol=0.15)
        full_step = EMBODIMENTS[body].gain * step * settings.size
        np.testing.assert_allclose(clip.actions * full_step, vectors(clip, "agent"), rtol=1e-5, atol=1e-5)


def test_agents_stay_inside_walls_and_the_executed_command_is_recorded():
    settings = replace(PLAIN, step=0.5, frames=20, locations=True)
    for i in range(5):
        clip = make_clip(settings, 0, 0, i)
        x = clip.factors["agent_x"] / settings.size
        radius = EMBODIMENTS[0].radius
        assert x.min() >= radius - 1e-6 and x.max() <= 1 - radius + 1e-6
        assert (np.isclose(x, radius, atol=1e-6) | np.isclose(x, 1 - radius, atol=1e-6)).any()  # a wall was met
        np.testing.assert_allclose(np.diff(x), clip.actions[:-1, 0] * settings.step, atol=1e-5)


def test_pan_by_whole_pixels_shifts_the_picture_exactly():
    settings = WorldSettings(size=32, agents=0, pan=2 / 32, num_moves=5, texture_cells=32)
    for i in range(10):
        clip = make_clip(settings, 0, 0, i)
        for t, (dx, dy) in enumerate(vectors(clip, "pan").round().astype(int)):
            before, after = clip.frames[t], clip.frames[t + 1]
            kept = after[max(-dy, 0) : 32 - max(dy, 0), max(-dx, 0) : 32 - max(dx, 0)]
            assert np.array_equal(kept, before[max(dy, 0) : 32 + min(dy, 0), max(dx, 0) : 32 + min(dx, 0)])
            assert (dx, dy) == (0, 0) or not np.array_equal(before, after)


def test_continuous_pan_is_the_shift_found_by_least_squares():
    settings = WorldSettings(size=48, frames=4, agents=0, pan=0.06, texture_cells=6)
    for i in range(4):
        clip = make_clip(settings, 0, 0, i)
        gray = clip.frames.astype(float).mean(axis=3)
        for t, pan in enumerate(vectors(clip, "pan")):
            np.testing.assert_allclose(measured_shift(gray[t], gray[t + 1]), pan, atol=0.1)


def measured_shift(before, after, margin=6):
    """Shift d with after(x) = before(x + d), by Gauss-Newton on squared differences away from the borders."""
    rows, columns = np.mgrid[margin : len(before) - margin, margin : len(before) - margin].astype(float)
    target = after[margin:-margin, margin:-margin]
    shift = np.zeros(2)
    for _ in range(10):
        at = [rows + shift[1], columns + shift[0]]
        slope = [
            (map_coordinates(before, [at[0], at[1] + h]), map_coordinates(before, [at[0] + h, at[1]])) for h in (-0.5, 0.5)
        ]
        jacobian = np.stack([(slope[1][k] - slope[0][k]).ravel() for k in (0, 1)], axis=1)
        shift += np.linalg.lstsq(jacobian, (target - map_coordinates(before, at)).ravel(), rcond=None)[0]
    return shift


def test_agent_displacement_is_over_the_ground_when_the_camera_moves():
    settings = replace(PLAIN, pan=0.05)
    for i in range(10):
        clip = make_clip(settings, 0, 0, i)
        moved = np.diff(centroids(clip.frames), axis=0)
        np.testing.assert_allclose(moved, vectors(clip, "agent") - vectors(clip, "pan"), atol=0.15)
        np.testing.assert_allclose(clip.actions[:, 2:] * 0.05 * 32, vectors(clip, "pan"), rtol=1e-5)


def test_balls_keep_their_velocity():
    settings = replace(PLAIN, agents=0, balls=1, frames=5)
    measured = 0
    for i in range(30):
        clip = make_clip(settings, 0, 0, i)
        velocity = vectors(clip, "ball")
        assert (velocity == velocity[0]).all() and clip.actions is None
        white = np.abs(clip.frames.astype(float) - BACKGROUND).sum(axis=3)
        border = np.concatenate([white[:, 0], white[:, -1], white[:, :, 0], white[:, :, -1]], axis=1).sum(axis=1)
        if border.max() == 0 and white.sum(axis=(1, 2)).min() > 0:  # whole in every frame
            np.testing.assert_allclose(np.diff(centroids(clip.frames), axis=0), velocity, atol=0.1)
            measured += 1
    assert measured > 5
    assert BALL_COLOR[0] > 0.9


def test_something_enters_exactly_where_it_is_recorded():
    settings = replace(PLAIN, size=64, entrances=1.0, texture_cells=4)
    for i in range(25):
        clip = make_clip(settings, 0, 0, i)
        without = make_clip(replace(settings, entrances=0.0), 0, 0, i)
        new = (clip.frames != without.frames).any(axis=3)  # (F, 64, 64)
        (step,) = np.flatnonzero(clip.factors["entrance"])
        assert not new[: step + 1].any() and new[step + 1].any()
        side, row = (clip.factors[f"entrance_{name}"][step] - 1 for name in ("side", "row"))
        rows, columns = np.nonzero(new[step + 1])
        gap = {0: columns.min(), 1: 63 - columns.max(), 2: rows.min(), 3: 63 - rows.max()}
        assert gap[side] <= 3
        along = (rows if side < 2 else columns).mean() / 64
        assert abs(along - (row + 0.5) / ENTRANCE_ROWS) < ENTRANCE_RADIUS
        color = ENTRANCE_COLORS[clip.factors["entrance_color"][step] - 1]
        middle = clip.frames[step + 1, round(rows.mean()), round(columns.mean())]
        # the agent is drawn in front
        agent = np.abs(middle / 255 - EMBODIMENTS[0].color).max() < 0.02
        assert agent or np.abs(middle / 255 - color).max() < 0.01
        assert 1 <= clip.factors["entrance_shape"][step] <= 3


def test_entrances_happen_as_often_as_asked():
    settings = replace(PLAIN, size=8, flicker_grid=1, frames=3, entrances=0.3)
    happened = [make_clip(settings, 0, 0, i).factors["entrance"].sum() for i in range(200)]
    assert set(happened) == {0, 1}
    assert abs(np.mean(happened) - 0.3) < 4 * np.sqrt(0.21 / 200)


def test_flicker_has_the_amplitude_asked_for_and_is_recorded():
    settings = WorldSettings(size=32, frames=30, agents=0, flicker=0.05)
    clip = make_clip(settings, 0, 0, 0)
    patches = clip.frames.reshape(30, 4, 8, 4, 8, 3).astype(float) / 255
    assert patches.std(axis=(2, 4, 5)).max() < 1e-9  # one brightness a patch
    brightness = patches.mean(axis=(2, 4, 5)).reshape(30, 16)
    assert abs(brightness.std() / 0.05 - 1) < 0.12
    np.testing.assert_allclose(np.diff(brightness, axis=0), clip.factors["flicker"], atol=1.01 / 255)


def test_background_goes_from_plain_to_white_noise():
    def neighbor_correlation(cells):
        frame = make_clip(WorldSettings(size=64, agents=0, texture_cells=cells), 0, 0, 0).frames[0].astype(float)
        return np.corrcoef(frame[:, :-1].ravel(), frame[:, 1:].ravel())[0, 1]

    correlations = [neighbor_correlation(cells) for cells in (4, 16, 64)]
    assert correlations[0] > 0.95 and correlations[0] > correlations[1] > 0.5 and abs(correlations[2]) < 0.05
    plain = make_clip(WorldSettings(agents=0), 0, 0, 0).frames
    assert (plain == BACKGROUND).all()


def test_pose_maps_commands_to_the_picture_and_is_visible():
    settings = replace(world_settings("arm"), texture_cells=0)
    by_pose = {}
    for i in range(60):
        clip = make_clip(settings, 0, 0, i)
        if len(by_pose.setdefault(int(clip.factors["pose"][0]), [])) < 2:
            by_pose[int(clip.factors["pose"][0])].append(clip)
    assert sorted(by_pose) == list(range(8))
    maps = []
    for clips in by_pose.values():
        command = np.concatenate([clip.actions for clip in clips])
        moved = np.concatenate([vectors(clip, "agent") for clip in clips]) / (settings.step * settings.size)
        fit = np.linalg.lstsq(command, moved, rcond=None)[0].T
        np.testing.assert_allclose(fit @ fit.T, np.eye(2), atol=1e-5)
        maps.append(fit.round().astype(int).tobytes())
        # the arm's base is behind, the mark on the right, as the agent sees it
        for direction, distance, color in (([0, 1], 0.48, (0.15, 0.15, 0.18)), ([1, 0], 0.45, (0.1, 0.75, 0.75))):
            column, row = ((0.5 + distance * (fit @ direction)) * settings.size).astype(int).clip(0, 31)
            pixel = clips[0].frames[0, row, column] / 255
            red = np.abs(pixel - EMBODIMENTS[0].color).max() < 0.05
            assert red or np.abs(pixel - color).max() < 0.15
    assert len(set(maps)) == 8


@pytest.mark.parametrize(
    "off",
    [
        {"distractors": 3, "distractor_strength": 0.0},
        {"flicker_grid": 8},
        {"ball_speed": 0.5},
        {"deflection": 30.0},
        {"texture_contrast": 0.9},
        {"locations": True},
        {"distractor_correlation": 0.7},
    ],
)
def test_dials_at_zero_show_nothing(off):
    for i in range(3):
        plain = make_clip(PLAIN, 0, 0, i)
        changed = make_clip(replace(PLAIN, **off), 0, 0, i)
        assert np.array_equal(plain.frames, changed.frames)
        assert np.array_equal(plain.actions, changed.actions)
    assert set(plain.factors) == {"agent_dx", "agent_dy"}


def test_a_larger_picture_shows_the_same_world():
    small, large = (make_clip(replace(world_settings("scene"), size=size), 0, 0, 5) for size in (48, 96))
    assert np.array_equal(small.actions, large.actions)
    for name in ("agent", "agent2", "pan", "ball", "distractor"):
        np.testing.assert_allclose(2 * vectors(small, name), vectors(large, name), rtol=1e-5)
    halved = large.frames.reshape(8, 48, 2, 48, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - small.frames).mean() < 6


def test_the_first_agent_starts_nearest_the_middle():
    settings = replace(PLAIN, agents=4, locations=True)
    for i in range(10):
        factors = make_clip(settings, 0, 0, i).factors
        names = ["agent", "agent2", "agent3", "agent4"]
        distance = [np.hypot(factors[f"{name}_x"][0] - 16, factors[f"{name}_y"][0] - 16) for name in names]
        assert distance == sorted(distance)
