"""What all kernels share: estimates, the memory limit, bounds, merging, the registry."""

from pathlib import Path

import numpy as np
import pytest

import sftsolve as sft
from sftsolve import kernels
from sftsolve.errors import ConfigError, GridError
from sftsolve.kernels.protocol import Estimate, memory_limit, merged, readable


def test_the_memory_limit_is_half_of_the_machine_or_what_is_set(monkeypatch):
    monkeypatch.delenv("SFTSOLVE_MEMORY", raising=False)
    table = Path("/proc/meminfo")
    if table.is_file():
        total = next(int(line.split()[1]) * 1024 for line in table.read_text().splitlines() if line.startswith("MemTotal"))
        assert memory_limit() == pytest.approx(total / 2, rel=0.01)
    monkeypatch.setenv("SFTSOLVE_MEMORY", "2e9")
    assert memory_limit() == 2e9
    for wrong in ("much", "-1", "nan", "0"):
        monkeypatch.setenv("SFTSOLVE_MEMORY", wrong)
        with pytest.raises(ConfigError, match="SFTSOLVE_MEMORY"):
            memory_limit()


def test_estimates_add_and_refuse():
    two = Estimate(1.0, 2.0, 3e9) + Estimate(4.0, 5.0, 1e9)
    assert two == Estimate(5.0, 7.0, 4e9)
    two.require("a kernel", limit=4e9)
    with pytest.raises(GridError) as caught:
        two.require("a kernel", limit=1024**3, remedy="another one")
    assert "3.725 GiB" in str(caught.value) and "at most 1 GiB" in str(caught.value) and "another one" in str(caught.value)
    assert [readable(size) for size in (12, 2048, 5e12)] == ["12 B", "2 KiB", "4.547 TiB"]


def test_the_registry_holds_every_kind():
    names = {"convolution", "modulated", "shift", "low-rank", "sparse", "dense", "separable", "fractional", "pointwise-matrix"}
    assert set(kernels.REGISTRY) == names
    for kind in kernels.REGISTRY.values():
        assert callable(kind.bind) and callable(kind.estimate) and kind.__doc__
    with pytest.raises(AttributeError):
        kernels.NOTHING  # noqa: B018


def test_bound_and_estimate_of_a_pointwise_matrix():
    rng = np.random.default_rng(0)
    grid = sft.Grid((5, 6), (1.0, 1.0))
    matrix = rng.standard_normal((3, 3, 5, 6))
    kernel = sft.PointwiseMatrix(["a", "b", "c"], matrix)
    system = sft.discretise(sft.Action(["a", "b", "c"], kernels=[kernel]), grid, dynamics="gradient-flow")
    symmetric = (matrix + matrix.swapaxes(0, 1)) / 2
    largest = np.abs(np.linalg.eigvalsh(symmetric.transpose(2, 3, 0, 1))).max()
    assert largest <= system.kernels[0].bound() <= 3 * largest
    assert system.kernels[0].symbol() is None
    assert kernel.estimate(grid).memory == system.kernels[0]._upper.nbytes + system.kernels[0]._vector.nbytes


def test_a_local_force_leaves_its_bound_to_the_power_iteration():
    grid = sft.Grid((32,), (1.0,))
    system = sft.discretise(sft.Action(["w"], "grad2(w)/2 + S*w**4", sources={"S": "x"}), grid, dynamics="gradient-flow")
    assert system.local.bound() is None
    assert system.local.estimate().memory == system.local.arrays.nbytes
    assert system.local.estimate().bytes == 8 * 32 * 3


def test_operators_merge_where_they_offer_to():
    class Counter:
        def __init__(self, names):
            self.names = names

        def merge(self, other):
            return Counter(self.names + other.names) if isinstance(other, Counter) else None

    class Loner:
        pass

    loner = Loner()
    found = merged([Counter("a"), loner, Counter("b"), Counter("c")])
    assert len(found) == 2 and found[0].names == "abc" and found[1] is loner
