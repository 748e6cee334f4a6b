"""The guardian: a small process that starts, measures, limits and ends the attempts of one worker.

Three processes stand over an attempt. The *agent* (the worker) talks to the *guardian* through a socket pair. The
guardian's parent, the *keeper*, does nothing but wait. Guardian and keeper are child subreapers: whoever loses its
parent below them, by a double fork or otherwise, becomes their child and cannot get away.

* The agent dies, however: the guardian reads the end of the pipe, ends every descendant, ends itself.
* The guardian dies: all its descendants are the keeper's now, which ends them, then itself; the agent sees both go.
* The keeper dies: the guardian is told by a parent-death signal, and ends every descendant and itself.
* Guardian and keeper die at once: the next guardian, or the next worker, of the same work directory finds their attempts
  by a mark in the environment (CPC_GUARDIAN), and ends them.

Nothing here polls for ends of processes: the loop sleeps until a signal, a message or a deadline. Only what no control
group limits is looked at in intervals. Few and light imports: it starts in about 40 ms.

What the agent has put in line begins when another attempt ends, without asking. While there is a line no slot waits for the
agent, so that ends are told some at a time: each message costs both sides more than what it says. Bad ends are told at once,
because the agent takes no more jobs when there are too many.
"""

from __future__ import annotations

import ctypes
import gc
import heapq
import os
import resource
import select
import signal
import time

from cpc.worker import cgroups, pipe, tree
from cpc.worker.attempt import Attempt
from cpc.worker.birth import NotStarted, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
LAUNCHES_A_TURN = 16  # then ends are looked after
PATIENCE = 20.0  # seconds for killed leftovers to go, before an attempt's end is told without waiting for them
_LIBC = ctypes.CDLL(None, use_errno=True)


class Guardian:
    """The loop and everything it knows.

    `channel`: a non-blocking descriptor to the agent. `now`: seconds that run while the machine is awake; `since_boot`:
    seconds since the machine's start.
    """

    def __init__(self, channel: int, keeper: int, now: Callable[[], float], since_boot: Callable[[], float]) -> None:
        self._channel = channel
        self._keeper = keeper
        self._now = now
        self._since_boot = since_boot
        self._unpacker = pipe.Unpacker()
        self._inbox: list[tuple[Any, ...]] = []
        self._news: list[tuple[Any, ...]] = []
        self._unsent = bytearray()
        self._attempts: dict[int, Attempt] = {}  # by number: running, or ended with leftovers
        self._mains: dict[int, Attempt] = {}  # by process id: the main process still runs
        self._line: dict[int, tuple[Any, ...]] = {}  # messages of those that begin when others have ended, by number
        self._strays: dict[int, frozenset[int]] = {}  # children that lost their parents: whose they may be
        self._timers: list[tuple[float, int, str]] = []  # (when, attempt, what)
        self._groups: cgroups.Groups | None = None
        self._full: list[cgroups.Group] = []  # to be removed when their last process is gone
        self._interval = 0.5
        self._grace = 15.0
        self._gather = 0.0
        self._look_at = 0.0
        self._tell_at = 0.0
        self._token = ""
        self._environment: dict[str, str] = {}
        self._closing = False

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self, wake: int) -> None:
        """Until the agent is gone or says close. `wake` becomes readable when a signal came."""
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        channel = self._channel
        poll.register(channel, select.POLLIN)
        while os.getppid() == self._keeper and not (self._closing and not self._attempts and not self._unsent):
            poll.modify(channel, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            for fd, events in poll.poll(self._timeout()):
                if fd == wake:
                    os.read(wake, 4096)
                elif events & (select.POLLIN | select.POLLHUP | select.POLLERR) and not self._receive():
                    return  # the agent is gone
            for message in self._inbox[:LAUNCHES_A_TURN]:
                self._obey(message)
            del self._inbox[:LAUNCHES_A_TURN]
            self._reap()
            self._on_time()
            self._next()
            self._send()

    def _timeout(self) -> float | None:
        """Milliseconds to the next deadline; None without one."""
        if self._inbox:
            return 0
        times = [self._timers[0][0]] if self._timers else []
        times += [when for when in (self._look_at, self._tell_at) if when]
        if not times:
            return None
        return max(0.0, (min(times) - self._now()) * 1000 + 1)

    def _receive(self) -> bool:
        if len(self._inbox) > 256:
            return True  # enough to do: the pipe may fill
        try:
            data = os.read(self._channel, 1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._inbox.extend(self._unpacker.feed(data))
        return bool(data)

    def _send(self) -> None:
        if self._news and not self._gathers():
            self._unsent += pipe.pack(self._news)
            self._news.clear()
            self._tell_at = 0.0
        try:
            while self._unsent:
                del self._unsent[: os.write(self._channel, self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()  # the agent is gone: the next read says so

    def _gathers(self) -> bool:
        """Whether what is to be told can wait for more: good ends, but not for long, nor until the line is at its end."""
        if len(self._line) <= len(self._news) or any(what[0] != "exit" or what[2] != 0 for what in self._news):
            return False
        now = self._now()
        self._tell_at = self._tell_at or now + self._gather
        return now < self._tell_at

    # --- what the agent asks for --------------------------------------------------------------------------------------

    def _obey(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("start", number, beside, *what):
                if beside and not self._closing:
                    self._line[number] = message
                else:
                    self._start(number, *what)
            case ("stop", number, grace):
                if not self._withdraw(number):
                    self._stop(number, grace)
            case ("withdraw", number):
                self._withdraw(number)
            case ("close",):
                self._closing = True
                for number in list(self._line):
                    self._withdraw(number)
                for attempt in list(self._mains.values()):
                    self._kill(attempt)
            case ("begin", directory, way, interval, grace, gather, env):
                self._interval, self._grace, self._gather, self._environment = interval, grace, gather, env
                self._begin(directory, way)

    def _begin(self, directory: str, way: str) -> None:
        self._token = tree.token(directory)
        why = "control groups are switched off"
        if way != "watch":
            self._groups, why = cgroups.open_groups(self._token)
        self._end_former(directory)
        words = why if self._groups else f"watching every {self._interval:g} s and RLIMIT_AS ({why})"
        self._news.append(("ready", os.getpid(), words))

    def _end_former(self, directory: str) -> None:
        """End what a former guardian of the same directory has left, if it and its keeper were killed at once."""
        until = self._now() + 5
        while self._now() < until and (left := tree.leftovers(directory)):
            tree.end(left)
            select.select([], [], [], 0.01)

    def _next(self) -> None:
        """The first of the line begins, if enough have ended; and so on."""
        while self._line:
            number, (_, _, beside, *what) = next(iter(self._line.items()))
            if len(self._attempts) >= beside:
                return
            del self._line[number]
            self._start(number, *what)

    def _withdraw(self, number: int) -> bool:
        """Take it out of the line; whether it was there."""
        if self._line.pop(number, None) is None:
            return False
        self._news.append(("unbegun", number))
        return True

    def _start(
        self, number: int, argv: list[str], env: dict[str, str], cwd: str, stdin: str, stdout: str, stderr: str,
        memory: int, walltime: float,
    ) -> None:  # fmt: skip
        if self._closing:
            self._news.append(("exit", number, None, 0.0, 0.0, 0, "", "the worker is leaving"))
            return
        attempt = Attempt(number, memory, walltime, self._since_boot())
        env = {**self._environment, **env, "CPC_GUARDIAN": f"{self._token}/{number}"}
        try:
            if memory and self._groups is not None:
                attempt.group = self._group(memory)
            attempt.began = self._now()
            attempt.pid = start(argv, env, cwd, (stdin, stdout, stderr), memory, attempt.group)
        except NotStarted as why:
            if attempt.group is not None and not attempt.group.remove():
                self._full.append(attempt.group)
            self._news.append(("exit", number, None, 0.0, 0.0, 0, "", str(why)))
            return
        self._attempts[number] = self._mains[attempt.pid] = attempt
        if walltime:
            heapq.heappush(self._timers, (attempt.began + walltime, number, "walltime"))
        if memory and not self._look_at:
            self._look_at = self._now() + self._interval

    def _group(self, memory: int) -> cgroups.Group:
        assert self._groups is not None
        try:
            return self._groups.group(memory)
        except OSError as error:
            raise NotStarted(f"its memory control group could not be made: {error.strerror or error}") from None

    def _stop(self, number: int, grace: float) -> None:
        attempt = self._attempts.get(number)
        if attempt is None or attempt.status is not None:
            return  # has ended; its leftovers are being ended
        if grace <= 0:
            self._kill(attempt)
            return
        attempt.ask_to_end()
        heapq.heappush(self._timers, (self._now() + grace, number, "kill"))

    def _kill(self, attempt: Attempt) -> None:
        """SIGKILL the main process with all below it, and every stray that is surely of this attempt."""
        self._find_strays()
        roots = [pid for pid, owners in self._strays.items() if owners == {attempt.number}]
        if attempt.status is None:
            roots.append(attempt.pid)
        if attempt.group is not None:
            roots.extend(attempt.group.pids())
        tree.end(roots)

    # --- what time brings -----------------------------------------------------------------------------------------------

    def _on_time(self) -> None:
        now = self._now()
        while self._timers and self._timers[0][0] <= now:
            _, number, what = heapq.heappop(self._timers)
            attempt = self._attempts.get(number)
            if attempt is None:
                continue
            if what == "give up":
                self._tell(attempt)
            elif attempt.status is None and what == "walltime":
                attempt.exceeded = "walltime"
                self._stop(number, self._grace)
            elif attempt.status is None:
                self._kill(attempt)
        if self._look_at and self._look_at <= now:
            self._look(now)

    def _look(self, now: float) -> None:
        """Hold every attempt with a memory limit to it."""
        limited = [attempt for attempt in self._mains.values() if attempt.memory]
        for attempt in limited:
            roots = [attempt.pid, *(pid for pid, owners in self._strays.items() if owners == {attempt.number})]
            if attempt.over_memory(roots) and not attempt.exceeded:
                attempt.exceeded = "memory"
                self._kill(attempt)
        self._full = [group for group in self._full if not group.remove()]
        self._look_at = now + self._interval if limited or self._full else 0.0

    # --- ends -----------------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Collect the dead. When a main process is among them, or leftovers wait to go, see what is left of whom."""
        some = False
        ended: list[Attempt] = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            some = True
            attempt = self._mains.pop(pid, None)
            if attempt is not None:
                attempt.ended(status, usage, self._now())
                ended.append(attempt)
                continue
            owners = self._strays.pop(pid, frozenset())
            if len(owners) == 1 and (owner := self._attempts.get(next(iter(owners)))) is not None:
                owner.count(usage)
        if some and len(self._attempts) > len(self._mains):
            self._settle()
        for attempt in ended:
            if attempt.number in self._attempts:  # something of it is left
                heapq.heappush(self._timers, (self._now() + PATIENCE, attempt.number, "give up"))

    def _settle(self) -> None:
        """End the leftovers of attempts whose main process has ended; tell the end of those that have none left."""
        self._find_strays()
        running = {attempt.number for attempt in self._mains.values()}
        doomed = [pid for pid, owners in self._strays.items() if not owners & running]
        ended = [attempt for attempt in self._attempts.values() if attempt.status is not None]
        for attempt in ended:
            if attempt.group is not None:
                doomed.extend(attempt.group.pids())
        if doomed:
            tree.end(doomed)
        kept = frozenset().union(*(self._strays[pid] for pid in doomed if pid in self._strays))
        for attempt in ended:
            if attempt.number not in kept and (attempt.group is None or not attempt.group.pids()):
                self._tell(attempt)

    def _find_strays(self) -> None:
        """Children that this process has without having started them, and whose they can be."""
        present = [pid for pid in tree.own_children() if pid not in self._mains]
        known = self._strays
        self._strays = {}
        for pid in present:
            owners = known.get(pid) or self._owners(pid)
            if owners is not None:
                self._strays[pid] = owners

    def _owners(self, pid: int) -> frozenset[int] | None:
        """Numbers of the attempts that `pid` may belong to: one when its session or mark tells. None for a zombie."""
        found = tree.stat(pid)
        if found is None or found.state in "ZX":
            return None
        token, _, number = tree.variable(pid, b"CPC_GUARDIAN").partition("/")
        if token == self._token and number.isdigit():
            return frozenset((int(number),))
        for one in self._attempts.values():
            if found.session == one.pid:
                return frozenset((one.number,))
        born = found.started / tree.TICKS  # it has hidden where it comes from: of none that is younger than itself
        return frozenset(one.number for one in self._attempts.values() if one.born <= born + 0.02)

    def _tell(self, attempt: Attempt) -> None:
        self._attempts.pop(attempt.number, None)
        self._news.append(attempt.report())
        if attempt.group is not None and not attempt.group.remove():
            self._full.append(attempt.group)
            self._look_at = self._look_at or self._now() + self._interval

    def end_all(self) -> None:
        """End every descendant; returns when none is left."""
        end_children()
        for group in [*(one.group for one in self._attempts.values() if one.group), *self._full]:
            group.remove()
        if self._groups is not None:
            self._groups.remove()


def end_children() -> None:
    """SIGKILL everything below this process until nothing is left. For a subreaper: nothing can get away."""
    while True:
        tree.end(tree.children(os.getpid()))
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        select.select([], [], [], 0.005)


def _prctl(option: int, value: int) -> None:
    _LIBC.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def _name(text: bytes) -> None:
    _LIBC.prctl(PR_SET_NAME, ctypes.c_char_p(text))


def _prepare_signals() -> int:
    """A descriptor that is readable after a signal. Handlers do nothing: the agent decides when this process ends.

    They are handlers, not SIG_IGN, because a started program would inherit that. What the agent ignores is reset.
    """
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in signal.valid_signals():
        if number in (signal.SIGKILL, signal.SIGSTOP):
            continue
        if number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
            signal.signal(number, lambda number, frame: None)
        elif signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    return reader


def _keep(guardian: int) -> None:
    """The keeper: wait for the guardian, then end all that it left."""
    _name(b"cpc-keeper")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    while os.waitpid(-1, 0)[0] != guardian:
        pass
    end_children()


def main(channel: int, life: int) -> None:
    """`channel`: the guardian's end of the socket pair. `life`: held open by the keeper alone, as long as it lives."""
    os.set_inheritable(channel, False)
    os.set_inheritable(life, False)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    keeper = os.getpid()
    child = os.fork()
    if child:
        os.close(channel)
        _keep(child)
        return
    os.close(life)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    _name(b"cpc-guardian")
    wake = _prepare_signals()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    gc.freeze()
    os.set_blocking(channel, False)
    read = time.clock_gettime
    guardian = Guardian(channel, keeper, lambda: read(time.CLOCK_MONOTONIC), lambda: read(time.CLOCK_BOOTTIME))
    try:
        guardian.run(wake)
    finally:
        guardian.end_all()
