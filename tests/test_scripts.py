"""Mistakes in the arguments of scripts are answered before anything is computed."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
NUMBERS = "expected numbers >= 0 with commas between, such as 0,1,100; given "
CASES = {
    "no number": ("scan_kappa", ["--kappa", "abc"], NUMBERS + "'abc'"),
    "a number missing": ("scan_kappa", ["--kappa", "1,,2"], NUMBERS + "'1,,2'"),
    "negative": ("scan_kappa", ["--kappa=0,-1"], NUMBERS + "'0,-1'"),
    "not finite": ("scan_kappa", ["--kappa=nan"], NUMBERS + "'nan'"),
    "infinite": ("scan_kappa", ["--kappa=inf"], NUMBERS + "'inf'"),
    "a picture of no kind": ("scan_kappa", ["x.xyz"], "this kind of picture is not drawn"),
    "a picture nowhere": ("scan_friction", ["nowhere/x.png"], "the picture's folder does not exist"),
    "two pictures": ("scan_friction", ["a.png", "b.png"], "unrecognized arguments: b.png"),
    "a file nowhere": ("make_mnist", ["nowhere/x.h5"], "expected a file in an existing folder, given nowhere/x.h5"),
    "an option that is not there": ("make_mnist", ["--hlep"], "unrecognized arguments: --hlep"),
}


def loaded(name):
    specification = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "arguments", "message"), CASES.values(), ids=CASES)
def test_a_mistake_is_answered_before_anything_is_done(name, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    script = loaded(name)
    with pytest.raises(SystemExit) as caught:
        script.main(*([arguments] if name == "make_mnist" else []))
    shown = capsys.readouterr()
    assert caught.value.code == 2 and f"{name}.py: " in shown.err and message in shown.err
    assert shown.out == "" and list(tmp_path.iterdir()) == []


def test_what_goes_wrong_in_a_scan_is_one_message(monkeypatch, capsys):
    script = loaded("scan_kappa")
    monkeypatch.setattr(script, "FILE", Path("missing.toml"))
    monkeypatch.setattr(sys, "argv", ["scan_kappa.py"])
    with pytest.raises(SystemExit) as caught:
        script.main()
    assert caught.value.code == 2 and "there is no such configuration file" in capsys.readouterr().err
