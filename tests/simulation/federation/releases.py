"""Servers of releases that are older and newer than this one, in one network with it: they know fewer keys, or more.

What a server of another release says and hears passes through here frame by frame; TLS and all else are real. A newer one
speaks one protocol number more, and has keys in its messages that nobody knows. An older one leaves out what it does not know
yet, does not see it when it comes, and does not understand who tells it of the end of a trust before a hello.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cpc.core.pieces import Pieces
from cpc.server.federation.links import Links
from cpc.wire.connection import SERVER, Connection
from cpc.wire.frames import HEADER, Frame, Greeting
from cpc.wire.messages import OLDEST_PROTOCOL, PROTOCOL
from cpc.wire.peer_messages import Withdrawn
from tests.simulation.versions import Release
from tests.upgrade.tape import read_frame, write_frame

GREETINGS = {
    Release.SAME: SERVER,
    Release.OLDER: Greeting(PROTOCOL, OLDEST_PROTOCOL, "2.0.0", ("peers",)),
    Release.NEWER: Greeting(PROTOCOL + 1, OLDEST_PROTOCOL, "99.0.0", ("peers", "telepathy")),
}
LARGE = 64 << 10  # bytes: chunks travel in frames of a making of their own
UNKNOWN = frozenset({"bounds", "home", "working_for", "jobs_waiting", "follow", "note", "reason"})  # to the older one

Change = Callable[[dict[str, Any]], dict[str, Any]]


def speak(links: Links, release: Release) -> Greeting:
    """Let a server be of another release; what it greets with."""
    greeting = links._greeting = GREETINGS[release]
    if release is Release.SAME:
        return greeting
    change = _more if release is Release.NEWER else _fewer
    admit = links._admit

    async def admitted(connection: Connection, *about: Any) -> None:
        _dress(connection, change, hears=release is Release.OLDER)
        await admit(connection, *about)

    links._admit = admitted  # type: ignore[method-assign]
    if release is Release.OLDER:
        links.ended = _not_understood
    return greeting


async def _not_understood(_server: str, _said: Withdrawn) -> None:
    return None


def _dress(connection: Connection, change: Change, hears: bool) -> None:
    send, receive = connection.channel.send, connection.frame_received

    def changed_send(frame: Frame) -> None:
        whole = b"".join(frame)
        send((_changed(whole[HEADER.size :], change),) if len(whole) < LARGE else frame)

    connection.channel.send = connection._calls._send = changed_send  # type: ignore[method-assign]
    if hears:

        def changed_receive(frame: bytes | Pieces) -> None:
            small = isinstance(frame, bytes) and len(frame) < LARGE
            receive(bytes(_changed(bytes(frame), change)[HEADER.size :]) if small else frame)

        connection.frame_received = changed_receive  # type: ignore[method-assign]


def _changed(frame: bytes, change: Change) -> bytearray:
    """With its length. What is no frame, of somebody hostile, stays what it is."""
    try:
        envelope = read_frame(frame)
    except (ValueError, TypeError, RecursionError):
        return bytearray(HEADER.pack(len(frame)) + frame)
    if change is _fewer:
        envelope.pop("u", None)
    if isinstance(envelope.get("b"), dict):
        envelope["b"] = _everywhere(envelope["b"], change)
    return write_frame(envelope)


def _everywhere(message: dict[str, Any], change: Change) -> dict[str, Any]:
    """In a message and in those in its lists; a map that is a value has keys of its own, which mean something."""
    return change({name: _within(value, change) for name, value in message.items()})


def _within(value: Any, change: Change) -> Any:
    if isinstance(value, dict) and "orders" not in value and not {"tasks", "settled", "cancel"} & value.keys():
        return value
    if isinstance(value, dict):
        return _everywhere(value, change)
    if isinstance(value, list):
        return [_everywhere(each, change) if isinstance(each, dict) and _is_message(each) else each for each in value]
    return value


def _is_message(value: dict[Any, Any]) -> bool:
    return all(isinstance(name, str) for name in value)


def _more(message: dict[str, Any]) -> dict[str, Any]:
    return {"zz-new": [1, {"deep": None}], **message}


def _fewer(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in UNKNOWN}


def mixed(releases: Sequence[Release], number: int) -> Release:
    """That of the server with this number."""
    return releases[number - 1] if releases else Release.SAME
