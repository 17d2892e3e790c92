"""The functions of the expression language, one row each: the elementary ones of Python's `math`, erf, gamma, abs and sign."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from sftsolve.algebra import FUNCTIONS, ONE, ZERO, Function, Node, Number, add, call, multiply, power

_ROOT_PI = 2.0 / math.sqrt(math.pi)


def _one_plus_square(a: Node, sign: float) -> Node:
    return add(ONE, multiply(sign, power(a, 2)))


def _root(a: Node) -> Node:
    return power(call("sqrt", a), -1)


FUNCTIONS.update(
    {
        "sin": Function(1, np.sin, "math.sin({0})", (lambda a: call("cos", a),)),
        "cos": Function(1, np.cos, "math.cos({0})", (lambda a: -call("sin", a),)),
        "tan": Function(1, np.tan, "math.tan({0})", (lambda a: _one_plus_square(call("tan", a), 1.0),)),
        "asin": Function(1, np.arcsin, "math.asin({0})", (lambda a: _root(_one_plus_square(a, -1.0)),)),
        "acos": Function(1, np.arccos, "math.acos({0})", (lambda a: -_root(_one_plus_square(a, -1.0)),)),
        "atan": Function(1, np.arctan, "math.atan({0})", (lambda a: power(_one_plus_square(a, 1.0), -1),)),
        "sinh": Function(1, np.sinh, "math.sinh({0})", (lambda a: call("cosh", a),)),
        "cosh": Function(1, np.cosh, "math.cosh({0})", (lambda a: call("sinh", a),)),
        "tanh": Function(1, np.tanh, "math.tanh({0})", (lambda a: _one_plus_square(call("tanh", a), -1.0),)),
        "asinh": Function(1, np.arcsinh, "math.asinh({0})", (lambda a: _root(_one_plus_square(a, 1.0)),)),
        "acosh": Function(1, np.arccosh, "math.acosh({0})", (lambda a: _root(add(power(a, 2), Number(-1.0))),)),
        "atanh": Function(1, np.arctanh, "math.atanh({0})", (lambda a: power(_one_plus_square(a, -1.0), -1),)),
        "exp": Function(1, np.exp, "math.exp({0})", (lambda a: call("exp", a),)),
        "expm1": Function(1, np.expm1, "math.expm1({0})", (lambda a: call("exp", a),)),
        "exp2": Function(1, np.exp2, "2.0 ** ({0})", (lambda a: multiply(math.log(2.0), call("exp2", a)),)),
        "log": Function(1, np.log, "math.log({0})", (lambda a: power(a, -1),)),
        "log1p": Function(1, np.log1p, "math.log1p({0})", (lambda a: power(add(ONE, a), -1),)),
        "log2": Function(1, np.log2, "math.log2({0})", (lambda a: multiply(1.0 / math.log(2.0), power(a, -1)),)),
        "log10": Function(1, np.log10, "math.log10({0})", (lambda a: multiply(1.0 / math.log(10.0), power(a, -1)),)),
        "sqrt": Function(1, np.sqrt, "math.sqrt({0})", (lambda a: multiply(0.5, _root(a)),)),
        "erf": Function(1, special.erf, "math.erf({0})", (lambda a: multiply(_ROOT_PI, call("exp", -power(a, 2))),)),
        "erfc": Function(1, special.erfc, "math.erfc({0})", (lambda a: multiply(-_ROOT_PI, call("exp", -power(a, 2))),)),
        "gamma": Function(1, special.gamma, "math.gamma({0})", None),
        "lgamma": Function(1, special.gammaln, "math.lgamma({0})", None),
        "fabs": Function(1, np.abs, "abs({0})", (lambda a: call("sign", a),)),
        "abs": Function(1, np.abs, "abs({0})", (lambda a: call("sign", a),)),
        "sign": Function(1, np.sign, "1.0 if {0} > 0.0 else (-1.0 if {0} < 0.0 else 0.0 * {0})", (lambda a: ZERO,)),
        "floor": Function(1, np.floor, "np.floor({0})", (lambda a: ZERO,)),
        "ceil": Function(1, np.ceil, "np.ceil({0})", (lambda a: ZERO,)),
        "trunc": Function(1, np.trunc, "np.trunc({0})", (lambda a: ZERO,)),
        "degrees": Function(1, np.degrees, "math.degrees({0})", (lambda a: Number(180.0 / math.pi),)),
        "radians": Function(1, np.radians, "math.radians({0})", (lambda a: Number(math.pi / 180.0),)),
        "cbrt": Function(
            1,
            np.cbrt,
            "math.copysign(abs({0}) ** (1.0 / 3.0), {0})",
            (lambda a: multiply(1.0 / 3.0, power(call("cbrt", a), -2)),),
        ),
        "copysign": Function(
            2,
            np.copysign,
            "math.copysign({0}, {1})",
            (lambda a, b: multiply(call("sign", a), call("copysign", ONE, b)), lambda a, b: ZERO),
        ),
        "atan2": Function(
            2,
            np.arctan2,
            "math.atan2({0}, {1})",
            (
                lambda a, b: multiply(b, power(add(power(a, 2), power(b, 2)), -1)),
                lambda a, b: multiply(-1.0, a, power(add(power(a, 2), power(b, 2)), -1)),
            ),
        ),
        "hypot": Function(
            2,
            np.hypot,
            "math.hypot({0}, {1})",
            (
                lambda a, b: multiply(a, power(call("hypot", a, b), -1)),
                lambda a, b: multiply(b, power(call("hypot", a, b), -1)),
            ),
        ),
        "pow": Function(
            2,
            lambda a, b: np.power(np.asarray(a, float), b),
            "({0}) ** ({1})",
            (
                lambda a, b: multiply(b, call("pow", a, add(b, Number(-1.0)))),
                lambda a, b: multiply(call("pow", a, b), call("log", a)),
            ),
        ),
    }
)
