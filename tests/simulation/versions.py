"""Releases that are older and newer than this one, of the same protocol number: they know fewer keys, or more.

An older side leaves out what has a default and was perhaps added later, and does not see it when it comes. A newer one adds
keys and calls methods that nobody knows yet. When there is a second protocol number, real old transcripts take over.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import msgspec

from cpc.core.errors import Refused
from cpc.wire import connection as wire
from cpc.wire import frames
from cpc.wire.connection import Connection
from cpc.wire.messages import OLDEST_PROTOCOL, PROTOCOL, ChunkPut, Hello, Message, Orders, Task, Turn, Welcome
from cpc.wire.tls import ClientTls
from cpc.worker.transfer import Nothing

if TYPE_CHECKING:
    from cpc.server.machines import Machines
    from cpc.worker.agent import Agent


class Release(enum.StrEnum):
    """Beside which this one has to work."""

    SAME = "this release"
    OLDER = "an older release"
    NEWER = "a newer release"


THIS = wire.HERE
NEXT = frames.Greeting(PROTOCOL + 1, OLDEST_PROTOCOL, "99.0", ("telepathy",))

#: What an older release does not say, and what it does not hear; never what the first release could not do without.
UNSAID: dict[type, tuple[str, ...]] = {Turn: ("tails", "note", "time_left"), Hello: ("note",)}
UNHEARD: dict[type, tuple[str, ...]] = {
    Orders: ("wanted", "follow"),
    Welcome: ("draining", "certificate_valid_for"),
    Task: ("name",),
}


def fewer(message: Message, names: dict[type, tuple[str, ...]]) -> Any:
    """The message as somebody has it who does not know these keys: they have their defaults."""
    fields = {field.name: field for field in msgspec.structs.fields(type(message))}
    blank = {name: fields[name].default for name in names.get(type(message), ())}
    return msgspec.structs.replace(message, **blank) if blank else message


def more(message: Message) -> Any:
    """The message with a key that nobody knows; not where a chunk travels, which has a frame of its own making."""
    cls = type(message)
    if isinstance(message, ChunkPut):
        return message
    if cls not in _LATER:
        extra = [("mood", str, "sunny"), ("heirlooms", tuple[int, ...], (1, 2, 3))]
        _LATER[cls] = msgspec.defstruct(f"Later{cls.__name__}", extra, bases=(cls,), frozen=True, kw_only=True)
    known = {name: getattr(message, name) for name in cls.__struct_fields__}
    if isinstance(known.get("data"), memoryview):
        known["data"] = bytes(known["data"])  # packed as any other field: only the last one is sent from where it lies
    return _LATER[cls](**known, mood="cloudy", heirlooms=(4,))


_LATER: dict[type, Any] = {}


def speak_newer(machines: Machines) -> None:
    """The server's own orders carry keys that its workers do not know."""

    def send(session: int, orders: Orders) -> None:
        seat = machines.seats.get(session)
        if seat is not None and seat.open:
            seat.connection.tell("orders", more(orders))

    machines._queue.outbox.send = send


def speak(agent: Agent, release: Release) -> None:
    """Let a worker be of another release: what it says and hears passes through here."""
    link = agent.link
    greeting = NEXT if release is Release.NEWER else THIS

    async def connect(address: tuple[str, int], identity: Any) -> Connection:
        bundle = link._bundle

        async def orders(connection: Connection, said: Orders) -> None:
            await link._orders(connection, fewer(said, UNHEARD) if release is Release.OLDER else said)

        made = await wire.connect(
            link._endpoint(*address), ClientTls(identity, bundle.authority.encode(), bundle.server), link._reactor,
            link._clock, 30.0, prepare=lambda c: c.serve("orders", Orders, orders), greeting=greeting,
        )  # fmt: skip
        _translate(made, release)
        return made

    link._connect = connect  # type: ignore[method-assign]


def _translate(connection: Connection, release: Release) -> None:
    ask = connection.call
    curious = release is Release.NEWER

    async def call(
        method: str, body: Message, answer: type[Any], timeout: float = 60.0, bulk: bool = False,
        route: tuple[str, ...] = (), most: int = 0,
    ) -> Any:  # fmt: skip
        nonlocal curious
        if release is Release.OLDER:
            heard = await ask(method, fewer(body, UNSAID), answer, timeout, bulk, route)
            return fewer(heard, UNHEARD)
        if curious and method == "turn":
            curious = False
            await _try_what_nobody_knows(ask)
        return await ask(method, more(body), answer, timeout, bulk, route, most)

    connection.call = call  # type: ignore[method-assign]


async def _try_what_nobody_knows(ask: Any) -> None:
    """It is refused by name, and the connection stays."""
    try:
        await ask("sing", Nothing(), Nothing)
    except Refused as refusal:
        if "unknown method 'sing'" not in refusal.message:
            raise
    else:
        raise AssertionError("a method that nobody knows was answered")
