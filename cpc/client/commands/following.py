"""What running jobs write, as they write it."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from cpc.core.errors import CopernicusError

if TYPE_CHECKING:
    from cpc.client.client import Client

PATIENCE = 3.0  # seconds until it is said why a job has not started


def follow(client: Client, job: str, stream: str, out: TextIO, offset: int = 0) -> None:
    """Copy one stream to its end. What was not kept while nobody followed is said to be missing."""
    for part in client.follow(job, stream, offset):
        if part.offset > offset and part.data:
            print(f"cpcc: {part.offset - offset} bytes before this were not kept", file=sys.stderr, flush=True)
        out.write(part.data)
        out.flush()
        offset = part.next or part.offset + len(part.data.encode("utf-8", "replace"))


def follow_both(client: Client, job: str, note: Callable[[str], None]) -> None:
    """stdout to stdout and stderr to stderr, to the end of both. A job that does not start soon is told the reason of."""
    problems: list[CopernicusError | OSError] = []

    def copy(stream: str, out: TextIO) -> None:
        try:
            follow(client.another(), job, stream, out)
        except (CopernicusError, OSError) as error:
            problems.append(error)

    threads = [
        threading.Thread(target=copy, args=one, name=f"copernicus-{one[0]}", daemon=True)
        for one in (("stdout", sys.stdout), ("stderr", sys.stderr))
    ]
    for thread in threads:
        thread.start()
    threads[0].join(PATIENCE)
    told = not threads[0].is_alive()
    while any(thread.is_alive() for thread in threads):
        if not told:
            told = True
            _tell_why(client, job, note)
        threads[0].join(0.5)  # in steps, so that Ctrl-C is heard
        threads[1].join(0.0 if threads[0].is_alive() else 0.5)
    if problems:
        raise problems[0]


def _tell_why(client: Client, job: str, note: Callable[[str], None]) -> None:
    with contextlib.suppress(CopernicusError):
        found = client.why(job)
        if found.state in ("waiting", "blocked"):
            for reason in found.reasons:
                note(f"Job {job} is {found.state}: {reason.text}" + (f" ({reason.step})" if reason.step else ""))
