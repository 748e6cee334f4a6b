"""cpc-server as real processes, with a home and a run directory of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers.ports import free_ports
from tests.helpers.real_programs import PATIENCE

COMMAND = Path(sys.executable).parent / "cpc-server"
PASSWORD = "correct-horse"


def until(true: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    """Wait for a visible state."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, f"not within {within:g} s: {what}"
        time.sleep(0.02)


class Server:
    """One server's command line. What it starts is ended by `close`."""

    def __init__(self, directory: Path, name: str = "lab", home: Path | None = None) -> None:
        self.directory = directory
        self.home = home or directory / "home"
        self.name = name
        self.run_dir = directory / f"run-{name}"
        self.place = self.home / "servers" / name

    def run(
        self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.argv(*arguments), input=stdin, capture_output=True, text=True, timeout=PATIENCE, cwd=self.directory,
            env={**os.environ, "CPC_HOME": str(self.home), **(env or {})}, check=False,
        )  # fmt: skip

    def argv(self, *arguments: str) -> list[str]:
        """A command for this server."""
        return [str(COMMAND), *arguments, "-c", self.name]

    def done(self, *arguments: str, stdin: str = "") -> str:
        """What a command that must succeed prints."""
        result = self.run(*arguments, stdin=stdin)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def refused(self, *arguments: str, stdin: str = "", code: int = 1) -> str:
        """The one line of a command that must be refused."""
        result = self.run(*arguments, stdin=stdin)
        lines = [line for line in result.stderr.splitlines() if not line.startswith("Starting server")]
        assert result.returncode == code, result.stdout + result.stderr
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("cpc-server: ")
        return lines[0]

    def setup(self, *arguments: str) -> str:
        """A server on loopback, on ports that are free, and stay so while it does not run."""
        port, client_port = free_ports(2)
        ports = ("--port", str(port), "--client-port", str(client_port))
        return self.done("setup", *ports, *arguments, "-stdin", str(self.run_dir), stdin=PASSWORD + "\n")

    def status(self) -> dict[str, Any]:
        """`status --json`."""
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def config(self) -> dict[str, Any]:
        """server.json."""
        found: dict[str, Any] = json.loads((self.place / "server.json").read_text())
        return found

    @property
    def pid(self) -> int:
        """The running server's process."""
        return int((self.place / "server.pid").read_text().split()[0])

    @property
    def log(self) -> str:
        """The server's log."""
        return (self.place / "log" / "server.log").read_text()

    def kill(self) -> None:
        """As a power cut would, as far as this process is concerned."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: not _alive(pid), "the server is gone")

    def close(self) -> None:
        """End what runs."""
        if (self.place / "server.json").exists():
            self.run("stop", "--now")


def _alive(pid: int) -> bool:
    try:
        return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False
