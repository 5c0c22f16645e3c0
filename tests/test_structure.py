"""The code is built as CONTRIBUTING.md says: who imports whom, how long it is, who names flags."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "repaint_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))
ROWS = [
    re.findall(r"`([\w/.]+)`", row)
    for row in re.findall(r"^\| (`.+?) \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M)
]
LONGEST_MODULE, LONGEST_BODY = 350, 40  # lines


def row_of(path):
    """The row of CONTRIBUTING's table in which a module stands, by itself or with its folder."""
    name = path.relative_to(PACKAGE).as_posix()
    (found,) = [
        i for i, names in enumerate(ROWS) if name in names or f"{name.split('/')[0]}/" in names
    ]
    return found


def imported(path):
    """The modules of the package that a module imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("repaint_jax"):
            for name in [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]:
                module = ROOT / name.replace(".", "/")
                yield from (
                    p for p in (module.with_suffix(".py"), module / "__init__.py") if p.is_file()
                )


def names(path):
    return path.relative_to(PACKAGE).as_posix()


# The package's own __init__ gathers the public names from all rows.
@pytest.mark.parametrize(
    "path", [m for m in MODULES if m.parent != PACKAGE or m.stem != "__init__"], ids=names
)
def test_imports_go_down_the_table_of_contributing(path):
    above = [
        names(other)
        for other in imported(path)
        if other.parent != PACKAGE or other.stem != "__init__"
        if row_of(other) < row_of(path)
    ]
    assert not above


CODE = [*MODULES, *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]


def test_modules_and_functions_are_short():
    long = []
    for path in CODE:
        text = path.read_text("utf-8")
        if len(text.splitlines()) > LONGEST_MODULE:
            long.append(path.name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body and body[-1].end_lineno - body[0].lineno >= LONGEST_BODY:
                    long.append(f"{path.name}:{node.name}")
    assert not long


FIELD_OR_FLAG = r"(?<![\w-])--[a-z]\w+|\bconfig\.(?!json)\w+"


def test_below_the_configuration_no_message_names_a_flag_or_a_field():
    (config,) = [i for i, names in enumerate(ROWS) if "config.py" in names]
    named = []
    for path in MODULES:
        if path == PACKAGE / "__init__.py" or row_of(path) <= config:
            continue
        tree = ast.parse(path.read_text("utf-8"))
        documents = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else None
            if not isinstance(text, str) or id(node) in documents:
                continue
            if found := re.search(FIELD_OR_FLAG, text):
                named.append(f"{names(path)}:{node.lineno} {found[0]}")
    assert not named
