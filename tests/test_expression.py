"""The language of typed expressions: what it means, what it refuses and how it says so."""

import contextlib
import math
import random
import sys
import tracemalloc
import warnings

import numpy as np
import pytest
from random_expressions import Refused, Undefined, judge, mutated, random_text

from sftsolve.algebra import ONE, ZERO, Number, Symbol, call, power
from sftsolve.errors import ExpressionError, SftError
from sftsolve.expression import Derivative, Names, evaluate, parse

X, Y, W, V = (Symbol(name) for name in ("x", "y", "w", "v"))
COST = Names(values=["m", "J", "Schmidt", "x", "y", "t"], fields=["w", "v"], axes=("y", "x"), constant=frozenset(["m"]))


def D(field, *axes):
    return Derivative(field, axes)


def message(text, names=COST):
    with pytest.raises(ExpressionError) as caught:
        parse(text, names, "the cost")
    return str(caught.value)


def column(text, names=COST):
    """The column that an error names; the caret must stand under it."""
    lines = message(text, names).splitlines()
    number = next(index for index, line in enumerate(lines) if "^ column" in line)
    caret, shown = lines[number].index("^"), lines[number - 1]
    named = int(lines[number].rsplit(" ", 1)[1])
    flat = text.replace("\n", " ").replace("\t", " ")
    assert shown[caret : caret + 5] == flat[named - 1 : named + 4][: len(shown[caret : caret + 5])]
    return named


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("d(w, x)", D("w", "x")),
        ("d(w, x, 1)", D("w", "x")),
        ("d(w, x, 2)", D("w", "x", "x")),
        ("d(w, x, y)", D("w", "x", "y")),
        ("d(w, y, x)", D("w", "x", "y")),
        ("d(d(w, y), x)", D("w", "x", "y")),
        ("d(d(w, x), x)", D("w", "x", "x")),
        ("lap(w)", D("w", "x", "x") + D("w", "y", "y")),
        ("grad2(w)", D("w", "x") ** 2 + D("w", "y") ** 2),
        ("d(w*v, x)", W * D("v", "x") + V * D("w", "x")),
        ("d(sin(w), x)", call("cos", W) * D("w", "x")),
        ("d(m*x*w, x)", Symbol("m") * W + Symbol("m") * X * D("w", "x")),
        ("d(m, x)", ZERO),
        ("d(x, x)", ONE),
        ("d(x, y)", ZERO),
        ("d(t, x)", ZERO),
        ("d(2, x)", ZERO),
        ("lap(w**2)/2", W * D("w", "x", "x") + W * D("w", "y", "y") + D("w", "x") ** 2 + D("w", "y") ** 2),
        ("d(w*d(w, x), x)", D("w", "x") ** 2 + W * D("w", "x", "x")),
        ("w**0.5", call("sqrt", W)),
        ("w**(1/2)", call("sqrt", W)),
        ("w**-2", power(W, -2)),
        ("-w**2", -(W**2)),
        ("2**-1", Number(0.5)),
        ("w - -v", W + V),
        ("pow(w, 3)", W**3),
        ("w**m", call("pow", W, Symbol("m"))),
        (" \n\tw\n + v\n", W + V),
        ("\uff57", W),  # Python reads a full-width w as w
    ],
)
def test_meaning(text, tree):
    assert parse(text, COST) == tree


def test_names_are_what_was_declared():
    for name in "SQNEICO":
        assert parse(name, [name]) == Symbol(name)
    assert parse("sin*gamma", ["sin", "gamma"]) == Symbol("sin") * Symbol("gamma")
    assert parse("pi", []).value == math.pi and parse("pi", ["pi"]) == Symbol("pi")
    assert parse("d(d, x)", Names(fields=["d"], axes=("x",), values=["x"])) == D("d", "x")


EVIL = [
    ("__import__('os').system('true')", 1),
    ("w + __import__('os')", 5),
    ("().__class__.__bases__[0].__subclasses__()", 1),
    ("w*x.real", 3),
    ("w.__class__", 1),
    ("1 + w[0]", 5),
    ("(lambda: 1)()", 1),
    ("sin(lambda q: q)", 5),
    ("[w for w in x]", 1),
    ("w + (q := 2)", 6),
    ("2*f'{w}'", 3),
    ("'text'", 1),
    ("w + 'text'", 5),
    ("b'1'", 1),
    ("w if x else y", 1),
    ("w and x", 1),
    ("not w", 1),
    ("w < x", 1),
    ("w, x", 1),
    ("{w: x}", 1),
    ("{w}", 1),
    ("2 + (yield)", 6),
    ("await w", 1),
    ("True", 1),
    ("None", 1),
    ("...", 1),
    ("2 + 1j", 5),
    ("~w", 1),
    ("2 + w % 3", 5),
    ("10**10**10", 1),
    ("w*9**9**9**9", 6),
    ("2 + 0**-1", 5),
    ("(-1)**0.5", 1),
    ("1e999", 1),
    ("2*1e999", 3),
    ("w/0", 3),
    ("w/(m - m)", 4),
    ("x + log(0)", 5),
    ("x + sqrt(-2)", 5),
    ("x + exp(1e4)", 5),
    ("sin(*[1])", 1),
    ("sin(**{})", 1),
    ("sin(x=1)", 1),
    ("sin(x, y=1)", 1),
    ("d(w, x, y=1)", 1),
    ("2 + sin()", 5),
    ("sin(1, 2)", 1),
    ("atan2(1)", 1),
    ("1(2)", 1),
    ("x(2)", 1),
    ("sin(x)(2)", 1),
    ("import os", 1),
    ("w; v", 2),
    ("w v", 3),
    ("2w", 1),
    ("w = 2", 3),
    ("w !", 3),
    ("w?", 2),
    ("$w", 1),
    ("w + # mass", 5),
    ("w**2 # mass\n + J*w", 6),
    ("w \\\n + v", 4),
    ("(w", 1),
    ("w)", 2),
    ("w + \u0430", 5),  # a Cyrillic a
    ("w +\u00a0v", 4),
    ("w\u2028+ v", 2),
    ("w\v", 2),
    ("unknown", 1),
    ("w + unknown", 5),
    ("  w + unknown", 7),
    ("\tw\n+ unknown", 6),
    ("\u00e9t\u00e9 + w", 1),
    ("open('/etc/passwd')", 1),
    ("d(w)", 1),
    ("d()", 1),
    ("2*lap()", 3),
    ("lap(w, x)", 1),
    ("d(w, z)", 6),
    ("d(w, q)", 6),
    ("d(w, 'x')", 6),
    ("d(w, x, 3)", 9),
    ("d(w, x, True)", 9),
    ("d(w, x, 2.0)", 9),
    ("d(w, x, y, x)", 1),
    ("d(w, 2)", 6),
    ("d(J, x)", 1),
    ("w + d(J*w, x)", 5),
    ("d(d(d(w, x), x), x)", 1),
    ("lap(lap(w))", 1),
    ("d(gamma(w), x)", 1),
    ("d(*w)", 1),
    ("d(w, x=1)", 1),
]


@pytest.mark.parametrize(("text", "where"), EVIL, ids=[text for text, _ in EVIL])
def test_what_is_refused_and_where(text, where):
    assert column(text) == where


@pytest.mark.parametrize(
    "text",
    [
        "w\0",
        "\ud800",
        "9" * 5000,
        "(" * 300 + "w" + ")" * 300,
        "-" * 5000 + "w",
        "not " * 3000 + "w",
        "1" + "**1" * 5000,
        "x" + ".x" * 5000,
        "sin" + "()" * 5000,
        "sin(" * 150 + "w" + ")" * 150,
        "(" * 100 + "w" + "*w + 1)" * 100,
        "(" * 100 + "w" + "**1.5)" * 100,
        "[" * 100 + "]" * 100,
        "lambda:" * 2000 + "w",
        "lap(" + "sin(w*" * 45 + "w" + ")" * 46,
        "f'{" * 100,
        "'" * 9999,
        "w + v" * 10_000,
        "",
        "   ",
        "\n",
        None,
        0,
        3.5,
        b"w",
        ["w"],
    ],
    ids=lambda text: repr(text)[:30],
)
def test_long_deep_and_broken_texts_are_refused(text):
    shown = message(text)
    assert shown.startswith("the cost ") and len(shown) < 2000


def test_names_within_long_texts_are_shown_nearby():
    text = "w + " * 300 + "wrong" + " + w" * 300
    assert column(text) == 1201
    assert all(len(line) < 120 for line in message(text).splitlines()[:3])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Schmitd*w", "did you mean Schmidt?"),
        ("W**2", "did you mean w?"),
        ("coss(x)", "did you mean cos or cosh or acos?"),
        ("Lap(w)", "did you mean lap?"),
        ("grad(w)", "did you mean grad2"),
        ("q", "known: J, Schmidt, m, pi, t, v, w, x, y"),
        ("qqq(x)", "known: abs, acos"),
    ],
)
def test_unknown_names_list_the_nearest(text, hint):
    assert hint in message(text)


def test_values_have_no_derivatives():
    for text in ("d(x, x)", "lap(x)", "grad2(x)"):
        assert "which only a cost may" in message(text, ["x"])


def test_every_refusal_is_an_error_of_the_package():
    assert issubclass(ExpressionError, SftError)
    assert message("w + q").startswith("the cost has an unknown name 'q'\n    w + q\n        ^ column 5\n")


def test_long_sums_are_fine():
    names = [f"a{number}" for number in range(200)]
    tree = parse(" + ".join(f"{number}*{name}" for number, name in enumerate(names)), names)
    assert evaluate(tree, dict.fromkeys(names, 1.0)) == sum(range(200))
    nested = parse("(" * 24 + "x" + "*x + 1)" * 24, ["x"])
    assert evaluate(nested, {"x": 0.5}) == pytest.approx(2.0 - 0.5**24 * 1.5)


WATCHED: list[str] | None = None


def _watch(event, arguments):
    """An audit hook cannot be removed again; it does nothing unless a test watches."""
    if WATCHED is not None and event not in ("compile", "object.__getattr__"):
        WATCHED.append(f"{event} {arguments!r}"[:200])


sys.addaudithook(_watch)


@contextlib.contextmanager
def watching():
    """What the interpreter does meanwhile that a parser has no business with (compiling a text to a tree is its business)."""
    global WATCHED
    message("warm_up(q) + unknown")
    WATCHED = events = []
    try:
        yield events
    finally:
        WATCHED = None


def verdict_on(text, values):
    """("right", value, scale), ("refused",) or ("undefined",) by Python's own arithmetic."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's parser warns of 1if 2 and the like
        try:
            return ("right", *judge(text, values))
        except Refused:
            return ("refused",)
        except Undefined:
            return ("undefined",)


def value_of(text, values):
    """The package's value of a text, None where it refuses it."""
    try:
        with np.errstate(all="ignore"):
            return float(evaluate(parse(text, values), values))
    except ExpressionError:
        return None


def test_ten_thousand_random_texts():
    rng = random.Random(2024)
    values = {"x": 0.37, "y": -1.21, "a": 2.5, "N": 0.0625}
    texts = []
    for number in range(10_000):
        text = random_text(rng, rng.randrange(1, 7), tuple(values))
        for _ in range(rng.randrange(1, 3) if number % 2 else 0):
            text = mutated(rng, text)
        texts.append(text)
    verdicts = [verdict_on(text, values) for text in texts]
    with watching() as events:
        found = [value_of(text, values) for text in texts]
    assert not events
    for text, (verdict, *expected), value in zip(texts, verdicts, found, strict=True):
        if verdict == "right":
            assert value == pytest.approx(expected[0], rel=1e-11, abs=1e-11 * max(1.0, expected[1])), text
        assert verdict != "refused" or value is None, text
    kinds = [verdict for verdict, *_ in verdicts]
    assert min(kinds.count("right"), kinds.count("refused")) > 3000


def test_no_code_is_run_by_what_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with watching() as events:
        for text in (
            "__import__('os').mkdir('made')",
            "open('made', 'w')",
            "exec('import antigravity')",
            "eval('1')",
            "print(w)",
        ):
            message(text)
    assert not events and not list(tmp_path.iterdir())


def test_huge_powers_take_no_memory():
    tracemalloc.start()
    for text in ("10**10**10", "9**9**9**9", "2**(2**(2**(2**9)))", "w*(10**400)", "7**123456789"):
        message(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
