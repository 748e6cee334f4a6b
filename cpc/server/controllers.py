"""The pool of local controller processes: code of modules runs there, never in the server.

Calls are given out in their order, several at a time when many wait. Each has limits of time and memory. When a process
dies, the call that it was at fails, with words for the instance it belongs to; the others are given to another one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from cpc.core.clock import Timer, Timers
from cpc.core.errors import BadInput, Conflict, CopernicusError, Unavailable, from_code
from cpc.core.resources import show_span
from cpc.dataflow.answer import Answer, StepInput
from cpc.dataflow.code import Code, code
from cpc.dataflow.description import ModuleText
from cpc.dataflow.functions import Function
from cpc.dataflow.turn import MAX_FRAME, Began, Check, Checked, Describe, Described, Ran, Refused, Reply, Request, Run
from cpc.server import sandbox
from cpc.server.controller_process import Process, Spawner
from cpc.server.sandbox import Views

_log = Logger()
_MOST_AT_ONCE = 16
_MOST_STARTS = 3  # in a row, without one that gets as far as its first call
_PORTION = 1.0  # seconds of a limit that may pass at once
_MOST_TURNS = MAX_FRAME // 4096  # of the reactor, until the longest answer that was said in time is read


@dataclass(frozen=True, slots=True)
class Options:
    """How controllers run. `processes`: how many, 0 for min(2, cores). `time` (s) and `memory` (bytes): of one run, unless
    the function says otherwise. `idle`: after so many seconds without work a process ends. `wrap`: see `sandbox.prefix`.

    `paths`: where modules are found; `work`: where the directories of steps lie.
    """

    processes: int = 0
    time: float = 600.0
    memory: int = 2 << 30
    idle: float = 600.0
    wrap: str = sandbox.AUTO
    paths: tuple[Path, ...] = ()
    work: tuple[Path, ...] = ()


@dataclass(slots=True, eq=False)
class _Call:
    """One call, from its making to its answer."""

    number: int
    request: Request
    limit: float
    answer: Deferred[Any]


@dataclass(slots=True, eq=False)
class _Running:
    """A process with what it was given, oldest first."""

    process: Process
    calls: dict[int, _Call] = field(default_factory=dict)
    begun: _Call | None = None
    alarm: Timer | None = None
    left: float = 0.0  # seconds of the limit of what it has begun
    retired: bool = False
    alone: bool = False  # made for one call about code that may be newer than what others have loaded

    def quiet(self) -> None:
        """No alarm any more."""
        if self.alarm is not None and self.alarm.active():
            self.alarm.cancel()
        self.alarm = None


class Controllers:
    """Runs functions in processes of their own. `options` is asked whenever they matter, so that settings take effect."""

    def __init__(self, reactor: Any, options: Callable[[], Options]) -> None:
        """`reactor`: Twisted's, with processes and timers."""
        self._spawner: Spawner = reactor
        self._timers: Timers = reactor
        self._options = options
        self._queue: deque[_Call] = deque()
        self._running: dict[Process, _Running] = {}
        self._number = 0
        self._vain = 0  # processes in a row that died before they began anything
        self._described: dict[tuple[str, str, str], Described] = {}
        self._closing: list[Deferred[None]] | None = None

    # --- what is asked of it ---

    def run(self, step: StepInput, function: Function) -> Deferred[Answer]:
        """One run of a function. Whatever the code does, there is an answer, perhaps with an error; Unavailable when no
        process can be had. Cancelling it ends the run, too."""
        told = code(function)
        options = self._options()
        memory = told.controller.memory or options.memory
        limit = told.controller.time or options.time
        self._number += 1
        answer = self._ask(Run(self._number, told, step, memory), limit)
        self._pump()
        return answer

    def describe(self, name: str, python: str, directory: str = "") -> Deferred[ModuleText]:
        """What the Python module `python` offers as module `name`, as its files are now. `directory`: where it must come from.

        Errors tell what is wrong with it. When its files have changed, processes that have loaded older code end after what
        they are doing.
        """
        self._number += 1
        request = Describe(self._number, name, python, directory)
        known = self._described.get((name, python, directory))
        if known is not None and _unchanged(known.files):
            return succeed(known.module)
        self.renew()
        return self._ask_alone(request)

    def check(self, codes: Sequence[Code]) -> Deferred[tuple[tuple[str, str], ...]]:
        """Whether code can be run, tried without inputs: (function, what is wrong) for those that cannot."""
        self._number += 1
        return self._ask_alone(Check(self._number, tuple(codes)))

    def renew(self) -> None:
        """Code on disk has changed: what is given out from now on goes to processes that have not loaded it yet."""
        for running in tuple(self._running.values()):
            running.retired = True
            self._rest(running)

    async def close(self) -> None:
        """End all processes at once. What they were at fails with Unavailable."""
        ends: list[Deferred[None]] = [Deferred() for _ in self._running]
        self._closing = ends.copy()
        waiting, self._queue = list(self._queue), deque()
        for call in waiting:
            self._fail(call, Unavailable("the server is stopping"))
        for process in tuple(self._running):
            process.kill("was stopped with the server")
        await DeferredList(ends)

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that there are."""
        return tuple(process.pid for process in self._running if process.pid is not None)

    @property
    def under_way(self) -> int:
        """How many calls processes are at now."""
        return sum(one.begun is not None for one in self._running.values())

    # --- giving out ---

    def _ask(self, request: Request, limit: float) -> Deferred[Any]:
        call = _Call(request.number, request, limit, Deferred())
        call.answer = Deferred(lambda _: self._cancelled(call))
        if self._closing is not None:
            self._fail(call, Unavailable("the server is stopping"))
        else:
            self._queue.append(call)
        return call.answer

    def _ask_alone(self, request: Request) -> Deferred[Any]:
        answer = self._ask(request, self._options().time)
        if self._queue and self._queue[-1].answer is answer:
            call = self._queue.pop()
            running = self._start(alone=True)
            if running is None:
                self._fail(call, Unavailable("no controller process can be started", "see 'cpc-server doctor'"))
            else:
                self._give(running, [call])
        return answer

    def _pump(self) -> None:
        """Give out what waits, as far as there are processes."""
        most = self._options().processes or min(2, os.cpu_count() or 1)
        while self._queue and self._closing is None:
            shared = [one for one in self._running.values() if not one.alone and not one.retired]
            free = next((one for one in shared if not one.calls), None)
            if free is None and len(shared) < most:
                free = self._start()
            if free is None:
                return
            size = max(1, min(_MOST_AT_ONCE, len(self._queue) // (2 * most)))
            self._give(free, [self._queue.popleft() for _ in range(size)])

    def _start(self, alone: bool = False) -> _Running | None:
        options = self._options()
        views = Views(read=options.paths, write=options.work)
        process = Process(self)
        running = _Running(process, alone=alone)
        try:
            prefix = sandbox.prefix(options.wrap, views)
            process.start(self._spawner, prefix, [str(path) for path in options.paths], sandbox.environment(os.environ))
        except (OSError, BadInput) as error:
            _log.error("no controller process can be started: {error}", error=str(error))
            self._give_up(str(error))
            return None
        self._running[process] = running
        return running

    def _give(self, running: _Running, calls: list[_Call]) -> None:
        running.quiet()
        sent: list[Request] = []
        for call in calls:
            running.calls[call.number] = call
            sent.append(call.request)
        try:
            running.process.send(sent)
        except BadInput as error:
            for call in calls:
                del running.calls[call.number]
                self._answer(call, Answer(error=f"its inputs are too large: {error.message}"))

    # --- what processes do ---

    def replied(self, process: Process, reply: Reply) -> None:
        """A process has begun a call, or answered it."""
        running = self._running[process]
        call = running.calls.get(reply.number)
        if call is None or (running.begun is not call and not isinstance(reply, Began)):
            process.kill("was stopped: it answered something that it was not asked")
            return
        running.quiet()
        if isinstance(reply, Began):
            self._vain = 0
            running.begun = call
            running.left = call.limit
            self._watch(running)
            return
        running.begun = None
        del running.calls[reply.number]
        if isinstance(reply, Ran) and reply.memory > self._options().memory:
            running.retired = True
        if not running.calls:
            self._rest(running)
        self._answered(call, reply)
        self._pump()

    def ended(self, process: Process, why: str) -> None:
        """A process is gone: the call that it was at has failed, the others are given out again."""
        running = self._running.pop(process)
        running.quiet()
        guilty, running.begun = running.begun, None
        left = [call for call in running.calls.values() if call is not guilty]
        if self._closing is not None:
            for call in running.calls.values():
                self._fail(call, Unavailable("the server is stopping"))
            self._closing.pop().callback(None)
            return
        if guilty is not None:
            _log.warn("controller process {why}, at {what}", why=why.partition("\n")[0], what=_what(guilty.request))
            self._blame(guilty, f"the process that ran it {why}")
        if guilty is None and left:
            self._vain += 1
            _log.error("a controller process died before it began: it {why}", why=why)
        if running.alone:
            for call in left:
                self._fail(call, Unavailable(f"a controller process {why}", "see 'cpc-server doctor'"))
        else:
            self._queue.extendleft(reversed(left))
        if self._vain >= _MOST_STARTS:
            self._give_up(why)
        self._pump()

    def _give_up(self, why: str) -> None:
        """Nothing can be run here now."""
        self._vain = 0
        waiting, self._queue = list(self._queue), deque()
        for call in waiting:
            self._fail(call, Unavailable(f"no controller process can be started: {why}", "see 'cpc-server doctor'"))

    def _watch(self, running: _Running) -> None:
        """Its time runs, portion by portion: if the machine was asleep, its clock set, or this process stopped meanwhile, that
        counts as one, and nobody is blamed for it."""
        if not running.left:
            self._expired(running, -1, _MOST_TURNS)
            return
        portion = min(running.left, _PORTION)
        running.left -= portion
        running.alarm = self._timers.callLater(portion, self._watch, running)

    def _expired(self, running: _Running, heard: int, turns: int) -> None:
        """Its time is over, unless its answer is there and only was not read yet. Who says it byte by byte gains little."""
        if running.process.heard != heard and turns:
            running.alarm = self._timers.callLater(0, self._expired, running, running.process.heard, turns - 1)
            return
        assert running.begun is not None
        limit = show_span(running.begun.limit)
        running.process.kill(
            f"was stopped: it took longer than its limit of {limit} (the function's, or controller_time)"
        )

    def _rest(self, running: _Running) -> None:
        """It has nothing to do now: it ends, at once or when that lasts."""
        if running.calls:
            return
        if running.alone or running.retired:
            running.retired = True
            running.process.close()
        else:
            running.alarm = self._timers.callLater(self._options().idle, self._idle, running)

    def _idle(self, running: _Running) -> None:
        running.retired = True
        running.process.close()

    # --- answers ---

    def _cancelled(self, call: _Call) -> None:
        if call in self._queue:
            self._queue.remove(call)
        for running in self._running.values():
            if running.begun is call:
                running.process.kill("was stopped: nobody wants its answer any more")

    def _answered(self, call: _Call, reply: Reply) -> None:
        match reply:
            case Ran():
                self._answer(call, reply.answer)
            case Described():
                if isinstance(call.request, Describe):
                    self._described[call.request.name, call.request.python, call.request.directory] = reply
                self._answer(call, reply.module)
            case Checked():
                self._answer(call, reply.problems)
            case Refused() if isinstance(call.request, Run):
                self._answer(call, Answer(error=reply.message))
            case Refused():
                self._fail(call, from_code(reply.code, reply.message, reply.hint))

    def _blame(self, call: _Call, why: str) -> None:
        """The code of this call has ended its process."""
        if isinstance(call.request, Run):
            self._answer(call, Answer(error=why))
        else:
            self._fail(call, Conflict(f"{_what(call.request)}: {why}"))

    @staticmethod
    def _answer(call: _Call, value: object) -> None:
        if not call.answer.called:
            call.answer.callback(value)

    @staticmethod
    def _fail(call: _Call, error: CopernicusError) -> None:
        if not call.answer.called:
            call.answer.errback(Failure(error))


def _what(request: Request) -> str:
    match request:
        case Run():
            return f"{request.step.project} {request.step.instance} ({request.code.function})"
        case Describe():
            return f"module {request.name}"
        case Check():
            return ", ".join(one.function for one in request.code)


def _unchanged(files: Sequence[tuple[str, int, int]]) -> bool:
    try:
        facts = [os.stat(path) for path, _, _ in files]
    except OSError:
        return False
    return [(one.st_mtime_ns, one.st_size) for one in facts] == [(changed, size) for _, changed, size in files]
