"""Bytes of a file: whole or a range, with an ETag, at the reader's pace, and never as something a browser would run."""

# mypy: allow-untyped-calls

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from cpc.server.http.answer import Data, NoSuchRange
from cpc.server.http.flow import Flow
from cpc.server.http.request import Request
from cpc.server.http.services import Read

if TYPE_CHECKING:
    from cpc.server.http.door import Door

PIECE = 512 << 10
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class Download:
    """A file as an answer. `name` is what it is saved as; `digest` is its SHA-256 in hex."""

    request: Request
    name: bytes
    digest: str
    size: int
    read: Read

    async def send(self, door: Door) -> None:
        """Write it, as far as the reader wants it."""
        request = self.request
        etag = f'"{self.digest}"'
        if _matches(request.header(b"if-none-match"), etag):
            request.send(Data(304, kind=b"", headers=((b"ETag", etag.encode()),)))
            return
        start, stop, partial = self._wanted(request, etag)
        headers = [
            (b"ETag", etag.encode()),
            (b"Accept-Ranges", b"bytes"),
            (b"Content-Length", b"%d" % (stop - start)),
            (b"Cache-Control", b"private, no-cache"),
            (b"Content-Disposition", disposition(self.name)),
            (b"Content-Security-Policy", b"default-src 'none'; sandbox; frame-ancestors 'none'"),
            (b"Cross-Origin-Resource-Policy", b"same-origin"),
        ]
        if partial:
            headers.append((b"Content-Range", b"bytes %d-%d/%d" % (start, stop - 1, self.size)))
        # The first piece before the head: what cannot be read is then still an error with a status.
        first = await self.read(start, min(PIECE, stop - start)) if stop > start and request.method != b"HEAD" else b""
        request.head(206 if partial else 200, b"application/octet-stream", tuple(headers))
        if request.method == b"HEAD":
            request.write(b"")
        else:
            await self._write(door, start, stop, first)
        request.done()

    async def _write(self, door: Door, start: int, stop: int, first: bytes) -> None:
        with Flow(self.request, door.reactor, door.limits.stall_seconds) as flow:
            data = first
            while True:
                await flow.write(data)
                start += len(data)
                if start >= stop:
                    return
                await flow.let_others()
                data = await self.read(start, min(PIECE, stop - start))
                if not data:
                    raise OSError(f"file {self.digest} ends at {start} of {self.size} bytes")

    def _wanted(self, request: Request, etag: str) -> tuple[int, int, bool]:
        """(start, stop, whether it is a part). Several ranges, and units other than bytes, are answered in whole."""
        found = _RANGE.fullmatch(request.header(b"range").strip())
        if_range = request.header(b"if-range")
        if found is None or found.group(0) == "bytes=-" or (if_range and if_range != etag):
            return 0, self.size, False
        low, high = found.groups()
        if not low:
            length = min(int(high), self.size)
            start, stop = self.size - length, self.size
        else:
            start, stop = int(low), min(int(high) + 1, self.size) if high else self.size
            if high and int(high) < int(low):
                return 0, self.size, False
        if start >= stop:
            raise NoSuchRange(self.size)
        return start, stop, True


def disposition(name: bytes) -> bytes:
    """`Content-Disposition: attachment` with a name that old and new clients can read."""
    plain = re.sub(rb'[^ !#-\[\]-~]|"', b"_", name) or b"file"
    return b"attachment; filename=\"%s\"; filename*=UTF-8''%s" % (plain, quote_from_bytes(name, safe="").encode())


def _matches(given: str, etag: str) -> bool:
    return bool(given) and any(tag.strip().removeprefix("W/") in (etag, "*") for tag in given.split(","))
