"""One controller process, as the server sees it: calls go in, replies come out, and its end is told once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from cpc.core.errors import BadInput
from cpc.dataflow import turn
from cpc.dataflow.turn import Reply, Request
from cpc.server.process import kill_group

_REQUESTS, _REPLIES = 3, 4
_TAIL = 4096
_WORDS: dict[int, str] = {
    signal.SIGKILL: "was killed (SIGKILL): by somebody, or because the machine has run out of memory",
    signal.SIGSEGV: "crashed (SIGSEGV)",
    signal.SIGABRT: "aborted (SIGABRT)",
    signal.SIGBUS: "crashed (SIGBUS)",
    signal.SIGFPE: "crashed (SIGFPE)",
    signal.SIGILL: "crashed (SIGILL)",
}


class Spawner(Protocol):
    """The part of a reactor that starts processes (IReactorProcess)."""

    def spawnProcess(
        self, protocol: ProcessProtocol, executable: str, args: Sequence[str], **options: Any
    ) -> object: ...


class Transport(Protocol):
    """The part of a process's transport that is needed (IProcessTransport)."""

    pid: int | None

    def writeToChild(self, childFD: int, data: bytes) -> object: ...
    def closeChildFD(self, descriptor: int) -> object: ...


class Owner(Protocol):
    """Who is told of what a process does."""

    def replied(self, process: Process, reply: Reply) -> None:
        """It has said something."""

    def ended(self, process: Process, why: str) -> None:
        """It is gone. `why`: in words, after "the process"."""


class Process(ProcessProtocol):
    """A process from its start to its end."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._unpacker = turn.Unpacker[Reply](list[Reply])
        self._transport: Transport | None = None
        self._why = ""
        self.heard = 0  # bytes of replies
        self._said = b""

    def start(self, reactor: Spawner, prefix: Sequence[str], paths: Sequence[str], env: Mapping[str, str]) -> None:
        """Start it, with `prefix` before its command line. That it cannot be started is told as its end."""
        argv = [*prefix, sys.executable, "-P", "-m", "cpc.controller", *paths]
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            reactor.spawnProcess(
                self, argv[0] if "/" in argv[0] else _which(argv[0], env), argv, env=dict(env), path="/",
                childFDs={0: nothing, 1: "r", 2: "r", _REQUESTS: "w", _REPLIES: "r"},
            )  # fmt: skip
        finally:
            os.close(nothing)

    def send(self, requests: list[Request]) -> None:
        """Give it calls. BadInput when they are too long."""
        assert self._transport is not None
        self._transport.writeToChild(_REQUESTS, turn.pack(requests))

    def kill(self, why: str) -> None:
        """End it and all that it has started, at once. `why` is what its owner is told; what it still says is not."""
        self._why = self._why or why
        pid = None if self._transport is None else self._transport.pid
        if pid is not None:
            kill_group(pid)

    def close(self) -> None:
        """Let it end when it has done what it was given."""
        if self._transport is not None:
            self._transport.closeChildFD(_REQUESTS)

    @property
    def pid(self) -> int | None:
        """Its process id, as long as it is there."""
        return None if self._transport is None else self._transport.pid

    # --- called by Twisted ---

    def connectionMade(self) -> None:
        """It has been started."""
        self._transport = self.transport

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Replies; or, on its stdout and stderr, what is left of it when it cannot even begin."""
        if childFD != _REPLIES:
            self._said = (self._said + data)[-_TAIL:]
            return
        self.heard += len(data)
        try:
            for reply in self._unpacker.feed(data):
                if self._why:  # it is blamed for the call that it was at when that was decided, and for no other
                    return
                self._owner.replied(self, reply)
        except BadInput as error:
            self.kill(f"was stopped: it wrote something on the server's pipe that is no answer ({error.message})")

    def processEnded(self, reason: Failure) -> None:
        """It is gone, and all of its pipes are closed."""
        said = self._said.decode("utf-8", "replace").strip()
        why = self._why or _words(reason)
        self._owner.ended(self, f"{why}\n{said}" if said else why)


def _which(program: str, env: Mapping[str, str]) -> str:
    for directory in env.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(directory, program)
        if os.access(path, os.X_OK):
            return path
    raise BadInput(f"there is no program {program}", "see the setting controller_wrap")


def _words(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, ProcessDone):
        return "ended by itself"
    code = error.exitCode if isinstance(error, ProcessTerminated) else None
    number = error.signal if isinstance(error, ProcessTerminated) else None
    if number is None and code is not None and code - 128 in _WORDS:  # as a wrapper tells of a signal
        number = code - 128
    if number is not None:
        return _WORDS.get(number, f"was ended by signal {number}")
    return f"ended with exit code {code}"
