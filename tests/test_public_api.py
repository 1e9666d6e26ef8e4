"""The public names: listed, typed, documented."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest

import mptvc

PUBLIC = [name for name in mptvc.__all__ if name != "__version__"]


def test_lazy_names_are_those_that_type_checkers_see():
    tree = ast.parse(Path(mptvc.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (item.asname): (node.module.removeprefix("mptvc."), item.name)
        for node in block.body
        for item in node.names
    }
    assert seen == mptvc._HOMES


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_is_documented(name):
    thing = getattr(mptvc, name)
    doc = inspect.getdoc(thing)
    assert doc
    assert re.match(r"[A-Z].*[.;:]", doc.splitlines()[0])
    if dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            assert f"{field.name}:" in doc or name == "Colour", field.name


@pytest.mark.parametrize("name", [n for n in PUBLIC if inspect.isfunction(getattr(mptvc, n))])
def test_public_function_documents_arguments_and_errors(name):
    function = getattr(mptvc, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty
    doc = inspect.getdoc(function) or ""
    if name != "detect_shots":
        assert "Raises:" in doc


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_like_it"):
        getattr(mptvc, "nothing_like_it")  # noqa: B009 - the look-up is the test


def test_every_error_is_one_of_ours():
    for name in PUBLIC:
        if name.endswith("Error"):
            assert issubclass(getattr(mptvc, name), mptvc.MptError)
