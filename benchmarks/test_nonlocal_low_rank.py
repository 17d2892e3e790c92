"""Kernels without translation invariance, as fractions of the machine's triad or of what SciPy and NumPy take, in one run.

Bytes are those of `estimate`: phi twice, a sparse or full matrix once, and the fields. Nothing is asserted about time.
"""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from conftest import seconds
from scipy import sparse

import sftsolve as sft


def force(kernel, grid, fields=("a", "b")):
    """(call, bytes) of one force of a kernel alone."""
    system = sft.discretise(sft.Action(fields, kernels=[kernel]), grid, dynamics="gradient-flow")
    rng = np.random.default_rng(1)
    state = system.state({name: rng.standard_normal(grid.shape) for name in fields})
    out = state.like()
    operator = system.kernels[0]
    return (lambda: operator.add_force(state, out, 0.0)), kernel.estimate(grid).bytes


def functions(shape, rank, dtype="float64", fields=None):
    """Random functions on a grid; made line by line, as a bank may take much of the memory."""
    phi = np.empty((rank, *shape), dtype)
    rng = np.random.default_rng(0)
    for part in phi:
        part[...] = rng.standard_normal(shape, dtype)
    return phi


def of_triad(benchmark, machine, report, name, call, size, rounds=9):
    figures = machine.ratio(call, size, rounds)
    figures["GB"] = size / 1e9
    benchmark.extra_info.update(figures)
    report(f"{name}, of triad", figures)
    benchmark.pedantic(call, rounds=3, warmup_rounds=1)


SHAPES = {"1024^2": ((1024, 1024), 100), "64^3": ((64, 64, 64), 400), "256^3": ((256, 256, 256), 8), "2^14": ((1 << 14,), 4000)}


@pytest.mark.parametrize("shape, rank", SHAPES.values(), ids=SHAPES)
def test_low_rank(benchmark, machine, report, shape, rank):
    grid = sft.Grid(shape, [1.0] * len(shape))
    call, size = force(sft.LowRank("a", "a", functions(shape, rank)), grid)
    of_triad(benchmark, machine, report, f"low rank {rank}, {'x'.join(map(str, shape))}", call, size)


def test_low_rank_against_numpy(benchmark, report):
    grid = sft.Grid((1024, 1024), (1.0, 1.0))
    phi = functions(grid.shape, 100)
    call, _ = force(sft.LowRank("a", "a", phi), grid)
    flat, vector = phi.reshape(100, -1), np.ones(grid.size)
    figures = against(lambda: (flat @ vector) @ flat, call)
    benchmark.extra_info.update(figures)
    report("low rank 100, 1024^2, NumPy (BLAS) over it", figures)
    benchmark.pedantic(call, rounds=3, warmup_rounds=1)


def test_low_rank_between_two_fields(benchmark, machine, report):
    grid = sft.Grid((1024, 1024), (1.0, 1.0))
    call, size = force(sft.LowRank("a", "b", functions(grid.shape, 100)), grid)
    of_triad(benchmark, machine, report, "low rank 100, 1024^2, two fields on one bank", call, size)


def test_low_rank_of_two_banks(benchmark, machine, report):
    grid = sft.Grid((1024, 1024), (1.0, 1.0))
    phi = functions(grid.shape, 100)
    call, size = force(sft.LowRank("a", "b", phi[:50], phi[50:]), grid)
    of_triad(benchmark, machine, report, "low rank 50, 1024^2, phi and psi", call, size)


def test_low_rank_in_single_precision(benchmark, machine, report):
    grid = sft.Grid((1024, 1024), (1.0, 1.0))
    call, size = force(sft.LowRank("a", "a", functions(grid.shape, 200, "float32")), grid)
    of_triad(benchmark, machine, report, "low rank 200, 1024^2, float32", call, size)


def test_separable(benchmark, machine, report):
    grid = sft.Grid((1024, 1024), (1.0, 1.0))
    call, size = force(sft.Separable("a", functions(grid.shape, 100), "log(1 + exp(s))"), grid)
    of_triad(benchmark, machine, report, "separable, rank 100, 1024^2", call, size)


def test_dense_array(benchmark, machine, report):
    grid = sft.Grid((12_000,), (1.0,))
    matrix = np.random.default_rng(0).standard_normal((grid.size, grid.size))
    vector, turned = np.ones(grid.size), matrix.T
    call, size = force(sft.Dense("a", "b", matrix), grid)
    of_triad(benchmark, machine, report, "dense array 12000^2, both forces", call, size)
    report("dense array 12000^2, BLAS A b and A^T a over it", against(lambda: (matrix @ vector, turned @ vector), call))


def test_dense_expression(benchmark, report):
    grid = sft.Grid((100, 100), (1.0, 1.0))
    call, _ = force(sft.Dense("a", "b", "exp(-((x-x2)**2 + (y-y2)**2)/0.1)"), grid)
    x, y = (np.broadcast_to(part, grid.shape).reshape(-1) for part in (grid.mesh["x"], grid.mesh["y"]))
    some, vector = slice(0, 500), np.ones(grid.size)  # a twentieth of the rows: all of them would take 2 GB of temporaries

    def with_numpy():
        block = np.exp(-((x[some, None] - x) ** 2 + (y[some, None] - y) ** 2) / 0.1)
        return block @ vector, block.T @ vector[some]

    figures = against(with_numpy, call)
    figures["ratio"] *= grid.size / 500
    figures["Mpairs/s"] = grid.size**2 / figures["seconds"] / 1e6
    benchmark.extra_info.update(figures)
    report("dense expression on 100^2, NumPy in blocks over it", figures)
    benchmark.pedantic(call, rounds=2)


@pytest.mark.parametrize("reach", [1, 2], ids=["9 entries", "25 entries"])
def test_sparse(benchmark, machine, report, reach):
    grid = sft.Grid((1024, 1024), (1.0, 1.0))
    offsets = [1024 * j + i for j in range(-reach, reach + 1) for i in range(-reach, reach + 1)]
    matrix = sparse.diags_array([np.full(grid.size - abs(o), 0.5) for o in offsets], offsets=offsets).tocsr()
    call, size = force(sft.Sparse("a", "a", matrix), grid)
    of_triad(benchmark, machine, report, f"sparse, {len(offsets)} entries a row, 1024^2", call, size)
    vector, whole = np.ones(grid.size), (matrix + matrix.T).tocsr()
    report(f"sparse, {len(offsets)} entries a row, SciPy's product over it", against(lambda: whole @ vector, call))


def against(other, call, rounds=9) -> dict[str, float]:
    """How many times longer another call takes: median of interleaved pairs."""
    other(), call()
    pairs = [(seconds(other), seconds(call)) for _ in range(rounds)]
    return {"ratio": statistics.median(a / b for a, b in pairs), "seconds": statistics.median(b for _, b in pairs)}
