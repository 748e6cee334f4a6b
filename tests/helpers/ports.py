"""Ports for servers that a test starts later: below those that the system gives to whoever asks for any, or somebody else could
have them by then; and others for each process that runs tests."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator

FIRST = 10_000
EACH = 2_500  # of one process
PROCESSES = 9
_tried = itertools.count(os.getpid() % EACH)


def free_ports(count: int) -> list[int]:
    """So many that nobody listens on, at any address."""
    return list(itertools.islice(_free(), count))


def _free() -> Iterator[int]:
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % PROCESSES
    for number in itertools.islice(_tried, EACH):
        port = FIRST + process * EACH + number % EACH
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            yield port
    raise OSError("every port is taken")
