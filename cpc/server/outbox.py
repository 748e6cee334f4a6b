"""What workers are to be told once it is committed: gathered per session, one message for all that happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cpc.core.clock import Timers
from cpc.core.lease import Lease
from cpc.store.transaction import Tx
from cpc.wire.messages import Orders, Settled, Task


@dataclass(slots=True)
class _Pending:
    tasks: list[Task] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    cancel: list[tuple[Lease, str]] = field(default_factory=list)
    hand_back: list[Lease] = field(default_factory=list)
    follow: list[Lease] = field(default_factory=list)
    retry: list[Lease] = field(default_factory=list)
    drain: str | None = None
    leave: bool = False


class Outbox:
    """`send(session, orders)` takes what was gathered; it runs on the reactor, after the commits that made it true."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._pending: dict[int, _Pending] = {}
        self._due = False
        self.send: Callable[[int, Orders], None] = lambda session, orders: None

    # --- in a unit of the writer ---

    def task(self, tx: Tx, session: int, task: Task) -> None:
        """Start this."""
        tx.after(lambda: self._for(session).tasks.append(task))

    def cancel(self, tx: Tx, session: int, lease: Lease, reason: str) -> None:
        """End this."""
        tx.after(lambda: self._for(session).cancel.append((lease, reason)))

    def hand_back(self, tx: Tx, session: int, lease: Lease) -> None:
        """Checkpoint this and hand it back."""
        tx.after(lambda: self._for(session).hand_back.append(lease))

    def drain(self, tx: Tx, session: int, reason: str) -> None:
        """Take nothing new; "" = take jobs again."""

        def effect() -> None:
            self._for(session).drain = reason

        tx.after(effect)

    # --- on the reactor ---

    def follow(self, session: int, lease: Lease) -> None:
        """Somebody watches this attempt's output."""
        self._for(session).follow.append(lease)

    def take(
        self, session: int, settled: tuple[Settled, ...] = (), retry: tuple[Lease, ...] = (), leave: bool = False
    ) -> Orders:
        """Everything for a session, with these answers to its turn: the reply."""
        pending = self._pending.pop(session, None) or _Pending()
        return Orders(
            tasks=tuple(pending.tasks),
            settled=(*settled, *pending.settled),
            cancel=tuple(pending.cancel),
            hand_back=tuple(pending.hand_back),
            follow=tuple(pending.follow),
            drain=pending.drain,
            leave=leave or pending.leave,
            retry=(*retry, *pending.retry),
        )

    def forget(self, session: int) -> None:
        """The session is over: its leases expire or are renewed by the next one."""
        self._pending.pop(session, None)

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
