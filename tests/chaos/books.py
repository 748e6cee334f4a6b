"""The server's own records, read beside it: what no person is shown, and what must agree with the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cpc.core import ids
from cpc.store.chunks import SMALL

TOP = Path(__file__).resolve().parents[2]


class Books:
    """The database and the chunk files of one server. A clerk reads them where the server's disk is to be seen."""

    def __init__(self, url: str, run_directory: Path, within: Sequence[str] = ()) -> None:
        """`within`: words before a command that is to see the run directory."""
        self._clerk = subprocess.Popen(
            [*within, sys.executable, "-m", "tests.chaos.clerk", url, str(run_directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(TOP)},  # another view of the file system has another current directory
        )  # fmt: skip

    def ask(self, question: str, text: str = "") -> Any:
        """Its answer; an AssertionError with what went wrong."""
        assert self._clerk.stdin is not None
        assert self._clerk.stdout is not None
        self._clerk.stdin.write(json.dumps([question, text]) + "\n")
        self._clerk.stdin.flush()
        said, answer = json.loads(self._clerk.stdout.readline())
        assert said == "good", answer
        return answer

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """One SELECT, on a consistent snapshot. Bytes are in hex."""
        return [tuple(row) for row in self.ask("rows", query)]

    def close(self) -> None:
        """Let the clerk go."""
        self._clerk.communicate()

    def blamed(self) -> list[tuple[str, int, int | None, str, str]]:
        """(submission, attempt, exit code, outcome, message) of each attempt that counts against its job."""
        found = self.rows(
            "SELECT job, number, exit_code, outcome, message FROM attempts WHERE outcome IN ('failed', 'exceeded')"
        )
        return [(ids.show(ids.array(job)), number, code, outcome, text) for job, number, code, outcome, text in found]

    def acknowledged(self) -> set[str]:
        """The numbers of all submissions on record."""
        return {ids.show(row[0]) for row in self.rows("SELECT id FROM arrays")}

    def files(self) -> set[str]:
        """The chunk files on disk."""
        return set(self.ask("files"))

    def unused(self) -> list[tuple[str, int, int | None]]:
        """(chunk, size, since when, µs) of those on record that nobody refers to."""
        query = 'SELECT digest, size, doomed FROM chunks WHERE digest NOT IN (SELECT digest FROM "references")'
        return [(digest, size, doomed) for digest, size, doomed in self.rows(query)]

    def strays(self) -> set[str]:
        """Chunk files that are not on record: a kill came between file and row. They go an hour later, at a start."""
        return self.files() - {row[0] for row in self.rows("SELECT digest FROM chunks")}

    def referenced(self) -> set[str]:
        """The chunks that somebody refers to and that are files."""
        query = f'SELECT digest FROM chunks WHERE size > {SMALL} AND digest IN (SELECT digest FROM "references")'
        return {row[0] for row in self.rows(query)}

    def wrong(self) -> Iterator[str]:
        """What contradicts itself in the database."""
        queries = {
            "a file is referred to and not on record": (
                'SELECT owner, kind FROM "references" WHERE digest NOT IN (SELECT digest FROM chunks)'
            ),
            "a job is live and finished": "SELECT id FROM jobs WHERE id IN (SELECT id FROM finished)",
            "an attempt runs that is not its job's current one": (
                "SELECT a.job, a.number FROM attempts a WHERE a.ended IS NULL AND NOT EXISTS (SELECT 1 FROM jobs j "
                "WHERE j.id = a.job AND j.attempts = a.number AND j.state = 2)"
            ),
            "a job has succeeded without exactly one result that is used": (
                "SELECT f.id FROM finished f WHERE f.state = 3 AND 1 != (SELECT count(*) FROM results r "
                "WHERE r.job = f.id AND r.used AND r.number = f.accepted)"
            ),
            "a job has two results that are used": (
                "SELECT job FROM results WHERE used GROUP BY job HAVING count(*) > 1"
            ),
            "a result is kept of a job that is gone": (
                "SELECT job, number FROM results WHERE job NOT IN (SELECT id FROM finished) "
                "AND job NOT IN (SELECT id FROM jobs)"
            ),
            "an attempt is kept of a job that is gone": (
                "SELECT job, number FROM attempts WHERE job NOT IN (SELECT id FROM finished) "
                "AND job NOT IN (SELECT id FROM jobs)"
            ),
        }
        for what, query in queries.items():
            for row in self.rows(query)[:5]:
                yield f"{what}: {row}"

    def collected(self) -> list[str]:
        """With the server stopped: remove what is unused, as the server does it by and by; what is wrong then."""
        faults: list[str] = self.ask("collect")
        there, wanted = self.files(), self.referenced()
        faults += [f"chunk {name} is on disk and nobody refers to it" for name in sorted(there - wanted)[:5]]
        faults += [f"chunk {name} is referred to and not on disk" for name in sorted(wanted - there)[:5]]
        faults += [f"chunk {chunk} is on record and nobody refers to it" for chunk in self.unused()[:5]]
        return faults
