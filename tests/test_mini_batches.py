"""Mini-batches: which examples are shown when, the force in a batch, jumps hit exactly."""

import h5py
import numpy as np
import pytest

import sftsolve as sft
from sftsolve.errors import ActionError, GridError

GRID = sft.Grid(8, 1.0)
EXAMPLES = np.random.default_rng(5).standard_normal((10, 8))
FLOW = {"dynamics": "gradient-flow"}


def schedule(**more):
    return sft.BatchSchedule(10, 4, **({"every": 0.5, "seed": 3} | more))


def test_every_epoch_shows_every_example_once_in_another_order():
    plan = schedule()
    assert plan.batches == 3
    epochs = [[plan.examples(3 * epoch + k) for k in range(3)] for epoch in range(3)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [4, 4, 2]
        np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(10))
    assert not np.array_equal(epochs[0][0], epochs[1][0])
    order = np.random.default_rng([3, 2]).permutation(10)
    np.testing.assert_array_equal(schedule().examples(7), np.sort(order[4:8]))  # without those before it
    np.testing.assert_array_equal(schedule(seed=None).examples(4), [4, 5, 6, 7])


def test_times_of_batches():
    plan = schedule(start=1.0)
    assert [plan.number(t) for t in (-2.0, 1.0, 1.49, 1.5, np.nextafter(1.5, 0), 7.2)] == [0, 0, 0, 1, 1, 12]
    assert plan.switches(1.0, 3.0) == [1.5, 2.0, 2.5]
    assert plan.switches(0.0, 1.5) == [] and plan.switches(2.0, 2.6) == [2.5]
    thirds = schedule(every=1 / 3)
    times = thirds.switches(0.0, 100.0)
    assert len(times) == 299 and [thirds.number(t) for t in times] == list(range(1, 300))


def mean(t, reduce=np.mean):
    plan = schedule()
    return reduce(EXAMPLES[plan.examples(plan.number(t))], axis=0)


def system(source, cost="w**2/2 - J*w", dtype="float64", **more):
    return sft.discretise(sft.Action(["w"], cost, sources={"J": source} | more), GRID, dtype=dtype, **FLOW)


@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_the_force_holds_the_mean_of_the_batch(reduce, tmp_path):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["J"] = EXAMPLES
    for given in (EXAMPLES, {"file": tmp_path / "set.h5", "dataset": "J"}, EXAMPLES.astype("float32")):
        source = sft.MiniBatches(given, 4, every=0.5, seed=3, reduce=reduce)
        theory = system(source)
        assert theory.time_dependent
        tolerance = 1e-14 if np.asarray(given).dtype != np.float32 else 1e-6
        for t in (0.0, 0.2, 3.7, 0.7, 1.0):
            expected = mean(t, getattr(np, reduce))
            np.testing.assert_allclose(theory.force(np.zeros((1, 8)), t)[0], expected, rtol=0, atol=tolerance)
            np.testing.assert_allclose(theory.action.sources_at(GRID, t)["J"], expected, rtol=0, atol=tolerance)


def test_single_precision_states():
    theory = system(sft.MiniBatches(EXAMPLES, 4, every=0.5, seed=3), dtype="float32")
    np.testing.assert_allclose(theory.force(np.zeros((1, 8)), 0.7)[0], mean(0.7), rtol=0, atol=1e-6)


def test_left_and_right_limits():
    theory = system(sft.MiniBatches(EXAMPLES, 4, every=0.5, seed=3))
    assert theory.switches(0.0, 1.6) == [0.5, 1.0, 1.5]
    state = theory.state({"w": 0.0})
    out = state.like()

    def force(t):
        theory.force_into(state, out, t)
        return out.w[0].copy()

    theory.enter(0.0)
    np.testing.assert_allclose(force(0.5), mean(0.0), atol=1e-14)  # the last stage of a step that ends at the switch
    np.testing.assert_allclose(force(np.nextafter(0.5, 1)), mean(0.0), atol=1e-14)
    theory.enter(np.nextafter(0.5, 0))
    np.testing.assert_allclose(force(0.5), mean(0.5), atol=1e-14)
    np.testing.assert_allclose(force(0.9), mean(0.5), atol=1e-14)
    np.testing.assert_allclose(force(1.2), mean(1.0), atol=1e-14)  # outside the piece: enters by itself
    np.testing.assert_allclose(force(0.2), mean(0.0), atol=1e-14)


def test_a_batch_is_read_once_and_alone(tmp_path):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["J"] = EXAMPLES
    theory = system(sft.MiniBatches({"file": tmp_path / "set.h5", "dataset": "J"}, 4, every=0.5, seed=3))
    frames = theory.sources._moving["J"].frames
    before = frames.reads
    for t in (0.6, 0.7, 1.0, 0.9):
        theory.force_into(theory.state({"w": 0.0}), theory.state({"w": 0.0}), t)
    assert frames.reads - before == 4


def test_one_schedule_for_several_sources():
    pairs = sft.MiniBatches.of({"J": EXAMPLES, "K": EXAMPLES**2}, 4, every=0.5, seed=3)
    assert pairs["J"].schedule == pairs["K"].schedule == schedule()
    by_function = sft.MiniBatches(lambda chosen: (EXAMPLES[chosen] ** 2).mean(0), schedule=schedule())
    squares = [system(pairs["J"], "w**2/2 - J*w - K*w", K=k).force(np.zeros((1, 8)), 1.2) for k in (pairs["K"], by_function)]
    np.testing.assert_allclose(squares[0], squares[1], atol=1e-14)
    with pytest.raises(ActionError, match="same examples"):
        sft.MiniBatches.of({"J": EXAMPLES, "K": EXAMPLES[:4]}, 2)


def test_the_flow_through_batches_is_exact_between_jumps():
    """w' = J_k - w in batch k: w(end) by recursion."""
    theory = system(sft.MiniBatches(EXAMPLES, 4, every=0.5, seed=3))
    w = np.zeros(8)
    for k in range(4):
        w = mean(0.5 * k) + (w - mean(0.5 * k)) * np.exp(-0.5)
    state, out = theory.state({"w": 0.0}), theory.state({"w": 0.0})
    stepped = np.zeros(8)
    for begin in (0.0, *theory.switches(0.0, 2.0)):
        theory.enter(begin)
        for step in range(50):  # Heun, whose second stage ends at the switch
            t = begin + 0.01 * step
            state.w[0] = stepped
            theory.force_into(state, out, t)
            first = out.w[0].copy()
            state.w[0] = stepped + 0.01 * first
            theory.force_into(state, out, t + 0.01)
            stepped = stepped + 0.005 * (first + out.w[0])
    assert np.abs(stepped - w).max() < 2e-5 * np.abs(w).max()


@pytest.mark.parametrize(
    ("arguments", "options", "hint"),
    [
        ((EXAMPLES,), {}, "batches are not clear"),
        ((EXAMPLES, 4), {"schedule": schedule()}, "batches are not clear"),
        ((EXAMPLES, 11), {}, "at most 10"),
        ((EXAMPLES, 0), {}, "whole number >= 1"),
        ((EXAMPLES, 2.0), {}, "whole number >= 1"),
        ((EXAMPLES, 4), {"every": 0.0}, "every > 0"),
        ((EXAMPLES, 4), {"every": np.inf}, "every > 0"),
        ((EXAMPLES, 4), {"seed": -1}, "whole number >= 0"),
        ((EXAMPLES, 4), {"start": "now"}, "a time t"),
        ((EXAMPLES, 4), {"reduce": "max"}, '"mean" or "sum"'),
        ((len, 4), {}, "needs a schedule"),
        ((EXAMPLES,), {"schedule": 3}, "BatchSchedule"),
        (({"file": 3, "dataset": "J"}, 4), {}, "not understood"),
        ((np.ones(4), 2), {}, "no frames"),
        (([["a", "b"]], 1), {}, "not real"),
    ],
)
def test_what_is_refused(arguments, options, hint):
    with pytest.raises((ActionError, GridError)) as caught:
        sft.MiniBatches(*arguments, **options)
    assert hint in str(caught.value)


def test_examples_that_do_not_fit_or_are_not_finite():
    with pytest.raises(GridError, match=r"expected: shape \(frame, 8\)"):
        system(sft.MiniBatches(np.ones((4, 7)), 2))
    with pytest.raises(GridError, match="NaN or infinity in frame 1"):
        system(sft.MiniBatches(np.where(np.arange(16).reshape(2, 8) == 11, np.nan, 1.0), 2))
    with pytest.raises(ActionError, match="other examples"):
        system(sft.MiniBatches(EXAMPLES, schedule=sft.BatchSchedule(9, 3)))


def test_a_run_shows_every_batch_and_hits_every_jump():
    """w' = mean of the batch - w through the whole path: exact to the tolerance although F jumps at every batch."""
    source = sft.MiniBatches(EXAMPLES, 4, every=0.5, seed=3)
    action = sft.Action(["w"], "w**2/2 - J*w", sources={"J": source}, friction=sft.Friction(gamma=1.0))
    w = np.zeros(8)
    for k in range(6):
        w = mean(0.5 * k) + (w - mean(0.5 * k)) * np.exp(-0.5)
    options = {"end": 3.0, "clock": "t", "method": "tsit5", "rtol": 1e-9, "atol": 1e-11, "progress": False}
    result = sft.solve(action, GRID, {"w": 0.0}, **FLOW, **options)
    np.testing.assert_allclose(result.w[-1, 0], w, rtol=0, atol=2e-8)
    assert result.stats.rejected <= 2


def filter_on_noise():
    images = np.random.default_rng(2).standard_normal((6, 5, 4))
    return sft.network.image_filter(images, images[::-1].copy(), [(0, 0), (0, 1), (1, 0)], kappa=0.1)


def test_an_image_filter_by_batches():
    """Force and cost in a batch are those of the filter on its examples alone."""
    network = filter_on_noise()
    plan = sft.BatchSchedule(6, 4, every=2.0, seed=1)
    theory = sft.discretise(network.action(batches=plan), network.grid(), **FLOW)
    assert theory.time_dependent and theory.switches(0.0, 5.0) == [2.0, 4.0]
    w = np.random.default_rng(3).standard_normal(network.shape)
    for t in (0.0, 3.0, 4.0, 1.0):
        part = network.part(plan.examples(plan.number(t)))
        np.testing.assert_allclose(theory.force(w, t), -part.gradient(w), rtol=0, atol=1e-12)
        assert theory.cost(w, t) == pytest.approx(part.cost(w), rel=1e-12)
    state, out = theory.state(dict(zip(network.fields, w, strict=True))), theory.state(dict.fromkeys(network.fields, 0.0))
    theory.enter(0.0)
    theory.force_into(state, out, 2.0)  # the limit from before
    np.testing.assert_allclose(out.w, -network.part(plan.examples(0)).gradient(w), rtol=0, atol=1e-12)
    with pytest.raises(sft.SftError, match="other examples"):
        network.action(batches=sft.BatchSchedule(5, 2))
    with pytest.raises(ActionError, match="BatchedMatrix is not clear"):
        sft.BatchedMatrix(["w"], 3, len)


def test_batches_stand_still_while_they_are_shown():
    """So no step has to look whether the force moves within it; what drifts beside them makes it so."""
    still = {"J": sft.MiniBatches(np.ones((6, 8)), 2, every=0.5)}
    friction, grid = sft.Friction(gamma=1.0), sft.Grid((8,), (1.0,))
    batches = sft.discretise(sft.Action(["w"], "w**2/2 - J*w", sources=still, friction=friction), grid)
    assert batches.time_dependent and not batches.drifting
    drive = sft.discretise(sft.Action(["w"], "w**2/2 - J*w - w*sin(t)", sources=still, friction=friction), grid)
    assert drive.time_dependent and drive.drifting
    frames = {"J": sft.TimeSeries([0.0, 1.0, 2.0], np.ones((3, 8)))}
    assert sft.discretise(sft.Action(["w"], "w**2/2 - J*w", sources=frames, friction=friction), grid).drifting
    moving = sft.Grid((8,), (1.0,), boundary={"x": {"lower": {"value": "sin(t)"}, "upper": {"derivative": 0.0}}})
    assert sft.discretise(sft.Action(["w"], "grad2(w)/2 - J*w", sources=still, friction=friction), moving).drifting
