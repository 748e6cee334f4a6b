"""The server's log: one line per event, UTC, in a file that is turned over before it grows large.

2026-03-01T12:00:00.123456Z info  [cpc.server.service] the server is ready
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogBeginner
from zope.interface import implementer  # type: ignore[import-untyped]

SIZE = 16 << 20
COUNT = 10

_LEVELS = {name: place for place, name in enumerate(("debug", "info", "warn", "error", "critical"))}


class LogFile:
    """`server.log`, `server.log.1` (the one before) … A disk that takes no more costs lines, never the server."""

    def __init__(self, path: Path, size: int = SIZE, count: int = COUNT, stdio: bool = False) -> None:
        self._path = path
        self._size = size
        self._count = count
        self._stdio = stdio
        self._file = -1
        self._written = 0
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.reopen()

    def reopen(self) -> None:
        """Go on in the file that has the name now: somebody may have moved ours away."""
        fresh = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._file >= 0:
            os.close(self._file)
        self._file = fresh
        self._written = os.fstat(fresh).st_size
        if self._stdio:
            os.dup2(fresh, 1)
            os.dup2(fresh, 2)

    def write(self, line: str) -> None:
        """Append a line."""
        data = line.encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError):
            if self._written and self._written + len(data) > self._size:
                self._turn()
            self._written += os.write(self._file, data)

    def _turn(self) -> None:
        for number in range(self._count - 1, 0, -1):
            older = self.numbered(number - 1)
            if older.exists():
                os.replace(older, self.numbered(number))
        self.reopen()

    def numbered(self, number: int) -> Path:
        """The file that was current so many turns ago."""
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


class Stream:
    """The terminal, or whatever a service manager reads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def reopen(self) -> None:
        """Nothing to do."""

    def write(self, line: str) -> None:
        """Write a line at once."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line)
            self._stream.flush()


@implementer(ILogObserver)
class Logs:
    """Observes Twisted's log. `level` may be changed at any time: debug, info, warn or error."""

    def __init__(self, target: LogFile | Stream, level: str = "info") -> None:
        self.level = level
        self._target = target
        self._lock = threading.Lock()

    def begin(self, redirect: bool) -> None:
        """From now on all events come here; with `redirect` also what is printed."""
        observers: list[Any] = [self]
        globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=redirect)

    def reopen(self) -> None:
        """See `LogFile.reopen`."""
        with self._lock, contextlib.suppress(OSError):
            self._target.reopen()

    def __call__(self, event: dict[str, Any]) -> None:
        """An event, from any thread."""
        level = event.get("log_level") or LogLevel.info
        least = self.level
        if str(event.get("log_namespace", "")).startswith(("twisted", "log_legacy")) and least == "info":
            least = "warn"  # ports opened and closed, factories started: nothing that an administrator asked for
        if _LEVELS.get(level.name, 1) < _LEVELS[least]:
            return
        line = show(event, level.name)
        with self._lock:
            self._target.write(line)


def show(event: dict[str, Any], level: str) -> str:
    """An event as one line."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        with contextlib.suppress(Exception):
            text = f"{text}\n{failure.getTraceback()}"
    moment = datetime.datetime.fromtimestamp(float(event.get("log_time", 0.0)), datetime.UTC)
    stamp = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    one_line = " | ".join(part.rstrip() for part in text.splitlines() if part.strip())
    return f"{stamp} {level:5} [{event.get('log_namespace', '-')}] {one_line}\n"


def to_stderr(level: str = "info") -> Logs:
    """A log for a server in the foreground."""
    return Logs(Stream(sys.stderr), level)
