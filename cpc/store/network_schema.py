"""The tables of projects as dataflow networks; part of `cpc.store.schema`, through which they are used."""

from __future__ import annotations

import sqlalchemy as sa

from cpc.store.columns import Big, Blob, Id, Small, Text, partial_index
from cpc.store.columns import table as _table

# A project that has a network: one that was never changed has no row.
networks = _table(
    "networks",
    sa.Column("project", Id, primary_key=True, autoincrement=False),
    sa.Column("change", Big, nullable=False),  # the number of its last change
)

# Modules as the project imported them, in that order.
definitions = _table(
    "definitions",
    sa.Column("project", Big, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("text", Blob, nullable=False),  # cpc.dataflow.description.ModuleText
)

instances = _table(
    "instances",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("project", Big, nullable=False),
    sa.Column("parent", Big, nullable=False),  # 0: the project itself
    sa.Column("name", Text, nullable=False),
    sa.Column("function", Text, nullable=False),  # module::name
    sa.Column("state", Small, nullable=False),  # cpc.dataflow.instance.State
    sa.Column("error", Text, nullable=False),
    sa.Column("warning", Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),  # of its last step
    sa.Column("step", Big, nullable=False),  # the open one; 0: none
    sa.Column("seen", Big, nullable=False),  # the change that its last step has seen
    sa.Column("updated", sa.Boolean, nullable=False),  # an input has changed since
    sa.Column("cpu", sa.Double, nullable=False),  # seconds
    sa.Column("memory", Blob),  # what its controller keeps between runs
    sa.Column("directory", Text, nullable=False),  # the persistent directory that its last answer has left; "": none
    sa.Index("ix_instances_project", "project", "id"),
)

# Values that people and steps have set; what comes through connections is derived.
leaves = _table(
    "leaves",
    sa.Column("instance", Big, primary_key=True, autoincrement=False),
    sa.Column("tree", Small, primary_key=True, autoincrement=False),  # cpc.dataflow.instance.Tree
    sa.Column("path", Text, primary_key=True),
    sa.Column("project", Big, nullable=False),
    sa.Column("version", Big, nullable=False),  # the change that set it
    sa.Column("origin", Big, nullable=False),  # the step; 0: a person
    sa.Column("value", Blob, nullable=False),  # msgpack of the wire form of cpc.core.plain
    sa.Column("file", Big),  # of a file: the owner of its references
    sa.Index("ix_leaves_project", "project"),
)

links = _table(
    "links",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("project", Big, nullable=False),
    sa.Column("network", Big, nullable=False),  # the instance that owns the network; 0: the project
    sa.Column("source", Big, nullable=False),
    sa.Column("source_tree", Small, nullable=False),
    sa.Column("source_path", Text, nullable=False),
    sa.Column("target", Big, nullable=False),
    sa.Column("target_tree", Small, nullable=False),
    sa.Column("target_path", Text, nullable=False),
    sa.Column("since", Big, nullable=False),  # the change that made it
    sa.Index("ix_links_project", "project", "id"),
)

steps = _table(
    "steps",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("project", Big, nullable=False),
    sa.Column("instance", Big, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),  # 1, 2, … per instance
    sa.Column("state", Small, nullable=False),  # cpc.dataflow.step.State
    sa.Column("run", sa.Integer, nullable=False),  # how many answers were taken
    sa.Column("function", Text, nullable=False),
    sa.Column("version", Text, nullable=False),  # of the function's module
    sa.Column("since", Big, nullable=False),  # changes after this one are new to it
    sa.Column("opened", Big, nullable=False),
    sa.Column("closed", Big),
    sa.Column("snapshot", Blob),  # cpc.server.steps.Kept, while it has jobs
    sa.Index("ix_steps_project", "project", "id"),
)
# A restart reads these and no others.
partial_index("ix_steps_open", steps.c.id, where=steps.c.state < 4)

step_jobs = _table(
    "step_jobs",
    sa.Column("step", Big, primary_key=True, autoincrement=False),
    sa.Column("ordinal", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("array", Big, nullable=False),
    sa.Column("key", Text, nullable=False),  # what the controller calls it
    sa.Column("state", Small, nullable=False),  # cpc.store.steps.JobState
)

# The record: each change of a project's network, for replay. Kept as long as the project.
changes = _table(
    "changes",
    sa.Column("project", Big, primary_key=True, autoincrement=False),
    sa.Column("change", Big, primary_key=True, autoincrement=False),
    sa.Column("time", Big, nullable=False),
    sa.Column("actor", Text, nullable=False),
    sa.Column("kind", Text, nullable=False),  # edited, answered, stopped
    sa.Column("step", Big, nullable=False),  # whose answer it is; 0: a person's edits
    sa.Column("details", Blob, nullable=False),  # msgpack map
)

# Transactions that are open: edits that are to be carried out together. A level begins with a row without edits.
drafts = _table(
    "drafts",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("project", Big, nullable=False),
    sa.Column("user", Big, nullable=False),
    sa.Column("token", Big, nullable=False),  # the session
    sa.Column("level", Small, nullable=False),
    sa.Column("edits", Blob, nullable=False),  # list of cpc.core.edits.Edit
    sa.Index("ix_drafts_project", "project", "user", "token"),
)

instance_logs = _table(
    "instance_logs",
    sa.Column("instance", Big, primary_key=True, autoincrement=False),
    sa.Column("start", Big, primary_key=True, autoincrement=False),  # in bytes
    sa.Column("project", Big, nullable=False),
    sa.Column("text", Blob, nullable=False),
    sa.Index("ix_instance_logs_project", "project"),
)
