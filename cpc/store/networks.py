"""Networks of projects as a whole: the number of the last change, the modules, and how all of it goes when the project does."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from cpc.dataflow.description import ModuleText
from cpc.store import references, schema, statement
from cpc.store.packed import unpack
from cpc.store.references import Kind
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_networks = schema.networks
_definitions = schema.definitions

_CHANGE = statement.select(_networks, "change", key=["project"])
_ADD = statement.insert(_networks)
_SET = statement.update(_networks, "change", key=["project"])
_MODULES = Statement(
    sa.select(_definitions.c.text)
    .where(_definitions.c.project == sa.bindparam("project"))
    .order_by(_definitions.c.number)
)
_ADD_MODULE = statement.insert(_definitions)
_OF_DELETED = Statement(
    sa.select(_networks.c.project)
    .join(schema.projects, schema.projects.c.id == _networks.c.project)
    .where(schema.projects.c.deleted.isnot(None))
    .limit(sa.bindparam("limit"))
)
_FILES = Statement(
    sa.select(schema.leaves.c.file)
    .where(schema.leaves.c.project == sa.bindparam("project"), schema.leaves.c.file.isnot(None))
    .limit(sa.bindparam("limit"))
)
_FORGET_FILE = Statement(
    sa.update(schema.leaves)
    .where(schema.leaves.c.project == sa.bindparam("project"), schema.leaves.c.file == sa.bindparam("owner"))
    .values(file=sa.null())
)
_STEPS = Statement(
    sa.select(schema.steps.c.id)
    .where(schema.steps.c.project == sa.bindparam("project"))
    .order_by(schema.steps.c.id)
    .limit(sa.bindparam("limit"))
)
_DRAFTS = Statement(
    sa.select(schema.drafts.c.id).where(schema.drafts.c.project == sa.bindparam("project")).limit(sa.bindparam("limit"))
)
_DELETE_STEP = statement.delete(schema.steps)
_DELETE_STEP_JOBS = statement.delete(schema.step_jobs, "step")
_DELETE_DRAFT = statement.delete(schema.drafts)
_DELETE_ALL = [
    statement.delete(table, "project")
    for table in (
        schema.leaves, schema.links, schema.instances, schema.instance_logs, schema.changes, schema.definitions, _networks
    )
]  # fmt: skip


def change(tx: Tx, project: int) -> int | None:
    """The number of the last change; None when the network was never changed."""
    found = tx.scalar(_CHANGE, {"project": project})
    return None if found is None else int(found)


def set_change(tx: Tx, project: int, number: int) -> None:
    """The network has changed; its row is made with the first change."""
    if not tx.run(_SET, {"key_project": project, "change": number}):
        tx.run(_ADD, {"project": project, "change": number})


def modules(tx: Tx, project: int) -> list[ModuleText]:
    """What the project has imported and defined, in an order in which a library takes it."""
    rows = tx.rows(_MODULES, {"project": project})
    return [unpack(row[0], ModuleText, "a module") for row in rows]


def add_modules(tx: Tx, project: int, texts: Sequence[ModuleText]) -> None:
    """More of them."""
    first = len(tx.rows(_MODULES, {"project": project})) if texts else 0
    rows = [
        {"project": project, "number": number, "text": msgspec.msgpack.encode(text)}
        for number, text in enumerate(texts, first)
    ]
    tx.many(_ADD_MODULE, rows)


# --- the end --------------------------------------------------------------------------------------------------------------


def of_deleted_projects(tx: Tx, limit: int) -> list[int]:
    """Projects that are gone and still have rows here."""
    return [row[0] for row in tx.rows(_OF_DELETED, {"limit": limit})]


def purge(tx: Tx, project: int, limit: int) -> bool:
    """One step of forgetting a deleted project's network: some references to files, some steps, else all the rest.

    True when nothing is left.
    """
    row = {"project": project, "limit": limit}
    files = tx.rows(_FILES, row)
    for (owner,) in files:
        references.drop(tx, Kind.VALUE, owner, 0)
        tx.run(_FORGET_FILE, {"project": project, "owner": owner})
    steps = [] if files else tx.rows(_STEPS, row)
    for (step,) in steps:
        references.drop(tx, Kind.STEP, step, 0)
    tx.many(_DELETE_STEP_JOBS, [{"step": step} for (step,) in steps])
    tx.many(_DELETE_STEP, [{"id": step} for (step,) in steps])
    drafts = [] if files or steps else tx.rows(_DRAFTS, row)
    for (draft,) in drafts:
        references.drop(tx, Kind.DRAFT, draft, 0)
    tx.many(_DELETE_DRAFT, [{"id": draft} for (draft,) in drafts])
    if files or steps or drafts:
        return False
    for each in _DELETE_ALL:
        tx.run(each, {"project": project})
    return True
