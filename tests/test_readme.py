"""The README's blocks run as they stand, and what it promises exists."""

import re
from pathlib import Path

from typer.testing import CliRunner

import sftsolve as sft
from sftsolve.cli import app

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def indented(start: str) -> list[str]:
    return [line.split("#")[0].strip() for line in TEXT.splitlines() if line.startswith(f"    {start} ")]


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = blocks("python")
    assert found
    for block in found:
        exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "(5, 128)" in printed and "complete" in printed


def test_the_file_and_its_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("toml")
    Path("wave.toml").write_text(block)
    commands = indented("sftsolve")
    assert len(commands) >= 4
    for command in commands:
        answer = CliRunner().invoke(app, command.split()[1:])
        assert answer.exit_code == 0, answer.output
    assert Path("wave.png").stat().st_size > 10_000
    assert sft.open("wave.h5").w.shape == (5, 1, 64, 64)


def test_the_first_two_commands_are_make_demo_and_make_test():
    commands = [line.split()[:2] for line in TEXT.splitlines() if line.startswith(("    make ", "    sftsolve "))]
    assert commands[:2] == [["make", "demo"], ["make", "test"]]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in ("demo", "test", "bench"))


def test_named_files_exist():
    for name in re.findall(r"`?\b((?:data|scripts)/[\w.-]+\w)", TEXT):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`([\w-]+\.toml)`", TEXT):
        assert (ROOT / "data" / name).exists(), name
