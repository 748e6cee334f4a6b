"""Looking for programs: in a search path, and by asking them, with bounds on time and on what they print."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from cpc.core.clock import Clock, SystemClock

MAX_OUTPUT = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program said. `code` is −1 when it could not run or was ended for taking or printing too much."""

    code: int
    output: str
    errors: str


class PathSearch:
    """Programs of this machine. `timeout`: seconds that one question may take; then all of its group is killed."""

    def __init__(
        self, environ: Mapping[str, str] | None = None, clock: Clock | None = None, timeout: float = 60.0
    ) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._clock = clock or SystemClock()
        self._timeout = timeout
        self._told: dict[tuple[str, ...], Future[Answer]] = {}

    def which(self, program: str) -> str | None:
        """The path of `program` in the search path, or None."""
        return shutil.which(program, path=self._environ.get("PATH", os.defpath))

    def pythons(self) -> tuple[str, ...]:
        """python3 and python of the search path, then the worker's own."""
        there = (self.which("python3"), self.which("python"), sys.executable)
        return tuple(dict.fromkeys(path for path in there if path))

    def run(self, argv: Sequence[str]) -> tuple[int, str]:
        """(exit code, stdout and stderr)."""
        answer = self.ask(argv)
        return answer.code, answer.output + answer.errors

    def ask(self, argv: Sequence[str]) -> Answer:
        """Run it with nothing to read. Never raises for what it does. What any thread has asked before is not asked again."""
        words, mine = tuple(argv), Future[Answer]()
        told = self._told.setdefault(words, mine)
        if told is mine:
            told.set_result(self._ask(words))
        return told.result()

    def _ask(self, argv: tuple[str, ...]) -> Answer:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environ,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return Answer(-1, "", f"{argv[0]} cannot be run: {getattr(error, 'strerror', None) or error}")
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdout, process.stderr:
            parts: dict[int, bytearray] = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
            trouble = self._listen(process, parts)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # the program, if it still runs, and what it left behind
            code = process.wait()
        output, errors = (bytes(part).decode("utf-8", "replace") for part in parts.values())
        if trouble:
            return Answer(-1, output, trouble)
        return Answer(code, output, errors)

    def _listen(self, process: subprocess.Popen[bytes], parts: dict[int, bytearray]) -> str:
        """Read what it prints until it ends; "" or why it must be ended."""
        until = self._clock.monotonic() + self._timeout
        open_ones = set(parts)
        while open_ones:
            left = until - self._clock.monotonic()
            if left <= 0:
                return f"it did not answer within {self._timeout:g} s"
            ended = process.poll() is not None  # asked first: what it has said at its end is there to be read then
            ready, _, _ = select.select(list(open_ones), [], [], min(left, 0.05))
            if not ready and ended:
                return ""  # something of it keeps its output open
            for fd in ready:
                data = os.read(fd, 1 << 16)
                if not data:
                    open_ones.discard(fd)
                parts[fd] += data
                if len(parts[fd]) > MAX_OUTPUT:
                    return f"it printed more than {MAX_OUTPUT >> 20} MiB"
        try:
            process.wait(max(0.0, until - self._clock.monotonic()))
        except subprocess.TimeoutExpired:
            return f"it did not end within {self._timeout:g} s"
        return ""
