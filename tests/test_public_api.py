"""The public names: listed, typed, documented."""

import ast
import dataclasses
import doctest
import inspect
import re
from pathlib import Path

import pytest

import mptvc
from mptvc.evaluate.sample import write_sample

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


def examples(name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(recurse=False).find(getattr(mptvc, name), name, globs={})
    return [test for test in found if test.examples]


@pytest.fixture(scope="module")
def example_folder(tmp_path_factory, codec):
    """Where examples run: a video and its file."""
    folder = tmp_path_factory.mktemp("examples")
    write_sample(folder / "sample.mkv")
    (folder / "sample.mkv").rename(folder / "in.mp4")
    mptvc.encode_file(folder / "in.mp4", folder / "out.mpt", codec=codec)
    return folder


@pytest.mark.parametrize("name", [name for name in PUBLIC if examples(name)])
def test_examples_run(name, example_folder, monkeypatch):
    monkeypatch.chdir(example_folder)
    for test in examples(name):
        output = []
        doctest.DocTestRunner().run(test, out=output.append)
        assert not output, "".join(output)


def test_every_public_name_has_an_example():
    """Of its own if it does something; data and errors in the example of what makes them."""
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    texts = [example.source for name in PUBLIC for test in examples(name) for example in test.examples]
    shown = "\n".join([*texts, *re.findall(r"```python\n(.*?)```", readme, re.DOTALL)])
    makers = [
        n for n in PUBLIC if not dataclasses.is_dataclass(getattr(mptvc, n)) and not n.endswith("Error")
    ]
    assert [name for name in makers if not examples(name)] == []
    assert [name for name in makers if f"mptvc.{name}" not in shown and name != "Codec"] == []


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_like_it"):
        getattr(mptvc, "nothing_like_it")  # noqa: B009 - the look-up is the test


def test_every_error_is_one_of_ours():
    for name in PUBLIC:
        if name.endswith("Error"):
            assert issubclass(getattr(mptvc, name), mptvc.MptError)
