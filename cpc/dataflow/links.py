"""Connections, and how those at, above or below an item are found without looking at the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from cpc.dataflow.types import Fit, Path, Type

if TYPE_CHECKING:
    from cpc.dataflow.instance import Instance, Tree


class Link(msgspec.Struct, frozen=True, eq=False):
    """`target_path` of the target's tree follows `source_path` of the source's, since change `since` of the project.

    `network`: the instance in whose network it lies. `fit`: how the values become the target's.
    """

    id: int
    network: Instance
    source: Instance
    source_tree: Tree
    source_path: Path
    target: Instance
    target_tree: Tree
    target_path: Path
    since: int
    fit: Fit

    @property
    def source_type(self) -> Type:
        """The type of what it follows."""
        return self.source.function.types[self.source_tree].at(self.source_path)

    @property
    def target_type(self) -> Type:
        """The type of what follows."""
        return self.target.function.types[self.target_tree].at(self.target_path)

    def attach(self) -> None:
        """Enter it at both instances."""
        if self.source.outbound is None:
            self.source.outbound = Ends()
        if self.target.inbound is None:
            self.target.inbound = Ends()
        self.source.outbound.add((self.source_tree, *self.source_path), self)
        self.target.inbound.add((self.target_tree, *self.target_path), self)

    def detach(self) -> None:
        """Take it out at both instances."""
        assert self.source.outbound is not None
        assert self.target.inbound is not None
        self.source.outbound.remove((self.source_tree, *self.source_path), self)
        self.target.inbound.remove((self.target_tree, *self.target_path), self)


#: As many links are looked through one by one; more are kept in an index, which takes more memory.
FEW = 6


class Ends:
    """The links that end at items of one instance, by (tree, path) of that end. `(tree,)` is the root of a tree."""

    __slots__ = ("_few", "_index")

    def __init__(self) -> None:
        self._few: list[tuple[Path, Link]] = []
        self._index: _Node | None = None

    def __iter__(self) -> Iterator[Link]:
        if self._index is not None:
            return self._index.walk()
        return (link for _, link in self._few)

    def add(self, path: Path, link: Link) -> None:
        """A link that ends at `path`."""
        if self._index is None and len(self._few) < FEW:
            self._few.append((path, link))
            return
        if self._index is None:
            self._index = _Node()
            for each, other in self._few:
                self._index.add(each, other)
            self._few.clear()
        self._index.add(path, link)

    def remove(self, path: Path, link: Link) -> None:
        """A link that was added there."""
        if self._index is not None:
            self._index.remove(path, link)
        else:
            self._few = [each for each in self._few if each[1] is not link]

    def above(self, path: Path) -> list[Link]:
        """The links at `path` and at what contains it."""
        if self._index is None:
            return [link for end, link in self._few if end == path[: len(end)]]
        found: list[Link] = []
        node: _Node | None = self._index
        for part in (*path, None):
            if node is None:
                break
            if node.links:
                found += node.links.values()
            node = None if part is None else node.step(part)
        return found

    def within(self, path: Path) -> list[Link]:
        """The links at what `path` contains, not at itself."""
        if self._index is None:
            size = len(path)
            return [link for end, link in self._few if len(end) > size and end[:size] == path]
        node = self._index.find(path)
        if node is None or node.below is None:
            return []
        return [link for each in node.below.values() for link in each.walk()]

    def extent(self, path: Path) -> int:
        """The length that the array at `path` has at least when its connected elements are set."""
        if self._index is not None:
            node = self._index.find(path)
            return 0 if node is None else node.extent
        size = len(path)
        inner = (end[size] for end, _ in self._few if len(end) > size and end[:size] == path)
        return max((part + 1 for part in inner if isinstance(part, int)), default=0)


class _Node:
    """A part of a path in the index. `extent`: one more than the highest array index below."""

    __slots__ = ("below", "extent", "links")

    def __init__(self) -> None:
        self.links: dict[int, Link] | None = None
        self.below: dict[str | int, _Node] | None = None
        self.extent = 0

    def step(self, part: str | int) -> _Node | None:
        return None if self.below is None else self.below.get(part)

    def find(self, path: Path) -> _Node | None:
        node: _Node | None = self
        for part in path:
            if node is None:
                return None
            node = node.step(part)
        return node

    def add(self, path: Path, link: Link) -> None:
        node = self
        for part in path:
            if isinstance(part, int) and part >= node.extent:
                node.extent = part + 1
            if node.below is None:
                node.below = {}
            below = node.below.get(part)
            if below is None:
                below = node.below[part] = _Node()
            node = below
        if node.links is None:
            node.links = {}
        node.links[link.id] = link

    def remove(self, path: Path, link: Link) -> None:
        if not path:
            assert self.links is not None
            del self.links[link.id]
            return
        part = path[0]
        assert self.below is not None
        below = self.below[part]
        below.remove(path[1:], link)
        if not below.links and not below.below:
            del self.below[part]
            while self.extent and self.extent - 1 not in self.below:
                self.extent -= 1

    def walk(self) -> Iterator[Link]:
        """Every link at and below."""
        nodes = [self]
        while nodes:
            node = nodes.pop()
            if node.links:
                yield from node.links.values()
            if node.below:
                nodes += node.below.values()
