"""The line of a guardian in virtual time: who begins when another ends, and ends that are told together while there is one."""

from __future__ import annotations

from collections.abc import Callable

from cpc.worker.limits import Limits
from cpc.worker.processes import Exit, Launch
from tests.simulation.clock import HostReactor

Told = Callable[[Exit], None]


class Line:
    """`running` says how many run now, `begin` lets one begin."""

    def __init__(self, reactor: HostReactor, running: Callable[[], int], begin: Callable[[Launch, Told], None]) -> None:
        self._reactor = reactor
        self._running = running
        self._begin = begin
        self._waiting: dict[str, tuple[Launch, Told]] = {}
        self._news: list[tuple[Told, Exit]] = []

    def put(self, launch: Launch, on_exit: Told) -> None:
        """It begins when fewer than `launch.beside` run."""
        self._waiting[launch.key] = (launch, on_exit)
        self._next()

    def withdraw(self, key: str) -> bool:
        """Whether it was in line; it has ended unbegun then."""
        found = self._waiting.pop(key, None)
        if found is not None:
            self.tell(found[1], Exit(key, began=False))
        return found is not None

    def tell(self, on_exit: Told, exit: Exit) -> None:
        """One has ended: the next one begins before anybody hears of it."""
        first = not self._news
        self._news.append((on_exit, exit))
        self._next()
        if not self._waiting or exit.code != 0:
            self._tell()
        elif first:
            self._reactor.callLater(Limits().gather, self._tell)

    def clear(self) -> None:
        """All is over."""
        self._waiting.clear()
        self._news.clear()

    def _next(self) -> None:
        while self._waiting:
            key, (launch, on_exit) = next(iter(self._waiting.items()))
            if self._running() >= launch.beside:
                return
            del self._waiting[key]
            self._begin(launch, on_exit)

    def _tell(self) -> None:
        news, self._news = self._news, []
        for on_exit, exit in news:
            on_exit(exit)
