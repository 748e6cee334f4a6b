"""Programs as real processes: what they say, how they end, and waiting for a state that can be seen."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpc.worker import tree

#: Seconds that a visible state is waited for before a test has failed. It only ends a test that hangs: what takes one second on a
#: quiet machine takes a minute on one with a load of twenty.
PATIENCE = 300.0


def until(holds: Callable[[], object], what: str, seconds: float = PATIENCE, seen: Callable[[], str] = str) -> Any:
    """What `holds()` gives as soon as it is true; an AssertionError with `what` and what was seen after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}\n{seen()}"
        time.sleep(0.02)
    return found


def gone(*pids: int) -> bool:
    """Whether none of these processes runs (a zombie does not)."""
    return not any(tree.alive(pid) for pid in pids)


def ssl_context(authority: str) -> ssl.SSLContext:
    """A careful client of the server with this authority (PEM)."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.load_verify_locations(cadata=authority)
    return made


def figures(port: int, authority: str) -> dict[str, float]:
    """What a server on 127.0.0.1 tells the monitoring: `name{labels}` without its prefix → value."""
    url = f"https://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, context=ssl_context(authority), timeout=PATIENCE) as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^copernicus_(.*) (\S+)$", text, re.MULTILINE)}


@dataclass(frozen=True)
class Answer:
    """What a program has said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What --json printed."""
        return json.loads(self.out)

    def done(self) -> str:
        """Its output; an AssertionError if it was refused."""
        assert self.code == 0, f"exit code {self.code}: {self.err}{self.out}"
        return self.out

    def refused(self) -> str:
        """The one line that says why it was refused; an AssertionError if it was not, or not in one line."""
        assert self.code == 1, f"exit code {self.code}: {self.err}{self.out}"
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


class Program:
    """A process of ours whose output goes to a file."""

    def __init__(self, argv: Sequence[str], directory: Path, output: Path, environment: dict[str, str]) -> None:
        self.output = output
        with output.open("ab") as file:
            self.process = subprocess.Popen(
                argv, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, seconds: float = PATIENCE) -> int:
        """Its exit code, when it has ended."""
        until(lambda: not self.running, "the program ends", seconds, lambda: self.said)
        return self.process.wait()
