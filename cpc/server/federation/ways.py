"""How the rest of the federation talks to other servers: what `links` offers, and tests replace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from cpc.core.peer import Agreement, Bound
from cpc.core.pieces import Data
from cpc.wire.frames import Body
from cpc.wire.messages import Message

T = TypeVar("T")
Q = TypeVar("Q")


@dataclass(frozen=True, slots=True)
class Caller:
    """From whom a message is: the neighbour that has handed it on, and the whole route from its sender to here.

    The neighbour is known by its certificate; that the sender is `route[0]`, the neighbour says.
    """

    peer: str
    route: tuple[str, ...]
    most: int = 0  # bytes that the answer may have; 0: not said
    bounds: tuple[Bound, ...] = ()  # what servers on the way let us have of the workers that it is about

    @property
    def sender(self) -> str:
        """Who has said it."""
        return self.route[0]

    @property
    def back(self) -> tuple[str, ...]:
        """The route of an answer: from here to the sender."""
        return self.route[::-1]


Handler = Callable[[Caller, Q], Awaitable[Message | None]]


class Passing(Protocol):
    """A question of others on its way through this server."""

    @property
    def caller(self) -> Caller:
        """Who asks: the neighbour it came from, and the route as far as here."""
        ...

    @property
    def route(self) -> tuple[str, ...]:
        """The whole route; its last server is the owner."""
        ...

    @property
    def body(self) -> Data:
        """The question, as it came."""
        ...

    def pass_on(self, body: Data | None = None) -> Awaitable[Data]:
        """Ask the next server (with another body, if one is given); the body of its answer. Its errors are raised."""
        ...


Hook = Callable[[Passing], Awaitable[Body]]


class Ways(Protocol):
    """Links to the peers. Everything runs on the reactor."""

    @property
    def here(self) -> str:
        """This server's id."""
        ...

    def up(self) -> tuple[str, ...]:
        """The trusted peers that are connected now, those first that are asked first."""
        ...

    def priority(self, peer: str) -> int:
        """The smaller, the sooner this peer is asked."""
        ...

    def agreement(self, peer: str) -> Agreement:
        """What the operator has set for this peer; everything off for one that is not trusted."""
        ...

    async def ask(
        self, peer: str, method: str, question: Message, answer: type[T], timeout: float, bulk: bool = False
    ) -> T:
        """A direct question. Unavailable when the peer is not connected or late."""
        ...

    def tell(self, peer: str, method: str, message: Message) -> None:
        """A direct one-way message; dropped when the peer is not connected."""
        ...

    def ask_far(
        self,
        route: tuple[str, ...],
        method: str,
        question: Message,
        answer: type[T],
        timeout: float,
        bulk: bool = False,
        most: int = 0,
    ) -> Coroutine[Any, Any, T]:
        """A question to the end of `route`, which begins here. Unavailable in words when a server on it is not there: at once if
        that is the next one. `most`: how many bytes its answer has, where that is known (see `cpc.wire.calls.answer_of`).

        Once the question has left, nothing of it is held here.
        """
        ...

    def tell_far(self, route: tuple[str, ...], method: str, message: Message) -> None:
        """A one-way message to the end of `route`; it may be lost."""
        ...

    def serve(self, method: str, question: type[Q], handler: Handler[Q], *, far: bool, bulk: bool = False) -> None:
        """Answer this method, on all connections with trusted peers."""
        ...

    def hook(self, method: str, hook: Hook) -> None:
        """Let `hook` answer the far questions of this method that only pass through here, instead of passing them on."""
        ...

    def on_change(self, callback: Callable[[str, bool], None]) -> None:
        """Call back with (peer, up) whenever a peer comes or goes; also when trust in it is revoked (not up)."""
        ...
