"""Which method of convolving is taken: the tried best where the model's predictions are close. Counts, no times."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sftsolve as sft
from sftsolve.errors import ConfigError
from sftsolve.kernels import crossover, trial
from sftsolve.kernels.convolution import Convolution
from sftsolve.kernels.engines import Direct, Factored, Space
from sftsolve.kernels.links import Linked
from sftsolve.kernels.overlap import Blocks
from sftsolve.kernels.spectral import SpectralSum
from sftsolve.kernels.stencil import Stencil
from sftsolve.kernels.workspaces import WholeGrid
from sftsolve.state import Layout

METHODS = ("direct", "separable", "fft")
LINE = 1.0 / (1.0 + np.arange(-3, 4) ** 2)
PRODUCT = Stencil(np.multiply.outer(LINE, LINE), (-3, -3))


def a_space(n=24, dtype="float64"):
    return Space(Layout.of(sft.Grid((n, n), (1.0, 1.0)), 0, dtype), (0, 0, 0))


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Predictions and times as a test wants them, in milliseconds, an empty cache folder, and the trials that were made."""
    monkeypatch.setenv("SFTSOLVE_CACHE", str(tmp_path))
    monkeypatch.delenv("SFTSOLVE_CONVOLUTION", raising=False)

    class Watched:
        predicted = {"direct": 1.0, "separable": 1.5, "fft": 1.9}
        taken = {"direct": 3.0, "separable": 2.0, "fft": 1.0}
        trials: list[list[str]] = []

    watched = Watched()
    watched.trials = []
    monkeypatch.setattr(crossover, "seconds", lambda method, stencil, space: 1e-3 * watched.predicted[method])

    def least_seconds(methods, stencil, space):
        watched.trials.append(sorted(methods))
        return {method: 1e-3 * watched.taken[method] for method in methods}

    monkeypatch.setattr(trial, "least_seconds", least_seconds)
    trial._known.cache_clear()
    yield watched
    trial._known.cache_clear()


@pytest.mark.parametrize("best", METHODS)
def test_the_tried_best_is_taken_and_remembered(watched, best):
    watched.taken = {method: 1.0 if method == best else 2.0 for method in METHODS}
    for _ in range(3):
        assert trial.choose("auto", PRODUCT, a_space()) == best
    assert watched.trials == [["direct", "fft", "separable"]]
    trial._known.cache_clear()  # another process on this machine
    assert trial.choose("auto", PRODUCT, a_space()) == best
    assert len(watched.trials) == 1


def test_what_is_predicted_to_be_far_is_not_tried(watched):
    watched.predicted = {"direct": 5.0, "separable": 1.9, "fft": 1.0}
    assert trial.choose("auto", PRODUCT, a_space()) == "fft"
    assert watched.trials == [["fft", "separable"]]
    watched.predicted = {"direct": 5.0, "separable": 1.0, "fft": 3.1}
    assert trial.choose("auto", PRODUCT, a_space()) == "separable"
    assert len(watched.trials) == 1


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_what_is_too_short_or_too_long_is_not_tried(watched, scale):
    watched.predicted = {method: scale * time for method, time in watched.predicted.items()}
    assert trial.choose("auto", PRODUCT, a_space()) == "direct"
    assert watched.trials == []


def test_what_needs_too_much_memory_is_not_tried(watched, monkeypatch):
    monkeypatch.setenv("SFTSOLVE_MEMORY", "1000")
    assert trial.choose("auto", PRODUCT, a_space()) == "direct"
    assert watched.trials == []


def test_each_problem_has_its_own_trial(watched, monkeypatch):
    general = Stencil(PRODUCT.values + np.eye(7), (-3, -3))
    for stencil, space in ((PRODUCT, a_space()), (general, a_space()), (PRODUCT, a_space(25)), (PRODUCT, a_space(24, "float32"))):
        trial.choose("auto", stencil, space)
    assert watched.trials == [["direct", "fft", "separable"], ["direct", "fft"]] + [["direct", "fft", "separable"]] * 2
    monkeypatch.setattr(trial, "thread_count", lambda: 7)
    trial.choose("auto", PRODUCT, a_space())
    assert len(watched.trials) == 5


def test_trials_can_be_switched_off(watched, monkeypatch):
    monkeypatch.setenv("SFTSOLVE_CONVOLUTION", "predicted")
    assert trial.choose("auto", PRODUCT, a_space()) == "direct"
    assert trial.choose("fft", PRODUCT, a_space()) == "fft"
    assert watched.trials == []
    monkeypatch.setenv("SFTSOLVE_CONVOLUTION", "guessed")
    with pytest.raises(ConfigError, match="tried or predicted"):
        trial.choose("auto", PRODUCT, a_space())


@pytest.mark.parametrize("text", ["{", "[1]", json.dumps({"x": "magic"})])
def test_a_broken_file_of_choices_is_replaced(watched, text):
    trial.choices_file().write_text(text)
    assert trial.choose("auto", PRODUCT, a_space()) == "fft"
    assert list(json.loads(trial.choices_file().read_text()).values()) == ["fft"]


def test_binding_tries_and_estimating_does_not(watched):
    grid = sft.Grid((24, 24), (1.0, 1.0))
    kernel = Convolution("a", "a", PRODUCT.values)
    guessed = kernel.estimate(grid)
    assert watched.trials == []
    bound = {}
    for best in METHODS:
        watched.taken = {method: 1.0 if method == best else 2.0 for method in METHODS}
        trial._known().clear()
        bound[best] = kernel.bind(("a",), grid, Layout.of(grid, 0))
    assert len(watched.trials) == 3
    assert isinstance(bound["fft"], SpectralSum)
    for method, engine in (("direct", Direct), ("separable", Factored)):
        assert isinstance(bound[method], Linked) and isinstance(bound[method].links[0].engine, engine)
    assert kernel.estimate(grid) != guessed  # of the method that is taken, once that is known


def test_blocks_are_tried_where_one_axis_has_several(watched):
    line = Space(Layout.of(sft.Grid((1 << 15,), (1.0,)), 0), (0, 0, 0))
    watched.predicted = {"direct": 9.0, "overlap": 1.0, "fft": 1.5}
    watched.taken = {"overlap": 2.0, "fft": 1.0}
    for wide, tried in ((Stencil(np.ones(101), (-50,)), [["fft", "overlap"]]), (Stencil(np.ones(1 << 15), (-(1 << 14),)), [])):
        watched.trials.clear()
        assert trial.choose("auto", wide, line) == "fft"
        assert watched.trials == tried


def test_looking_a_theory_over_tries_nothing(watched):
    grid = sft.Grid((24, 24), (1.0, 1.0))
    action = sft.Action(["a"], "a**2/2", kernels=[Convolution("a", "a", PRODUCT.values)])
    sft.check(action, grid, dynamics="gradient-flow")
    assert watched.trials == []


def test_a_trial_convolves_by_each_method_in_turn(monkeypatch):
    calls = []
    kinds = {"direct": Direct, "separable": Factored, "overlap": Blocks, "fft": WholeGrid}
    for kind in kinds.values():
        monkeypatch.setattr(kind, "add", lambda self, *arguments: calls.append(type(self)))
    monkeypatch.setattr(trial, "_BUDGET", 0.0)
    times = trial.least_seconds(list(kinds), PRODUCT, a_space())
    assert calls == list(kinds.values()) * 3
    assert set(times) == set(kinds) and all(time > 0 for time in times.values())
