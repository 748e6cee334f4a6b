"""Reads a server's database and chunk files where its disk is to be seen, and answers on standard output.

Questions are lines of JSON, [question, text]; answers are lines ["good", answer] or ["bad", what went wrong].
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock as Timers

from cpc.core.clock import SystemClock
from cpc.store import database
from cpc.store.chunks import ChunkFiles
from cpc.store.chunkstore import ChunkStore
from cpc.store.disk import RealDisk
from cpc.store.store import Store
from tests.helpers.stores import InlineThreads, result


class Clerk:
    """`url` of the database, `run`: the server's run directory."""

    def __init__(self, url: str, run: Path) -> None:
        self._url = url
        self._run = run

    def answer(self, question: str, text: str) -> Any:
        """One question."""
        questions: dict[str, Callable[[str], Any]] = {
            "rows": self._rows,
            "files": self._files,
            "collect": self._collect,
        }
        return questions[question](text)

    def _rows(self, query: str) -> list[list[Any]]:
        with contextlib.closing(self._connect()) as connection:
            rows = connection.execute(query).fetchall()
        return [
            [bytes(value).hex() if isinstance(value, bytes | memoryview) else value for value in row] for row in rows
        ]

    def _connect(self) -> Any:
        if database.is_postgresql(self._url):
            return psycopg.connect(self._url, connect_timeout=10)
        return sqlite3.connect(f"file:{database.sqlite_path(self._url)}?mode=ro", uri=True, timeout=10)

    def _files(self, _: str) -> list[str]:
        return [path.name for path in self._run.glob("chunks/[0-9a-f][0-9a-f]/*")]

    def _collect(self, _: str) -> list[str]:
        """What the server does by and by is done at once; what is wrong with what stays."""

        def fatal(reason: str) -> None:
            raise AssertionError(f"the store is broken: {reason}")

        threads, clock = InlineThreads(), SystemClock()
        timers: Any = Timers()
        store = Store(
            self._url, writing=threads, reading=threads, clock=clock, reactor=timers, fatal=fatal, holder="clerk"
        )
        chunks = ChunkStore(store, ChunkFiles(RealDisk(self._run)), threads, clock)

        async def work() -> list[str]:
            await chunks.collect(0.0)
            await chunks.sweep(0.0)
            found = [f"chunk {fault.digest.hex()}: {fault.what}" async for fault in chunks.verify()]
            await store.close()
            return found

        found: list[str] = result(ensureDeferred(work()))
        return found + [f"{path.name} is left half written" for path in self._run.glob("chunks/tmp/*")]


def main() -> None:
    clerk = Clerk(sys.argv[1], Path(sys.argv[2]))
    for line in sys.stdin:
        try:
            said = ["good", clerk.answer(*json.loads(line))]
        except Exception as error:
            said = ["bad", f"{type(error).__name__}: {error}"]
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
