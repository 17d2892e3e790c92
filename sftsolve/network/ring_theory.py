"""The field theory of a ring network as an Action: the names, prefactors and data of its sources.

Per output, c(x) is a density on sites of spacing 4a, so that the network's cost is `C = int c dx / (4a)`; each output
has two weights, of spacing 2a, so that `dC/dW_k = 2a dC/dw = (1/2) dc/dw`. The action therefore carries c/2 (times 1/(2L)
for the mean): its force is minus the network's gradient, one weight's share, and training time means the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import Any

import numpy as np

from sftsolve.action import Action
from sftsolve.errors import ActionError
from sftsolve.friction import Friction
from sftsolve.grid import Grid
from sftsolve.network import checks
from sftsolve.network.expansion import Monomial, Term, activation_letters, expand_cost
from sftsolve.network.interpolation import TrigonometricInterpolant, check_ring
from sftsolve.network.wiring import Layer

Array = np.ndarray[Any, np.dtype[np.float64]]

# The talk's names for the sources of the two-layer network; the mass is `m2/2 w2**2`, a parameter.
TWO_LAYER_NAMES: dict[Monomial, str] = {
    (("w2", 0), ("w2", 0)): "m2",
    (): "J1",
    (("w2", 0),): "J2",
    (("w1", 0), ("w2", 0)): "J3",
    (("w1", 1), ("w2", 0)): "K1",
    (("w2", 0), ("w2", 2)): "K2",
    (("w1", 2), ("w2", 0)): "K3",
    (("w1", 1), ("w2", 1)): "K4",
    (("w1", 0), ("w2", 1)): "K5",
    (("w2", 2),): "K6",
    (("w1", 0), ("w2", 2)): "K7",
}
PERCEPTRON_NAMES: dict[Monomial, str] = {
    (): "J1",
    (("w", 0),): "J2",
    (("w", 0), ("w", 0)): "J3",
    (("w", 0), ("w", 1)): "K1",
    (("w", 0), ("w", 2)): "K2",
    (("w", 1),): "K3",
    (("w", 2),): "K4",
}


@dataclass(frozen=True)
class Normalisation:
    """What multiplies the sum of squares on the lattice, and the density c (with Y -> target_sign Y) in the action.

    Both factors are functions of (examples, spacing); `lattice` is None where only the action has this normalisation.
    """

    density: Callable[[int, float], float]
    lattice: Callable[[int, float], float] | None = None
    target_sign: int = 1


NORMALISATIONS: dict[str, Normalisation] = {
    "mean": Normalisation(lambda examples, spacing: 1 / (4 * examples), lambda examples, spacing: 1 / (2 * examples)),
    "network": Normalisation(lambda examples, spacing: 0.5, lambda examples, spacing: 1.0),
    # The talk absorbs 1/a into the fields and prints w2 -> -w2, the same as Y -> -Y up to an even cost.
    "talk": Normalisation(lambda examples, spacing: 1 / spacing, target_sign=-1),
}
FIELDS_ORDERS = (2, 3, 4)
DERIVATIVES_ORDERS = (0, 2)
LATTICE_NORMALISATIONS = {name: n.lattice for name, n in NORMALISATIONS.items() if n.lattice is not None}


@dataclass(frozen=True, eq=False)
class RingData:
    """The examples between their sites: X and Y with derivatives at the cell centres of any grid on the ring."""

    inputs: TrigonometricInterpolant
    targets: TrigonometricInterpolant
    examples: int
    length: float

    def jet(self, name: str, order: int, grid: Grid) -> Array:
        """(L, points) of X or Y, differentiated `order` times."""
        return {"X": self.inputs, "Y": self.targets}[name].on(grid, order)


@dataclass(frozen=True, eq=False)
class RingSource:
    """A source of the theory as a function of the grid: `sum_terms value * sum_examples prod data`, shape grid.shape."""

    name: str
    terms: tuple[tuple[float, Monomial], ...]
    data: RingData

    def __call__(self, grid: Grid) -> Array:
        check_ring(grid, self.data.length)
        jets = {jet: self.data.jet(*jet, grid) for jet in {jet for _, factors in self.terms for jet in factors}}
        total = np.zeros(grid.shape)
        for value, factors in self.terms:
            if factors:
                total += value * reduce(mul, (jets[jet] for jet in factors)).sum(axis=0)
            else:
                total += value * self.data.examples
        return total


def source_name(monomial: Monomial, names: Mapping[Monomial, str]) -> str:
    """The name in the table, else one that spells the monomial: S_w1_w2xx multiplies w1 d(w2, x, 2)."""
    return names.get(monomial) or "_".join(["S", *(field + "x" * order for field, order in monomial)])


def theory(
    layers: Sequence[Layer], names: Mapping[Monomial, str], fields_order: int, derivatives_order: int
) -> dict[Monomial, list[Term]]:
    """The expansion with every named entry of these orders present (empty where it vanishes), so that names are stable."""
    known = ((fields_order, FIELDS_ORDERS), (derivatives_order, DERIVATIVES_ORDERS))
    if not all(isinstance(order, (int, np.integer)) and order in orders for order, orders in known):
        raise ActionError(
            "the field theory is not available at these orders",
            expected=f"fields_order in {FIELDS_ORDERS}, derivatives_order in {DERIVATIVES_ORDERS}",
            given=f"fields_order = {fields_order!r}, derivatives_order = {derivatives_order!r}",
            remedy="take one of these, or train the exact network with .train",
        )
    sources = expand_cost(layers, fields_order, derivatives_order)
    named = [key for key in names if sum(order for _, order in key) <= derivatives_order]
    ordered = named + sorted((key for key in sources if key not in names), key=lambda key: (len(key), key))
    return {key: sources.get(key, []) for key in ordered}


def theory_table(
    layers: Sequence[Layer], names: Mapping[Monomial, str], fields_order: int, derivatives_order: int
) -> dict[str, Any]:
    """Name -> SymPy expression of every coefficient of c = sum (Y - Z)^2, per output, a sum over examples understood.

    Symbols: a, the activation's r, q, p, c3, ..., the data X, Xx, Xxx, Y, and N_l, the number of examples.
    """
    import sympy

    letters = activation_letters(max(len(layer.activation or ()) for layer in layers))
    table = {}
    for monomial, terms in theory(layers, names, fields_order, derivatives_order).items():
        name = source_name(monomial, names)
        expression = sympy.Add(*(term.to_sympy(letters) for term in terms))
        table[name] = 2 * expression if name == "m2" else expression
    return table


def ring_action(
    layers: Sequence[Layer],
    names: Mapping[Monomial, str],
    data: RingData,
    spacing: float,
    *,
    fields_order: int,
    derivatives_order: int,
    labels: str,
    normalisation: str,
    friction: Friction | None,
) -> Action:
    """The Action of `theory`, its coefficients evaluated for this spacing, these activations and these examples."""
    if labels != "talk":
        raise ActionError(
            "this labelling of the weights is not available",
            expected="labels='talk': one field per layer on the odd multiples of the spacing",
            given=f"labels = {labels!r}",
            remedy="leave labels out",
        )
    norm = checks.choice("normalisation", normalisation, NORMALISATIONS)
    prefactor = norm.density(data.examples, spacing)
    activations = [layer.activation for layer in layers if layer.activation is not None]
    activation = activations[0] if activations else ()
    parameters: dict[str, float] = {}
    sources: dict[str, RingSource] = {}
    text = []
    for monomial, terms in theory(layers, names, fields_order, derivatives_order).items():
        name = source_name(monomial, names)
        values = tuple((prefactor * _value(term, spacing, activation, norm.target_sign), term.data) for term in terms)
        if name == "m2":
            parameters[name] = 2 * data.examples * sum(value for value, _ in values)
            text.append("m2/2*w2**2")
        elif name in names.values() or any(value != 0 for value, _ in values):
            sources[name] = RingSource(name, values, data)
            text.append("*".join([name, *_factors(monomial)]))
    fields = [layer.field for layer in layers]
    return Action(fields=fields, cost=" + ".join(text), parameters=parameters, sources=sources, friction=friction)


def _value(term: Term, spacing: float, activation: Sequence[float], target_sign: int) -> float:
    powers = zip(activation, term.activation, strict=True)
    sign = target_sign ** sum(name == "Y" for name, _ in term.data)
    return sign * float(term.number) * spacing**term.spacing * reduce(mul, (float(c) ** power for c, power in powers), 1.0)


def _factors(monomial: Monomial) -> list[str]:
    """`w1**2`, `d(w2, x)`, `d(w2, x, 2)`: the factors in the language of costs."""
    spelled = {0: "{0}", 1: "d({0}, x)"}
    powers = {jet: monomial.count(jet) for jet in sorted(monomial, key=lambda jet: (jet[1], jet[0]))}
    factors = []
    for (field, order), power in powers.items():
        factor = spelled.get(order, "d({0}, x, {1})").format(field, order)
        factors.append(factor if power == 1 else f"{factor}**{power}")
    return factors
