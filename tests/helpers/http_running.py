"""A people's door in a process of its own, for tests with real clients."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Running:
    """Where it listens, and two tokens: of a user who owns the project `villin` with job 57, and of a super user."""

    url: str
    port: int
    token: str
    admin: str
    authority: str
    pid: int


@contextmanager
def running_server(*arguments: str) -> Iterator[Running]:
    """The fakes, or what CPC_TEST_HTTP_SERVER names: a command that prints the same line of JSON and then serves."""
    command = shlex.split(os.environ.get("CPC_TEST_HTTP_SERVER", f"{sys.executable} -m tests.helpers.http_fake_server"))
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert process.stdout is not None
    try:
        about = json.loads(process.stdout.readline())
        yield Running(
            url=f"{about['scheme']}://127.0.0.1:{about['port']}", port=about["port"], token=about["token"],
            admin=about["admin"], authority=about["authority"], pid=process.pid,
        )  # fmt: skip
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()
