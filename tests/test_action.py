"""Actions: names, parameters, what they show of themselves, errors."""

import math

import numpy as np
import pytest

import sftsolve as sft
from sftsolve.action import RESERVED
from sftsolve.errors import ActionError, ExpressionError, GridError, SftError

MATRIX = np.ones((1, 1, 4))
GRID = sft.Grid(4, 1.0)


def refused(*arguments, error=ActionError, **keywords):
    with pytest.raises(error) as caught:
        sft.Action(*arguments, **keywords)
    return str(caught.value)


@pytest.mark.parametrize("more", [{"parameters": [1]}, {"sources": ["x"]}, {"kernels": 3}], ids=str)
def test_what_is_given_by_name_or_in_a_list(more):
    with pytest.raises(SftError, match=next(iter(more))[:6]):
        sft.Action(["w"], "w**2", **more)


def test_what_an_action_holds():
    action = sft.Action(["w1", "w2"], "m*w1**2 + J*w2", {"m": np.float32(2)}, {"J": 3.0}, friction=sft.Friction(gamma=2))
    assert action.fields == ("w1", "w2") and action.cost == "m*w1**2 + J*w2" and action.parameters == {"m": 2.0}
    assert set(action.sources_at(GRID)) == {"J"} and action.kernels == () and action.friction.value == 2.0
    assert repr(action) == (
        "Action(fields=['w1', 'w2'], cost='m*w1**2 + J*w2', parameters={'m': 2.0}, friction=Friction(gamma=2), sources=['J'])"
    )


def test_defaults():
    action = sft.Action(("w",))
    assert action.cost == "0" and action.friction is None and not action.sources and not action.parameters


def test_letters_are_ordinary_names():
    names = ["S", "Q", "N", "E", "I", "O", "C", "gamma", "beta", "zeta", "lam", "sin", "d", "lap", "_", "phi1", "\u03c6"]
    action = sft.Action(names, " + ".join(f"{name}**2" for name in names))
    assert action.fields == tuple(names)


@pytest.mark.parametrize("name", ["", "1w", "w 1", "w-1", "w.x", "w\n", "w'", '"""', "\ufb01", "\uff57", "a\\b", "w#"])
def test_names_must_be_identifiers(name):
    assert "is not an identifier" in refused([name])
    assert "is not an identifier" in refused(["ok"], parameters={name: 1.0})
    assert "is not an identifier" in refused(["ok"], sources={name: 1.0})


@pytest.mark.parametrize("name", [*sorted(RESERVED), "lambda", "None", "if"])
def test_some_names_are_taken(name):
    assert "is taken" in refused([name])
    assert "is taken" in refused(["ok"], parameters={name: 1.0})
    assert "is taken" in refused(["ok"], sources={name: 1.0})


@pytest.mark.parametrize(
    ("fields", "parameters", "sources", "given"),
    [
        (["w", "w"], {}, {}, "field and field"),
        (["w"], {"w": 1.0}, {}, "field and parameter"),
        (["w"], {}, {"w": 1.0}, "field and source"),
        (["w"], {"J": 1.0}, {"J": 1.0}, "parameter and source"),
    ],
)
def test_names_must_differ(fields, parameters, sources, given):
    assert given in refused(fields, "0", parameters, sources)


def test_velocities_need_their_names():
    assert "is the velocity of field 'w'" in refused(["w", "w_t"])
    assert sft.Action(["v", "w_t"]).fields == ("v", "w_t")


@pytest.mark.parametrize("fields", ["w", [], (), None, 3, [1], [None], ["w", 2]])
def test_fields_are_a_list_of_names(fields):
    assert 'fields=["w"], say' in refused(fields)


@pytest.mark.parametrize("value", [math.nan, math.inf, "1", None, True, 1j, np.complex128(1), 10**400, [1.0], np.ones(1)])
def test_parameters_are_finite_numbers(value):
    assert "parameter 'm' must be a finite number" in refused(["w"], parameters={"m": value})


@pytest.mark.parametrize("friction", [1.0, "gamma", {"gamma": 1.0}])
def test_friction_is_a_friction(friction):
    assert "sft.Friction(gamma=...)" in refused(["w"], friction=friction)


@pytest.mark.parametrize(
    ("cost", "hint"),
    [
        ("w**2 + q", "unknown name 'q'"),
        ("w**", "not a well-formed expression"),
        ("", "is empty"),
        (0, "is not text"),
        (None, "is not text"),
        ("d(J, x)", "differentiates the source 'J'"),
        ("d(w, q)", "not understood"),
    ],
)
def test_costs_are_checked_at_once(cost, hint):
    assert hint in refused(["w"], cost, sources={"J": 1.0}, error=ExpressionError)


def test_axes_are_checked_on_the_grid():
    action = sft.Action(["w"], "d(w, y)**2 + x*w", friction=sft.Friction(gamma=1))
    with pytest.raises(ExpressionError, match="with the axes x of this grid"):
        sft.discretise(action, GRID)
    assert sft.discretise(action, sft.Grid((4, 4), 1.0)).fields == ("w",)


def test_kernels_need_known_fields():
    action = sft.Action(["w"], kernels=[sft.PointwiseMatrix(["v"], MATRIX)], friction=sft.Friction(gamma=1))
    with pytest.raises(ActionError, match="unknown field 'v'"):
        sft.discretise(action, GRID)


def test_kernels_are_kernels():
    with pytest.raises(ActionError, match="a kernel is not understood"):
        sft.Action(["w"], kernels=[3])


@pytest.mark.parametrize("initial", [None, 1.0, np.ones((1, 4))])
def test_initial_values_go_by_field(initial):
    system = sft.discretise(sft.Action(["w"], "w**2", friction=sft.Friction(gamma=1)), GRID)
    with pytest.raises(GridError, match='such as {"w": 0.0}'):
        system.state(initial)
    with pytest.raises(GridError, match="the velocity is not understood"):
        system.state({"w": 0.0}, np.ones((1, 4)))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"order": 3}, ActionError),
        ({"order": 2.5}, ActionError),
        ({"order": True}, ActionError),
        ({"order": "2"}, ActionError),
        ({"dtype": "float16"}, SftError),
        ({"dynamics": "newton"}, SftError),
    ],
)
def test_options_of_discretise(options, error):
    action = sft.Action(["w"], "w**2", friction=sft.Friction(gamma=1))
    with pytest.raises(error, match="expected:"):
        sft.discretise(action, GRID, **options)


def test_shapes_are_checked():
    system = sft.discretise(sft.Action(["w", "v"], "w*v", friction=sft.Friction(gamma=1)), GRID)
    for wrong in (np.ones(4), np.ones((1, 4)), np.ones((2, 5)), np.ones((2, 4, 1))):
        with pytest.raises(GridError, match=r"\(2, 4\)"):
            system.force(wrong)
        with pytest.raises(GridError, match=r"\(2, 4\)"):
            system.cost(wrong)
        with pytest.raises(GridError, match=r"\(2, 4\)"):
            system.jvp(np.ones((2, 4)), wrong)


def test_small_grids_are_refused_where_the_stencil_does_not_fit():
    wide = sft.Action(["w"], "lap(w)**2", friction=sft.Friction(gamma=1))
    with pytest.raises(GridError, match="at least 2 cells"):
        sft.discretise(wide, sft.Grid((1, 8), 1.0))
