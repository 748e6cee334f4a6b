"""Connections, and how those at, above or below an item are found without looking at the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from cpc.dataflow.types import Fit, Path, Type

if TYPE_CHECKING:
    from cpc.dataflow.instance import Instance, Tree


class Link(msgspec.Struct, frozen=True, eq=False):
    """`target` follows `source`, since change `since` of the project.

    An end is (tree, *path) of an item. `network`: the instance in whose network it lies. `fit`: how the values become the
    target's.
    """

    id: int
    network: Instance
    source: Instance
    source_end: Path
    target: Instance
    target_end: Path
    since: int
    fit: Fit

    @property
    def source_tree(self) -> Tree:
        """The tree of what it follows."""
        return self.source_end[0]  # type: ignore[return-value]

    @property
    def source_path(self) -> Path:
        """The path in that tree."""
        return self.source_end[1:]

    @property
    def target_tree(self) -> Tree:
        """The tree of what follows."""
        return self.target_end[0]  # type: ignore[return-value]

    @property
    def target_path(self) -> Path:
        """The path in that tree."""
        return self.target_end[1:]

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
            self.source.outbound = Outbound()
        if self.target.inbound is None:
            self.target.inbound = Inbound()
        self.source.outbound.add(self)
        self.target.inbound.add(self)

    def detach(self) -> None:
        """Take it out at both instances."""
        assert self.source.outbound is not None
        assert self.target.inbound is not None
        self.source.outbound.remove(self)
        self.target.inbound.remove(self)


#: As many links are looked through one by one; more are kept in an index, which takes more memory.
FEW = 6


class Ends(ABC):
    """The links of one instance, by one of their ends."""

    __slots__ = ("_few", "_index")

    def __init__(self) -> None:
        self._few: tuple[Link, ...] = ()
        self._index: _Node | None = None

    @staticmethod
    @abstractmethod
    def end(link: Link) -> Path:
        """Where the link is entered."""

    def __iter__(self) -> Iterator[Link]:
        return iter(self._few) if self._index is None else self._index.walk()

    def add(self, link: Link) -> None:
        """Enter a link."""
        if self._index is None and len(self._few) < FEW:
            self._few = (*self._few, link)
            return
        if self._index is None:
            self._index = _Node()
            for each in self._few:
                self._index.add(self.end(each), each)
            self._few = ()
        self._index.add(self.end(link), link)

    def remove(self, link: Link) -> None:
        """Take out a link that was entered."""
        if self._index is not None:
            self._index.remove(self.end(link), link)
        else:
            self._few = tuple(each for each in self._few if each is not link)

    def above(self, path: Path) -> list[Link]:
        """The links at `path`, which is an end, and at what contains it."""
        if self._index is None:
            return [link for link in self._few if (end := self.end(link)) == path[: len(end)]]
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
            return [link for link in self._few if len(end := self.end(link)) > size and end[:size] == path]
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
        ends = (self.end(link) for link in self._few)
        inner = (end[size] for end in ends if len(end) > size and end[:size] == path)
        return max((part + 1 for part in inner if isinstance(part, int)), default=0)


class Outbound(Ends):
    """The links from one instance."""

    __slots__ = ()

    @staticmethod
    def end(link: Link) -> Path:
        return link.source_end


class Inbound(Ends):
    """The links to one instance."""

    __slots__ = ()

    @staticmethod
    def end(link: Link) -> Path:
        return link.target_end


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
