"""What agent and guardian say to each other: frames of several messages, each a tuple of plain values.

A frame is a 4-byte length and the marshalled list: both ends are this program under this interpreter, joined by a socket
pair that nothing else can open, so the fastest format that the standard library has will do. Light imports only.

| message                                                                                    | who → whom       |
|--------------------------------------------------------------------------------------------|------------------|
| ("begin", directory, memory way, interval s, grace s, gather s, env)                       | agent → guardian |
| ("start", number, beside, argv, env, cwd, stdin, stdout, stderr, memory bytes, walltime s) | agent → guardian |
| ("stop", number, grace s)                                                                  | agent → guardian |
| ("withdraw", number)                                                                       | agent → guardian |
| ("close",)                                                                                 | agent → guardian |
| ("ready", guardian pid, how memory is limited)                                             | guardian → agent |
| ("exit", number, code or None, wall s, cpu s, max memory bytes, exceeded, error)           | guardian → agent |
| ("unbegun", number)                                                                        | guardian → agent |

The `env` of one that starts comes over that of `begin`. `beside`: 0, it starts at once; else it waits in line, and the first
of the line starts when fewer than that many run. What is withdrawn, or stopped while it is in line, is told as unbegun; what
runs already is not withdrawn any more.
"""

from __future__ import annotations

import marshal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_FRAME = 16 << 20
_HEAD = 4


def pack(messages: list[tuple[Any, ...]]) -> bytes:
    """One frame. ValueError when it would be longer than the other end takes."""
    body = marshal.dumps(messages)
    if len(body) > MAX_FRAME:
        raise ValueError(f"{len(body)} bytes are more than a frame of {MAX_FRAME} holds")
    return len(body).to_bytes(_HEAD, "big") + body


class Unpacker:
    """Bytes in, messages out."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[tuple[Any, ...]]:
        """The messages that are complete now. ValueError for what cannot be a frame."""
        rest = self._rest
        rest += data
        messages: list[tuple[Any, ...]] = []
        at = 0
        while len(rest) - at >= _HEAD:
            size = int.from_bytes(rest[at : at + _HEAD], "big")
            if size > MAX_FRAME:
                raise ValueError(f"a frame of {size} bytes")
            stop = at + _HEAD + size
            if len(rest) < stop:
                break
            messages.extend(marshal.loads(rest[at + _HEAD : stop]))
            at = stop
        del rest[:at]
        return messages
