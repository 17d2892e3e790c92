"""Kernel.from_function: every structure is found where it is, keeps its error, and equals the double sum of the function."""

import logging
import re

import numpy as np
import pytest
from double_sums import DoubleSum, assert_equals_double_sum, points

import sftsolve as sft
from sftsolve.errors import ActionError, ConfigError, ExpressionError, GridError
from sftsolve.kernels.convolution import Convolution

WALL = {"derivative": 0.0}
CIRCLES = sft.Grid((14, 18), (1.0, 1.0))
WALLED = sft.Grid((14, 18), (1.0, 1.0), boundary=WALL)
MIXED = sft.Grid((14, 18), (1.0, 1.0), boundary={"y": WALL})
LINE = sft.Grid((240,), (1.0,), boundary=WALL)
BOX = sft.Grid((6, 7, 8), (1.0, 1.0, 1.0), boundary={"z": WALL})
TOLERANCE = 1e-8

CASES = {  # grid, expression, the same as a function, structure
    "waves on circles": (
        CIRCLES,
        "exp(cos(2*pi*(x-x2)) + sin(2*pi*(y-y2)))",
        lambda x, y, x2, y2: np.exp(np.cos(2 * np.pi * (x - x2)) + np.sin(2 * np.pi * (y - y2))),
        Convolution,
    ),
    "a shifted bell between walls": (
        WALLED,
        "exp(-((x-x2)**2 + (y-y2-0.2)**2)/0.02)",
        lambda x, y, x2, y2: np.exp(-((x - x2) ** 2 + (y - y2 - 0.2) ** 2) / 0.02),
        Convolution,
    ),
    "a circle and walls": (
        MIXED,
        "cos(2*pi*(x-x2) + 1)*exp((y-y2)/0.4)",
        lambda x, y, x2, y2: np.cos(2 * np.pi * (x - x2) + 1) * np.exp((y - y2) / 0.4),
        Convolution,
    ),
    "three axes": (
        BOX,
        "cos(2*pi*(x-x2))*cos(4*pi*(y-y2))/(1 + (z-z2)**2)",
        lambda x, y, z, x2, y2, z2: np.cos(2 * np.pi * (x - x2)) * np.cos(4 * np.pi * (y - y2)) / (1 + (z - z2) ** 2),
        Convolution,
    ),
    "smooth and symmetric": (LINE, "1/(1 + x*x2)", lambda x, x2: 1 / (1 + x * x2), sft.LowRank),
    "smooth, not symmetric": (LINE, "sin(3*x + x2**2)", lambda x, x2: np.sin(3 * x + x2**2), sft.LowRank),
    "smooth in three axes": (
        BOX,
        "(1 + x*x2 + y*z2)**2",
        lambda x, y, z, x2, y2, z2: (1 + x * x2 + y * z2) ** 2,
        sft.LowRank,
    ),
    "a bell whose height varies": (
        LINE,
        "(1 + x)*exp(-(x-x2)**2/0.0002)",
        lambda x, x2: (1 + x) * np.exp(-((x - x2) ** 2) / 0.0002),
        sft.Sparse,
    ),
    "short on a circle and between walls": (
        MIXED,
        "(2 + y)*exp(-(sin(pi*(x-x2))**2 + (y-y2)**2)/0.002)",
        lambda x, y, x2, y2: (2 + y) * np.exp(-(np.sin(np.pi * (x - x2)) ** 2 + (y - y2) ** 2) / 0.002),
        sft.Sparse,
    ),
    "short about another line than the diagonal": (
        LINE,
        "exp(-(x+x2-1)**2/0.0002)*(2+x)",
        lambda x, x2: np.exp(-((x + x2 - 1) ** 2) / 0.0002) * (2 + x),
        sft.Sparse,
    ),
    "wild": (LINE, "cos(3000*x*x2*(1+x2))", lambda x, x2: np.cos(3000 * x * x2 * (1 + x2)), sft.Dense),
}


def matrix(grid, function):
    """The function between all cells, (N, N)."""
    cells = points(grid)
    names = [axis for axis in "xyz" if axis in cells]
    arguments = [cells[axis].reshape(shape) for shape in ((-1, 1), (1, -1)) for axis in names]
    return np.broadcast_to(function(*arguments), (grid.size, grid.size))


@pytest.mark.parametrize("grid, text, function, structure", CASES.values(), ids=CASES)
@pytest.mark.parametrize("pair", [("a", "b"), ("a", "a")], ids=" ".join)
def test_finds_the_structure_and_keeps_the_error(grid, text, function, structure, pair):
    kernel = sft.Kernel.from_function(function, *pair, grid, tol=TOLERANCE)
    assert type(kernel) is structure
    assert type(sft.Kernel.from_function(text, *pair, grid, tol=TOLERANCE)) is structure
    expected = DoubleSum(matrix(grid, function), *pair, grid)
    # A random field meets the kernel's error as a whole: the tolerance is that of the root mean square.
    assert_equals_double_sum(
        kernel, expected, grid, tolerance=20 * TOLERANCE if structure in (sft.LowRank, sft.Sparse) else 1e-12
    )
    measured = float(re.search(r"error (\S+) measured", kernel.report)[1])
    assert measured <= TOLERANCE
    assert re.search(r"holds \S+ \wi?B, moves \S+ \wi?B a force|holds \S+ B, moves \S+ B a force", kernel.report), kernel.report


def test_rank_follows_the_tolerance():
    """exp(x x2) has singular values that fall faster than exponentially."""
    sizes = np.linalg.svd(np.exp(np.outer(*[LINE.coordinates[0]] * 2)), compute_uv=False)
    ranks = []
    for tolerance in (1e-2, 1e-5, 1e-10):
        kernel = sft.Kernel.from_function("exp(x*x2)", "a", "a", LINE, tol=tolerance)
        rest = [np.sqrt(np.sum(sizes[n:] ** 2)) / np.sqrt(np.sum(sizes**2)) for n in range(len(sizes))]
        needed = next(n for n, error in enumerate(rest) if error <= tolerance)
        assert needed <= kernel.rank <= needed + 2
        ranks.append(kernel.rank)
    assert ranks == sorted(set(ranks))


def test_a_structure_that_misses_the_error_is_given_up():
    """A smooth kernel with a spike on its diagonal, which blocks of random entries do not see."""
    grid = sft.Grid((1000,), (1.0,), boundary=WALL)
    x = grid.coordinates[0]
    kernel = sft.Kernel.from_function("1/(1 + x*x2) + x*exp(-((x-x2)/1e-5)**2)", "a", "b", grid, tol=1e-6)
    assert isinstance(kernel, sft.Dense)
    assert re.search(r"LowRank, rank about \d+ has an error of \S+", kernel.report), kernel.report
    np.testing.assert_allclose(kernel.entries.matrix, 1 / (1 + np.outer(x, x)) + np.diag(x), rtol=1e-14)


def test_an_indefinite_symmetric_kernel_needs_one_bank():
    kernel = sft.Kernel.from_function("x + x2", "a", "b", LINE)
    assert (kernel.rank, kernel.psi) == (2, None)
    assert sorted(np.sign(kernel.weights)) == [-1, 1]
    assert sft.Kernel.from_function("x*x2**2", "a", "b", LINE).psi is not None


def test_nearest_image_on_circles(caplog):
    """A function of x - x2 alone that does not repeat itself with the box, as it is usually typed."""
    text, width = "exp(-(x-x2)**2/0.01)", 0.01
    grid = sft.Grid((40,), (1.0,))
    cells = points(grid)["x"]
    distance = cells[:, None] - cells
    distance -= np.round(distance)
    with caplog.at_level(logging.WARNING, "sftsolve"):
        kernel = sft.Kernel.from_function(text, "a", "b", grid)
    assert isinstance(kernel, Convolution)
    assert "nearest image" in caplog.text and "nearest image" in kernel.report
    assert_equals_double_sum(kernel, DoubleSum(np.exp(-(distance**2) / width), "a", "b", grid), grid)
    as_typed = sft.Kernel.from_function(text, "a", "b", grid, minimal_image=False)
    assert not isinstance(as_typed, Convolution)
    expected = DoubleSum(np.exp(-((cells[:, None] - cells) ** 2) / width), "a", "b", grid)
    assert_equals_double_sum(as_typed, expected, grid, tolerance=1e-7)


def test_a_wide_grid_is_served_without_its_square():
    """36000 cells, whose matrix would take 9.7 GiB."""
    grid = sft.Grid((200, 180), (1.0, 0.9), boundary=WALL)
    kernel = sft.Kernel.from_function("(1 + x*y)*exp(-((x-x2)**2 + (y-y2)**2)/4e-5)", "a", "b", grid, tol=1e-4)
    assert isinstance(kernel, sft.Sparse)
    rows = np.random.default_rng(0).integers(grid.size, size=20)
    cells = points(grid)
    for row in rows:
        x, y = cells["x"][row], cells["y"][row]
        wanted = (1 + x * y) * np.exp(-((x - cells["x"]) ** 2 + (y - cells["y"]) ** 2) / 4e-5)
        found = kernel.matrix[[row]].toarray()[0]
        assert np.linalg.norm(found - wanted) <= 1e-4 * np.linalg.norm(wanted)
    smooth = sft.Kernel.from_function("1/(1 + x*x2 + y*y2)", "a", "a", grid, tol=1e-3)
    assert isinstance(smooth, sft.LowRank)
    assert smooth.rank < 12


def test_the_choice_and_its_memory_are_said_before_anything_is_built(caplog):
    evaluated = {0: 0, 1: 0}  # pairs, by how often something had been said

    def watched(x, x2):
        evaluated[len(caplog.records)] += int(np.prod(np.broadcast_shapes(x.shape, x2.shape)))
        return np.cos(3000 * x * x2 * (1 + x2))

    grid = sft.Grid((2400,), (1.0,), boundary=WALL)
    with caplog.at_level(logging.INFO, "sftsolve"):
        sft.Kernel.from_function(watched, "a", "b", grid)
    assert "Dense, an array of all entries: holds 43.95 MiB" in caplog.records[0].getMessage()
    assert evaluated[0] < 0.3 * grid.size**2 <= grid.size**2 <= evaluated[1]


def test_about_is_passed_on():
    for text in ("x*x2", "exp(-(x-x2)**2/0.0002)"):
        kernel = sft.Kernel.from_function(text, "a", "b", LINE, about={"a": 1.0, "b": "x"})
        whole = sft.discretise(sft.Action(["a", "b"], kernels=[kernel]), LINE, dynamics="gradient-flow")
        assert np.abs(whole.force(np.stack([np.ones(240), LINE.coordinates[0]]))).max() < 1e-14


def test_memory_limits():
    wild = CASES["wild"]
    limit = 100_000  # the matrix takes 460800
    with pytest.raises(GridError) as caught:
        sft.Kernel.from_function(wild[2], "a", "b", LINE, memory=limit)
    message = str(caught.value)
    assert all(part in message for part in ("450 KiB", "97.66 KiB", "expression", "coarser grid", "tol=", "no low rank")), message
    kernel = sft.Kernel.from_function(wild[1], "a", "b", LINE, memory=200_000)
    assert isinstance(kernel, sft.Dense) and "never stored" in kernel.report
    assert_equals_double_sum(kernel, DoubleSum(matrix(LINE, wild[2]), "a", "b", LINE), LINE, tolerance=1e-11)


def singular(x, x2):
    return 1 / (x - x2)


BAD = {
    "no function": (np.ones((240, 240)), {}, ActionError, r"function of two points(.|\n)*Dense takes arrays"),
    "a function that fails": (lambda x: x, {}, ActionError, r"function of 2 arrays(.|\n)*TypeError"),
    "a function of another shape": (lambda x, x2: np.ones(7), {}, ActionError, r"cannot be used"),
    "a complex function": (lambda x, x2: 1j * x * x2, {}, ActionError, r"complex"),
    "singular": (singular, {}, ActionError, r"not finite(.|\n)*soften"),
    "an unknown name": ("x*y2", {}, ExpressionError, r"unknown name 'y2'"),
    "code": ("x.real", {}, ExpressionError, r"attribute"),
    "no grid": ("x*x2", {"grid": (240,)}, ActionError, r"a Grid"),
    "no tolerance": ("x*x2", {"tol": 0.0}, ConfigError, r"tol="),
    "tolerance not a number": ("x*x2", {"tol": np.nan}, ConfigError, r"tol="),
    "no memory": ("x*x2", {"memory": -1.0}, ConfigError, r"memory="),
    "parameters of a function": (lambda x, x2: x * x2, {"parameters": {"s": 1.0}}, ActionError, r"no parameters"),
}


@pytest.mark.parametrize("kernel, options, error, message", BAD.values(), ids=BAD)
def test_bad_input_is_refused(kernel, options, error, message):
    with pytest.raises(error) as caught:
        sft.Kernel.from_function(kernel, "a", "b", **{"grid": LINE, **options})
    assert re.search(message, str(caught.value)), caught.value
