"""What workers are to be told once it is committed: gathered per session, one message for all that happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cpc.core.clock import Timers
from cpc.core.lease import Lease
from cpc.store.transaction import Tx
from cpc.wire.messages import Orders, Settled, Task

#: Bytes of tasks in one message; a frame takes eight times as many, so that one large task fits too.
PORTION = 1 << 20


@dataclass(slots=True)
class _Pending:
    tasks: list[Task] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    cancel: list[tuple[Lease, str]] = field(default_factory=list)
    wanted: list[Lease] = field(default_factory=list)
    hand_back: list[Lease] = field(default_factory=list)
    follow: list[Lease] = field(default_factory=list)
    retry: list[Lease] = field(default_factory=list)
    drain: str | None = None
    leave: bool = False


def _portion(tasks: list[Task]) -> tuple[list[Task], list[Task]]:
    """Tasks for one message, at least one, and those that must wait for the next: frames have a limit."""
    size = 0
    for place, task in enumerate(tasks):
        size += _size(task)
        if place and size > PORTION:
            return tasks[:place], tasks[place:]
    return tasks, []


def _size(task: Task) -> int:
    """About how many bytes a task is on the wire."""
    size = 300 + 4 * (sum(map(len, task.argv)) + sum(map(len, task.env)) + sum(map(len, task.env.values())))
    for path, content, _ in task.inputs:
        size += 100 + len(path) + 34 * len(content.chunks)
    for entry in task.checkpoint.entries if task.checkpoint else ():
        size += 120 + len(entry.path) + 34 * (len(entry.content.chunks) if entry.content else 0)
    return size


class Outbox:
    """`send(session, orders)` takes what was gathered; it runs on the reactor, after the commits that made it true."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._pending: dict[int, _Pending] = {}
        self._due = False
        self.send: Callable[[int, Orders], None] = lambda session, orders: None
        self.ended: Callable[[int], None] = lambda session: None
        self.listens: Callable[[int], bool] = lambda session: False  # nothing else is about to be said to it

    # --- in a unit of the writer ---

    def tasks(self, tx: Tx, session: int, tasks: list[Task]) -> None:
        """Start these."""
        tx.after(lambda: self._for(session).tasks.extend(tasks))

    def cancel(self, tx: Tx, session: int, lease: Lease, reason: str) -> None:
        """End this."""
        tx.after(lambda: self._for(session).cancel.append((lease, reason)))

    def give_up(self, tx: Tx, session: int, lease: Lease, reason: str) -> None:
        """End this, because its attempt is over; the job is not: if the program has done its work, hand it in."""

        def effect() -> None:
            pending = self._for(session)
            pending.cancel.append((lease, reason))
            pending.wanted.append(lease)

        tx.after(effect)

    def hand_back(self, tx: Tx, session: int, lease: Lease) -> None:
        """Checkpoint this and hand it back."""
        tx.after(lambda: self._for(session).hand_back.append(lease))

    def drain(self, tx: Tx, session: int, reason: str) -> None:
        """Take nothing new; "" = take jobs again."""

        def effect() -> None:
            self._for(session).drain = reason

        tx.after(effect)

    # --- on the reactor ---

    def pass_on(self, session: int, orders: Orders) -> None:
        """What the owner of its jobs has for a worker that is lent."""
        pending = self._for(session)
        pending.settled += orders.settled
        pending.cancel += orders.cancel
        pending.wanted += orders.wanted
        pending.hand_back += orders.hand_back
        pending.follow += orders.follow
        pending.retry += orders.retry

    def take_tasks(self, session: int) -> tuple[Task, ...]:
        """Its tasks that fit a message; everything else stays for later."""
        pending = self._pending.get(session)
        if pending is None:
            return ()
        now, pending.tasks = _portion(pending.tasks)
        return tuple(now)

    def hurry(self) -> None:
        """A commit has taken place: a worker that listens hears now what follows for it, before anybody else is answered.

        One that waits for the answer to its turn hears it with that.
        """
        for session in [session for session in self._pending if self.listens(session)]:
            self.send(session, self.take(session))

    def follow(self, session: int, lease: Lease) -> None:
        """Somebody watches this attempt's output."""
        self._for(session).follow.append(lease)

    def take(
        self, session: int, settled: tuple[Settled, ...] = (), retry: tuple[Lease, ...] = (), leave: bool = False
    ) -> Orders:
        """Everything for a session that fits a message, with these answers to its turn: the reply."""
        pending = self._pending.pop(session, None) or _Pending()
        now, later = _portion(pending.tasks)
        if later:
            self._for(session).tasks += later
        return Orders(
            tasks=tuple(now),
            settled=(*settled, *pending.settled),
            cancel=tuple(pending.cancel),
            wanted=tuple(pending.wanted),
            hand_back=tuple(pending.hand_back),
            follow=tuple(pending.follow),
            drain=pending.drain,
            leave=leave or pending.leave,
            retry=(*retry, *pending.retry),
        )

    def forget(self, session: int) -> None:
        """The session is over: its leases expire or are renewed by the next one."""
        self._pending.pop(session, None)
        self.ended(session)

    def _for(self, session: int) -> _Pending:
        if not self._due:
            # One message per session for all that this reactor turn brings.
            self._due = True
            self._timers.callLater(0, self._flush)
        return self._pending.setdefault(session, _Pending())

    def _flush(self) -> None:
        self._due = False
        for session in list(self._pending):
            self.send(session, self.take(session))
