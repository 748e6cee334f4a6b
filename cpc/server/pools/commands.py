"""Commands of batch systems, run as processes of this server: bounded in time, in output and in number, without a shell."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from cpc.api import NotConnected, NotFound, Ran, TooLarge, Unavailable
from cpc.core.alarm import Alarm
from cpc.core.clock import Clock, Timer, Timers
from cpc.server.process import kill_group

#: What commands see of the server's own environment: what their libraries and logins need, and nothing of its secrets.
PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "LD_LIBRARY_PATH", "SLURM_CONF", "FLUX_URI", "KRB5CCNAME",
    "SSH_AUTH_SOCK",
)  # fmt: skip
MAX_OUTPUT = 64 << 20
#: Seconds in which output may still come from what an ended command has left behind. What it has printed itself is read,
#: however long that takes.
_LINGER = 1.0
_MOST_TURNS = 256  # of the reactor, until what full pipes hold is read


class Reactor(Timers, Protocol):
    """The part of a reactor that is needed: timers, and starting processes (IReactorProcess)."""

    def spawnProcess(
        self, processProtocol: ProcessProtocol, executable: str, args: Sequence[str], **options: Any
    ) -> object: ...


class Commands:
    """Runs commands (`cpc.api.Run`). At most `together` run at once; the others wait their turn, and their time begins then."""

    def __init__(
        self, reactor: Reactor, environ: Mapping[str, str], clock: Clock, together: int = 8, max_output: int = MAX_OUTPUT
    ) -> None:  # fmt: skip
        """`environ`: the server's environment, of which commands get what is in `PASSED`."""
        self._reactor = reactor
        self._clock = clock
        self._env = {name: environ[name] for name in PASSED if name in environ} | {"LC_ALL": "C"}
        self._turns = DeferredSemaphore(together)
        self._max_output = max_output
        self._running: set[_Command] = set()
        # A session of its own, so that all it starts can be ended with it.
        self._setsid = shutil.which("setsid", path=self._env.get("PATH", os.defpath))

    async def __call__(
        self, argv: Sequence[str], stdin: str = "", timeout: float = 30.0, env: Mapping[str, str] | None = None
    ) -> Ran:
        """Run it to its end. NotFound, Unavailable, TooLarge as `cpc.api.Run` says."""
        environment = self._env | dict(env or {})
        program = shutil.which(argv[0], path=environment.get("PATH", os.defpath))
        if program is None:
            raise NotFound(
                f"the command {argv[0]} is not there", "install it, or put its directory into the server's PATH"
            )
        whole = [program, *argv[1:]] if self._setsid is None else [self._setsid, program, *argv[1:]]
        await self._turns.acquire()
        command = _Command(self._reactor, self._clock, argv[0], stdin.encode(), timeout, self._max_output)
        self._running.add(command)
        try:
            try:
                self._reactor.spawnProcess(command, whole[0], whole, env=environment, path="/")
            except OSError as error:
                raise NotConnected(
                    f"{argv[0]} cannot be started: {error.strerror}", "see what this machine lacks"
                ) from None
            return await command.done
        finally:
            self._running.discard(command)
            self._turns.release()

    def close(self) -> None:
        """The server stops: end all that runs."""
        for command in list(self._running):
            command.end(Unavailable(f"{command.name} was ended: the server stops"))


class _Command(ProcessProtocol):
    """One process from its start to its end."""

    def __init__(
        self, timers: Timers, clock: Clock, name: str, stdin: bytes, timeout: float, max_output: int
    ) -> None:  # fmt: skip
        self.name = name
        self.done: Deferred[Ran] = Deferred()
        self._timers = timers
        self._clock = clock
        self._stdin = stdin
        self._timeout = timeout
        self._left = max_output
        self._seen = -1  # what was left of it when it was last looked whether more comes
        self._turns = _MOST_TURNS
        self._parts: dict[int, list[bytes]] = {1: [], 2: []}
        self._code = -1
        self._error: Unavailable | TooLarge | None = None
        self._timer: Timer | None = None
        self._process: Any = None  # an IProcessTransport, once it runs

    def connectionMade(self) -> None:
        """It has been started."""
        self._process = self.transport
        self._timer = Alarm(self._timers, self._clock, self._timeout, self._late)
        if self._stdin:
            self._process.write(self._stdin)
        self._process.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It has printed something."""
        self._left -= len(data)
        if self._left < 0:
            self._parts[childFD].clear()
            return self.end(TooLarge(f"{self.name} printed more than can be read", "ask for less at once"))
        self._parts[childFD].append(data)
        return None

    def processExited(self, reason: Failure) -> None:
        """It is gone; what it has left behind may keep its output open."""
        value = reason.value
        if isinstance(value, ProcessTerminated):
            self._code = 128 + value.signal if value.signal else value.exitCode or 0
        else:
            self._code = 0
        self._set(_LINGER, self._no_more)

    def processEnded(self, reason: Failure) -> None:
        """It is gone, and all of its pipes are closed."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self.done.called:
            return
        if self._error is not None:
            self.done.errback(self._error)
            return
        out, err = (b"".join(part).decode("utf-8", "replace") for part in self._parts.values())
        self.done.callback(Ran(self._code, out, err))

    def _no_more(self) -> None:
        """The pipes are closed after a turn of the reactor that has found nothing in them: it may have been stopped meanwhile."""
        if self._seen == self._left or self._error is not None or not self._turns:
            self._process.loseConnection()
        else:
            self._seen = self._left
            self._turns -= 1
            self._set(0, self._no_more)

    def end(self, why: Unavailable | TooLarge) -> None:
        """Kill it with all it has started; `why` is what the caller gets."""
        self._error = self._error or why
        pid = None if self._process is None else self._process.pid
        if pid is not None:
            kill_group(pid)

    def _late(self) -> None:
        said = b"".join(self._parts[2])[-200:].decode("utf-8", "replace").strip()
        last = f"; its last words: {said}" if said else ""
        self.end(
            Unavailable(
                f"{self.name} did not end within {self._timeout:g} s{last}", "see whether the batch system is well"
            )
        )

    def _set(self, delay: float, call: Any) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._timers.callLater(delay, call)
