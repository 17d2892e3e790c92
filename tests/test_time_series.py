"""Sources given at times: values between frames, kinks, windows of a file, and what lies outside."""

import h5py
import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline, interp1d

import sftsolve as sft
from sftsolve.errors import ActionError, ConfigError, GridError
from sftsolve.sources.frames import Frames

GRID = sft.Grid((3, 4), (1.0, 1.0))
TIMES = np.array([-1.0, 0.0, 0.5, 2.0, 2.25, 3.0, 5.0])
FRAMES = np.random.default_rng(1).standard_normal((7, 3, 4))
INSIDE = [-1.0, -0.3, 0.0, 0.2, 0.5, 1.9, 2.1, 2.25, 2.9, 3.0, 4.0, 5.0]
ZERO = np.zeros((1, 3, 4))


def system(source, dtype="float64"):
    return sft.discretise(sft.Action(["w"], "-J*w", sources={"J": source}), GRID, dynamics="gradient-flow", dtype=dtype)


def reference(times, frames, interpolation):
    """SciPy's, with the slopes of NumPy's gradient, which are those of parabolas."""
    if interpolation == "linear":
        return interp1d(times, frames, axis=0)
    return CubicHermiteSpline(times, frames, np.gradient(frames, times, axis=0, edge_order=2), axis=0)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_values_between_frames(interpolation, tmp_path):
    with h5py.File(tmp_path / "J.h5", "w") as file:
        file["J"], file["when"] = FRAMES, TIMES
    place = {"file": tmp_path / "J.h5", "dataset": "J"}
    given = (
        sft.TimeSeries(TIMES, FRAMES, interpolation),
        sft.TimeSeries("when", place, interpolation),
        {**place, "times": "when", "interpolation": interpolation},
        {**place, "times": TIMES.tolist(), "interpolation": interpolation},
    )
    expected = reference(TIMES, FRAMES, interpolation)
    for spec in given:
        theory = system(spec)
        for t in (*INSIDE, *INSIDE[::-1]):
            np.testing.assert_allclose(theory.force(ZERO, t)[0], expected(t), rtol=0, atol=1e-13)
            np.testing.assert_allclose(theory.action.sources_at(GRID, t)["J"], expected(t), rtol=0, atol=1e-13)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_frames(count):
    expected = reference(TIMES[:count], FRAMES[:count], "cubic" if count > 2 else "linear")
    theory = system(sft.TimeSeries(TIMES[:count], FRAMES[:count], "cubic"))
    for t in np.linspace(TIMES[0], TIMES[count - 1], 7):
        np.testing.assert_allclose(theory.force(ZERO, t)[0], expected(t), rtol=0, atol=1e-13)


def test_orders_in_the_spacing_of_times():
    for interpolation, order in (("linear", 2), ("cubic", 3)):
        errors = []
        for count in (40, 80):
            times = np.linspace(0, 3, count + 1)
            series = sft.TimeSeries(times, np.sin(2 * times)[:, None, None] * np.ones((3, 4)), interpolation)
            seen = np.linspace(0, 3, 997)
            errors.append(max(abs(series.values_at(GRID, {}, t)[0, 0] - np.sin(2 * t)) for t in seen))
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_kinks_are_switches_and_cubic_has_none():
    assert system(sft.TimeSeries(TIMES, FRAMES)).switches(0.0, 3.0) == [0.5, 2.0, 2.25]
    assert system(sft.TimeSeries(TIMES, FRAMES)).switches(-1.0, 5.0) == TIMES[1:-1].tolist()
    assert system(sft.TimeSeries(TIMES, FRAMES, "cubic")).switches(-1.0, 5.0) == []
    assert system(sft.TimeSeries(TIMES[:2], FRAMES[:2])).switches(-1.0, 5.0) == []


def test_windows_read_only_what_is_needed(tmp_path):
    with h5py.File(tmp_path / "J.h5", "w") as file:
        file["J"] = FRAMES
    place = {"file": tmp_path / "J.h5", "dataset": "J"}
    for interpolation, reads in (("linear", [2, 2, 2, 3, 3, 3, 5]), ("cubic", [4, 4, 4, 5, 5, 5, 7])):
        theory = system(sft.TimeSeries(TIMES, place, interpolation))  # stands at t = 0
        state, out = theory.state({"w": 0.0}), theory.state({"w": 0.0})
        frames = theory.sources._moving["J"].frames
        seen = []
        for t in (0.1, 0.4, 0.5, 0.6, 0.4, 1.9, 2.5):
            theory.force_into(state, out, t)
            np.testing.assert_allclose(out.w[0], reference(TIMES, FRAMES, interpolation)(t), rtol=0, atol=1e-13)
            seen.append(frames.reads)
        assert seen == reads  # at 0.4 again, what 0.6 had put aside is still at hand
        assert len(frames._kept) <= (4 if interpolation == "linear" else 6)


def test_left_and_right_of_a_kink():
    theory = system(sft.TimeSeries(TIMES, FRAMES))
    state, out = theory.state({"w": 0.0}), theory.state({"w": 0.0})
    theory.enter(0.0)
    theory.force_into(state, out, 0.5 + 1e-12)  # the piece goes on a little beyond its end
    line = FRAMES[1] + (FRAMES[2] - FRAMES[1]) * (1 + 2e-12)
    np.testing.assert_allclose(out.w[0], line, rtol=0, atol=1e-15)
    theory.enter(0.5 - 1e-12)
    assert theory.sources._moving["J"].start == 0.5


def test_outside_the_series():
    theory = system(sft.TimeSeries(TIMES, FRAMES, "cubic"))
    theory.check_times(-1.0, 5.0)
    for first, last in ((-1.1, 2.0), (0.0, 5.1)):
        with pytest.raises(ConfigError, match="'J' does not reach.*\n.*from -1 to 5"):
            theory.check_times(first, last)
    for ask in (lambda: theory.force(ZERO, 5.1), lambda: theory.action.sources_at(GRID, -1.1)):
        with pytest.raises(ConfigError, match="does not reach"):
            ask()
    later = system(sft.TimeSeries(TIMES + 10, FRAMES))  # which does not know t = 0
    np.testing.assert_allclose(later.force(ZERO, 10.5)[0], FRAMES[2], atol=1e-14)


@pytest.mark.parametrize(
    ("times", "frames", "interpolation", "hint"),
    [
        (TIMES[::-1], FRAMES, "linear", "must increase"),
        (TIMES * np.nan, FRAMES, "linear", "must increase"),
        (TIMES[:3], FRAMES, "linear", "7 times"),
        (TIMES[:1], FRAMES[:1], "linear", "two or more"),
        ("when", FRAMES, "linear", "two or more"),
        (TIMES, FRAMES, "spline", "linear or cubic"),
        (TIMES, FRAMES * 1j, "linear", "not real"),
    ],
)
def test_what_is_refused(times, frames, interpolation, hint):
    with pytest.raises((ActionError, GridError)) as caught:
        sft.TimeSeries(times, frames, interpolation)
    assert hint in str(caught.value)


def test_the_frame_that_was_not_asked_for_the_longest_is_given_up(tmp_path):
    with h5py.File(tmp_path / "J.h5", "w") as file:
        file["J"] = FRAMES
    frames = Frames("frames", {"file": tmp_path / "J.h5", "dataset": "J"}).open(GRID, keep=2)
    for number, reads in ((0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4)):
        np.testing.assert_array_equal(frames.read(number), FRAMES[number])
        assert frames.reads == reads
