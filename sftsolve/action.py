"""The action: fields, the density of the cost, its parameters and sources, nonlocal kernels and friction.

    S = int dt e^{gamma t} ( int d^dx sum_a w_a,t^2 / 2 - C[w; t] ),   C = int d^dx c(w, dw, d2w; J, K) + kernels

(arXiv:2503.08827 and its talk, "Lagrangian approach to gradient descent"). An action knows no grid; `discretise` brings the two
together.
"""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sftsolve.algebra import Node
from sftsolve.errors import ActionError, is_number
from sftsolve.expression import CONSTANTS, Names, parse
from sftsolve.friction import Friction
from sftsolve.grid import AXES, Grid
from sftsolve.sources import REDSHIFT, BoundSources, Form, Redshift, Source, forms, make_source, moving, on_grid, redshifted

# Names that mean something else in expressions or in the output file.
RESERVED = frozenset({"t", "tau", "ts", "meta", "VTKHDF", *AXES, *CONSTANTS})


class Action:
    """A theory of synaptic fields.

    Parameters
    ----------
    fields : names of the fields
    cost : density c of the cost as an expression, the force being -dC/dw; ``"0"`` where only kernels act
    parameters : numbers by name
    sources : fields J(x, t), K(x, t) from outside by name: array, number, expression of the coordinates, the parameters and the
        physical time t, ``{"file": ..., "dataset": ...}``, `TimeSeries`, `MiniBatches` or a function of the grid
    kernels : further operators between fields, e.g. `PointwiseMatrix`; one or a list
    friction : `Friction` or `FLRW`; none means gamma = 1 for a gradient flow

    Raises
    ------
    ActionError : names that clash or are not identifiers, parameters that are not finite, kernels that are none
    ExpressionError : a cost outside the language
    """

    def __init__(
        self,
        fields: Sequence[str],
        cost: str = "0",
        parameters: Mapping[str, float] | None = None,
        sources: Mapping[str, Any] | None = None,
        kernels: Any = (),
        friction: Friction | None = None,
    ):
        listed = isinstance(fields, Sequence) and not isinstance(fields, str)
        if not listed or not fields or not all(isinstance(name, str) for name in fields):
            raise ActionError("an action needs field names", expected='fields=["w"], say', given=repr(fields))
        for what, given in (("parameters", parameters), ("sources", sources)):
            if given is not None and not isinstance(given, Mapping):
                raise ActionError(f"{what} are given by name", expected=f"{what}={{name: value}}", given=repr(given)[:80])
        self.fields = tuple(fields)
        self.cost = cost
        self.parameters = {name: _number(name, value) for name, value in (parameters or {}).items()}
        self.sources: dict[str, Source] = {name: make_source(name, spec) for name, spec in (sources or {}).items()}
        self.kernels = tuple(kernels) if isinstance(kernels, Sequence) else (kernels,)
        self.friction = friction
        if friction is not None and not isinstance(friction, Friction):
            raise ActionError(
                "friction is not understood",
                expected="sft.Friction(gamma=...), (eta=...), (schedule=...) or sft.FLRW(...)",
                given=friction,
            )
        for kernel in self.kernels:
            if not hasattr(kernel, "bind"):
                raise ActionError(
                    "a kernel is not understood", expected="kernels such as sft.PointwiseMatrix(...)", given=repr(kernel)
                )
        _check_names(self.fields, self.parameters, self.sources)
        self.density(AXES)

    def density(self, axes: tuple[str, ...]) -> Node:
        """The density c as a tree on a grid with these axes (`lap` and `grad2` run over them).

        In an expanding space (`FLRW`) each derivative in it carries 1/a.

        Raises
        ------
        ExpressionError : a name that is unknown, or an axis that the grid lacks
        """
        names = Names(
            values=[*self.parameters, *self.sources, *axes, "t"],
            fields=self.fields,
            axes=axes,
            constant=frozenset(self.parameters),
        )
        typed = parse(self.cost, names, "the cost")
        return redshifted(typed) if self.friction is not None and self.friction.redshifts else typed

    def sources_at(self, grid: Grid, t: float = 0.0) -> dict[str, np.ndarray]:
        """Every source by name at physical time t as an array of the grid's shape; where it jumps, the later value.

        Raises
        ------
        GridError : a source of the wrong shape or not finite
        """
        found = {}
        for name, source in self.sources.items():
            mover = moving(source, grid, self.parameters)
            values = source.values(grid, self.parameters) if mover is None else mover.values_at(grid, self.parameters, t)
            found[name] = on_grid(grid, name, values)
        return found

    @property
    def _all_sources(self) -> dict[str, Source]:
        """The sources, and the redshift of an expanding space."""
        if self.friction is None or not self.friction.redshifts:
            return self.sources
        return self.sources | {REDSHIFT: Redshift(self.friction.redshift, self.friction.expansion)}

    def forms(self, grid: Grid) -> dict[str, Form]:
        """How every source that changes in time enters the density, by name."""
        return forms(self._all_sources, grid, self.parameters)

    def bound_sources(self, grid: Grid, t: float = 0.0) -> BoundSources:
        """All sources on a grid, at a moment."""
        return BoundSources(self._all_sources, grid, self.parameters, t)

    def __repr__(self) -> str:
        parts = [f"fields={list(self.fields)}", f"cost={self.cost!r}"]
        parts += [f"{name}={value!r}" for name, value in (("parameters", self.parameters), ("friction", self.friction)) if value]
        parts += [f"sources={list(self.sources)}"] if self.sources else []
        parts += [f"kernels={list(self.kernels)}"] if self.kernels else []
        return f"Action({', '.join(parts)})"


def _number(name: str, value: object) -> float:
    if not is_number(value):
        raise ActionError(f"parameter {name!r} must be a finite number", given=repr(value))
    return float(value)


def _check_names(fields: Sequence[str], parameters: Mapping[str, float], sources: Mapping[str, Source]) -> None:
    seen: dict[str, str] = {}
    for kind, names in (("field", fields), ("parameter", parameters), ("source", sources)):
        for name in names:
            if not isinstance(name, str) or not name.isidentifier() or unicodedata.normalize("NFKC", name) != name:
                raise ActionError(f"{kind} name {name!r} is not an identifier", expected="letters, digits and _, such as w1")
            if name in RESERVED or keyword.iskeyword(name):
                taken = ", ".join(sorted(RESERVED))
                raise ActionError(f"{kind} name {name!r} is taken", expected=f"a name other than {taken} and Python's keywords")
            if name in seen:
                raise ActionError(
                    f"the name {name!r} is used twice", expected="different names", given=f"{seen[name]} and {kind}"
                )
            seen[name] = kind
    for name in fields:
        if name.endswith("_t") and name[:-2] in fields:
            raise ActionError(
                f"field name {name!r} is the velocity of field {name[:-2]!r} in the output file", remedy="rename it"
            )
