import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from scipy.ndimage import gaussian_filter
from scipy.ndimage import shift as move
from sklearn.linear_model import Ridge

from data_prep.inspection.action_lag import LagVerdict, bootstrap_r2, measure_lag, predict_held_out, standardize
from data_prep.inspection.image_motion import ENERGY, NUM_FEATURES, FilteredImage, cell_means, flow, gray_thumbnail, motion


def texture(height=48, width=64, seed=0):
    smooth = gaussian_filter(np.random.default_rng(seed).random((height, width)), 2.5, mode="wrap")
    return (smooth - smooth.min()) / np.ptp(smooth)


@pytest.mark.parametrize("moved", [(0, 0), (1, 0), (0, -2), (2.5, 1.25), (-0.4, 0.3), (6, -5)])
def test_shift_and_flow_of_a_moved_texture(moved):
    before = texture()
    after = move(before, moved[::-1], order=3, mode="grid-wrap")
    features = motion(FilteredImage.of(before), FilteredImage.of(after))
    assert features.shape == (NUM_FEATURES,)
    # phase correlation, right and down; the window, which does not move, pulls large shifts towards 0
    np.testing.assert_allclose(features[:2], moved, atol=0.2 if max(map(abs, moved)) < 4 else 0.4)
    if max(map(abs, moved)) <= 2:
        np.testing.assert_allclose(features[2:4], moved, atol=0.25)  # flow of the whole picture


def test_energy_is_the_mean_absolute_difference():
    views = [FilteredImage(smooth=texture(seed=seed), spectrum=np.fft.rfft2(texture(seed=seed))) for seed in (0, 1)]
    assert motion(*views)[ENERGY] == pytest.approx(np.abs(views[0].smooth - views[1].smooth).mean())


def test_only_the_cell_that_moves_has_flow():
    before = texture(64, 64)
    after = before.copy()
    after[32:, :32] = move(before, (0, 1), order=3, mode="grid-wrap")[32:, :32]  # lower left, to the right
    features = motion(FilteredImage.of(before), FilteredImage.of(after))
    start = 2 + 3  # after the shift and the whole picture
    right, down = features[start : start + 4].reshape(2, 2), features[start + 4 : start + 8].reshape(2, 2)
    assert right[1, 0] == pytest.approx(0.9, abs=0.25)
    assert np.abs(np.delete(right.ravel(), 2)).max() < 0.15 and np.abs(down).max() < 0.25


def test_flow_solves_the_least_squares_problem():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 40))
    t = -0.7 * x + 0.2 * y + 0.01 * rng.standard_normal(40)
    found = flow(*(np.array([[np.mean(a * b)]]) for a, b in [(x, x), (x, y), (y, y), (x, t), (y, t)]))
    expected = np.linalg.lstsq(np.stack([x, y], axis=1), -t, rcond=None)[0]
    np.testing.assert_allclose(np.ravel(found), expected, atol=1e-3)
    assert np.ravel(flow(*[np.zeros((1, 1))] * 5)).tolist() == [0, 0]  # nothing to see


def test_cell_means_of_uneven_cells():
    values = np.arange(35.0).reshape(5, 7)
    expected = [[values[a:b, c:d].mean() for c, d in ((0, 3), (3, 7))] for a, b in ((0, 2), (2, 5))]
    np.testing.assert_allclose(cell_means(values, 2), expected)


def test_small_gray_pictures():
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[:, 80:] = 255
    gray = gray_thumbnail(av.VideoFrame.from_ndarray(pixels, format="rgb24"), VideoReformatter())
    assert gray.shape == (48, 64) and gray.dtype == np.float32
    np.testing.assert_allclose([gray[:, :30].max(), gray[:, 34:].min()], [0, 1], atol=0.01)


def recordings(lag, count=8, frames=60, noise=0.3, seed=0):
    """Motion that is the action of ``lag`` rows before, with noise; actions are smooth in time; a third number is noise."""
    rng = np.random.default_rng(seed)
    motions, actions = [], []
    for _ in range(count):
        acted = gaussian_filter(rng.standard_normal((frames + 40, 3)), (1, 0))
        seen = np.concatenate([acted[20 - lag : 19 - lag + frames, :2], rng.standard_normal((frames - 1, 3))], axis=1)
        motions.append(seen + noise * rng.standard_normal(seen.shape) * acted.std())
        actions.append(acted[20 : 19 + frames])
        actions[-1][:, 2] = rng.standard_normal(frames - 1)
    return motions, actions, [f"recording {i}" for i in range(count)]


@pytest.mark.parametrize("lag", [-2, 0, 3])
@pytest.mark.parametrize("count", [3, 8])  # held out in time, by recording
def test_a_known_lag_is_found(lag, count):
    found = measure_lag(*recordings(lag, count, frames=480 // count))
    assert (found.verdict, found.lag, found.low, found.high) == (LagVerdict.clear, lag, lag, lag)
    assert found.visible.tolist() == [True, True, False]
    peaks = found.r2[:, :2].max(axis=0) - np.median(found.r2[:, :2], axis=0)
    np.testing.assert_allclose(found.mean_r2, np.average(found.r2[:, :2], axis=1, weights=peaks))
    assert 0.75 < found.mean_r2.max() < 0.95  # the noise makes up 0.09 of the motion's variance


def test_held_out_score_is_that_of_ridge_regressions_by_hand():
    motions, actions, sources = recordings(0, count=5)
    found = measure_lag(motions, actions, sources)
    x, y = (standardize([each[8:-8] for each in part]) for part in (motions, actions))
    errors = np.zeros(3)
    for held in range(5):
        out = np.repeat(np.arange(5), 43) == held
        for number in range(3):
            train, wanted = x[~out], y[~out, number]
            best = min(np.logspace(0, 5, 6), key=lambda alpha: leave_one_out(train, wanted, alpha))
            errors[number] += ((Ridge(best).fit(train, wanted).predict(x[out]) - y[out, number]) ** 2).sum()
    np.testing.assert_allclose(found.r2[8], 1 - errors / (y**2).sum(axis=0), atol=1e-6)


def leave_one_out(x, y, alpha):
    """Mean squared error of predicting each row from the others, by the hat matrix."""
    centered = x - x.mean(axis=0)
    hat = centered @ np.linalg.solve(centered.T @ centered + alpha * np.eye(x.shape[1]), centered.T) + 1 / len(x)
    return np.mean(((y - hat @ y) / (1 - np.diag(hat))) ** 2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("smooth", [0, 3])
def test_noise_has_no_lag(seed, smooth):
    rng = np.random.default_rng(seed)
    motions = [rng.standard_normal((80, 20)) for _ in range(6)]
    actions = [gaussian_filter(rng.standard_normal((80, 4)), (smooth, 0)) for _ in range(6)]
    assert measure_lag(motions, actions, list("abcdef")).verdict is LagVerdict.none


def test_slow_actions_have_no_clear_peak():
    rng = np.random.default_rng(0)
    actions = [gaussian_filter(rng.standard_normal((150, 1)), (25, 0), mode="nearest") for _ in range(6)]
    motions = [rows / rows.std() + 0.5 * rng.standard_normal((150, 1)) for rows in actions]
    found = measure_lag(motions, actions, list("abcdef"))
    assert found.verdict is LagVerdict.unclear and found.high - found.low > 2


def test_constant_numbers_and_few_rows():
    motions, actions, sources = recordings(1)
    for rows in actions:
        rows[:, 1] = 7.3
    found = measure_lag(motions, actions, sources)
    assert found.lag == 1 and np.isnan(found.r2[:, 1]).all() and found.visible.tolist() == [True, False, False]
    assert measure_lag(motions, [np.ones((59, 2), np.float32)] * 8, sources).verdict is LagVerdict.none
    assert measure_lag(motions[:2], actions[:2], sources[:2]).verdict is LagVerdict.few
    short = measure_lag([each[:9] for each in motions], [each[:9] for each in actions], sources)
    assert short.verdict is LagVerdict.few and short.lags.tolist() == [-2, -1, 0, 1, 2]


def test_cameras_of_one_source_are_no_further_evidence():
    """Actions that repeat in every camera are learned by heart where cameras are taken for recordings of their own."""
    rng = np.random.default_rng(0)
    scenes = [rng.standard_normal((60, 150)) for _ in range(5)]
    actions = [rng.standard_normal((60, 2)) for _ in range(5)]
    views = [scene for scene in scenes for _ in range(3)], [rows for rows in actions for _ in range(3)]
    assert measure_lag(*views, [f"camera {i}" for i in range(15)]).r2.max() > 0.3
    assert measure_lag(*views, [f"scene {i // 3}" for i in range(15)]).r2.max() < 0.02


def test_predictions_do_not_see_the_row():
    rng = np.random.default_rng(0)
    seen, groups = rng.standard_normal((50, 60)), np.repeat(np.arange(5), 10)
    wanted = rng.standard_normal((50, 1))
    changed = wanted.copy()
    changed[groups == 2] += 100
    before, after = (predict_held_out(seen, each, groups) for each in (wanted, changed))
    np.testing.assert_array_equal(before[groups == 2], after[groups == 2])
    assert (before[groups != 2] != after[groups != 2]).all()


def test_resampling():
    errors, totals = np.array([[[1.0], [3.0]]]), np.array([[4.0], [4.0]])
    scores = bootstrap_r2(errors, totals, np.random.default_rng(0))
    assert scores[0, 0, 0] == pytest.approx(1 - 4 / 8)
    assert set(np.round(scores[1:, 0, 0], 9)) == {0.75, 0.5, 0.25}  # the first twice, both, the second twice
