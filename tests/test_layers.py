"""The house's rules that no linter knows: imports go down only, files and functions stay short."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sftsolve"
ROOMS = (
    "errors memory algebra functions expression parallel boundary grid state sources friction action codegen loops kernels "
    "linear correction system stepping analysis output simulation network config plot cli __main__"
).split()
FILES = sorted(PACKAGE.rglob("*.py"))
OPTIONAL = {"sympy", "matplotlib", "xarray", "mpi4py", "dask", "distributed"}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path) for path in FILES}


def imported(node: ast.AST) -> list[str]:
    """Modules that one statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute here"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in MODULES else node.module for name in names]
    return []


def only_for_types(tree: ast.Module) -> set[int]:
    """Statements under `if TYPE_CHECKING:`, which never run."""
    guards = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {id(inner) for guard in guards for inner in ast.walk(guard)}


def own(names: list[str]) -> list[str]:
    return [name for name in names if name == "sftsolve" or name.startswith("sftsolve.")]


def arrows() -> dict[str, set[str]]:
    """Which module imports which, of our own, when the module is loaded."""
    graph = {}
    for path in FILES:
        tree = ast.parse(path.read_text())
        skipped = only_for_types(tree)
        nodes = (node for node in ast.walk(tree) if id(node) not in skipped)
        graph[module(path)] = {name for node in nodes for name in own(imported(node))}
    return graph


def test_every_file_has_a_room():
    assert {room(path) for path in FILES} - {"__init__"} <= set(ROOMS)


def test_imports_go_down():
    graph, upward = arrows(), []
    for path in FILES:
        if room(path) in ("__init__", "cli"):
            continue
        for name in graph[module(path)]:
            target = name.split(".")[1] if "." in name else "the package root"
            if target not in ROOMS or ROOMS.index(target) > ROOMS.index(room(path)):
                upward.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not upward


def test_modules_of_a_room_form_no_circle():
    graph = {name: {target for target in targets if target != name} for name, targets in arrows().items()}
    # A package's own __init__ gathers what its files define; they are not below it.
    inner = {name: {t for t in targets if not name.startswith(t + ".")} for name, targets in graph.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for target in inner.get(name, ()):
                visit(target, (*trail, name))
            done.add(name)

    for name in inner:
        visit(name, ())


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_optional_packages_are_imported_late(path):
    late = [name for function in functions(ast.parse(path.read_text())) for node in ast.walk(function) for name in imported(node)]
    assert {name.split(".")[0] for name in late} <= OPTIONAL | sys.stdlib_module_names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    lengths = {f.name: body_lines(f) for f in functions(ast.parse(text))}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    docstring = first.end_lineno - first.lineno + 1 if is_docstring else 0
    return function.end_lineno - function.lineno + 1 - docstring


def test_an_upward_import_would_be_found():
    tree = ast.parse("from sftsolve.cli import main")
    assert own(imported(tree.body[0])) == ["sftsolve.cli"]
    assert ROOMS.index("cli") > ROOMS.index("grid")
