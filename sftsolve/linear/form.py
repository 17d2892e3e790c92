"""The quadratic form of a local cost whose coefficients vary: which of it damps everywhere, and may be taken implicitly.

    c_2 = 1/2 sum_st H_st(x) slot_s slot_t,      slots: fields and their derivatives

A force L is negative semidefinite where H is positive semidefinite in every cell, since the discretisation keeps the sign of
each cell's form (discretisation rule, pair form). What is not is left out: couplings of fields with slopes first, then terms
where they have the wrong sign; the matrix between fields themselves is projected on its positive part, cell by cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sftsolve.algebra import ZERO, Leaf, Node, Number, Symbol, add, call, differentiate, evaluate, leaves, multiply

Pair = tuple[Leaf, Leaf]
_CHUNK = 1 << 14  # cells whose matrices are looked at together
_ROUNDING = 1e-13  # negative part of a matrix, relative to its size, that is rounding


@dataclass
class Term:
    """H_st as a tree over sources and coordinates, and its values on the grid (a scalar where it does not vary)."""

    tree: Node
    values: np.ndarray


@dataclass
class Form:
    """The part of a quadratic form that damps.

    Attributes
    ----------
    stiffness : H_st of slots of which one is a derivative, s before t
    reaction : H_ab between fields, by their numbers, a <= b
    notes : what was left out, in words
    """

    stiffness: dict[Pair, Term] = field(default_factory=dict)
    reaction: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def varies(self) -> bool:
        """Whether any coefficient depends on the cell."""
        terms = [term.values for term in self.stiffness.values()] + list(self.reaction.values())
        return any(values.ndim > 0 and np.ptp(values) > 0 for values in terms)


def quadratic_form(density: Node, fields: tuple[str, ...], values: Mapping[Any, Any]) -> Form:
    """The damping part of a density that is quadratic in the fields.

    Parameters
    ----------
    values : of parameters, sources and coordinates by name
    """
    terms = _hessian(density, values)
    form = Form()
    for pair in [pair for pair in terms if _is_field(pair[0]) != _is_field(pair[1])]:
        members = _component(terms, pair[0])
        if not _definite({key: terms[key] for key in terms if key[0] in members}):
            form.notes.append(f"the coupling {pair[0].text} * {pair[1].text} is indefinite and is taken as nonlinear")
            del terms[pair]
    for members in _components(terms):
        own = {key: terms[key] for key in terms if key[0] in members}
        if all(map(_is_field, members)):
            numbers = {leaf: fields.index(leaf.text) for leaf in members}
            for (s, t), term in own.items():
                form.reaction[min(numbers[s], numbers[t]), max(numbers[s], numbers[t])] = term.values
        elif _definite(own):
            form.stiffness |= own
        else:
            form.stiffness |= _single(own, form.notes)
    return form


def _hessian(density: Node, values: Mapping[Any, Any]) -> dict[Pair, Term]:
    known = {name for name in values if isinstance(name, str)}
    slots = [leaf for leaf in leaves(density) if not (isinstance(leaf, Symbol) and leaf.name in known)]
    slots.sort(key=lambda leaf: leaf.text)
    terms = {}
    for number, s in enumerate(slots):
        slope = differentiate(density, s)
        for t in slots[number:]:
            tree = differentiate(slope, t)
            if tree != ZERO:
                with np.errstate(all="ignore"):
                    terms[s, t] = Term(tree, np.asarray(evaluate(tree, values), float))
    return terms


def _is_field(leaf: Leaf) -> bool:
    return isinstance(leaf, Symbol)


def _component(terms: dict[Pair, Term], start: Leaf) -> set[Leaf]:
    """The slots that a slot is coupled with, directly or not."""
    found = {start}
    while True:
        more = {leaf for pair in terms for leaf in pair if pair[0] in found or pair[1] in found}
        if more <= found:
            return found
        found |= more


def _components(terms: dict[Pair, Term]) -> Iterator[set[Leaf]]:
    left = dict.fromkeys(leaf for pair in terms for leaf in pair)
    while left:
        found = _component(terms, next(iter(left)))
        yield found
        for leaf in found:
            left.pop(leaf, None)


def _definite(terms: dict[Pair, Term]) -> bool:
    """Whether the form is finite and not negative in every cell."""
    slots = list(dict.fromkeys(leaf for pair in terms for leaf in pair))
    entries = {(slots.index(s), slots.index(t)): term.values for (s, t), term in terms.items()}
    for matrices in stacked(entries, len(slots)):
        if not np.isfinite(matrices).all():
            return False
        sizes = np.abs(matrices).max(axis=(1, 2))
        if not _semidefinite(matrices) and np.any(np.linalg.eigvalsh(matrices)[:, 0] < -_ROUNDING * sizes):
            return False
    return True


def stacked(entries: Mapping[tuple[int, int], np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Symmetric matrices of all cells in chunks, (cells, count, count)."""
    arrays = [np.asarray(values) for values in entries.values()]
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    flat = [np.broadcast_to(array, shape).reshape(-1) for array in arrays]
    cells = int(np.prod(shape))
    for start in range(0, cells, _CHUNK):
        matrices = np.zeros((min(_CHUNK, cells - start), count, count))
        for (i, j), values in zip(entries, flat, strict=True):
            matrices[:, i, j] = matrices[:, j, i] = values[start : start + _CHUNK]
        yield matrices


def _single(terms: dict[Pair, Term], notes: list[str]) -> dict[Pair, Term]:
    """The squares of an indefinite form without their couplings, their coefficients without negative parts."""
    kept = {}
    for (s, t), term in terms.items():
        if s != t:
            notes.append(f"the stiffness {s.text} * {t.text} is indefinite and is taken as nonlinear")
        elif np.isfinite(term.values).all() and term.values.min() >= 0.0:
            kept[s, t] = term
        else:
            notes.append(f"the stiffness of {s.text}^2 has the wrong sign somewhere, where it is taken as nonlinear")
            if np.isfinite(term.values).all() and term.values.max() > 0.0:
                positive = multiply(0.5, add(term.tree, call("abs", term.tree)))
                kept[s, t] = Term(positive, np.maximum(term.values, 0.0))
    return kept


def density_of(terms: Mapping[Pair, Term], coefficient: Callable[[Term], Node]) -> Node:
    """1/2 sum_st H_st slot_s slot_t."""
    return add(*[multiply(0.5 if s == t else 1.0, coefficient(term), s, t) for (s, t), term in terms.items()])


def mean_of(term: Term) -> Node:
    """Mean of a coefficient over the cells."""
    return Number(float(term.values.mean()))


def _semidefinite(matrices: np.ndarray) -> bool:
    """Whether Cholesky's factors show that no matrix (cells, n, n) has a negative eigenvalue but by rounding."""
    count = matrices.shape[1]
    shift = _ROUNDING * np.abs(matrices).max(axis=(1, 2)) + np.finfo(float).tiny
    try:
        np.linalg.cholesky(matrices + shift[:, None, None] * np.eye(count))
    except np.linalg.LinAlgError:
        return False
    return True


def projected(entries: Mapping[tuple[int, int], np.ndarray], count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Positive part of the symmetric matrices of all cells, (count, count, *shape)."""
    whole = {pair: np.broadcast_to(values, shape) for pair, values in entries.items()}
    out = np.empty((int(np.prod(shape)), count, count))
    start = 0
    for matrices in stacked(whole, count):
        if not _semidefinite(matrices):
            values, vectors = np.linalg.eigh(matrices)
            growing = values[:, 0] < -_ROUNDING * np.abs(matrices).max(axis=(1, 2))
            kept, values = vectors[growing], np.maximum(values[growing], 0.0)
            matrices[growing] = kept * values[:, None, :] @ kept.transpose(0, 2, 1)
        out[start : start + len(matrices)] = matrices
        start += len(matrices)
    return np.moveaxis(out, 0, -1).reshape(count, count, *shape)
