"""What running jobs write, as they write it."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, TextIO

from cpc.core.errors import CopernicusError

if TYPE_CHECKING:
    from cpc.client.client import Client


def follow(client: Client, job: str, stream: str, out: TextIO, offset: int = 0) -> None:
    """Copy one stream to its end. What was not kept while nobody followed is said to be missing."""
    for part in client.follow(job, stream, offset):
        if part.offset > offset and part.data:
            print(f"cpcc: {part.offset - offset} bytes before this were not kept", file=sys.stderr, flush=True)
        out.write(part.data)
        out.flush()
        offset = part.next or part.offset + len(part.data.encode("utf-8", "replace"))


def follow_both(client: Client, job: str) -> None:
    """stdout to stdout and stderr to stderr, to the end of both."""
    problem: list[CopernicusError] = []

    def errors() -> None:
        try:
            follow(client, job, "stderr", sys.stderr)
        except CopernicusError as error:
            problem.append(error)

    thread = threading.Thread(target=errors, name="copernicus-stderr", daemon=True)
    thread.start()
    follow(client, job, "stdout", sys.stdout)
    while thread.is_alive():  # in steps, so that Ctrl-C is heard
        thread.join(0.5)
    if problem:
        raise problem[0]
