"""Server-sent events: read line by line, resumed where they stopped when the connection is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from cpc.core.errors import CopernicusError, Unavailable, from_code

if TYPE_CHECKING:
    from cpc.client.client import Client

MISSES = 300  # lost connections in a row: with the pauses between them the better part of an hour
LONGEST_PAUSE = 2.0


class Stream:
    """The events of one path, over its own connection. Iterate over it; `close` ends that from another thread."""

    def __init__(self, client: Client, path: str, query: dict[str, object], only: str = "") -> None:
        self._client = client.another()
        self._path = path
        self._query = query
        self._only = only
        self._closed = threading.Event()

    def close(self) -> None:
        """No more events: whoever iterates comes to the end."""
        self._closed.set()
        self._client.transport.abort()

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """(event, data) until the server sends "end"; only one kind of event if `only` names it."""
        last = ""
        misses = 0
        try:
            while not self._closed.is_set():
                try:
                    answer = self._client.stream(self._path, self._query, last)
                    for number, event, data in _messages(answer.lines()):
                        misses = 0
                        last = number or last
                        if event == "end":
                            return
                        if event == "error":
                            raise _said(data)
                        if not self._only or event == self._only:
                            yield event, data
                    problem: CopernicusError = Unavailable("the server ended the stream")
                except Unavailable as error:
                    problem = error
                self._client.close()
                misses += 1
                if misses > MISSES:
                    raise problem
                self._closed.wait(min(LONGEST_PAUSE, 0.1 * misses))
        finally:
            self._client.close()


def _said(data: bytes) -> CopernicusError:
    """What an event "error" says."""
    said = msgspec.json.decode(data, type=dict[str, str])
    return from_code(said.get("code", ""), said.get("message", ""), said.get("hint", ""))


def _messages(lines: Iterator[bytes]) -> Iterator[tuple[str, str, bytes]]:
    """(id, event, data); one that has no empty line behind it yet broke off, and comes again."""
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
                number = value.decode("latin-1")
            elif name == b"event":
                event = value.decode("latin-1")
            elif name == b"data":
                data = data + b"\n" + value if data else value


class Changes:
    """Tells when something has happened that a query of the event stream matches: one thread that listens, from now on.

    A context manager. What is so now is looked at with other calls, after the beginning and after each `wait`: then
    nothing is missed. Where there is no stream to be had it is as if something happened every `LONGEST_PAUSE` seconds.
    """

    def __init__(self, client: Client, *, project: str = "", job: str = "") -> None:
        self._client = client
        self._query: dict[str, object] = {"project": project, "job": job}
        self._project = project
        self._news = threading.Event()
        self._deaf = False
        self._stream: Stream | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Changes:
        try:
            after = self._client.last_event(self._project)
        except Unavailable:
            raise
        except CopernicusError:
            self._deaf = True
            return self
        self._stream = Stream(self._client, "/events/stream", {"after": after, **self._query})
        self._thread = threading.Thread(
            target=self._listen, args=(self._stream,), name="copernicus-changes", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None and self._thread is not None:
            self._stream.close()
            self._thread.join(5.0)

    def wait(self, timeout: float) -> bool:
        """Whether something has happened since the last call, or does within `timeout` seconds."""
        found = self._news.wait(min(timeout, LONGEST_PAUSE) if self._deaf else timeout)
        self._news.clear()
        return found or self._deaf

    def _listen(self, stream: Stream) -> None:
        try:
            for _ in stream:
                self._news.set()
        except CopernicusError:
            self._deaf = True
            self._news.set()
