"""Server-sent events: read line by line, resumed where they stopped when the connection is lost."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from cpc.core.errors import CopernicusError, Unavailable, from_code

if TYPE_CHECKING:
    from cpc.client.client import Client

MISSES = 30


def events(client: Client, path: str, query: dict[str, object], only: str = "") -> Iterator[tuple[str, bytes]]:
    """(event, data) of a stream until the server sends "end". Its own connection; `only` one kind of event."""
    last = ""
    misses = 0
    while True:
        own = client.another()
        try:
            answer = own.stream(path, query, last)
            for number, event, data in _messages(answer.lines()):
                misses = 0
                last = number or last
                if event == "end":
                    return
                if event == "error":
                    said = msgspec.json.decode(data)
                    raise from_code(said["code"], said["message"], said.get("hint", ""))
                if not only or event == only:
                    yield event, data
        except (OSError, http.client.HTTPException) as error:
            problem: CopernicusError = Unavailable(f"the connection to the server was lost: {error}")
        except Unavailable as error:
            problem = error
        else:
            problem = Unavailable("the server ended the stream")
        finally:
            own.close()
        misses += 1
        if misses > MISSES:
            raise problem
        time.sleep(min(2.0, 0.1 * misses))


def _messages(lines: Iterator[bytes]) -> Iterator[tuple[str, str, bytes]]:
    number, event, data = "", "", b""
    for raw in lines:
        line = raw.rstrip(b"\r\n")
        if not line:
            if event or data:
                yield number, event, data
            number, event, data = "", "", b""
        elif not line.startswith(b":"):
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"id":
                number = value.decode()
            elif name == b"event":
                event = value.decode()
            elif name == b"data":
                data = data + b"\n" + value if data else value
