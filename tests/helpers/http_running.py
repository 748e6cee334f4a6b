"""A people's door in a process of its own, for tests with real clients."""

from __future__ import annotations

import json
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
    spare: str = ""  # a second token of the owner, to log out with


@contextmanager
def running_server(*arguments: str, module: str = "http_fake_server") -> Iterator[Running]:
    """A module of tests.helpers that prints a line of JSON about itself and then serves."""
    command = [sys.executable, "-m", f"tests.helpers.{module}", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert process.stdout is not None
    try:
        about = json.loads(process.stdout.readline())
        yield Running(
            url=f"{about['scheme']}://127.0.0.1:{about['port']}", port=about["port"], token=about["token"],
            admin=about["admin"], authority=about["authority"], pid=process.pid,
            spare=about.get("spare", about["token"]),
        )  # fmt: skip
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
