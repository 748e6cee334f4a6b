"""Two machines with one open connection: the production wire on virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import ensureDeferred

from cpc.core.lease import Lease
from cpc.wire.connection import Connection
from cpc.wire.messages import Message, Turn
from tests.helpers.wires import Wires

LEASE = Lease(1, 1, 1)


class Two:
    """An open connection: `here` has connected, `there` was connected to and serves."""

    def __init__(self, **served: tuple[type, Callable[[Connection, Any], Awaitable[Message | None]]]) -> None:
        self.wires = Wires()
        self.reactor = self.wires.reactor

        def serve(there: Connection) -> None:
            for name, (question, handler) in served.items():
                method = name.replace("_", "-")
                there.serve(method, question, handler, bulk=method in ("chunk-get", "chunk-put"))

        self.wires.on_connection = serve
        self.wires.listen(idle=1e9)
        self.here = self.wires.connect()
        self.there = self.wires.taken[0]

    def call(self, method: str, body: Message, answer: type[Any] = Message, timeout: float = 60.0) -> Any:
        return self.reactor.finish(self.here.call(method, body, answer, timeout))

    def calling(self, method: str, body: Message, answer: type[Any] = Message, **options: Any) -> list[Any]:
        """Call, and note in a list what becomes of it."""
        done: list[Any] = []
        ensureDeferred(self.here.call(method, body, answer, **options)).addCallbacks(
            done.append, lambda failure: done.append(failure.value)
        )
        return done


async def same(_: Connection, turn: Turn) -> Message:
    return Turn(number=turn.number)


async def nothing(_: Connection, asked: Any) -> None:
    return None
