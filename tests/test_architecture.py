"""The import layers and the rules that hold for every module, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mptvc

ROOT = Path(mptvc.__file__).parent

#: A module imports only modules of earlier layers.
LAYERS = [
    ["errors", "process"],
    ["config", "rate"],
    ["header"],
    ["bitstream", "entropy_coder", "targets", "pyramid", "fsq", "metrics"],
    ["attention", "tiling", "integer_network", "files", "remote", "folders", "raw_video"],
    ["transforms", "entropy_model"],
    ["model"],
    ["tiled"],
    ["clip"],
    ["streaming"],
    ["codec"],
    ["cuts", "deinterlace", "sound"],
    ["video_input"],
    ["video_output"],
    ["weights"],
    ["reader", "writer"],
    ["token_files", "dataset"],
    ["peers"],
    ["compare"],
    ["api", "plots", "report", "demo"],
    ["bench_peers"],
    ["bench"],
    ["cli_options"],
    ["cli_output"],
    ["cli_encode", "cli_files", "cli_tools", "cli_bench", "cli_compare", "cli_train"],
    ["cli"],
    ["__main__"],
]
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}

#: Reads and writes files without any network.
FORMAT = ["errors", "config", "rate", "header", "bitstream", "entropy_coder", "targets", "files"]
#: Computes; touches nothing outside.
MATHS = [
    "pyramid",
    "fsq",
    "attention",
    "tiling",
    "integer_network",
    "transforms",
    "entropy_model",
    "model",
]
MATHS_MAY_IMPORT = {
    "bisect",
    "collections",
    "dataclasses",
    "functools",
    "itertools",
    "math",
    "mptvc",
    "numpy",
    "torch",
    "typing",
}
CLI = ["cli", "cli_options", "cli_output", "cli_tools", "cli_bench", "cli_compare", "cli_train"]
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
TRAIN = [name for name in MODULES if name.split(".")[0] == "train"]


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


def own_imports(name: str) -> set[str]:
    """Modules of the package that a module imports, by their first name below the package."""
    return {dotted.split(".")[1] for dotted in imports(name) if dotted.startswith("mptvc.")}


def foreign_imports(name: str) -> set[str]:
    return {dotted.split(".")[0] for dotted in imports(name)}


def test_every_module_has_a_layer() -> None:
    assert sorted(LAYER_OF) == sorted(set(MODULES) - set(TRAIN) - {"__init__"})


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_are_absolute_and_named(name: str) -> None:
    """The other tests here see only such imports."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module != "mptvc"
            assert all(alias.name != "*" for alias in node.names)


@pytest.mark.parametrize("name", sorted(LAYER_OF))
def test_module_imports_only_earlier_layers(name: str) -> None:
    own = own_imports(name) - ({"train"} if name == "cli_train" else set())
    assert own <= set(LAYER_OF)
    assert {other for other in own if LAYER_OF[other] >= LAYER_OF[name]} == set()


def test_package_itself_imports_no_module_of_its_own() -> None:
    """Except for type checkers; names are looked up on first use."""
    statements = [
        node
        for node in tree("__init__").body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    imported = {dotted.split(".")[0] for node in statements for dotted in imports_below(node)}
    assert imported <= {"importlib", "typing"}


@pytest.mark.parametrize("name", FORMAT)
def test_format_needs_no_torch(name: str) -> None:
    assert not foreign_imports(name) & {"torch", "torchvision", "safetensors", "av"}
    assert own_imports(name) <= set(FORMAT)


@pytest.mark.parametrize("name", MATHS)
def test_maths_touches_nothing_outside(name: str) -> None:
    assert foreign_imports(name) <= MATHS_MAY_IMPORT
    assert own_imports(name) <= {*MATHS, "config", "rate"}


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(TRAIN) - {"cli_train"}))
def test_training_is_imported_by_the_command_line_alone(name: str) -> None:
    assert "train" not in own_imports(name)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_module_has_a_docstring(name: str) -> None:
    assert ast.get_docstring(tree(name))


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_assert_statements(name: str) -> None:
    """They vanish under ``python -O``."""
    assert not [node.lineno for node in ast.walk(tree(name)) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(CLI)))
def test_only_the_command_line_prints(name: str) -> None:
    used = [node.lineno for node in ast.walk(tree(name)) if isinstance(node, ast.Name) and node.id == "print"]
    assert not used


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
