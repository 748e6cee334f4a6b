"""Instances, their own values and their connections: the SQL. Rows are those of `cpc.dataflow.snapshot`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa

from cpc.core import ids, plain
from cpc.core.errors import BadInput
from cpc.core.plain import FileRef
from cpc.dataflow.instance import State
from cpc.dataflow.snapshot import InstanceRow, LinkRow, ValueRow
from cpc.store import references, schema, statement
from cpc.store.packed import unpack
from cpc.store.references import Kind, Owned
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

#: What an index of either database takes.
MAX_PATH = 2000  # bytes

_instances, _leaves, _links = schema.instances, schema.leaves, schema.links
_INSTANCE = (
    "id", "parent", "name", "function", "state", "error", "warning", "number", "step", "seen", "updated", "cpu"
)  # fmt: skip
_LEAF = ("instance", "tree", "path", "value", "version", "origin")
_LINK = (
    "id", "network", "source", "source_tree", "source_path", "target", "target_tree", "target_path", "since"
)  # fmt: skip
_CHANGING = tuple(name for name in _INSTANCE if name not in ("id", "parent", "name", "function"))


def _of_project(table: sa.Table, columns: Sequence[str], *order: str) -> Statement:
    chosen = sa.select(*[table.c[name] for name in columns]).where(table.c.project == sa.bindparam("project"))
    return Statement(chosen.order_by(*[table.c[name] for name in order]))


_ALL = _of_project(_instances, _INSTANCE, "id")
_ALL_LEAVES = _of_project(_leaves, _LEAF, "instance", "tree", "path")
_ALL_LINKS = _of_project(_links, _LINK, "id")
_ADD = statement.insert(_instances)
_UPDATE = statement.update(_instances, *_CHANGING)
_DELETE = statement.delete(_instances)
_ADD_LINK = statement.insert(_links)
_DELETE_LINK = statement.delete(_links)


def _set_leaf(insert: Any) -> sa.Executable:
    row = insert(_leaves).values({column.name: sa.bindparam(column.name) for column in _leaves.columns})
    made: sa.Executable = row.on_conflict_do_update(
        index_elements=["instance", "tree", "path"],
        set_={name: row.excluded[name] for name in ("version", "origin", "value", "file")},
    )
    return made


_SET_LEAF = Statement(_set_leaf)
_DELETE_LEAF = statement.delete(_leaves, "instance", "tree", "path")
_DELETE_LEAVES = statement.delete(_leaves, "instance")
_FILE = statement.select(_leaves, "file", key=["instance", "tree", "path"])
_FILES = Statement(
    sa.select(_leaves.c.file).where(_leaves.c.instance == sa.bindparam("instance"), _leaves.c.file.isnot(None))
)
_DELETE_LOG = statement.delete(schema.instance_logs, "instance")
_MEMORY = statement.select(_instances, "memory", "directory")
_MEMORIES = Statement(
    sa.select(_instances.c.id, _instances.c.memory, _instances.c.directory).where(
        _instances.c.project == sa.bindparam("project"),
        sa.or_(_instances.c.memory.isnot(None), _instances.c.directory != ""),
    )
)
_DIRECTORIES = Statement(
    sa.select(_instances.c.project, _instances.c.id, _instances.c.directory)
    .where(_instances.c.directory != "")
    .order_by(_instances.c.id)
)
_SET_MEMORY = statement.update(_instances, "memory")
_SET_DIRECTORY = statement.update(_instances, "directory")
_STATE = statement.select(_instances, "state")
_PLACE = statement.select(_instances, "name", "parent")
_COUNTS = Statement(
    sa.select(_instances.c.state, sa.func.count())
    .where(_instances.c.project == sa.bindparam("project"))
    .group_by(_instances.c.state)
)
_IN_STATE = Statement(
    sa.select(_instances.c.id)
    .where(_instances.c.project == sa.bindparam("project"), _instances.c.state == sa.bindparam("state"))
    .order_by(_instances.c.id)
    .limit(sa.bindparam("limit"))
)


@dataclass(slots=True)
class Delta:
    """What is to be written of a change. `unset`: (instance, tree, path). `files`: keys in `values` and `unset` of files."""

    added: list[InstanceRow] = field(default_factory=list)
    changed: list[InstanceRow] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    values: list[ValueRow] = field(default_factory=list)
    unset: list[tuple[int, int, str]] = field(default_factory=list)
    files: set[tuple[int, int, str]] = field(default_factory=set)
    links_added: list[LinkRow] = field(default_factory=list)
    links_removed: list[int] = field(default_factory=list)


def load(tx: Tx, project: int) -> tuple[Iterator[InstanceRow], Iterator[ValueRow], Iterator[LinkRow]]:
    """All of a project's network, in an order in which `cpc.dataflow.snapshot.load` takes it."""
    row = {"project": project}
    instances, leaves, links = tx.rows(_ALL, row), tx.rows(_ALL_LEAVES, row), tx.rows(_ALL_LINKS, row)
    values = (
        ValueRow(instance, tree, path, unpack(blob, Any, "a value"), version, origin)
        for instance, tree, path, blob, version, origin in leaves
    )
    rows = (InstanceRow(*(*each[:10], bool(each[10]), each[11])) for each in instances)  # SQLite has no booleans
    return rows, values, (LinkRow(*each) for each in links)


def check(tx: Tx, project: int, delta: Delta) -> None:
    """Everything that can be refused, before anything is written: `references.Missing` for a file that the project does not
    have, BadInput for a path that is too long.
    """
    for value in delta.values:
        if len(value.path) * 4 > MAX_PATH and len(value.path.encode()) > MAX_PATH:
            raise BadInput(f"the path {value.path[:60]}… is too long to be kept", f"at most {MAX_PATH} bytes")
    digests = [digest for file in _files(delta).values() for digest in file.content.chunks]
    missing = references.missing(tx, project, digests) if digests else ()
    if missing:
        raise references.Missing(missing)


def write(tx: Tx, project: int, delta: Delta) -> None:
    """Write a change down that `check` has found right."""
    owners = _refer(tx, project, delta)
    _let_go(tx, delta)
    tx.many(_DELETE, [{"id": number} for number in delta.removed])
    for change in (_DELETE_LEAVES, _DELETE_LOG):
        tx.many(change, [{"instance": number} for number in delta.removed])
    tx.many(_DELETE_LINK, [{"id": number} for number in delta.links_removed])
    more = {"project": project, "memory": None, "directory": ""}
    tx.many(_ADD, [msgspec.structs.asdict(row) | more for row in delta.added])
    tx.many(_UPDATE, [msgspec.structs.asdict(row) | {"key_id": row.id} for row in delta.changed])
    tx.many(_DELETE_LEAF, [_key(*place) for place in delta.unset])
    tx.many(_SET_LEAF, [_leaf(project, value, owners.get(_place(value))) for value in delta.values])
    tx.many(_ADD_LINK, [msgspec.structs.asdict(row) | {"project": project} for row in delta.links_added])


def _place(value: ValueRow) -> tuple[int, int, str]:
    return value.instance, value.tree, value.path


def _key(instance: int, tree: int, path: str) -> dict[str, Any]:
    return {"instance": instance, "tree": tree, "path": path}


def _leaf(project: int, value: ValueRow, file: int | None) -> dict[str, Any]:
    return {
        **_key(*_place(value)), "project": project, "version": value.version, "origin": value.origin,
        "value": msgspec.msgpack.encode(value.value), "file": file,
    }  # fmt: skip


def _files(delta: Delta) -> dict[tuple[int, int, str], FileRef]:
    """The files that values have become, by place."""
    found = {_place(value): plain.read(value.value) for value in delta.values if _place(value) in delta.files}
    return {place: value for place, value in found.items() if isinstance(value, FileRef)}


def _refer(tx: Tx, project: int, delta: Delta) -> dict[tuple[int, int, str], int]:
    """Refer to the files that values have become; place → owner of the references."""
    files = _files(delta)
    if not files:
        return {}
    first = tx.next("value", len(files))
    owners = {place: ids.after(first, count) for count, place in enumerate(files)}
    owned = [Owned(Kind.VALUE, owners[place], 0, project, (file.content,)) for place, file in files.items()]
    lacking = next((digests for digests in references.add_many(tx, owned) if digests), None)
    if lacking:
        raise references.Missing(lacking)
    return owners


def _let_go(tx: Tx, delta: Delta) -> None:
    """Drop the references of files that were values before."""
    if not (delta.files or delta.removed):
        return
    owners = [tx.scalar(_FILE, _key(*place)) for place in delta.files]
    owners += [row[0] for number in delta.removed for row in tx.rows(_FILES, {"instance": number})]
    for owner in owners:
        if owner is not None:
            references.drop(tx, Kind.VALUE, owner, 0)


# --- what controllers keep -----------------------------------------------------------------------------------------------


def memory(tx: Tx, instance: int) -> tuple[bytes, str]:
    """What its controller keeps between runs, and its persistent directory ("": none)."""
    found = tx.one(_MEMORY, {"id": instance})
    return (bytes(found[0] or b""), str(found[1])) if found else (b"", "")


def memories(tx: Tx, project: int) -> list[tuple[int, bytes, str]]:
    """What the controllers of a project keep: (instance, what `memory` says)."""
    rows = tx.rows(_MEMORIES, {"project": project})
    return [(instance, bytes(memory or b""), directory) for instance, memory, directory in rows]


def directories(tx: Tx) -> list[tuple[int, int, str]]:
    """Every persistent directory of a controller: (project, instance, its name)."""
    return [(project, instance, name) for project, instance, name in tx.rows(_DIRECTORIES)]


def set_memory(tx: Tx, instance: int, kept: bytes) -> None:
    """What its controller keeps from now on."""
    tx.run(_SET_MEMORY, {"key_id": instance, "memory": kept or None})


def set_directory(tx: Tx, instance: int, name: str) -> None:
    """This is its persistent directory from now on."""
    tx.run(_SET_DIRECTORY, {"key_id": instance, "directory": name})


def runs(tx: Tx, instance: int) -> bool:
    """Whether it is there and not held, nor in error."""
    found = tx.scalar(_STATE, {"id": instance})
    return found is not None and State(found).runs


# --- figures -------------------------------------------------------------------------------------------------------------


def counts(tx: Tx, project: int) -> dict[int, int]:
    """How many instances are in which state (`cpc.dataflow.instance.State`)."""
    return {int(state): int(count) for state, count in tx.rows(_COUNTS, {"project": project})}


def in_state(tx: Tx, project: int, state: int, limit: int) -> list[str]:
    """The paths of some instances in a state, the oldest first."""
    found = tx.rows(_IN_STATE, {"project": project, "state": state, "limit": limit})
    return [path(tx, number) for (number,) in found]


def path(tx: Tx, number: int) -> str:
    """An instance's path from the project's top."""
    names: list[str] = []
    while number:
        row = tx.one(_PLACE, {"id": number})
        assert row is not None, "an instance has a parent that is there"
        names.append(row[0])
        number = row[1]
    return ":".join(reversed(names))
