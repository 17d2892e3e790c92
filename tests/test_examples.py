"""Every example in data/ and scripts/ runs as it is shipped, and gives the numbers that it should."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.fft import fftn, ifftn
from scipy.special import jv, jvp, yv, yvp
from typer.testing import CliRunner

import sftsolve as sft
from sftsolve.cli import app
from sftsolve.config import load
from sftsolve.network import psnr

ROOT = Path(__file__).resolve().parents[1]


def run(folder: Path, name: str, *overrides: str) -> tuple[sft.Result, dict[str, str]]:
    """Run an example; its result, and the printed summary as a table."""
    file = folder / f"{name}.h5"
    answer = CliRunner().invoke(app, ["run", str(ROOT / "data" / f"{name}.toml"), f"output.file={file}", *overrides])
    assert answer.exit_code == 0, answer.output
    assert (folder / f"{name}.png").stat().st_size > 40_000
    parts = (line.split("  ", 1) for line in answer.stdout.splitlines() if "  " in line)
    return sft.open(file), {key: value.strip() for key, value in parts}


def test_all_examples_are_here():
    tested = {"de-sitter", "front-3d", "kink", "klein-gordon-3d", "mnist-denoise", "mnist-stiffness", "ring-two-layer"}
    assert {path.stem for path in (ROOT / "data").glob("*.toml")} == tested


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(tmp_path_factory.mktemp("denoise"), "mnist-denoise")


@pytest.fixture(scope="module")
def experiment():
    return load(ROOT / "data" / "mnist-denoise.toml")[0].network.build()


class TestDenoising:
    def test_held_out_psnr(self, outcome):
        _, table = outcome
        decibel = {name: float(value.split()[0]) for name, value in table.items() if "PSNR" in name}
        noisy, gaussian, convolution, learned = decibel.values()
        assert noisy == pytest.approx(10.47, abs=0.011)
        assert gaussian == pytest.approx(17.11, abs=0.011)
        assert convolution == pytest.approx(17.13, abs=0.011)
        assert learned == pytest.approx(18.78, abs=0.011)

    def test_the_split_is_80_to_20_of_every_digit(self, experiment):
        assert np.array_equal(np.bincount(experiment.images.train_labels), [80] * 10)
        assert np.array_equal(np.bincount(experiment.images.held_out_labels), [20] * 10)

    def test_gradient_descent_reaches_the_same_psnr(self, outcome, experiment):
        images, network = experiment.images, experiment.network
        descended = network.train(network.identity(), learning_rate=0.2, steps=500)
        theory, descent = (
            psnr(network.outputs(w, images.held_out_inputs), images.held_out_targets) for w in (outcome[0].w[-1], descended)
        )
        assert abs(theory - descent) < 1e-3

    def test_costs_are_the_network_s_own_and_never_rise(self, outcome, experiment):
        result, _ = outcome
        cost = result.scalars["cost"]
        assert np.isclose(cost[0], experiment.network.cost(experiment.network.identity()), rtol=1e-10)
        assert np.isclose(cost[-1], experiment.network.cost(result.w[-1]), rtol=1e-10)
        assert np.all(np.diff(cost) <= 0)

    def test_snapshots(self, outcome):
        result, _ = outcome
        assert np.allclose(result.tau, [0.0, *np.geomspace(0.1, 100.0, 40)], rtol=1e-12)
        assert result.w.shape == (41, 9, 28, 28)


class TestStiffness:
    def test_a_stiffness_pays_with_few_images(self, tmp_path):
        result, table = run(tmp_path, "mnist-stiffness")
        assert table["method"] == "etdrk4"
        experiment = load(ROOT / "data" / "mnist-stiffness.toml")[0].network.build()
        assert len(experiment.images.train_labels) == 20 and len(experiment.images.held_out_labels) == 980
        assert float(table["held-out PSNR, learned"].split()[0]) == pytest.approx(18.35, abs=0.011)
        assert np.all(np.diff(result.scalars["cost"]) <= 0)

    def test_scan(self, tmp_path):
        picture = tmp_path / "scan.png"
        command = [sys.executable, ROOT / "scripts" / "scan_kappa.py", "--kappa", "0,0.3,1,3,100", picture]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        kappa, decibel, steps, forces = np.array([[float(entry) for entry in line.split()[:4]] for line in printed[1:6]]).T
        assert np.array_equal(kappa, [0, 0.3, 1, 3, 100])
        assert decibel == pytest.approx([15.82, 18.28, 18.35, 18.14, 17.21], abs=0.011)
        baselines = {name: float(value.split()[0]) for name, value in (line.split(": ") for line in printed[6:])}
        wanted = {"best single convolution": 17.11, "best Gaussian blur": 17.11, "noisy": 10.45}
        assert baselines == pytest.approx(wanted, abs=0.011)
        # The fastest mode is 250 times as fast at kappa = 100 as at 0, and no more steps are taken; rk32 evaluates 95,000 forces.
        assert np.all(np.diff(steps) < 0) and forces[-1] < 300
        assert picture.stat().st_size > 20_000


class TestRing:
    def test_theory_against_training(self, tmp_path):
        result, table = run(tmp_path, "ring-two-layer")
        (apart,) = (float(value.split()[0]) for name, value in table.items() if name.startswith("outputs"))
        assert apart == pytest.approx(0.919, abs=0.002)  # per cent
        experiment = load(ROOT / "data" / "ring-two-layer.toml")[0].network.build()
        # Independent of the experiment's own report: the midpoint rule at a small step, and the distance written out.
        network, w = experiment.network, np.array(result.w[0])
        for _ in range(2000):
            w -= 1e-3 * network.gradient(w - 5e-4 * network.gradient(w))
        own, theory = network.outputs(w), network.outputs(result.w[-1])
        error = np.sqrt(((theory - own) ** 2).sum() / (own**2).sum())
        assert apart == pytest.approx(100 * error, abs=0.002)


class TestKleinGordon:
    SMALL = ("grid.shape=[12,14,16]", "grid.length=[6,7,8]", "time.end=2.0", "output.save_every=1.0")

    def test_against_a_spectral_in_time_reference(self, tmp_path):
        result, _ = run(tmp_path, "klein-gordon-3d", *self.SMALL, "time.rtol=1e-8", "time.atol=1e-10")
        w, grid = np.array(result.w[0, 0]), result.grid
        waves = [2 * np.pi * np.fft.fftfreq(n) for n in grid.shape]
        laplacian = sum(
            (-4 / h**2 * np.sin(k / 2) ** 2).reshape([-1 if axis == number else 1 for number in range(3)])
            for axis, (k, h) in enumerate(zip(waves, grid.spacing, strict=True))
        )

        # Classical Runge-Kutta at a small step, with the compact Laplacian as a Fourier symbol.
        def rate(w, v):
            return v, ifftn(laplacian * fftn(w)).real + w - w**3 - 0.5 * v

        v, h = np.zeros_like(w), 0.01
        for _ in range(200):
            k1 = rate(w, v)
            k2 = rate(w + h / 2 * k1[0], v + h / 2 * k1[1])
            k3 = rate(w + h / 2 * k2[0], v + h / 2 * k2[1])
            k4 = rate(w + h * k3[0], v + h * k3[1])
            w, v = (y + h / 6 * (a + 2 * b + 2 * c + d) for y, a, b, c, d in zip((w, v), k1, k2, k3, k4, strict=True))
        assert np.allclose(result.w[-1, 0], w, atol=1e-7) and np.allclose(result.v[-1, 0], v, atol=1e-7)

    def test_energy_falls_as_shipped(self, tmp_path):
        result, _ = run(tmp_path, "klein-gordon-3d", "grid.shape=[24,24,24]")
        energy = result.scalars["energy"]
        assert np.all(np.diff(energy) < 0)
        assert len(result.t) == 3 and np.allclose(result.t, [0, 10, 20])
        assert np.mean(np.abs(result.w[-1, 0])) > 0.7  # it has fallen into the two vacua


class TestDeSitter:
    @staticmethod
    def factors(k, t, hubble=0.5, mass=0.1):
        """w_k(t) / w_k(0) of modes that start at rest, from e^{-Ht/2} times J_nu and Y_nu of k e^{-Ht}/H."""
        nu = np.sqrt(0.25 - (mass / hubble) ** 2)
        z0, z = k / hubble, k / hubble * np.exp(-hubble * t)
        # At rest: -H/2 f - H z f' = 0, for f = J and Y alike; the Wronskian of J and Y is 2/(pi z).
        rest = [-0.5 * f(nu, z0) - z0 * df(nu, z0) for f, df in ((jv, jvp), (yv, yvp))]
        return np.exp(-hubble * t / 2) * np.pi / 2 * (jv(nu, z) * rest[1] - yv(nu, z) * rest[0]) * -1.0

    def test_modes_are_bessel_functions(self, tmp_path):
        result, _ = run(tmp_path, "de-sitter", "time.rtol=1e-8", "time.atol=1e-10")
        (h,), w = result.grid.spacing, np.array(result.w[:, 0])
        k = 2 / h * np.sin(np.pi * np.fft.rfftfreq(512))[1:]
        assert np.allclose(self.factors(k, 0.0), 1.0, rtol=1e-9)
        for number in (10, 30, 100):
            modes, start = np.fft.rfft(w[number])[1:], np.fft.rfft(w[0])[1:]
            assert np.allclose(modes, start * self.factors(k, result.t[number]), atol=1e-6 * np.abs(start).max())

    def test_waves_stop_at_the_horizon(self, tmp_path):
        result, _ = run(tmp_path, "de-sitter")
        (x,) = result.grid.coordinates
        places = [x[np.argmax(np.where(x < 4, profile, 0.0))] for profile in np.array(result.w[[20, 60, 100], 0])]
        # Light runs from 4 to 4 - (1 - e^{-Ht})/H, the horizon at 2.
        assert places == pytest.approx([4 - 2 * (1 - np.exp(-t / 2)) for t in (2.0, 6.0, 10.0)], abs=0.03)
        height = result.w[:, 0].max(axis=1)
        assert height[-1] == pytest.approx(0.4619, abs=2e-4)


class TestFront:
    """Boosted walls of phi and chi along the diagonal of a periodic box."""

    R, V, G, SIDE = 0.4, 0.6, 1.25, 32.0

    def walls(self, grid, t):
        period = self.SIDE / np.sqrt(3)
        place = (sum(grid.mesh.values()) / np.sqrt(3) - self.V * t) / period % 1.0
        one, other = (2 * self.R * self.G * period * (place - at) for at in (0.25, 0.75))
        phi = np.tanh(one) - np.tanh(other) - 1
        return np.stack([phi, np.sqrt(1 / self.R - 2) * (1 / np.cosh(one) + 1 / np.cosh(other))])

    def test_walls_keep_their_shape_and_speed(self, tmp_path):
        result, table = run(tmp_path, "front-3d", "grid.shape=[48,48,48]")
        assert table["method"].startswith("leapfrog4")
        error = np.abs(result.w[-1] - self.walls(result.grid, 5.0))
        assert np.sqrt(np.mean(error**2)) < 6e-3
        # Each of the two walls has area sqrt(3) side^2 and energy 4/3 g per area.
        energy = result.scalars["energy"]
        assert energy[-1] == pytest.approx(2 * np.sqrt(3) * self.SIDE**2 * 4 / 3 * self.G, rel=2e-3)
        assert np.ptp(energy) < 1e-3 * energy[0]


class TestKink:
    """A sine-Gordon kink that crosses the box from wall to wall."""

    V, G, X0 = 0.6, 1.25, -8.0

    def errors(self, result):
        (x,) = result.grid.coordinates
        exact = 4 * np.arctan(np.exp(self.G * (x - self.X0 - self.V * result.t[:, None])))
        return np.abs(result.w[:, 0] - exact)

    def test_against_the_closed_form(self, tmp_path):
        result, _ = run(tmp_path, "kink")
        assert len(result.t) == 105 and result.t[-1] == 52.0
        assert self.errors(result).max() < 4e-6
        # It has come from nothing and gone to nothing: energy 8 g while its centre is far from both walls.
        energy = result.scalars["energy"]
        middle = np.argmin(np.abs(result.scalars["t"] - (8.0 - self.X0) / self.V))
        assert energy[middle] == pytest.approx(8 * self.G, rel=1e-6)
        assert energy[0] < 1e-6 and energy[-1] < 1e-5

    def test_its_error_is_of_order_four(self):
        errors = []
        for cells in (80, 160):
            config, _ = load(ROOT / "data" / "kink.toml", [f"grid.shape=[{cells}]", "time.rtol=1e-7", "time.atol=1e-9"])
            job = config.build("kink.toml")
            result = sft.solve(job.action, job.grid, **(job.options | {"output": None, "progress": False}))
            errors.append(np.sqrt(np.mean(self.errors(result) ** 2)))
        assert np.log2(errors[0] / errors[1]) == pytest.approx(4.0, abs=0.15)


def test_friction_scan_finds_critical_damping(tmp_path):
    picture = tmp_path / "scan.png"
    command = [sys.executable, ROOT / "scripts" / "scan_friction.py", picture]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ratios, times = np.array([[float(entry) for entry in line.split()] for line in printed.splitlines()[1:]]).T
    assert ratios[np.argmin(times)] == 1.0
    # The slowest rate is gamma/2 below the critical friction and about m/gamma far above it; the energy falls at twice it.
    assert times[0] == pytest.approx(np.log(1e6) / 2 / ratios[0], rel=0.15)
    slow = ratios[-1] - np.sqrt(ratios[-1] ** 2 - 1)
    assert times[-1] == pytest.approx(np.log(1e6) / 2 / slow, rel=0.15)
    assert picture.exists()
