"""Paths are read as people write them, and connections are found by them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpc.core.errors import BadInput
from cpc.dataflow import paths
from cpc.dataflow.functions import PROJECT
from cpc.dataflow.instance import Instance, Tree
from cpc.dataflow.links import FEW, Inbound, Link
from cpc.dataflow.paths import NEXT
from cpc.dataflow.types import Fit, Path

names = st.text(st.characters(exclude_characters=".:[]", exclude_categories=("Cc", "Cs")), min_size=1, max_size=5)
places: st.SearchStrategy[Path] = st.lists(st.one_of(names, st.integers(0, 99)), max_size=5).map(tuple)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("grompp", ("grompp",)),
        ("run:sim_3:mdrun", ("run", "sim_3", "mdrun")),
        ("grompp.in.conf", ("grompp", "in", "conf")),
        ("grompp:in.conf[+]", ("grompp", "in", "conf", NEXT)),
        ("g:in.settings[0].name", ("g", "in", "settings", 0, "name")),
        ("a:out.x[3][4]", ("a", "out", "x", 3, 4)),
        ("my-inst:in.a-b", ("my_inst", "in", "a_b")),
        ("größe:in.ä", ("größe", "in", "ä")),
    ],
)
def test_a_path_is_read(text: str, parts: paths.Written) -> None:
    assert paths.parse(text) == parts


@pytest.mark.parametrize(
    "text",
    ["a..b", "a.", ":a", "a[", "a[x]", "a[-1]", "[0]", "a.[0]", "a[0]b", "a]", "a\0b", "a[99999999]", "x" * 5000],
)
def test_what_is_no_path_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        paths.parse(text)
    assert "\n" not in str(caught.value)


@given(names, places)
def test_a_path_that_is_written_is_read_back(first: str, rest: Path) -> None:
    parts = tuple(paths.key(part) if isinstance(part, str) else part for part in (first, *rest))
    assert paths.read(paths.write(parts)) == parts


@given(st.text(max_size=30))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    try:
        parts = paths.parse(text)
    except BadInput:
        return
    assert paths.parse(paths.write(parts)) == parts


ends = st.lists(st.sampled_from(("x", "y", 0, 1, 2)), max_size=3).map(lambda parts: (Tree.IN, *parts))


@given(st.lists(ends, max_size=3 * FEW), st.data())
def test_links_are_found_as_if_all_were_looked_at(all_ends: list[Path], data: st.DataObject) -> None:
    instance = Instance(1, "a", None, PROJECT)
    links = [Link(n, instance, instance, (Tree.OUT,), instance, end, 0, Fit.SAME) for n, end in enumerate(all_ends)]
    inbound = Inbound()
    for link in links:
        inbound.add(link)
    for link in data.draw(st.lists(st.sampled_from(links), unique=True)) if links else []:
        inbound.remove(link)
        links.remove(link)
    assert {link.id for link in inbound} == {link.id for link in links}
    for path in {*all_ends, (Tree.IN,), (Tree.IN, "x"), (Tree.IN, "x", 1), (Tree.OUT,)}:
        size = len(path)
        assert {link.id for link in inbound.above(path)} == {
            link.id for link in links if path[: len(link.target_end)] == link.target_end
        }
        below = [link for link in links if len(link.target_end) > size and link.target_end[:size] == path]
        assert {link.id for link in inbound.within(path)} == {link.id for link in below}
        indexes = [part for link in below if isinstance(part := link.target_end[size], int)]
        assert inbound.extent(path) == max(indexes, default=-1) + 1
