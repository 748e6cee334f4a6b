"""Edits carried out in memory and undone again: what they would do, or why they cannot be done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from cpc.core.edits import Edit
from cpc.core.errors import CopernicusError
from cpc.core.network_views import TransactionView
from cpc.dataflow import literals
from cpc.dataflow.graph import Graph
from cpc.dataflow.instance import Tree
from cpc.dataflow.outcome import Outcome
from cpc.dataflow.types import Path
from cpc.store.transaction import Tx

MOST = 200  # lines


@contextmanager
def undone_on_error(tx: Tx, graph: Graph) -> Iterator[None]:
    """What is refused within leaves no trace: nothing was written, and the ids that were taken are given back.

    So the refusal concerns this unit only, not the whole batch.
    """
    mark, writes = graph.journal.mark(), tx.writes
    try:
        yield
    except CopernicusError:
        _undo(tx, graph, mark, writes)
        raise


def preview(tx: Tx, graph: Graph, edits: Sequence[Edit], shown: TransactionView) -> TransactionView:
    """`shown` with what the edits would change now, or why they cannot be carried out."""
    mark, writes = graph.journal.mark(), tx.writes
    try:
        outcome = graph.apply(edits, lambda: tx.next("instance"))
    except CopernicusError as error:
        _undo(tx, graph, mark, writes)
        return msgspec.structs.replace(shown, problem=str(error))
    after = _changes(graph, outcome)
    places = [(number, tree, path) for number, tree, path in outcome.values if number in graph.instances]
    new = [_value(graph, *place) for place in places]
    _undo(tx, graph, mark, writes)
    values = [
        f"{graph.instances[number].where(tree, path)}: {_value(graph, number, tree, path)} → {value}"
        for (number, tree, path), value in zip(places, new, strict=True)
        if number in graph.instances
    ]
    lines = [*after, *values]
    more = [f"and {len(lines) - MOST} more"] if len(lines) > MOST else []
    return msgspec.structs.replace(shown, changes=tuple(lines[:MOST] + more))


def _undo(tx: Tx, graph: Graph, mark: int, writes: int) -> None:
    graph.journal.undo_to(mark)
    tx.writes = writes


def _value(graph: Graph, number: int, tree: Tree, path: Path) -> str:
    return literals.show(graph.instances[number].value(tree, path))


def _changes(graph: Graph, outcome: Outcome) -> list[str]:
    """What comes and goes, and what it means for steps."""
    lines = [f"module {text.name or 'of the upload'} becomes known" for text in outcome.modules]
    lines += [f"instance {each.path} ({each.function.name}) is added" for each in outcome.added]
    lines += [f"instance {each.path} is removed" for each in outcome.removed]
    lines += [
        f"{link.target.where(link.target_tree, link.target_path)} follows "
        f"{link.source.where(link.source_tree, link.source_path)}"
        for link in outcome.links_added
    ]
    lines += [
        f"{link.target.where(link.target_tree, link.target_path)} follows nothing any more"
        for link in outcome.links_removed
    ]
    lines += [f"the step of {each.path} that is under way is cancelled with its jobs" for each in outcome.ends]
    lines += [f"{each.path} runs" for each in outcome.opens]
    lines += [f"jobs of {each.path} that wait are held back" for each in outcome.parks]
    return lines
