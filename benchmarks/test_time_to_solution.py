"""Time to solution at equal measured error: a stiff 512^2 flow, the same with stiffness that varies, and cost against gamma.

Everybody gets rtol tightened by threes until the error measured at the end meets TARGET (relative, root mean square), and the
time of that run counts, without compilation and set-up; atol is rtol/100. Ours runs anew next to every other, and ratios are to
that run, of wall time and of the processor time of all cores, which other work on the machine disturbs less.

Explicit methods, whose steps stability holds short, do two small shares of the way; the cost of the rest is extrapolated from the
difference of the two, where the noise of the start has gone, and errors are those at the end of the longer share ("of_the_way").
SciPy's BDF is not in the 512^2 race: it did not end in 70 s, where a factorisation of 262144 unknowns takes most.

References are ours, etdrk4 and ark436 far below TARGET; on small grids both are compared with SciPy's Radau at rtol 1e-10 first.
`pip install .[peers]` has the others; what is not installed is skipped.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from rivals import (
    DRIVE,
    MASS,
    Outcome,
    Problem,
    cvode,
    diffrax_tsit5,
    ours,
    py_pde,
    scipy_plain,
    scipy_sparse,
)

import sftsolve as sft

pytestmark = pytest.mark.filterwarnings("default")

N, END, TARGET = 512, 0.02, 1e-5
SHARES = (0.002, 0.006)
GAMMAS = (1.0, 1e2, 1e4, 1e6)
STEPS = (150, 450)  # of an explicit method where friction is stiff, about


@cache
def flow(n: int, varying: bool = False) -> Problem:
    """w_t = div(S grad w) + 400 (w - w^3) + J from a wave and noise: lambda t is 4e4 at the end, eight e-folds of growth."""
    x = (np.arange(n) + 0.5) / n
    wave = 0.5 * np.sin(2 * np.pi * x)[:, None] * np.sin(2 * np.pi * x)
    sources = {"J": f"{DRIVE}*sin(2*pi*x)*cos(4*pi*y)"} | ({"S": "1 + cos(2*pi*x)*sin(2*pi*y)/2"} if varying else {})
    cost = ("S*" if varying else "") + "grad2(w)/2 - M/2*w**2 + M/4*w**4 - J*w"
    action = sft.Action(["w"], cost, parameters={"M": MASS}, sources=sources, friction=sft.Friction(gamma=1.0))
    return Problem(action, (n, n), 1.0, wave + 0.1 * np.random.default_rng(0).standard_normal((n, n)))


@cache
def chain(n: int, gamma: float) -> Problem:
    """w_tt + gamma w_t = w_xx + w - w^3 from rest, to tau = t/gamma = 10."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(n))
    spectrum *= np.exp(-((np.fft.rfftfreq(n, 0.25) * 4) ** 2))
    smooth = np.fft.irfft(spectrum, n)
    action = sft.Action(["w"], "grad2(w)/2 - w**2/2 + w**4/4", friction=sft.Friction(gamma=gamma))
    return Problem(action, (n,), 0.25 * n, 0.3 * smooth / np.std(smooth), gamma)


def difference(w: np.ndarray, reference: np.ndarray) -> float:
    return float(np.sqrt(np.mean((w - reference) ** 2) / np.mean(reference**2)))


class Track:
    """A problem with its references, which are checked once on a small grid, and our time on it."""

    def __init__(self, problem: Problem, end: float, method: str, rtol: float, start: float, small: tuple[Problem, float]):
        self.problem, self.end, self._method, self._rtol = problem, end, method, rtol
        self._references: dict[float, np.ndarray] = {}
        radau = scipy_plain("Radau")(*small, 1e-10).w
        assert difference(ours(method)(*small, 1e-10).w, radau) < 0.01 * TARGET
        self.rtol, _, error = self.meet(ours("auto"), start)
        assert error <= TARGET

    def error(self, outcome: Outcome, end: float) -> float:
        if end not in self._references:
            self._references[end] = ours(self._method)(self.problem, end, self._rtol).w
        return difference(outcome.w, self._references[end])

    def meet(self, solve, rtol: float, share: float = 1.0) -> tuple[float, Outcome, float]:
        """rtol, outcome and error of the first run that meets TARGET, or of the sixth."""
        for _ in range(6):
            outcome = solve(self.problem, share * self.end, rtol)
            error = self.error(outcome, share * self.end)
            if error <= TARGET:
                break
            rtol /= 3
        return rtol, outcome, error

    def run(self, solve, start: float, shares: tuple[float, ...] = ()) -> dict[str, float]:
        """Figures of one solver, with ours run next to it."""
        rtol, outcome, error = self.meet(solve, start, shares[-1] if shares else 1.0)
        own = ours("auto")(self.problem, self.end, self.rtol)
        costs = np.array([outcome.watch.wall, outcome.watch.cores, outcome.work])
        if shares:
            costs = self._whole(solve, rtol, shares, costs)
        figures = {"wall_over_ours": costs[0] / own.watch.wall, "processor_over_ours": costs[1] / own.watch.cores}
        figures |= {"error": error, "rtol": rtol, "work": costs[2], "seconds": costs[0]}
        return figures | ({"of_the_way": shares[-1]} if shares else {})

    def _whole(self, solve, rtol: float, shares: tuple[float, ...], longer: np.ndarray) -> np.ndarray:
        """What the whole way would cost, from two shares of it."""
        outcome = solve(self.problem, shares[0] * self.end, rtol)
        shorter = np.array([outcome.watch.wall, outcome.watch.cores, outcome.work])
        return longer + (longer - shorter) * (1 - shares[1]) / (shares[1] - shares[0])


@pytest.fixture(scope="module")
def constant() -> Track:
    return Track(flow(N), END, "etdrk4", 1e-8, 1e-3, (flow(16), END))


@pytest.fixture(scope="module")
def varying() -> Track:
    return Track(flow(N, varying=True), END, "ark436", 1e-6, 1e-4, (flow(16, varying=True), END))


@cache
def friction(gamma: float) -> Track:
    return Track(chain(4096, gamma), 10 * gamma, "etdrk4", 1e-10, 1e-4, (chain(48, 10.0), 100.0))


FLOW = {
    "ours, auto": (ours("auto"), 1e-3),
    "ours, etdrk4": (ours("etdrk4"), 1e-3),
    "ours, rkc2": (ours("rkc2"), 1e-5),
    "CVODE BDF, GMRES, preconditioned by FFT": (cvode(True, 5), 3e-5),
    "CVODE BDF, GMRES": (cvode(False, 30), 3e-5),
    "SciPy RK45": (scipy_plain("RK45"), 1e-4, SHARES),
    "py-pde, Runge-Kutta": (py_pde, 1e-5, SHARES),
    "diffrax Tsit5": (diffrax_tsit5, 1e-4, SHARES),
}
VARYING = {
    "ours, auto": (ours("auto"), 1e-4),
    "ours, sbdf4": (ours("sbdf4"), 1e-4),
    "CVODE BDF, GMRES, preconditioned by FFT": (cvode(True, 5), 3e-5),
    "SciPy RK45": (scipy_plain("RK45"), 1e-4, SHARES),
}


@pytest.mark.parametrize("name", FLOW)
def test_constant_stiffness(benchmark, report, constant, name):
    figures = benchmark.pedantic(lambda: constant.run(*FLOW[name]), rounds=1)
    report(f"stiff flow, {N}^2: {name}", figures)
    benchmark.extra_info.update(figures)


@pytest.mark.parametrize("name", VARYING)
def test_varying_stiffness(benchmark, report, varying, name):
    figures = benchmark.pedantic(lambda: varying.run(*VARYING[name]), rounds=1)
    report(f"stiff flow, S(x), {N}^2: {name}", figures)
    benchmark.extra_info.update(figures)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("name", ("ours, auto", "SciPy BDF, sparse Jacobian", "CVODE BDF, GMRES", "SciPy RK45"))
def test_cost_against_gamma(benchmark, report, name, gamma):
    track, shares = friction(gamma), ()
    if name == "SciPy RK45" and gamma > 1:
        # Steps are about 3/gamma long.
        shares = tuple(3 * steps / (10 * gamma**2) for steps in STEPS)
    solve = {
        "ours, auto": ours("auto"),
        "SciPy BDF, sparse Jacobian": scipy_sparse("BDF", -1.0, 1.0),
        "CVODE BDF, GMRES": cvode(False, 5),
        "SciPy RK45": scipy_plain("RK45"),
    }[name]
    figures = benchmark.pedantic(lambda: track.run(solve, 1e-4, shares), rounds=1)
    report(f"4096 cells to tau = 10 at gamma = {gamma:.0e}: {name}", figures)
    benchmark.extra_info.update(figures)
