"""Of a persistent directory files are kept, and links that stay within it, whatever else lies there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpc.core.errors import BadInput
from cpc.server import keeping

WITHIN = [("a", "b"), ("a", "b/c"), ("d/a", "../b"), ("d/a", ".."), ("d/e/a", "../../b/c"), ("a", "a")]
OUT = [
    ("a", ".."), ("a", "../b"), ("d/a", "../../b"), ("a", "/b"), ("a", "b/../../c"), ("a", "."), ("a", "./b"), ("a", ""),
    ("a", "b/"), ("a", "b//c"), ("a", "b/.."), ("a", "x" * 300),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "target", "within"), [(*one, True) for one in WITHIN] + [(*one, False) for one in OUT]
)
def test_a_link_stays_within_or_it_does_not(path: str, target: str, within: bool) -> None:
    assert keeping.stays(path, target) is within


names = st.sampled_from(["a", "b", "c", "d/a", "d/b", "d/e/a"])
targets = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "..", "."]), min_size=1, max_size=5).map("/".join)


@given(st.dictionaries(names, targets, max_size=6))
def test_no_links_together_lead_out(tmp_path_factory: pytest.TempPathFactory, links: dict[str, str]) -> None:
    """Also those that stay within only if another one were a directory."""
    root = tmp_path_factory.mktemp("links") / "root"
    (root / "d/e").mkdir(parents=True)
    kept = [(path, target) for path, target in links.items() if keeping.stays(path, target)]
    keeping.make(root, kept)
    for path, _ in kept:
        try:
            real = (root / path).resolve(strict=True)
        except (OSError, RuntimeError):
            continue  # it leads nowhere, or round in a circle
        assert real.is_relative_to(root)
    assert keeping.content(root).left == ()


def test_what_cannot_be_kept_is_named(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("d/file")
    (tmp_path / "d/etc").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    found = keeping.content(tmp_path)
    assert found.files == (("d/file", tmp_path / "d/file", 4),)
    assert found.links == (("link", "d/file"),)
    assert found.left == ("pipe", "d/etc")
    assert keeping.words(found.left) == "pipe, d/etc are no file, nor a link that stays within its directory"
    assert keeping.words(("a",)).startswith("a is no")
    assert keeping.words(("a", "b", "c", "d", "e")).startswith("a, b, c and 2 more are no")
    assert keeping.words(()) == ""


def test_links_are_made_only_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    for links in ([("file", "x")], [("file/a", "x")], [("a", "b"), ("a", "c")], [("b", "d"), ("b/c", "d")]):
        with pytest.raises(BadInput, match=r"twice|behind a link"):
            keeping.make(tmp_path, links)
    assert (tmp_path / "file").read_bytes() == b"data"
