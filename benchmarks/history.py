"""A past for a server that stands still: submitted jobs become finished ones, with every row that a real end leaves.

Running a million jobs takes longer than anybody waits. Each gets its terminal row, its attempt in the ledger, its result
and two events, as if it had come back alone, which is the most that a job leaves.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from cpc.core import ids
from cpc.core.manifest import Manifest
from cpc.core.resources import Amounts
from cpc.queue.job import State
from cpc.store import database
from cpc.store.schema import arrays, attempts, events, finished, jobs, results

pack = msgspec.msgpack.encode


def finish(url: str, shown: list[str]) -> None:
    """All jobs of these submissions have succeeded. The server that has the database must be stopped."""
    engine = database.engine(url)
    with engine.begin() as connection:
        for text in shown:
            _finish(connection, ids.read(text)[0])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))  # what PostgreSQL's autovacuum does by itself some time later
    engine.dispose()


def _finish(connection: sa.Connection, array: int) -> None:
    which = (jobs.c.id >= array, jobs.c.id < array + ids.MAX_ARRAY)
    size = connection.scalar(sa.select(sa.func.count()).select_from(jobs).where(*which)) or 0
    last = connection.scalar(sa.select(sa.func.max(events.c.number))) or 0
    place = jobs.c.id - array
    life = ids.incarnation(array)
    message = pack({"jobs": [ids.show(array, True)], "reason": ""})
    copies = [
        (
            finished,
            {
                "id": jobs.c.id, "project": jobs.c.project, "state": int(State.SUCCEEDED), "outcome": "ok",
                "exit_code": 0, "attempts": 1, "accepted": 1, "failures": 0, "losses": 0, "ended": jobs.c.since,
                "reason": "",
            },
        ),
        (
            attempts,
            {
                "job": jobs.c.id, "number": 1, "incarnation": life, "worker": 1, "session": 1,
                "granted": pack(Amounts(cores=1)), "started": jobs.c.since, "ended": jobs.c.since, "outcome": "ok",
                "exit_code": 0, "late": False, "message": "", "wall": 1.0, "cpu": 1.0, "memory": 1 << 20,
            },
        ),
        (results, {"job": jobs.c.id, "number": 1, "manifest": pack(Manifest()), "tail": "", "used": True}),
    ]  # fmt: skip
    for offset, kind in ((1, "job.started"), (size + 1, "job.succeeded")):
        row = {
            "number": last + offset + place, "time": jobs.c.since, "actor": "server", "kind": kind, "version": 1,
            "project": jobs.c.project, "subject": array, "payload": message,
        }  # fmt: skip
        copies.append((events, row))
    for table, row in copies:
        values = [
            value if isinstance(value, sa.ColumnElement) else sa.literal(value, table.c[name].type)
            for name, value in row.items()
        ]
        connection.execute(sa.insert(table).from_select(list(row), sa.select(*values).where(*which)))
    connection.execute(sa.delete(jobs).where(*which))
    connection.execute(sa.update(arrays).where(arrays.c.id == array).values(open=0, succeeded=size))
