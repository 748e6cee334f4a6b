"""Modules are found by name, in the order that people are told, and what is wrong with one is said with its file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import ensureDeferred

from cpc.api.modules import describe
from cpc.core.errors import BadInput, NotFound
from cpc.dataflow.description import ModuleText
from cpc.server.modules import Modules, everything, find
from tests.helpers.stores import result

XML = '<cpc version="1"><desc>{}</desc>{}<type id="numbers" base="array" member-type="float"/></cpc>'
PYTHON = """'''Doubles.'''
from cpc.api import function

@function
def twice(a: float) -> float:
    return 2 * a
"""


class Here:
    """Reads Python code in this process, with the code that controller processes do it with."""

    def describe(self, name: str, python: str, directory: str = "") -> Any:
        async def read() -> ModuleText:
            sys.path.insert(0, directory)
            try:
                return describe(importlib.import_module(python), name)
            finally:
                sys.path.remove(directory)
                sys.modules.pop(python)

        return ensureDeferred(read())


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    first, second = tmp_path / "one", tmp_path / "two"
    for directory in (first / "a", first / "pack", second / "a"):
        directory.mkdir(parents=True)
    (first / "plain.xml").write_text(XML.format("first", ""))
    (second / "plain.xml").write_text(XML.format("second", ""))
    (second / "a" / "b.xml").write_text(XML.format("below", '<import name="plain"/><import name="float"/>'))
    (first / "pack" / "_import.xml").write_text(XML.format("a package", ""))
    (second / "doubling_of_tests.py").write_text(PYTHON)
    return first, second


def modules(places: tuple[Path, ...]) -> Modules:
    async def here(call: Any) -> Any:
        return call()

    return Modules(None, Here(), here, lambda: places)  # type: ignore[arg-type]


def load(places: tuple[Path, ...], name: str) -> tuple[ModuleText, ...]:
    return result(ensureDeferred(modules(places).load(name)))


def test_the_first_directory_wins(places: tuple[Path, Path]) -> None:
    assert load(places, "plain")[0].desc == "first"
    assert load(places[::-1], "plain")[0].desc == "second"


def test_what_a_module_imports_comes_before_it(places: tuple[Path, Path]) -> None:
    assert [text.name for text in load(places, "a::b")] == ["plain", "a::b"]
    assert load(places, "pack")[0].directory == str(places[0] / "pack")


def test_python_modules_are_found_beside_those_in_xml(places: tuple[Path, Path]) -> None:
    (text,) = load(places, "doubling-of-tests")
    assert [function.id for function in text.functions] == ["twice"]
    assert text.code


def test_every_module_is_listed_once(places: tuple[Path, Path]) -> None:
    names = [place.name for place in everything(places)]
    assert {"plain", "a::b", "pack", "doubling_of_tests"} <= set(names)
    assert len(names) == len(set(names))
    assert find("plain", places).file == places[0] / "plain.xml"


@pytest.mark.parametrize("name", ["nothing", "a::nothing", "a"])
def test_what_is_not_there_is_not_found(places: tuple[Path, Path], name: str) -> None:
    with pytest.raises(NotFound, match="list-modules"):
        load(places, name)


@pytest.mark.parametrize("name", ["../secret", "a::../../etc", "", "a b", "::"])
def test_no_name_leads_out_of_the_directories(places: tuple[Path, Path], name: str) -> None:
    with pytest.raises(BadInput, match="not the name of a module"):
        load(places, name)


def test_what_is_wrong_is_said_with_the_file(places: tuple[Path, Path]) -> None:
    (places[0] / "bad.xml").write_text("<cpc>\n<function></cpc>")
    (places[0] / "latin.xml").write_bytes(b"<cpc>\xe9</cpc>")
    (places[0] / "ring.xml").write_text(XML.format("", '<import name="ring2"/>'))
    (places[0] / "ring2.xml").write_text(XML.format("", '<import name="ring"/>'))
    with pytest.raises(BadInput, match=r"bad\.xml.*2"):
        load(places, "bad")
    with pytest.raises(BadInput, match=r"latin\.xml is not UTF-8"):
        load(places, "latin")
    with pytest.raises(BadInput, match="ring → ring2 → ring"):
        load(places, "ring")
