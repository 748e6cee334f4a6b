"""The tables. Portable between SQLite and PostgreSQL; changed only by a migration (see `migrations/`).

Times are integer microseconds UTC. Ids are the 64-bit numbers of `cpc.core.ids`. BLOB columns hold msgpack of the
structure named in the comment. Names are labels: every reference is by id, so a re-created name inherits nothing.
"""

from __future__ import annotations

import sqlalchemy as sa

from cpc.store.columns import Big, Blob, Id, Small, Text, metadata, partial_index
from cpc.store.columns import table as _table
from cpc.store.file_schema import chunks, files, references, uploads
from cpc.store.network_schema import (
    changes,
    definitions,
    drafts,
    instance_logs,
    instances,
    leaves,
    links,
    networks,
    step_jobs,
    steps,
)
from cpc.store.pool_schema import allocations, pool_days, pool_nodes, pools

# --- the server itself -------------------------------------------------------------------------------------------------

server = _table(
    "server",
    sa.Column("one", Small, primary_key=True, autoincrement=False),  # always 1
    sa.Column("id", Text, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("created", Big, nullable=False),
)

# One server process per database: every batch moves `seq`; nobody else may have moved it.
writer = _table(
    "writer",
    sa.Column("one", Small, primary_key=True, autoincrement=False),
    sa.Column("incarnation", sa.Integer, nullable=False),
    sa.Column("seq", Big, nullable=False),
    sa.Column("holder", Text, nullable=False),  # random per process start
)

# The next sequence number per kind of id ("array", "user", "project", "event", …).
counters = _table(
    "counters",
    sa.Column("kind", Text, primary_key=True),
    sa.Column("next", Big, nullable=False),
)

settings = _table(
    "settings",
    sa.Column("name", Text, primary_key=True),
    sa.Column("value", Text, nullable=False),
)

# --- people --------------------------------------------------------------------------------------------------------------

users = _table(
    "users",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("key", Text, nullable=False, unique=True),  # names.key(name); "~" + id once deleted
    sa.Column("password", Text, nullable=False),  # memory-hard hash; "" = cannot log in
    sa.Column("super", sa.Boolean, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("created", Big, nullable=False),
    sa.Column("deleted", Big),  # the row stays, so that old jobs still show who submitted them
)

# Login sessions, API tokens and client bundles: a bearer token is looked up by its hash.
tokens = _table(
    "tokens",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("user", Big, nullable=False, index=True),
    sa.Column("hash", Blob, nullable=False, unique=True),  # SHA-256 of the token
    sa.Column("kind", Text, nullable=False),  # session, token, bundle
    sa.Column("name", Text, nullable=False),
    sa.Column("scope", Text, nullable=False),  # "all", "read", or "project:ID"
    sa.Column("created", Big, nullable=False),
    sa.Column("expires", Big, nullable=False),
    sa.Column("used", Big),  # coarse: written at most once an hour
)

# Connection bundles for workers (role "worker") and clients (role "client", with a row in tokens too).
bundles = _table(
    "bundles",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("key", Text, nullable=False, index=True),  # names.key(name); one per key that is not revoked
    sa.Column("role", Text, nullable=False),
    sa.Column("user", Big),
    sa.Column("token", Big),
    sa.Column("fingerprint", Text, nullable=False),  # of the bundle's key, hex SHA-256
    sa.Column("created", Big, nullable=False),
    sa.Column("expires", Big, nullable=False),
    sa.Column("revoked", Big),
    sa.Column("used", Big, nullable=False),  # enrolments
    sa.Column("last_used", Big),
)

# --- projects -----------------------------------------------------------------------------------------------------------

projects = _table(
    "projects",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("key", Text, nullable=False, unique=True),  # names.key(name); "~" + id once deleted
    sa.Column("owner", Big, nullable=False),
    sa.Column("created", Big, nullable=False),
    sa.Column("deleted", Big),
    sa.Column("quota", Big, nullable=False),  # bytes; 0 = none
    sa.Column("weight", sa.Double, nullable=False),
    sa.Column("storage", Big, nullable=False),  # bytes referred to
    sa.Column("usage", sa.Double, nullable=False),  # decayed core-seconds at `usage_at`
    sa.Column("usage_at", Big, nullable=False),
)

members = _table(
    "members",
    sa.Column("project", Big, primary_key=True, autoincrement=False),
    sa.Column("user", Big, primary_key=True, autoincrement=False),
    sa.Column("role", Text, nullable=False),  # owner, member, viewer
    sa.Index("ix_members_user", "user"),
)

# --- jobs ----------------------------------------------------------------------------------------------------------------

# What a job needs of a worker, without the numbers that make every job its own class (rounded up to a grid).
classes = _table(
    "classes",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("key", Blob, nullable=False, unique=True),  # cpc.queue.requirement.Requirement
)

# One row per submission; a single job is an array of one that shows no index.
arrays = _table(
    "arrays",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("project", Big, nullable=False),
    sa.Column("submitter", Big, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("command", Text, nullable=False),  # for lists: the argv, shortened
    sa.Column("spec", Blob, nullable=False),  # cpc.core.spec.JobSpec
    sa.Column("class", Big, nullable=False),
    sa.Column("priority", Small, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("elements", sa.Boolean, nullable=False),  # shows indexes
    sa.Column("submitted", Big, nullable=False),
    sa.Column("open", sa.Integer, nullable=False),  # jobs without a terminal state
    sa.Column("succeeded", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("cancelled", sa.Integer, nullable=False),
    sa.Column("step", Big, nullable=False, server_default="0"),  # the step that asked for it; 0: somebody did
    sa.Index("ix_arrays_project", "project", "id"),
)

# Live jobs only: ten million finished ones must cost a claim nothing.
jobs = _table(
    "jobs",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("project", Big, nullable=False),
    sa.Column("class", Big, nullable=False),
    sa.Column("state", Small, nullable=False),  # cpc.queue.job.State: blocked, waiting, running
    sa.Column("rank", Small, nullable=False),  # −priority: ascending is the order of the claim
    sa.Column("attempts", sa.Integer, nullable=False),  # number of the last attempt
    sa.Column("failures", Small, nullable=False),
    sa.Column("losses", Small, nullable=False),
    sa.Column("blockers", sa.Integer, nullable=False),  # dependencies that have not ended
    sa.Column("since", Big, nullable=False),  # in this state
)
# Matches the claim's ORDER BY exactly; anything else costs a factor of hundreds.
partial_index(
    "ix_jobs_claim",
    jobs.c.project,
    jobs.c["class"],
    jobs.c.rank,
    jobs.c.id,
    where=jobs.c.state == 1,
)

# Terminal jobs.
finished = _table(
    "finished",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("project", Big, nullable=False),
    sa.Column("state", Small, nullable=False),  # succeeded, failed, cancelled
    sa.Column("outcome", Text),
    sa.Column("exit_code", sa.Integer),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("accepted", sa.Integer, nullable=False),  # the attempt whose result counts; 0 = none
    sa.Column("failures", Small, nullable=False),
    sa.Column("losses", Small, nullable=False),
    sa.Column("ended", Big, nullable=False),
    sa.Column("reason", Text, nullable=False),
    sa.Index("ix_finished_project", "project", "id"),
)

# The ledger: every attempt with what it was granted and how it ended; fair share and accounting read it.
attempts = _table(
    "attempts",
    sa.Column("job", Id, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("incarnation", sa.Integer, nullable=False),
    sa.Column("worker", Big, nullable=False),
    sa.Column("session", Big, nullable=False),
    sa.Column("granted", Blob, nullable=False),  # cpc.core.resources.Amounts
    sa.Column("started", Big, nullable=False),
    sa.Column("ended", Big),
    sa.Column("outcome", Text),
    sa.Column("exit_code", sa.Integer),
    sa.Column("late", sa.Boolean, nullable=False),
    sa.Column("message", Text, nullable=False),
    sa.Column("wall", sa.Double, nullable=False),
    sa.Column("cpu", sa.Double, nullable=False),
    sa.Column("memory", Big, nullable=False),
)
# Only what runs now: a restart reads this and nothing else of the ledger.
partial_index(
    "ix_attempts_running",
    attempts.c.job,
    where=attempts.c.ended.is_(None),
)

# What an attempt left behind, if anything: files, last lines. One row per ended attempt that has either.
results = _table(
    "results",
    sa.Column("job", Id, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("manifest", Blob, nullable=False),  # cpc.core.manifest.Manifest
    sa.Column("tail", Text, nullable=False),
    sa.Column("used", sa.Boolean, nullable=False),  # false: kept only for the retention time
    sa.Column("peer", Text, nullable=False, server_default=""),  # in quarantine: the peer that brought it, if one did
    sa.Column("size", Big, nullable=False, server_default="0"),  # what it counts against that peer, in bytes
)
partial_index(
    "ix_results_peer",
    results.c.peer,
    results.c.size,
    where=results.c.peer != sa.literal_column("''"),
)

checkpoints = _table(
    "checkpoints",
    sa.Column("job", Id, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, nullable=False),  # 1, 2, … per job: which checkpoint it is
    sa.Column("taken", Big, nullable=False),
    sa.Column("manifest", Blob, nullable=False),
)

# An edge of the dependency graph that is still open. Whole arrays wait in one row, not in size × size.
dependencies = _table(
    "dependencies",
    sa.Column("before", Big, primary_key=True, autoincrement=False),  # array id, or job id of one element
    sa.Column("after", Big, primary_key=True, autoincrement=False),  # array id of the one that waits
    sa.Column("kind", Small, primary_key=True, autoincrement=False),  # cpc.queue.dependency.Kind
    sa.Column("needs_success", sa.Boolean, nullable=False),
    sa.Index("ix_dependencies_after", "after"),
)

# --- workers -------------------------------------------------------------------------------------------------------------

workers = _table(
    "workers",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("name", Text, nullable=False),  # BUNDLE-xxxxxxxx, from the key
    sa.Column("fingerprint", Text, nullable=False, unique=True),  # of the worker's own key
    sa.Column("bundle", Big, nullable=False),
    sa.Column("host", Text, nullable=False),
    sa.Column("created", Big, nullable=False),
    sa.Column("last_seen", Big, nullable=False),
    sa.Column("boot", Text, nullable=False),  # of its last session
    sa.Column("session", Big, nullable=False),  # its last session's number
    sa.Column("hello", Blob, nullable=False),  # cpc.wire.messages.Hello of the last session
    sa.Column("drain", Text),  # a reason, while drained
    sa.Column("revoked", Big),
)

# --- other servers -------------------------------------------------------------------------------------------------------

# Servers that have asked, were asked, are trusted or were.
peers = _table(
    "peers",
    sa.Column("id", Text, primary_key=True),
    sa.Column("state", Text, nullable=False),  # cpc.core.peer.PeerState
    sa.Column("name", Text, nullable=False),
    sa.Column("authority", Blob, nullable=False),  # its certificate, PEM
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("addresses", Blob, nullable=False),  # cpc.store.peers.Addresses
    sa.Column("agreement", Blob, nullable=False),  # cpc.core.peer.Agreement
    sa.Column("origin", Text, nullable=False),  # where its request came from
    sa.Column("note", Text, nullable=False),
    sa.Column("requested", Big, nullable=False),
    sa.Column("trusted", Big),
    sa.Column("seen", Big),
    sa.Column(
        "finish", sa.Boolean, nullable=False, server_default=sa.false()
    ),  # revoked: what runs for it may end here
)

# --- what happened --------------------------------------------------------------------------------------------------------

events = _table(
    "events",
    sa.Column("number", Id, primary_key=True, autoincrement=False),  # commit order
    sa.Column("time", Big, nullable=False),
    sa.Column("actor", Text, nullable=False),  # user:NAME, worker:NAME, server
    sa.Column("kind", Text, nullable=False),
    sa.Column("version", Small, nullable=False),
    sa.Column("project", Big, nullable=False),  # 0: none
    sa.Column("subject", Big, nullable=False),  # job, array, user, … ; 0: none
    sa.Column("payload", Blob, nullable=False),  # msgpack map
    sa.Index("ix_events_project", "project", "number"),
)

# People and administrators look for what is not about jobs; there is little of it among millions of others.
partial_index(
    "ix_events_other",
    events.c.kind,
    events.c.number,
    where=sa.text("kind < 'job.' OR kind > 'job/'"),
)

# Retention has removed events of this project (0: of none) up to this number.
trimmed = _table(
    "trimmed",
    sa.Column("project", Big, primary_key=True, autoincrement=False),
    sa.Column("number", Big, nullable=False),
)

# The answer to every mutating call, stored in the commit that carried it out.
answers = _table(
    "answers",
    sa.Column("principal", Big, primary_key=True, autoincrement=False),
    sa.Column("key", Text, primary_key=True),
    sa.Column("time", Big, nullable=False),
    sa.Column("call", Blob, nullable=False),  # SHA-256 of method, path and body: the key of another call is refused
    sa.Column("answer", Blob),  # None: expired; the row stays, so that the call is never carried out again
)
partial_index(
    "ix_answers_time",
    answers.c.time,
    where=answers.c.answer.isnot(None),
)

__all__ = [
    "allocations",
    "answers",
    "arrays",
    "attempts",
    "bundles",
    "changes",
    "checkpoints",
    "chunks",
    "classes",
    "counters",
    "definitions",
    "dependencies",
    "drafts",
    "events",
    "files",
    "finished",
    "instance_logs",
    "instances",
    "jobs",
    "leaves",
    "links",
    "members",
    "metadata",
    "networks",
    "peers",
    "pool_days",
    "pool_nodes",
    "pools",
    "projects",
    "references",
    "results",
    "server",
    "settings",
    "step_jobs",
    "steps",
    "tokens",
    "trimmed",
    "uploads",
    "users",
    "workers",
    "writer",
]
