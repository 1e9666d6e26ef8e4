"""The import layers and the rules that hold for every module, read from the source."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import mptvc

ROOT = Path(mptvc.__file__).parent

#: A wing imports only wings of earlier layers, and its own modules.
LAYERS = [
    {"errors"},
    {"native"},
    {"format", "model"},
    {"codec", "video"},
    {"files", "train"},
    {"evaluate", "corpus"},
    {"cli"},
    {"__main__"},
]
LAYER_OF = {wing: number for number, wings in enumerate(LAYERS) for wing in wings}
#: What wings of one layer take from each other: modules of pure arithmetic.
SHARED = {"model": {"format.geometry", "format.gain"}}
#: What each wing does without; the command line imports its commands' needs when they run.
WITHOUT = {
    "errors": {"numpy", "torch", "av", "safetensors", "constriction"},
    "native": {"torch", "av", "safetensors", "constriction"},
    "format": {"torch", "av", "safetensors"},
    "model": {"av", "safetensors", "constriction", "pathlib", "os", "io", "tempfile"},
    "codec": {"av"},
    "video": {"torch", "safetensors", "constriction"},
}
#: Runs on a machine without a video library, an entropy coder or a network.
TRAINING_LOOP = ["train.run"]

MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}


def wing(name: str) -> str:
    return name.split(".")[0]


def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports(name: str) -> Iterator[str]:
    """Dotted names of all modules and objects that a module imports, in functions too."""
    yield from imports_below(tree(name))


def imports_below(root: ast.AST) -> Iterator[str]:
    for node in ast.walk(root):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def own_imports(name: str) -> set[str]:
    """Modules of the package that a module imports, by their names below the package."""
    dotted = {text.removeprefix("mptvc.") for text in imports(name) if text.startswith("mptvc.")}
    return {next(m for m in (text, text.rpartition(".")[0]) if m in MODULES) for text in dotted}


@cache
def foreign_imports(name: str) -> set[str]:
    return {dotted.split(".")[0] for dotted in imports(name)}


def reach(name: str) -> set[str]:
    """A module and all that it imports, at any depth."""
    found, coming = set(), {name}
    while coming:
        found |= coming
        coming = {other for module in coming for other in own_imports(module)} - found
    return found


def test_every_wing_has_a_layer() -> None:
    assert set(LAYER_OF) == {wing(name) for name in MODULES} - {"__init__"}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_are_absolute_and_named(name: str) -> None:
    """The other tests here see only such imports."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module != "mptvc"
            assert all(alias.name != "*" for alias in node.names)


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"__init__"}))
def test_module_imports_only_earlier_layers_and_its_own_wing(name: str) -> None:
    mine = wing(name)
    foreign = {other for other in own_imports(name) - SHARED.get(mine, set()) if wing(other) != mine}
    assert {other for other in foreign if LAYER_OF[wing(other)] >= LAYER_OF[mine]} == set()


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"__init__"}))
def test_no_circle_of_imports(name: str) -> None:
    assert all(name not in reach(other) for other in own_imports(name))


@pytest.mark.parametrize("name", sorted(n for n in MODULES if n.endswith("__init__") and n != "__init__"))
def test_wing_is_a_docstring_alone(name: str) -> None:
    assert [type(node) for node in tree(name).body] == [ast.Expr]


def test_package_itself_imports_no_module_of_its_own() -> None:
    """Except for type checkers; names are looked up on first use."""
    statements = [
        node
        for node in tree("__init__").body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    imported = {dotted.split(".")[0] for node in statements for dotted in imports_below(node)}
    assert imported <= {"importlib", "typing"}


@pytest.mark.parametrize("name", sorted(n for n in MODULES if wing(n) in WITHOUT))
def test_wing_does_without(name: str) -> None:
    assert not foreign_imports(name) & WITHOUT[wing(name)]


@pytest.mark.parametrize("name", TRAINING_LOOP)
def test_training_loop_needs_torch_numpy_and_safetensors_alone(name: str) -> None:
    needed = {foreign for module in reach(name) for foreign in foreign_imports(module)}
    assert needed - set(sys.stdlib_module_names) <= {"mptvc", "torch", "numpy", "safetensors"}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_module_has_a_docstring(name: str) -> None:
    assert ast.get_docstring(tree(name))


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_assert_statements(name: str) -> None:
    """They vanish under ``python -O``."""
    assert not [node.lineno for node in ast.walk(tree(name)) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("name", sorted(n for n in MODULES if wing(n) != "cli"))
def test_only_the_command_line_prints(name: str) -> None:
    used = [node.lineno for node in ast.walk(tree(name)) if isinstance(node, ast.Name) and node.id == "print"]
    assert not used


@pytest.mark.parametrize("name", sorted(n for n in MODULES if wing(n) != "cli"))
def test_only_the_command_line_names_options(name: str) -> None:
    """The library names its arguments, for which the command line puts options."""
    texts = [node.value for node in ast.walk(tree(name)) if isinstance(node, ast.Constant)]
    option = re.compile(r"(?<![^\s(])-(-[a-z]|f\b)")
    assert not [text for text in texts if isinstance(text, str) and option.search(text)]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_that_can_run_code_from_a_file(name: str) -> None:
    assert not foreign_imports(name) & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    assert not set(imports(name)) & {"torch.load", "torch.save"}
    attributes = [node for node in ast.walk(tree(name)) if isinstance(node, ast.Attribute)]
    loads = [
        node.lineno
        for node in attributes
        if isinstance(node.value, ast.Name) and (node.value.id, node.attr) == ("torch", "load")
    ]
    assert not loads
    names = {node.id for node in ast.walk(tree(name)) if isinstance(node, ast.Name)}
    assert not names & {"eval", "exec"}
