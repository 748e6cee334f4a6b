"""Processes of a worker, as its agent sees them: start, stop, kill, and be told of every end exactly once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
from twisted.internet import defer
from twisted.logger import Logger

from cpc.worker import pipe
from cpc.worker.channel import Channel, DelayedCall, Reactor
from cpc.worker.limits import Limits

_log = Logger()
GUARDIAN_DIED = "the guardian of this worker's processes died; the attempt was ended with it"
CLOSE_TIMEOUT = 30.0
READY_TIMEOUT = 30.0
_ROOT = str(Path(__file__).resolve().parents[2])
_PROGRAM = "import sys; sys.path.insert(0, {root!r}); from cpc.worker.guardian import main; main({channel}, {life})"


class Launch(msgspec.Struct, frozen=True):
    """One attempt to start. `stdin` may be "" (nothing to read); paths that are not absolute are below `cwd`.

    `memory` in bytes and `walltime` in seconds are limits, 0 for none. `env` comes over the environment that all have.
    `beside`: 0, it starts at once; else it stands in line, and the first of the line starts when fewer than that many run.
    """

    key: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    stdin: str = ""
    stdout: str = "stdout"
    stderr: str = "stderr"
    cores: int = 1
    memory: int = 0
    walltime: float = 0.0
    beside: int = 0


class Exit(msgspec.Struct, frozen=True):
    """How one attempt ended, told when nothing of it is left running.

    `code`: −N for a signal, None when the program never ran or nobody saw its end. `cpu_seconds`: of the main process and
    all that it, or the guardian after it, has waited for. `max_memory`: bytes of the largest of these, never less than the
    guardian's own dozen MB; of all together where memory is limited. `exceeded`: "", "memory" or "walltime". `error`: why
    it could not run, in words; then it is not the job's fault. `began`: False if it was taken out of the line.
    """

    key: str
    code: int | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    max_memory: int = 0
    exceeded: str = ""
    error: str = ""
    began: bool = True


class Processes(Protocol):
    """What an agent needs to run attempts."""

    def start(self, launch: Launch, on_exit: Callable[[Exit], None]) -> None:
        """Start it. Never raises for a bad program: `on_exit` gets an Exit with `error`, in a later turn."""

    def stop(self, key: str, grace: float) -> None:
        """SIGTERM to its process group, SIGKILL to everything of it after `grace` seconds. Unknown keys do nothing."""

    def kill(self, key: str) -> None:
        """SIGKILL to everything of it."""

    def withdraw(self, key: str) -> None:
        """Take it out of the line, if it has not begun; its Exit says so. What runs goes on."""

    def running(self) -> tuple[str, ...]:
        """Keys of what was started and not reported."""

    async def close(self) -> None:
        """End everything, and whatever watches it."""


class _Waiting(msgspec.Struct, frozen=True):
    key: str
    on_exit: Callable[[Exit], None]


class _Guardian:
    """One guardian with its keeper, from start to end."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel, life: Channel) -> None:
        self.process = process
        self.channel = channel
        self.life = life
        self.pid = 0  # known when it is ready
        self.unpacker = pipe.Unpacker()


class GuardedProcesses:
    """Processes under a guardian (`cpc.worker.guardian`), started with the first attempt and again if it dies.

    `directory` must exist; the guardian's own complaints go to `guardian.log` in it. `work`: the directory whose guardians
    end what another of them has left, if it was killed together with its keeper; `directory` itself, if it is not given.
    `environment`: what all attempts have.
    """

    def __init__(
        self, reactor: Reactor, directory: Path, limits: Limits | None = None, work: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._reactor = reactor
        self._directory = directory
        self._work = work or directory
        self._limits = (limits or Limits()).check()
        self._environment = environment or {}
        self._guardian: _Guardian | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._numbers: dict[str, int] = {}
        self._last = 0
        self._held: list[tuple[Any, ...]] = []  # messages for a guardian that is not there yet
        self._unsent = b""  # frames that leave at the end of this turn of the reactor: they stand in line anyway
        self._lost: dict[int, _Waiting] = {}  # attempts of a dead guardian, told when their processes are surely gone
        self._closed: list[defer.Deferred[None]] = []
        self._closing = False
        self._timer: DelayedCall | None = None
        self.memory_limited_by = ""

    # --- what an agent calls ------------------------------------------------------------------------------------------

    def start(self, launch: Launch, on_exit: Callable[[Exit], None]) -> None:
        """See `Processes.start`. Two attempts with one key at a time are a mistake of the caller: ValueError."""
        if launch.key in self._numbers:
            raise ValueError(f"{launch.key} is running already")
        self._last += 1
        number = self._last
        self._numbers[launch.key] = number
        self._waiting[number] = _Waiting(launch.key, on_exit)
        message = (
            "start", number, launch.beside, list(launch.argv), launch.env, launch.cwd,
            launch.stdin, launch.stdout, launch.stderr, launch.memory, float(launch.walltime),
        )  # fmt: skip
        refusal = "the worker is leaving" if self._closing else ""
        try:
            frame = b"" if refusal else pipe.pack([message])
        except ValueError:
            refusal = "the arguments and environment are longer than the system allows"
        if not refusal and self._guardian is None:
            refusal = self._begin()
        if refusal:
            self._reactor.callLater(0, self._ended, number, Exit(launch.key, error=refusal))
        elif self._guardian is None or self._guardian.channel.ended:
            self._held.append(message)
        elif launch.beside:
            if not self._unsent:
                self._reactor.callLater(0, self._send)
            self._unsent += frame
        else:
            self._send(frame)

    def stop(self, key: str, grace: float) -> None:
        """See `Processes.stop`."""
        self._say(key, "stop", float(grace))

    def kill(self, key: str) -> None:
        """See `Processes.kill`."""
        self.stop(key, 0.0)

    def withdraw(self, key: str) -> None:
        """See `Processes.withdraw`."""
        self._say(key, "withdraw")

    def _say(self, key: str, what: str, *more: float) -> None:
        number = self._numbers.get(key)
        if number is None:
            return
        message = (what, number, *more)
        if self._guardian is not None and not self._guardian.channel.ended:
            self._send(pipe.pack([message]))
        elif number not in self._lost:
            self._held.append(message)

    def _send(self, frame: bytes = b"") -> None:
        """To the guardian, behind what waits; if it is gone, nothing happens: its attempts are told lost."""
        data, self._unsent = self._unsent + frame, b""
        if data and self._guardian is not None:
            self._guardian.channel.write(data)

    def running(self) -> tuple[str, ...]:
        """Keys of what was started and not reported."""
        return tuple(self._numbers)

    @property
    def guardian_pid(self) -> int:
        """The guardian's process id, 0 while there is none."""
        return self._guardian.pid if self._guardian is not None else 0

    @property
    def keeper_pid(self) -> int:
        """The keeper's process id, 0 while there is none."""
        return self._guardian.process.pid if self._guardian is not None else 0

    async def close(self) -> None:
        """End every attempt (their ends are reported) and the guardian."""
        self._closing = True
        if self._guardian is None:
            return
        done: defer.Deferred[None] = defer.Deferred()
        self._closed.append(done)
        if len(self._closed) == 1:
            self._send(pipe.pack([("close",)]))
            self._set_timer(CLOSE_TIMEOUT, "did not end in time")
        await done

    # --- the guardian's life -------------------------------------------------------------------------------------------

    def _begin(self) -> str:
        """Start a guardian; "" or why it could not be started."""
        ours, theirs = socket.socketpair()
        life, held = os.pipe()
        try:
            with open(self._directory / "guardian.log", "ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c",
                     _PROGRAM.format(root=_ROOT, channel=theirs.fileno(), life=held)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                    pass_fds=(theirs.fileno(), held), start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            ours.close()
            os.close(life)
            return f"the guardian of processes could not be started: {error}"
        finally:
            theirs.close()
            os.close(held)
        channel = Channel(self._reactor, ours.detach(), self._received, self._channel_ended)
        guardian = self._guardian = _Guardian(
            process, channel, Channel(self._reactor, life, lambda data: None, self._life_ended)
        )
        limits = self._limits
        directory = str(self._work.resolve())
        begin = ("begin", directory, limits.memory, limits.interval, limits.grace, limits.gather, self._environment)
        guardian.channel.write(pipe.pack([begin]))
        for message in self._held:
            guardian.channel.write(pipe.pack([message]))
        self._held.clear()
        self._set_timer(READY_TIMEOUT, "did not answer in time")
        return ""

    def _received(self, data: bytes) -> None:
        guardian = self._guardian
        assert guardian is not None
        for message in guardian.unpacker.feed(data):
            match message:
                case ("exit", number, code, wall, cpu, most, exceeded, error):
                    waiting = self._waiting.get(number)
                    if waiting is not None:
                        self._ended(number, Exit(waiting.key, code, wall, cpu, most, exceeded, error))
                case ("unbegun", number):
                    waiting = self._waiting.get(number)
                    if waiting is not None:
                        self._ended(number, Exit(waiting.key, began=False))
                case ("ready", pid, words):
                    guardian.pid = pid
                    self.memory_limited_by = words
                    self._set_timer(0, "")
                    self._tell_lost(GUARDIAN_DIED)

    def _ended(self, number: int, exit: Exit) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return
        del self._numbers[waiting.key]
        try:
            waiting.on_exit(exit)
        except Exception:
            _log.failure("told of the end of {key}, the agent failed", key=waiting.key)

    def _tell_lost(self, error: str) -> None:
        lost, self._lost = self._lost, {}
        for number, waiting in lost.items():
            self._ended(number, Exit(waiting.key, error=error))

    def _channel_ended(self) -> None:
        """The guardian is gone, or will be in a moment. What it had started is being ended by its keeper."""
        self._unsent = b""
        held = {message[1] for message in self._held if message[0] == "start"}
        self._lost = {number: one for number, one in self._waiting.items() if number not in held}

    def _life_ended(self) -> None:
        """The keeper is gone as well: nothing of theirs runs, unless both were killed at once."""
        guardian = self._guardian
        if guardian is None:
            return
        if not guardian.channel.ended:  # the keeper alone was killed; the guardian ends everything, then itself
            self._reactor.callLater(0.01, self._life_ended)
            return
        self._set_timer(0, "")
        self._guardian = None
        was_ready = guardian.pid
        code = guardian.process.wait()
        if self._closing:
            self._tell_lost("the worker is leaving")
            self._refuse_held("the worker is leaving")
            for done in self._closed:
                done.callback(None)
            self._closed.clear()
            return
        _log.error("the guardian of processes died (its keeper ended with {code})", code=code)
        if not was_ready:
            why = f"the guardian of processes ended at once; see {self._directory / 'guardian.log'}"
            self._tell_lost(why)
            self._refuse_held(why)
        elif self._lost or self._held:  # a new one ends what may be left of the old one's, before it says ready
            why = self._begin()
            if why:
                self._tell_lost(GUARDIAN_DIED)
                self._refuse_held(why)

    def _refuse_held(self, why: str) -> None:
        held, self._held = self._held, []
        for message in held:
            if message[0] == "start":
                self._ended(message[1], Exit(self._waiting[message[1]].key, error=why))

    def _set_timer(self, seconds: float, why: str) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._reactor.callLater(seconds, self._too_late, why) if seconds else None

    def _too_late(self, why: str) -> None:
        """A guardian that hangs is killed with its keeper; the attempts follow at the next start of one."""
        guardian = self._guardian
        if guardian is None:
            return
        _log.error("the guardian of processes {why} and is killed", why=why)
        for pid in (guardian.pid, guardian.process.pid):
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
