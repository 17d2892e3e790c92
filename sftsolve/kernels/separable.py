"""Separable n-point terms: scalar functions of integrals over the fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from sftsolve.algebra import Node, Symbol, differentiate, evaluate, leaves
from sftsolve.codegen.curves import compile_curves
from sftsolve.errors import ActionError
from sftsolve.expression import CONSTANTS, Names, parse
from sftsolve.grid import Grid
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.reference import Reference, as_bank, check_finite, check_shape, inner_products, joined
from sftsolve.loops.projection import Projection
from sftsolve.state import Layout, State


class Separable:
    """The cost  sum_r g_r(s_r),  s_r = <phi_r, w> = sum_a int d^dx phi_ra(x) w_a(x);  the force on w_a is -sum_r g_r' phi_ra.

    A power s**n gives the n-point interaction phi_r(x_1) ... phi_r(x_n) at the price of two passes over phi; sums of them carry
    the higher orders of the cost's expansion in the fields (arXiv:2503.08827 and its talk), and a ridge function the network with
    one hidden layer. The derivatives g' and g'' are taken symbolically.

    Parameters
    ----------
    fields : the field, or several
    phi : (rank, *grid.shape) for one field by name, (rank, field, *grid.shape) for a list; float64 or float32, not copied where
        it is contiguous
    g : an expression of s such as ``"s**4/4"``, or one for each r
    parameters : what other names in g stand for: a number, or one for each r
    about : w_ref, see `Reference`; then s_r = <phi_r, w - w_ref>

    Raises
    ------
    ActionError : arrays that do not fit each other, values that are not finite
    ExpressionError : a g outside the language, or without derivatives
    """

    def __init__(
        self,
        fields: str | Sequence[str],
        phi: Any,
        g: str | Sequence[str],
        parameters: Mapping[str, Any] | None = None,
        about: Any = None,
    ):
        several = not isinstance(fields, str)
        names = list(fields) if several else [fields]
        self.fields = joined("Separable", *names)
        self.phi = as_bank("phi of Separable", phi, 1 + several)
        if not names or len(self.fields) != len(names) or (several and self.phi.shape[1] != len(names)):
            raise ActionError(
                "phi of Separable does not fit its fields",
                expected=f"distinct fields and an array (rank, {len(names)}, *grid.shape)",
                given=f"fields {names}, array {self.phi.shape}",
            )
        if not several:
            self.phi = self.phi[:, None]
        self.parameters = {name: self._numbers(name, value) for name, value in (parameters or {}).items()}
        texts = [g] * self.rank if isinstance(g, str) else list(g)
        if len(texts) != self.rank:
            raise ActionError("g of Separable does not fit phi", expected=f"one or {self.rank} expressions", given=len(texts))
        self.texts = tuple(dict.fromkeys(texts))
        self.which = np.array([self.texts.index(text) for text in texts], np.int64)
        known = Names(values=["s", *self.parameters])
        self.functions = tuple(parse(text, known, "g of Separable") for text in self.texts)
        self.curvatures = tuple(differentiate(differentiate(node, Symbol("s")), Symbol("s")) for node in self.functions)
        self.about = Reference(self.fields, about)

    @property
    def rank(self) -> int:
        """Number of integrals s_r."""
        return len(self.phi)

    def estimate(self, grid: Grid, dtype: str = "float64") -> Estimate:
        """Two passes over phi a force."""
        fields = 3 * 8.0 * grid.size * len(self.fields)
        reference = self.about.bytes_on(Layout.of(grid, 0, dtype))
        return Estimate(4.0 * self.phi.size, 2.0 * self.phi.nbytes + fields, float(self.phi.nbytes), making=reference)

    def bind(self, fields: tuple[str, ...], grid: Grid, layout: Layout) -> BoundSeparable:
        """The operator on a grid.

        Raises
        ------
        GridError : phi has another shape than the grid, or w_ref does not fit it
        """
        check_shape("phi of Separable", self.phi.shape[2:], grid)
        reference = self.about.padded(fields, grid, layout)
        return BoundSeparable(self, [fields.index(name) for name in self.fields], reference, grid, layout)

    def _numbers(self, name: str, value: Any) -> np.ndarray:
        if not isinstance(name, str) or not name.isidentifier() or name == "s" or name in CONSTANTS:
            raise ActionError(f"parameter name {name!r} of Separable is not usable", expected="an identifier other than s")
        values = np.asarray(value)
        if values.shape not in ((), (self.rank,)):
            raise ActionError(
                f"parameter {name!r} of Separable does not fit phi",
                expected=f"a number, or {self.rank} of them",
                given=f"shape {values.shape}",
            )
        check_finite(f"parameter {name!r} of Separable", np.atleast_1d(values))
        return np.broadcast_to(values.astype(np.float64), (self.rank,))

    def __repr__(self) -> str:
        return f"Separable({list(self.fields)}, phi{self.phi.shape}, {' | '.join(self.texts[:3])})"


class BoundSeparable:
    """`Separable` on a grid."""

    def __init__(self, kernel: Separable, index: list[int], reference: np.ndarray | None, grid: Grid, layout: Layout):
        self._kernel, self._volume, rank = kernel, grid.cell_volume, kernel.rank
        bank = kernel.phi.reshape(rank, len(index), -1)
        parts = [(0, field, slot) for slot, field in enumerate(index)]
        self._here = Projection(bank, self._volume, layout, parts)
        self._both = Projection(bank, self._volume, layout, parts + [(1, field, slot) for _, field, slot in parts])
        self._parameters = np.array([*kernel.parameters.values()]).reshape(-1, rank)
        module = compile_curves(kernel.functions, [*kernel.parameters])
        groups = [np.flatnonzero(kernel.which == number) for number in range(len(kernel.functions))]
        self._curves = {
            name: [(getattr(module, f"{name}_{number}"), group) for number, group in enumerate(groups)]
            for name in ("value", "slope", "curvature")
        }
        self._sums, self._results = np.zeros((2, rank)), np.zeros(rank)
        self._weights = np.zeros((len(index), rank))
        self._shift = np.zeros(rank)
        if reference is not None:
            np.sum(self._here.project(reference), axis=0, out=self._shift)

    def add_force(self, state: State, out: State, t: float) -> None:
        self._measure(state)
        self._evaluate("slope")
        self._weights[...] = self._results
        self._here.expand(self._weights, out.storage)

    def add_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        found = self._both.project(state.storage, direction.storage)
        count = len(self._weights)
        np.sum(found[:count], axis=0, out=self._sums[0])
        np.sum(found[count:], axis=0, out=self._sums[1])
        self._sums[0] -= self._shift
        self._evaluate("curvature")
        np.multiply(self._results, self._sums[1], out=self._results)
        self._weights[...] = self._results
        self._here.expand(self._weights, out.storage)

    def energy(self, state: State, t: float) -> float:
        self._measure(state)
        self._evaluate("value")
        return float(np.sum(self._results))

    def symbol(self) -> None:
        return None

    def bound(self, t: float = 0.0) -> float | None:
        """Largest |eigenvalue| of F' where every g is at most quadratic (exact), else None: it depends on the state."""
        return self._spectral_radius

    def _measure(self, state: State) -> None:
        """s_r of a state."""
        np.sum(self._here.project(state.storage), axis=0, out=self._sums[0])
        self._sums[0] -= self._shift

    def _evaluate(self, name: str) -> None:
        for function, group in self._curves[name]:
            function(self._sums[0], self._parameters, group, self._results)

    @cached_property
    def _spectral_radius(self) -> float | None:
        """F' = -h^d phi^T g'' phi has the eigenvalues of -h^d g'' phi phi^T, and zero."""
        kernel = self._kernel
        if any(Symbol("s") in leaves(node) for node in kernel.curvatures):
            return None
        values = np.array([_values(node, kernel.parameters, kernel.rank) for node in kernel.curvatures])
        curvature = values[kernel.which, np.arange(kernel.rank)]
        inner = inner_products(kernel.phi.reshape(kernel.rank, -1), kernel.phi.reshape(kernel.rank, -1))
        return float(np.abs(np.linalg.eigvals(curvature[:, None] * inner)).max()) * self._volume


def _values(node: Node, parameters: Mapping[str, np.ndarray], rank: int) -> np.ndarray:
    """A tree of parameters alone, for every r."""
    return np.broadcast_to(np.asarray(evaluate(node, parameters), float), (rank,))
