"""One server per database: refused at the start, in words. (Should two meet all the same, the writer's claim stops one.)

For PostgreSQL a session of its own holds an advisory lock: it ends with the process, however that ends, and with the
machine after a minute. For SQLite the process's locks on files do it (`cpc.server.process`).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cpc.core.errors import Conflict, Unavailable
from cpc.store import database
from cpc.store.checks import shown

if TYPE_CHECKING:
    import psycopg

_KEY = int.from_bytes(b"copernic")


class DatabaseLock:
    """Held from the beginning until `release`. Conflict when another server has it."""

    def __init__(self, url: str) -> None:
        self._session: psycopg.Connection | None = None
        if not database.is_postgresql(url):
            return
        import psycopg  # here, and not where there is no PostgreSQL: it takes 9 MB

        try:
            session = psycopg.connect("postgresql" + url[url.index("://") :], autocommit=True, connect_timeout=10)
            for setting in ("tcp_keepalives_idle = 30", "tcp_keepalives_interval = 10", "tcp_keepalives_count = 3"):
                session.execute(f"SET {setting}")
            row = session.execute("SELECT pg_try_advisory_lock(%s)", (_KEY,)).fetchone()
        except psycopg.Error as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise Unavailable(
                f"the PostgreSQL database cannot be reached: {reason}", "see that it runs, then try again"
            ) from error
        if row is None or not row[0]:
            session.close()
            raise Conflict(
                f"the database {shown(url)} is in use by another server process",
                "stop that one first; after a crash of its machine it is free within a minute",
            )
        self._session = session

    def release(self) -> None:
        """Let another server have it."""
        if self._session is not None:
            import psycopg

            with contextlib.suppress(psycopg.Error):
                self._session.close()
            self._session = None
