"""Transcripts of the machines' protocol as text: one frame a line, in the order in which the server saw them.

A line is `{"act": …}`, something that is done to the server; `{"on": 3, "closed": "worker"}`; or
`{"on": 3, "as": "worker", "by": "server", "frame": {…}}` with the envelope as a map and its body decoded. Bytes are `{"hex": …}`
or `{"deflated": …}`; certificates and requests for them are left out.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import msgpack  # type: ignore[import-untyped]

from cpc.core.pieces import Pieces, whole
from cpc.wire.channel import Channel
from cpc.wire.connection import Connection
from cpc.wire.frames import HEADER, Frame
from cpc.wire.tls import ServerTls
from tests.upgrade.shapes import LEFT_OUT

TRANSCRIPTS = Path(__file__).parent / "transcripts"
_SECRET = ("certificate", "request")  # fields of bodies that are made anew each time
_LONG = 64

Line = dict[str, Any]


def read_frame(frame: bytes | Pieces) -> dict[str, Any]:
    """An envelope, with its body decoded in place."""
    found: dict[str, Any] = msgpack.unpackb(whole(frame), strict_map_key=False)
    if "b" in found:
        found["b"] = msgpack.unpackb(found["b"], strict_map_key=False)
    return found


def write_frame(envelope: dict[str, Any]) -> bytearray:
    """The same back to the bytes of a frame, with its length: keys in the order in which they were recorded."""
    packed = {**envelope, "b": msgpack.packb(envelope["b"])} if "b" in envelope else envelope
    data: bytes = msgpack.packb(packed)
    return bytearray(HEADER.pack(len(data)) + data)


def to_text(value: Any) -> Any:
    """As JSON."""
    if isinstance(value, bytes):
        if len(value) <= _LONG:
            return {"hex": value.hex()}
        return {"deflated": base64.b64encode(zlib.compress(value, 9)).decode()}
    if isinstance(value, dict):
        if any(isinstance(key, bytes) for key in value):
            return {"pairs": [[to_text(key), to_text(each)] for key, each in value.items()]}
        return {key: LEFT_OUT if key in _SECRET else to_text(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_text(each) for each in value]
    return value


def from_text(value: Any) -> Any:
    """Back from JSON."""
    if isinstance(value, list):
        return [from_text(each) for each in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"hex": str(text)} if len(value) == 1:
            return bytes.fromhex(text)
        case {"deflated": str(text)} if len(value) == 1:
            return zlib.decompress(base64.b64decode(text))
        case {"pairs": list(pairs)} if len(value) == 1:
            return {from_text(key): from_text(each) for key, each in pairs}
    return {key: from_text(each) for key, each in value.items()}


def save(path: Path, lines: list[Line]) -> None:
    """A transcript."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(to_text(line)) + "\n" for line in lines))


def load(path: Path) -> list[Line]:
    """The same."""
    return [from_text(json.loads(line)) for line in path.read_text().splitlines()]


def methods(module: ModuleType) -> set[str]:
    """Every method in the table of a module of messages."""
    rows = [row for row in (module.__doc__ or "").splitlines() if row.startswith("| ")]
    return {row.split("|")[1].strip() for row in rows} - {"method"}


def said(lines: list[Line]) -> set[str]:
    """Every method that a transcript has."""
    return {line["frame"]["m"] for line in lines if "m" in line.get("frame", {})}


def all_of(name: str) -> list[Path]:
    """The transcripts of this name of every release, oldest first."""
    return sorted(TRANSCRIPTS.glob(f"*/{name}"))


class Tape:
    """What is being recorded."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._numbers: dict[Connection, int] = {}

    def act(self, what: str, **facts: Any) -> None:
        """Something else that is done."""
        self.lines.append({"act": what, **facts})

    def _number(self, connection: Connection) -> int:
        if connection not in self._numbers:
            number = self._numbers[connection] = len(self._numbers) + 1
            connection.on_closed(lambda _: self.lines.append({"on": number, "closed": True}))
        return self._numbers[connection]

    def note(self, connection: Connection, by: str, frame: bytes | Pieces) -> None:
        """A frame that the server has sent or got."""
        if not isinstance(connection._security, ServerTls):
            return
        role = connection.peer.role.value if connection.peer is not None else ""
        self.lines.append({"on": self._number(connection), "as": role, "by": by, "frame": read_frame(frame)})


@contextmanager
def recording() -> Iterator[Tape]:
    """Everything that servers of this process say and hear."""
    tape = Tape()
    received, send = Connection.frame_received, Channel.send

    def noted_received(self: Connection, frame: bytes | Pieces) -> None:
        tape.note(self, "worker", frame)
        received(self, frame)

    def noted_send(self: Channel, frame: Frame) -> None:
        if isinstance(self._user, Connection) and not self._closing:
            tape.note(self._user, "server", b"".join(frame)[HEADER.size :])
        send(self, frame)

    with patch.object(Connection, "frame_received", noted_received), patch.object(Channel, "send", noted_send):
        yield tape
