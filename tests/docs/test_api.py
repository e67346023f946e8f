"""The API reference: every public name is explained, and stands on the pages."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import edgetam_model
from tests.docs.api import MODULES, build

Named = tuple[str, Any]


def members(name: str, kind: type) -> Iterator[Named]:
    """Public functions and properties of a class, where it defines them itself."""
    for member, value in vars(kind).items():
        if member.startswith("_"):
            continue
        plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        plain = plain.fget if isinstance(plain, property) else plain
        if inspect.isfunction(plain):
            yield f"{name}.{member}", plain


def public() -> Iterator[Named]:
    for name in edgetam_model.__all__:
        found = getattr(edgetam_model, name)
        if inspect.isclass(found):
            yield name, found
            yield from members(name, found)
        elif inspect.isfunction(found):
            yield name, found


PUBLIC = dict(public())
FUNCTIONS = {name: found for name, found in PUBLIC.items() if inspect.isfunction(found)}


def own_doc(found: Any) -> str:
    """What stands there, not what a base class says."""
    return inspect.cleandoc(vars(found).get("__doc__") or found.__doc__ or "")


def described(doc: str) -> list[str]:
    """The names that its part "Args" begins lines with."""
    part = re.search(r"^Args:\n((?: {4}.*\n?|\n)*)", doc, re.MULTILINE)
    heads = re.findall(r"^ {4}([a-z_][\w, ]*):", part[1], re.MULTILINE) if part else []
    return [name.strip() for head in heads for name in head.split(",")]


def raises(function: Callable[..., Any]) -> bool:
    """Whether an error is raised in its own lines."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))


def test_the_face_is_looked_at() -> None:
    assert {"load_model", "VideoTracker.open", "Prompt", "VideoSession.propagate"} <= set(PUBLIC)
    assert len(FUNCTIONS) > 100


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_explained(name: str) -> None:
    doc = own_doc(PUBLIC[name])
    assert doc.endswith((".", "`", ":")) or "\n" in doc, f"{name} has no docstring that is a sentence"


@pytest.mark.parametrize("name", [name for name, one in FUNCTIONS.items() if raises(one)])
def test_who_raises_says_so(name: str) -> None:
    owner = PUBLIC.get(name.partition(".")[0])
    assert "aises" in own_doc(FUNCTIONS[name]) + (own_doc(owner) if owner else ""), name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_described_arguments_exist(name: str) -> None:
    known = inspect.signature(FUNCTIONS[name]).parameters
    assert set(described(own_doc(FUNCTIONS[name]))) <= set(known), name


def test_arguments_are_found_in_docstrings() -> None:
    doc = "One.\n\nArgs:\n    a: it.\n    b, c: they\n        go on: here.\n\nReturns:\n    d: not this.\n"
    assert described(doc) == ["a", "b", "c"]


def test_the_pages_have_every_public_name(tmp_path: Path) -> None:
    assert build(tmp_path).is_file()
    text = (tmp_path / "edgetam_model.html").read_text()
    for name in edgetam_model.__all__:
        assert f'id="{name}"' in text, name
    pages = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.html")} - {"index.html"}
    assert pages == {module.__name__.replace(".", "/") + ".html" for module in MODULES}
