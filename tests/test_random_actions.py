"""Random actions, made by Hypothesis: generated kernels against a slow interpreter of the same discrete action, at every order.

The interpreter knows the kind of each term because it made it; it reads the weights from `stencils.json`, differences whole
arrays by rolling them, and takes the gradient by complex steps.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from reference_rule import Rule, uncompiled

import sftsolve as sft

TABLES = json.loads(files("sftsolve.codegen").joinpath("stencils.json").read_text())["orders"]
FIELDS = ("w", "v")
POINTWISE = ("1", "w", "v**2", "S", "K*v", "m", "exp(w/2)", "w*v*S", "(2 + v**2)**-1")
SMALL = {1: (13,), 2: (8, 9), 3: (7, 8, 7)}
LENGTHS = (1.3, 0.9, 1.1)


@dataclass(frozen=True)
class Term:
    """A pointwise factor times derivatives of one kind: (field, axes) in order."""

    kind: str
    factor: str
    slots: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        slots = [
            f"d({field}, {axes[0]}, 2)" if axes[1:] == "2" else f"d({field}, {', '.join(axes)})" for field, axes in self.slots
        ]
        return "*".join([f"({self.factor})", *slots])


@some.composite
def terms(draw, axes):
    kind = draw(some.sampled_from(["T0", "T1", "T2", "T3"]))
    field, axis = some.sampled_from(FIELDS), some.sampled_from(axes)
    one = draw(axis)
    if kind == "T0":
        slots = [(draw(field), one + "2")] * draw(some.integers(0, 2))
    elif kind == "T1":
        slots = [(draw(field), a) for a in draw(some.permutations(axes))[: draw(some.integers(1, 2))]]
        if len(axes) > 1 and draw(some.booleans()):
            slots = [(draw(field), "".join(draw(some.permutations(axes))[:2]))]
    elif kind == "T2":
        slots = [(draw(field), one), (draw(field), one)]
    else:
        slots = [(name := draw(field), one), (name, one), (draw(field), one)]
        slots += [(draw(field), draw(axis))] if draw(some.booleans()) else []
    return Term(kind, draw(some.sampled_from(POINTWISE)), tuple(slots))


@some.composite
def theories(draw, dimensions=(1, 2, 3), orders=(2, 4, 6, 8)):
    """(shape, order, terms): every axis holds the widest stencil of the order."""
    dimension, order = draw(some.sampled_from(dimensions)), draw(some.sampled_from(orders))
    shape = tuple(max(n, 2 * (order - 1)) if dimension < 3 or order < 8 else 7 for n in SMALL[dimension])
    found = draw(some.lists(terms("zyx"[3 - dimension :]), min_size=1, max_size=3))
    return shape, order, tuple(found)


class Interpreter:
    """The discrete cost of a sum of terms on a periodic grid, and its gradient."""

    def __init__(self, found, grid, order, values):
        self.terms, self.grid, self.values = found, grid, values
        table = TABLES[str(order)]
        self.second, self.central = (self._centred(table[name]) for name in ("second", "central"))
        self.ahead = {int(offset): float(Fraction(weight)) for offset, weight in table["upwind"].items()}
        self.pairs = table["pairs"]

    @staticmethod
    def _centred(texts):
        return {number - len(texts) // 2: float(Fraction(text)) for number, text in enumerate(texts)}

    def _apply(self, weights, values, axis, power=1):
        number = self.grid.axes.index(axis)
        total = sum(weight * np.roll(values, -offset, number) for offset, weight in weights.items())
        return total / self.grid.spacing[number] ** power

    def _first(self, values, axes, signs):
        for axis in axes:
            sign = signs.get(axis, 0)
            weights = {sign * offset: sign * weight for offset, weight in self.ahead.items()} if sign else self.central
            values = self._apply(weights, values, axis)
        return values

    def _pair(self, one, other, axis):
        number, total = self.grid.axes.index(axis), 0.0
        for span, weights in self.pairs.items():
            rise = [np.roll(values, -int(span), number) - values for values in (one, other)]
            for offset, weight in weights.items():
                total = total + float(Fraction(weight)) * np.roll(rise[0] * rise[1], int(offset), number)
        return total / self.grid.spacing[number] ** 2

    def _density(self, term, fields):
        factor = eval(term.factor, {"exp": np.exp, **self.values, **fields})
        if term.kind == "T2":
            (one, axis), (other, _) = term.slots
            return factor * self._pair(fields[one], fields[other], axis)
        if term.kind == "T0":
            slots = [self._apply(self.second, fields[name], axes[0], 2) for name, axes in term.slots]
            return factor * np.prod([np.ones(self.grid.shape), *slots], axis=0)
        counts = {axis: sum(axis in axes for _, axes in term.slots) for axis in self.grid.axes}
        signed = [axis for axis in self.grid.axes if counts[axis] > 1]
        patterns = [dict(zip(signed, signs, strict=True)) for signs in itertools.product((1, -1), repeat=len(signed))]
        products = [np.prod([self._first(fields[name], axes, signs) for name, axes in term.slots], axis=0) for signs in patterns]
        return factor * sum(products) / len(patterns)

    def cost(self, w):
        fields = dict(zip(FIELDS, w, strict=True))
        return sum(np.sum(self._density(term, fields)) for term in self.terms) * self.grid.cell_volume

    def force(self, w, cells):
        """-h^-d dC/dw in the given cells (field, *index)."""
        found = []
        for cell in cells:
            stepped = w.astype(complex)
            stepped[cell] += 1e-30j
            found.append(-self.cost(stepped).imag / 1e-30 / self.grid.cell_volume)
        return np.array(found)


def compare(theory):
    shape, order, found = theory
    rng = np.random.default_rng(7)
    sources = {"S": 1 + rng.random(shape), "K": rng.standard_normal(shape)}
    grid = sft.Grid(shape, LENGTHS[: len(shape)])
    text = " + ".join(term.text for term in found)
    action = sft.Action(FIELDS, text, {"m": 1.7}, sources, friction=sft.Friction(gamma=1.0))
    system = sft.discretise(action, grid, order=order)
    interpreter = Interpreter(found, grid, order, {"m": 1.7, **sources})
    w = 0.7 * rng.standard_normal((2, *shape))
    force = system.force(w)
    cells = [tuple(rng.integers(0, n) for n in w.shape) for _ in range(40)]
    scale = max(np.max(np.abs(force)), 1.0)
    np.testing.assert_allclose([force[cell] for cell in cells], interpreter.force(w, cells), rtol=0, atol=1e-13 * scale)
    size = sum(abs(Interpreter([term], grid, order, interpreter.values).cost(w)) for term in found)
    assert system.cost(w) == pytest.approx(interpreter.cost(w), rel=0, abs=1e-13 * max(size, 1.0))


@settings(max_examples=40, derandomize=True, deadline=None)
@given(theories())
def test_random_periodic_actions(theory):
    with pytest.MonkeyPatch.context() as patch:
        uncompiled(patch)
        compare(theory)


@settings(max_examples=2, derandomize=True, deadline=None)
@given(theories(dimensions=(2,), orders=(4,)))
def test_random_actions_compiled(theory):
    compare(theory)


@some.composite
def walled(draw):
    """(boundary, density): values on some faces, whatever the terms; elsewhere periodic."""
    axes = "yx" if draw(some.booleans()) else "x"
    value = some.sampled_from([-0.7, 0.0, 0.4])
    faces = [axis for axis in axes if axis == "x" or draw(some.booleans())]
    boundary = {axis: {side: {name: {"value": draw(value)} for name in FIELDS} for side in ("lower", "upper")} for axis in faces}
    found = draw(some.lists(terms(axes).filter(lambda term: term.kind != "T0" or not term.slots), min_size=1, max_size=3))
    return axes, boundary, " + ".join(term.text for term in found)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(walled())
def test_random_actions_between_walls(theory):
    axes, boundary, text = theory
    rng = np.random.default_rng(9)
    shape = (5, 6)[-len(axes) :]
    sources = {"S": 1 + rng.random(shape), "K": rng.standard_normal(shape)}
    grid = sft.Grid(shape, LENGTHS[: len(axes)], boundary=boundary)
    action = sft.Action(FIELDS, text, {"m": 1.7}, sources, friction=sft.Friction(gamma=1.0))
    w = 0.7 * rng.standard_normal((2, *shape))
    with pytest.MonkeyPatch.context() as patch:
        uncompiled(patch)
        system = sft.discretise(action, grid)
        rule = Rule(FIELDS, text, grid, {"m": 1.7}, sources)
        force, expected = system.force(w), rule.force(w)
        np.testing.assert_allclose(force, expected, rtol=0, atol=1e-12 * max(1.0, np.max(np.abs(expected))))
        assert system.cost(w) == pytest.approx(rule.cost(w), rel=1e-12, abs=1e-12)
