"""Bytes whose number nobody knows yet, at the reader's pace: an archive that is made while it is read."""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpc.server.http.download import disposition
from cpc.server.http.flow import Flow
from cpc.server.http.request import Request

if TYPE_CHECKING:
    from cpc.server.http.door import Door


@dataclass(frozen=True, slots=True)
class Outflow:
    """The pieces as an answer; `name` is what it is saved as. A failure on the way cuts the connection: it was not all."""

    request: Request
    name: bytes
    pieces: AsyncIterator[bytes]

    async def send(self, door: Door) -> None:
        """Write it, as far as the reader wants it."""
        request = self.request
        pieces = self.pieces
        try:
            # The first piece before the head: what cannot be made is then still an error with a status.
            first = b"" if request.method == b"HEAD" else await _first(pieces)
            headers = ((b"Cache-Control", b"private, no-store"), (b"Content-Disposition", disposition(self.name)))
            request.head(200, b"application/octet-stream", headers)
            request.write(b"")
            if request.method != b"HEAD":
                with Flow(request, door.reactor, door.limits.stall_seconds) as flow:
                    await flow.write(first)
                    async for piece in pieces:
                        await flow.write(piece)
            request.done()
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()


async def _first(pieces: AsyncIterator[bytes]) -> bytes:
    """The first piece; b"" when there is none. Not by `anext(pieces, b"")`, which CPython 3.11 cannot go on with."""
    async for piece in pieces:
        return piece
    return b""
