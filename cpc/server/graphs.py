"""The live networks: read from the database when they are first needed, then followed by the journal. For the writer only."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cpc.core.errors import NotFound
from cpc.core.journal import Journal, Unwritten
from cpc.dataflow import snapshot
from cpc.dataflow.description import ModuleText
from cpc.dataflow.graph import Graph
from cpc.dataflow.library import Library, nothing
from cpc.store import instances, networks, projects
from cpc.store.transaction import Tx

#: So many instances stay in memory without being used; each takes about 1 kB.
KEPT = 300_000


class Graphs:
    """Networks by project, those used last behind the others."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._live: dict[int, Graph] = {}
        self._offered: dict[str, ModuleText] = {}

    def get(self, tx: Tx, project: int) -> Graph:
        """The network of a project; an empty one if it has none yet. Damaged when its rows do not go together."""
        graph = self._live.pop(project, None)
        fresh = graph is None
        if graph is None:
            graph = self._load(tx, project)
            self._make_room(len(graph.instances))
        self._live[project] = graph
        if fresh and tx.writes:
            # It may hold what the batch has written, and the batch may yet be undone.
            self._journal.note(self._live.pop, project, None)
        return graph

    def drop(self, project: int) -> None:
        """It is read again when somebody needs it."""
        self._live.pop(project, None)

    @contextmanager
    def offering(self, modules: Sequence[ModuleText]) -> Iterator[None]:
        """Within, these modules can be imported."""
        self._offered = {module.name: module for module in modules}
        try:
            yield
        finally:
            self._offered = {}

    def _find(self, name: str) -> ModuleText:
        found = self._offered.get(name)
        return nothing(name) if found is None else found

    def _load(self, tx: Tx, project: int) -> Graph:
        row = projects.by_id(tx, project)
        if row is None or row.deleted is not None:
            raise NotFound("the project has been deleted")
        library = Library(self._find)
        change = networks.change(tx, project)
        if change is None:
            return Graph(library, self._journal, row.name)
        for text in networks.modules(tx, project):
            library.add(text, Unwritten())
        rows, values, links = instances.load(tx, project)
        with _uncollected():
            return snapshot.load(
                library, self._journal, name=row.name, change=change, instances=rows, values=values, links=links
            )

    def _make_room(self, coming: int) -> None:
        """Whoever was not used for the longest time leaves. What is lost can be read again: nothing is only in memory."""
        while self._live and coming + sum(len(graph.instances) for graph in self._live.values()) > KEPT:
            del self._live[next(iter(self._live))]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection: all that is made within stays, and looking through it again and again costs as much as
    making it.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
