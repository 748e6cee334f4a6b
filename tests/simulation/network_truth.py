"""What must hold of the network of a simulated project: memory against rows, steps against jobs, the record against it all."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cpc.api.modules import describe
from cpc.core.edits import Edit
from cpc.core.journal import Journal
from cpc.dataflow import items, snapshot
from cpc.dataflow.answer import Answer
from cpc.dataflow.graph import Graph
from cpc.dataflow.instance import Tree
from cpc.dataflow.library import Library
from cpc.server.graphs import Graphs
from cpc.store import record
from cpc.store.database import SQLite
from cpc.store.record import ChangeRow
from cpc.store.transaction import Tx
from tests.simulation import toys
from tests.simulation.architect import COUNTING, PROJECT

if TYPE_CHECKING:
    from tests.simulation.architect import Architect
    from tests.simulation.oracle import Oracle
    from tests.simulation.server import Server

EVERY = 8  # checks
EXPECTED = ("A was negative!", "failed")

_JOBS = "FROM step_jobs s JOIN steps o ON o.id = s.step WHERE "
_NEVER = {
    "an open step is in a state that is not stored": "SELECT id, state FROM steps WHERE state = 1",
    "an open step is not its instance's": "SELECT s.id FROM steps s WHERE s.state < 4 AND NOT EXISTS "
    "(SELECT 1 FROM instances i WHERE i.id = s.instance AND i.step = s.id)",
    "an instance's step is not open": "SELECT i.id, i.name FROM instances i WHERE i.step != 0 AND NOT EXISTS "
    "(SELECT 1 FROM steps s WHERE s.id = i.step AND s.instance = i.id AND s.state < 4)",
    "a step waits for nothing": "SELECT s.id, s.state FROM steps s WHERE s.state IN (2, 3) AND NOT EXISTS "
    "(SELECT 1 FROM step_jobs j WHERE j.step = s.id AND j.state IN (0, 3))",
    "a step waits for a job that is not there": f"SELECT s.step, s.array {_JOBS} s.state IN (0, 3) "
    "AND o.state < 4 AND s.array NOT IN (SELECT id FROM jobs)",
    "a step has jobs that ended, and is not told": f"SELECT s.step, s.array {_JOBS} s.state = 1 AND "
    "o.state IN (2, 3)",
    "the result that a step is to be told of is gone": f"SELECT s.step, s.array {_JOBS} s.state = 1 AND "
    "o.state < 4 AND s.array NOT IN (SELECT id FROM finished)",
    "a job of a closed step goes on": f"SELECT s.step, s.array {_JOBS} s.state IN (0, 3) AND o.state > 3",
    "a job of a held instance may begin": "SELECT j.id, i.name FROM jobs j JOIN step_jobs s ON s.array = j.id JOIN steps o ON "
    "o.id = s.step JOIN instances i ON i.id = o.instance WHERE o.state < 4 AND i.state = 0 AND s.state = 0 AND j.state = 1",
    "a job that is held back may begin": f"SELECT s.step, s.array {_JOBS} s.state = 3 AND s.array IN "
    "(SELECT id FROM jobs WHERE state != 0)",
    "a job belongs to two steps": "SELECT array FROM step_jobs GROUP BY array HAVING count(*) > 1",
}  # fmt: skip


class NetworkTruth:
    """`check` between any two events; `verdict` when all is quiet."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._checks = 0

    def check(self, server: Server | None) -> None:
        """Rows at each look; the whole network, in memory and in the database, now and then."""
        oracle = self._oracle
        for what, query in _NEVER.items():
            for row in oracle.rows(query):
                oracle.wrong(f"{what}: {row}")
        for name, error in oracle.rows("SELECT name, error FROM instances WHERE state = 3"):
            if "BOOKS" in error or not any(words in error for words in EXPECTED):
                oracle.wrong(f"{name} is in error: {error}")
        self._checks += 1
        if server is not None and self._checks % EVERY == 0 and not len(server.store.journal):
            self._compare(server)

    def verdict(self, server: Server, architect: Architect) -> None:
        """Outputs are those that follow from what was set; each answer has counted once; the record tells it all."""
        self._compare(server)
        stored, changes = self._stored()
        for path, value in architect.expected().items():
            found = items.value(stored.root, path).value
            if found != value:
                self._oracle.wrong(f"{path} is {found}, and should be {value}")
        for name in COUNTING:
            answers = sum(row.kind == "answered" and row.details["instance"] == name for row in changes)
            runs = items.value(stored.root, f"{name}:out.runs").value
            if runs != answers:
                self._oracle.wrong(f"{name} has counted {runs} runs, and {answers} were answered")
        for what in _differences(_picture(stored), _picture(_replayed(changes))):
            self._oracle.wrong(f"the network and its record differ: {what}")

    def _stored(self) -> tuple[Graph, list[ChangeRow]]:
        world = self._oracle.world
        database = SQLite(Path(world.path), read_only=True)
        try:
            tx = Tx(database, 0)
            number = world.project_numbers[PROJECT]
            return Graphs(Journal()).get(tx, number), record.page(tx, number, 0, 1_000_000)
        finally:
            database.rollback()
            database.close()

    def _compare(self, server: Server) -> None:
        """Memory is what the database says, and what is connected is the same everywhere."""
        assert server.network_services is not None
        live = server.network_services.flow.graphs._live.get(self._oracle.world.project_numbers[PROJECT])
        stored, _ = self._stored()
        if live is not None:
            for what in _differences(_rows(live), _rows(stored)):
                self._oracle.wrong(f"the network in memory and in the database differ: {what}")
        for graph in filter(None, (live, stored)):
            for each in graph.instances.values():
                for link in each.inbound or ():
                    source = link.source.value(link.source_tree, link.source_path)
                    target = link.target.value(link.target_tree, link.target_path)
                    if source != target:
                        self._oracle.wrong(f"{link.target.path} has {target}, and its source {source}")


def _rows(graph: Graph) -> dict[str, Any]:
    found = snapshot.dump(graph)
    # What a step that was given out has seen is written down with its answer: until then it may be given out again.
    instances = [msgspec.structs.replace(row, seen=0, updated=False) if row.step else row for row in found.instances]
    rows = [*instances, *found.values, *found.links]
    return {f"{type(row).__name__} {row!r}": True for row in rows} | {"change": found.change}


def _picture(graph: Graph) -> dict[str, Any]:
    """The network as people see it: without numbers."""
    found: dict[str, Any] = {}
    for each in graph.instances.values():
        found[each.path] = (each.function.name, each.state, each.error)
        for tree in Tree:
            found[f"{each.path}:{tree.label}"] = each.value(tree)
        for link in each.inbound or ():
            source = link.source.where(link.source_tree, link.source_path)
            found[f"→ {link.target.where(link.target_tree, link.target_path)}"] = source
    return found


def _replayed(changes: list[ChangeRow]) -> Graph:
    """The record, played into an empty project."""
    numbers = count(1)
    graph = Graph(Library(lambda name: describe(toys, name)), Journal(), PROJECT)
    for row in changes:
        if row.kind == "edited":
            graph.apply(msgspec.convert(row.details["edits"], list[Edit]), lambda: next(numbers))
            continue
        instance = items.instance(graph.root, row.details["instance"])
        if row.kind == "stopped":
            graph.stopped(instance, row.details["error"])
        else:
            told = msgspec.convert(row.details["answer"], Answer)
            graph.answer(instance, told, lambda: next(numbers), origin=row.step)
    return graph


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [
        f"{key}: {one.get(key)!r} / {other.get(key)!r}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]
