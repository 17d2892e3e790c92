"""From a function A(x, y) to the kernel that serves it best."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from sftsolve.errors import ActionError, ConfigError, GridError
from sftsolve.grid import Grid
from sftsolve.kernels.convolution import Convolution
from sftsolve.kernels.dense import Dense
from sftsolve.kernels.entries import ExpressionEntries, FunctionEntries, PointEntries
from sftsolve.kernels.low_rank import LowRank
from sftsolve.kernels.protocol import Estimate, memory_limit, readable
from sftsolve.kernels.reference import joined
from sftsolve.kernels.sampling import Samples
from sftsolve.kernels.sparse import Sparse
from sftsolve.kernels.structures import AsConvolution, AsDense, AsLowRank, AsSparse, Structure, Task

log = logging.getLogger("sftsolve")

ALTERNATIVES = (
    "accept a larger error (tol=), shorten the kernel's range, make it a function of x - x2 alone, give it as an expression "
    "(which is evaluated in every force and never stored), take a coarser grid, or raise memory="
)


class Kernel:
    """Makes kernels of functions of two points."""

    @staticmethod
    def from_function(
        kernel: str | Callable[..., Any],
        first: str,
        second: str,
        grid: Grid,
        tol: float = 1e-8,
        memory: float | None = None,
        parameters: Mapping[str, float] | None = None,
        about: Any = None,
        minimal_image: bool = True,
    ) -> Convolution | Sparse | LowRank | Dense:
        """The cost  int int A(x, y) a(x) b(y),  without a factor 1/2, in the structure that makes its force cheapest.

        Samples decide: a kernel that is the same after any shift becomes a `Convolution`; else the cheapest of `Sparse` (it
        vanishes far away), `LowRank` (its random blocks have small numerical rank) and `Dense` is taken that fits into memory and
        whose error, measured at other samples, is accepted. The choice and its price are logged before anything is built, and
        kept with the measured error in the kernel's attribute `report`.

        Parameters
        ----------
        kernel : A, an expression of (x, y, z) and (x2, y2, z2), or a function of arrays of coordinates A(x, y, z, x2, y2, z2)
            (as many as the grid has axes)
        first, second : the fields a and b, which may be the same; then only the symmetric part of A is looked at
        tol : accepted error, root mean square as a share of that of A
        memory : bytes that the kernel may hold, `memory_limit` by default
        parameters : numbers by name, for an expression
        about : w_ref, see `Reference`; the kernel acts on w - w_ref
        minimal_image : on periodic axes, whether a function of x - x2 alone is taken at the nearest image of x2, as the one of
            `Convolution` is, where it does not repeat itself with the box

        Raises
        ------
        ActionError : no expression and no function, a function that fails, values that are not finite
        ConfigError : a tolerance or a limit that makes no sense
        ExpressionError : a text outside the language
        GridError : no structure fits into memory and keeps the error; the message names alternatives
        """
        entries = _entries(kernel, parameters)
        if not isinstance(grid, Grid):
            raise ActionError("Kernel.from_function looks at the kernel on a grid", expected="a Grid", given=repr(grid)[:80])
        for name, value, top in (("tol", tol, 1.0), ("memory", memory, float("inf"))):
            if value is not None and not 0 < value < top:
                raise ConfigError(f"{name}= is not usable", expected=f"a number above 0 and below {top:g}", given=value)
        limit = memory_limit() if memory is None else float(memory)
        samples = Samples(entries, grid, (), symmetrised=len(joined("Kernel", first, second)) == 1)
        task = Task(samples, first, second, tol, about)
        task, candidates, findings = _candidates(task, limit, minimal_image)
        for structure in candidates:
            if structure.estimate.memory > limit:
                findings.append(f"{structure.name} would take {readable(structure.estimate.memory)}")
                continue
            price = structure.estimate
            plan = f"{structure.name}: holds {readable(price.memory)}, moves {readable(price.bytes)} a force"
            log.info("kernel %s on %s: %s (%s)", entries, grid.shape, plan, "; ".join(findings))
            found = structure.build()
            error = task.samples.error(structure.entries(found, *task.samples.probes))
            if error <= tol:
                found.report = (
                    f"{plan}\n  error {error:.2g} measured, {tol:.2g} accepted (root mean square, relative)\n  "
                    + "\n  ".join(findings)
                )
                log.info("kernel %s: error %.2g measured, %.2g accepted", entries, error, tol)
                return found
            findings.append(f"{structure.name} has an error of {error:.2g}")
        raise GridError(
            "no structure holds this kernel in the memory that it may take",
            expected=f"at most {readable(limit)} and a relative error of {tol:.2g}",
            given="; ".join(findings),
            remedy=ALTERNATIVES,
        )


def _entries(kernel: Any, parameters: Mapping[str, float] | None) -> PointEntries:
    if isinstance(kernel, str):
        return ExpressionEntries(kernel, parameters)
    if not callable(kernel):
        raise ActionError(
            "Kernel.from_function takes a function of two points",
            expected="an expression such as 'exp(-(x-x2)**2)', or a function of arrays",
            given=type(kernel).__name__,
            remedy="Dense takes arrays, Sparse sparse matrices",
        )
    if parameters:
        raise ActionError("a function in Python has no parameters here", expected="an expression, or no parameters")
    return FunctionEntries(kernel)


def _candidates(task: Task, limit: float, minimal_image: bool) -> tuple[Task, list[Structure], list[str]]:
    """The task as it is understood, structures in the order in which they are tried, and what was found out on the way."""
    samples, tolerance = task.samples, task.tolerance
    change = samples.invariance()
    if change <= tolerance:
        return task, [AsConvolution(task)], ["translation invariant"]
    findings = [f"not translation invariant (a shift changes it by {change:.2g})"]
    circles = tuple(axis for axis in task.grid.axes if task.grid.periodic(axis))
    if minimal_image and circles:
        nearest = Samples(samples.entries, task.grid, circles, samples.symmetrised)
        if nearest.invariance() <= tolerance:
            names = ", ".join(circles)
            log.warning("kernel %s does not repeat itself along %s: taken at the nearest image", samples.entries, names)
            moved = Task(nearest, task.first, task.second, tolerance, task.about)
            found_out = f"a function of the displacement alone, taken at the nearest image along {names}"
            return moved, [AsConvolution(moved)], [found_out]
    sparse = AsSparse(task)
    rank = samples.rank(0.5 * tolerance, sparse.share)
    findings.append(f"{100 * sparse.share:.3g}% of the entries matter")
    findings.append("no low rank" if rank is None else f"numerical rank about {rank}")
    found: list[Structure] = [sparse, AsDense(task, limit)]
    if rank is not None:
        found.append(AsLowRank(task, rank))
    return task, sorted(found, key=lambda structure: _price(structure.estimate)), findings


def _price(estimate: Estimate) -> float:
    """Bytes that take as long as a force, where an operation takes as long as two of them."""
    return max(estimate.bytes, 2.0 * estimate.flops)
