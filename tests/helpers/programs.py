"""Programs that run in virtual time: a process table without processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from cpc.spool.disk import Disk
from cpc.worker.processes import Exit, Launch
from tests.simulation.clock import HostReactor
from tests.simulation.line import Line


@dataclass(frozen=True)
class Program:
    """What a program does: `writes` are (after seconds, path, bytes added); on SIGTERM it needs `term_seconds`."""

    seconds: float = 1.0
    code: int = 0
    writes: tuple[tuple[float, str, bytes], ...] = ()
    term_seconds: float = 0.5
    term_code: int = -15
    term_writes: tuple[tuple[str, bytes], ...] = ()
    max_memory: int = 1 << 20
    error: str = ""


@dataclass
class _Running:
    launch: Launch
    program: Program
    on_exit: Callable[[Exit], None]
    started: float
    calls: list[object] = field(default_factory=list)
    stopping: bool = False


class FakeProcesses:
    """`cpc.worker.processes.Processes`: argv[0] names one of `programs`."""

    def __init__(self, reactor: HostReactor, disk: Disk, programs: dict[str, Program]) -> None:
        self.reactor = reactor
        self.disk = disk
        self.programs = programs
        self.launched: list[Launch] = []
        self.most = 0  # at one time
        self.closed = False
        self._running: dict[str, _Running] = {}
        self._line = Line(reactor, lambda: len(self._running), self._start)

    def start(self, launch: Launch, on_exit: Callable[[Exit], None]) -> None:
        if launch.beside:
            self._line.put(launch, on_exit)
        else:
            self._start(launch, on_exit)

    def _start(self, launch: Launch, on_exit: Callable[[Exit], None]) -> None:
        self.launched.append(launch)
        program = self.programs.get(launch.argv[0] if launch.argv else "")
        if program is None or program.error:
            error = program.error if program else f"the program {launch.argv[0]} was not found in the search path"
            self.reactor.callLater(0, self._line.tell, on_exit, Exit(launch.key, error=error))
            return
        running = _Running(launch, program, on_exit, self.reactor.seconds())
        self._running[launch.key] = running
        self.most = max(self.most, len(self._running))
        self._write(launch, "stdout", b"")
        self._write(launch, "stderr", b"")
        for after, path, data in program.writes:
            running.calls.append(self.reactor.callLater(after, self._write, launch, path, data))
        running.calls.append(self.reactor.callLater(program.seconds, self._end, launch.key, program.code))

    def _write(self, launch: Launch, path: str, data: bytes) -> None:
        whole = os.path.join(launch.cwd, path)
        self.disk.make_directory(os.path.dirname(whole))
        self.disk.append(whole, data)

    def withdraw(self, key: str) -> None:
        self._line.withdraw(key)

    def stop(self, key: str, grace: float) -> None:
        self._line.withdraw(key)
        running = self._running.get(key)
        if running is None or running.stopping:
            return
        running.stopping = True
        self._halt(running)
        if running.program.term_seconds < grace:
            running.calls.append(
                self.reactor.callLater(running.program.term_seconds, self._terminated, key, running.program.term_code)
            )
        else:
            running.calls.append(self.reactor.callLater(grace, self._end, key, -9))

    def _terminated(self, key: str, code: int) -> None:
        running = self._running[key]
        for path, data in running.program.term_writes:
            self._write(running.launch, path, data)
        self._end(key, code)

    def kill(self, key: str) -> None:
        self._line.withdraw(key)
        if key in self._running:
            self._halt(self._running[key])
            self._running[key].calls.append(self.reactor.callLater(0, self._end, key, -9))

    def _halt(self, running: _Running) -> None:
        for call in running.calls:
            if call.active():  # type: ignore[attr-defined]
                call.cancel()  # type: ignore[attr-defined]

    def _end(self, key: str, code: int) -> None:
        running = self._running.pop(key)
        self._halt(running)
        seconds = self.reactor.seconds() - running.started
        self._line.tell(running.on_exit, Exit(key, code, seconds, seconds, running.program.max_memory))

    def running(self) -> tuple[str, ...]:
        return tuple(self._running)

    async def close(self) -> None:
        self.closed = True
        self._line.clear()
        for key in list(self._running):
            self._halt(self._running.pop(key))
