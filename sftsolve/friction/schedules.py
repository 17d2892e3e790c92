"""Learning-rate schedules eta(t): from a table to a law.

    constant      eta
    step          eta, times `factor` at the times `at`, or every `every`
    exponential   eta e^{-rate t}; `half_life` or (`end`, `final`) say the same
    cosine        from eta at 0 to `final` at `end` along half a period (Loshchilov & Hutter, arXiv:1608.03983, eq. 5)
    warm-up       linear from `start` at 0 to eta at `end`

After `end` the last value stays, or `then` follows: another schedule, whose times count from there. t counts training steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from sftsolve.errors import ConfigError, is_number, nearest
from sftsolve.friction.pieces import Constant, Cosine, Exponential, Law, Linear, Piece

SMALLEST = 1e-100  # so that gamma^2 and 1/gamma^2 stay inside the range of floats

KEYS = {
    "constant": (),
    "step": ("factor", "every", "at"),
    "exponential": ("rate", "half_life", "final"),
    "cosine": ("final",),
    "warm-up": ("start",),
}
_COMMON = ("kind", "eta", "end", "then")
_FINAL = 0.01  # final (and starting) value as a part of eta, where none is given
_FACTOR = 0.1
_DEEPEST = 20


def schedule_law(table: Mapping[str, Any]) -> Law:
    """The law of a schedule.

    Parameters
    ----------
    table : ``{"kind": ..., "eta": ..., "end": ..., ...}`` as above; final = start = eta/100 and factor = 0.1 by default, and a
        step schedule without `at` and `every` steps once, at `end`

    Raises
    ------
    ConfigError : unknown kinds or keys, numbers out of range, keys that exclude each other
    """
    _check(table, 0)
    return lambda: _pieces(table, 0.0)


def _check(table: Any, depth: int) -> None:
    """Look at all numbers before anything is computed."""
    if not isinstance(table, Mapping):
        form = 'a table {"kind": ..., "eta": ..., ...} or a function eta(t)'
        raise ConfigError("a schedule is not understood", expected=form, given=repr(table)[:80])
    kind = table.get("kind")
    if kind not in KEYS:
        raise ConfigError(
            "unknown kind of schedule", expected=", ".join(KEYS), given=repr(kind), remedy=nearest(str(kind), (*KEYS,))
        )
    known = (*_COMMON, *KEYS[kind])
    for key in table:
        if key not in known:
            raise ConfigError(f"a {kind} schedule has no {key!r}", expected=", ".join(known), remedy=nearest(str(key), known))
    if "eta" not in table:
        raise ConfigError(f"a {kind} schedule needs its learning rate", expected="eta = a number > 0", given="none")
    for key in ("eta", "final", "start", "factor"):
        _number(table, key, SMALLEST)
    for key in ("end", "every", "half_life"):
        _number(table, key, 0.0)
    if "rate" in table and not is_number(table["rate"]):
        raise ConfigError("rate of a schedule is out of range", expected="a number", given=repr(table["rate"]))
    _CHECKS[kind](table)
    if "then" in table:
        if "end" not in table:
            raise ConfigError(
                f"a {kind} schedule that something follows needs an end", expected="end = a time", given="then alone"
            )
        if depth == _DEEPEST:
            raise ConfigError("schedules follow each other too deeply", expected=f"at most {_DEEPEST}")
        _check(table["then"], depth + 1)


def _number(table: Mapping[str, Any], key: str, least: float) -> None:
    if key not in table:
        return
    value, most = table[key], 1.0 / SMALLEST
    if not is_number(value) or not least <= float(value) <= most or float(value) == 0.0:
        expected = f"a number from {least:g} to {most:g}" if least else "a number > 0"
        raise ConfigError(f"{key} of a schedule is out of range", expected=expected, given=repr(value))


def _one_of(table: Mapping[str, Any], names: tuple[str, ...], least: int) -> None:
    given = [name for name in names if name in table]
    if not least <= len(given) <= 1:
        what = f"a {table['kind']} schedule needs one of {', '.join(names)}"
        raise ConfigError(what, expected=" or ".join(names), given=" and ".join(given) or "none of them")


def _check_step(table: Mapping[str, Any]) -> None:
    _one_of(table, ("at", "every"), 0 if "end" in table else 1)
    if "at" in table:
        times = table["at"]
        fine = isinstance(times, (list, tuple)) and all(is_number(time) and time > 0 for time in times)
        if not fine or any(b <= a for a, b in itertools.pairwise(times)):
            raise ConfigError("at of a schedule is not understood", expected="ascending times > 0", given=repr(times)[:80])


def _check_exponential(table: Mapping[str, Any]) -> None:
    _one_of(table, ("rate", "half_life", "final"), 0 if "end" in table else 1)
    if "final" in table and "end" not in table:
        raise ConfigError(
            "an exponential schedule reaches its final value at its end", expected="end = a time", given="final alone"
        )
    if "rate" in table:
        lasts = float(table.get("end", 0.0))
        exponent = math.log(float(table["eta"])) - float(table["rate"]) * lasts
        if abs(exponent) > -math.log(SMALLEST) or (not lasts and table["rate"] <= 0):
            expected = "a rate > 0, or an end before the learning rate leaves 1e-100 to 1e100"
            raise ConfigError("rate of a schedule is out of range", expected=expected, given=repr(table["rate"]))


def _check_end(table: Mapping[str, Any]) -> None:
    if "end" not in table:
        raise ConfigError(f"a {table['kind']} schedule needs an end", expected="end = a time > 0", given="none")


_CHECKS = {
    "constant": lambda table: None,
    "step": _check_step,
    "exponential": _check_exponential,
    "cosine": _check_end,
    "warm-up": _check_end,
}


def _pieces(table: Mapping[str, Any], start: float) -> Iterator[Piece]:
    """The pieces of a checked table, its times counted from `start`."""
    end = start + float(table["end"]) if "end" in table else math.inf
    value = float(table["eta"])
    for piece in _KINDS[table["kind"]](table, start, end, value):
        yield piece
        value = piece.eta(piece.end) if math.isfinite(piece.end) else value
    if "then" in table:
        yield from _pieces(table["then"], end)
    elif math.isfinite(end):
        yield Constant(end, math.inf, _after(table, value))


def _after(table: Mapping[str, Any], value: float) -> float:
    """The value that stays after the end, exactly as it was given."""
    if table["kind"] == "warm-up":
        return float(table["eta"])
    if table["kind"] == "step" and "at" not in table and "every" not in table:
        return value * float(table.get("factor", _FACTOR))
    return float(table["final"]) if "final" in table else value


def _constant(table: Mapping[str, Any], start: float, end: float, eta: float) -> Iterator[Piece]:
    yield Constant(start, end, eta)


def _step(table: Mapping[str, Any], start: float, end: float, eta: float) -> Iterator[Piece]:
    factor, length = float(table.get("factor", _FACTOR)), end - start
    every = table.get("every")
    times = (number * float(every) for number in itertools.count(1)) if every is not None else iter(table.get("at", ()))
    here, value = start, eta
    for number, time in enumerate(times, start=1):
        if time >= length:
            break
        yield Constant(here, start + time, value)
        here, value = start + time, min(max(eta * factor**number, SMALLEST), 1.0 / SMALLEST)
    yield Constant(here, end, value)


def _exponential(table: Mapping[str, Any], start: float, end: float, eta: float) -> Iterator[Piece]:
    if "rate" in table:
        rate = float(table["rate"])
    elif "half_life" in table:
        rate = math.log(2.0) / float(table["half_life"])
    else:
        rate = math.log(eta / _final(table, eta)) / (end - start)
    if math.isinf(end):
        end = start + math.log(eta / SMALLEST) / rate  # what lies beyond has no friction that a float holds
    yield Exponential(start, end, eta, rate) if rate else Constant(start, end, eta)


def _cosine(table: Mapping[str, Any], start: float, end: float, eta: float) -> Iterator[Piece]:
    yield Cosine(start, end, eta, _final(table, eta))


def _warm_up(table: Mapping[str, Any], start: float, end: float, eta: float) -> Iterator[Piece]:
    first = float(table.get("start", _FINAL * eta))
    yield Linear(start, end, first, (eta - first) / (end - start)) if first != eta else Constant(start, end, eta)


def _final(table: Mapping[str, Any], eta: float) -> float:
    return float(table.get("final", _FINAL * eta))


_KINDS = {"constant": _constant, "step": _step, "exponential": _exponential, "cosine": _cosine, "warm-up": _warm_up}
