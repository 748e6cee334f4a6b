"""The jobs of the simulation: what they do is written in their arguments, so that everybody knows how they must end.

run ok SECONDS SIZE         writes `out` (SIZE bytes that follow from the job's id), exit 0
run mixed SECONDS           exit 0; every ninth job takes 300 times as long
run bad SECONDS             exit 1
run flaky SECONDS           exit 1 unless the attempt's number is even
run poison SECONDS          takes the whole machine down
run big SECONDS SIZE        like ok, with more than a chunk
run steps SECONDS           one line of `p.cpt` each ten seconds, goes on from what it finds, exit 0 at the end
run grow SECONDS            like steps, with a mebibyte for each line
run value SECONDS X         writes 2 X to `out`
run copy SECONDS            exit 0 if the input `in` is what the submission says, else 9
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from cpc.spool.disk import Disk
from cpc.worker.processes import Exit, Launch
from tests.simulation.clock import HostReactor
from tests.simulation.databases import Killed
from tests.simulation.line import Line

STEP = 10.0
FULL = 28  # the exit code of a program that found the disk full: never the job's fault
INPUT = b"input of the simulation " * 4000  # larger than what travels inside a message


def output(job: int, size: int) -> bytes:
    """What a job of kind `ok` writes."""
    seed = hashlib.sha256(str(job).encode()).hexdigest().encode()
    return (seed * (size // len(seed) + 1))[:size]


def step(kind: str, number: int) -> bytes:
    """What a job of kind `steps` or `grow` appends in its step of this number."""
    return b"%07d\n" % number * (131_072 if kind == "grow" else 1)


def checkpoint(kind: str, seconds: float) -> bytes:
    """The whole of `p.cpt` at the end."""
    return b"".join(step(kind, number) for number in range(math.ceil(seconds / STEP)))


@dataclass
class _Running:
    launch: Launch
    on_exit: Callable[[Exit], None]
    started: float
    calls: list[object] = field(default_factory=list)
    stopping: bool = False

    @property
    def kind(self) -> str:
        return self.launch.argv[1]


@dataclass(frozen=True)
class Ear:
    """Who is told what programs do: `started(key)`, `ended(key, code)` for exits of their own, `poison(key)`."""

    started: Callable[[Launch], None]
    ended: Callable[[str, int], None]
    poison: Callable[[str], None]


class SimProcesses:
    """`cpc.worker.processes.Processes` in virtual time. `slow` seconds from SIGTERM to the end."""

    def __init__(self, reactor: HostReactor, disk: Disk, ear: Ear, slow: float) -> None:
        self._reactor = reactor
        self._disk = disk
        self._ear = ear
        self._slow = slow
        self._running: dict[str, _Running] = {}
        self._line = Line(reactor, lambda: len(self._running), self._start)

    def start(self, launch: Launch, on_exit: Callable[[Exit], None]) -> None:
        if not self._reactor.alive:
            raise Killed  # the agent's process has gone in the middle of this
        if launch.beside:
            self._line.put(launch, on_exit)
        else:
            self._start(launch, on_exit)

    def _start(self, launch: Launch, on_exit: Callable[[Exit], None]) -> None:
        running = _Running(launch, on_exit, self._reactor.seconds())
        self._running[launch.key] = running
        self._ear.started(launch)
        self._later(running, 0, self._begin, launch.key)

    def _later(self, running: _Running, seconds: float, call: Callable[..., None], *arguments: object) -> None:
        running.calls.append(self._reactor.callLater(seconds, call, *arguments))

    def _begin(self, key: str) -> None:
        running = self._running[key]
        launch, seconds = running.launch, float(running.launch.argv[2])
        self._write(launch, "stdout", f"{' '.join(launch.argv)}\n".encode())
        self._write(launch, "stderr", b"")
        if launch.walltime and seconds > launch.walltime:
            self._later(running, launch.walltime, self._exceeded, key)
        if running.kind in ("steps", "grow"):
            self._step(key)
        elif running.kind == "poison":
            self._later(running, seconds, self._ear.poison, key)
        else:
            long = running.kind == "mixed" and int(key.partition(".")[0]) % 9 == 0
            self._later(running, seconds * (300 if long else 1), self._done, key)

    def _step(self, key: str) -> None:
        running = self._running[key]
        path = os.path.join(running.launch.cwd, "p.cpt")
        found = self._disk.stat(path)
        lines = found.size // len(step(running.kind, 0)) if found else 0
        if lines * STEP >= float(running.launch.argv[2]):
            self._end(key, 0, own=True)
            return
        if self._write(running.launch, "p.cpt", step(running.kind, lines)):
            self._later(running, STEP, self._step, key)
        else:
            self._end(key, FULL, own=True)

    def _done(self, key: str) -> None:
        launch = self._running[key].launch
        job, attempt = (int(part) for part in key.split(".")[:2])
        code = 0
        match launch.argv[1]:
            case "ok" | "big":
                code = 0 if self._write(launch, "out", output(job, int(launch.argv[3]))) else FULL
            case "value":
                code = 0 if self._write(launch, "out", f"{float(launch.argv[3]) * 2!r}\n".encode()) else FULL
            case "bad":
                code = 1
            case "flaky":
                code = attempt % 2
            case "copy":
                good = self._disk.read(os.path.join(launch.cwd, "in")) == INPUT
                code = 0 if good else 9
        self._end(key, code, own=True)

    def _write(self, launch: Launch, path: str, data: bytes) -> bool:
        """False: the disk is full."""
        try:
            self._disk.append(os.path.join(launch.cwd, path), data)
        except OSError:
            return False
        return True

    def _exceeded(self, key: str) -> None:
        self._end(key, -9, own=True, exceeded="walltime")

    def withdraw(self, key: str) -> None:
        self._line.withdraw(key)

    def stop(self, key: str, grace: float) -> None:
        self._line.withdraw(key)
        running = self._running.get(key)
        if running is None or running.stopping:
            return
        running.stopping = True
        self._halt(running)
        code = -15 if self._slow < grace else -9
        self._later(running, min(self._slow, grace), self._end, key, code)

    def kill(self, key: str) -> None:
        self._line.withdraw(key)
        if key in self._running:
            self._halt(self._running[key])
            self._later(self._running[key], 0, self._end, key, -9)

    def _halt(self, running: _Running) -> None:
        for call in running.calls:
            if call.active():  # type: ignore[attr-defined]
                call.cancel()  # type: ignore[attr-defined]

    def _end(self, key: str, code: int, own: bool = False, exceeded: str = "") -> None:
        running = self._running.pop(key, None)
        if running is None:
            return
        self._halt(running)
        if own:
            self._ear.ended(key, code)
        seconds = self._reactor.seconds() - running.started
        self._line.tell(running.on_exit, Exit(key, code, seconds, seconds, 1 << 20, exceeded))

    def running(self) -> tuple[str, ...]:
        return tuple(self._running)

    async def close(self) -> None:
        self._line.clear()
        for key in list(self._running):
            self._halt(self._running.pop(key))
