"""The public API as any program sees it: HTTPS and JSON, without our SDK, which changes with the server."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from cpc.wire import bundle as bundles
from tests.helpers.network_of_processes import Network
from tests.helpers.real_programs import ssl_context

PREFIX = "/api/v1"


@dataclass(frozen=True)
class Answer:
    """What was answered. `body` is JSON where it says so, else bytes."""

    status: int
    kind: str
    body: Any

    def done(self) -> Any:
        """The body; an AssertionError unless it is an answer."""
        assert self.status in (200, 201, 202, 204), f"{self.status}: {self.body}"
        return self.body


class Api:
    """Calls to one server, each over a connection of its own."""

    def __init__(self, port: int, authority: str, token: str = "") -> None:
        self.port = port
        self.token = token
        self._context = ssl_context(authority)

    @classmethod
    def of(cls, network: Network) -> Api:
        """To the server of a network, not logged in."""
        return cls(network.client_port, bundles.read(network.bundle).authority)

    def login(self, name: str, password: str) -> Api:
        """The same server with somebody's token."""
        found = self.ask("POST", f"{PREFIX}/login", {"user": name, "password": password}).done()
        return self.bearing(found["token"])

    def bearing(self, token: str) -> Api:
        """The same server with this token."""
        made = Api.__new__(Api)
        made.port, made.token, made._context = self.port, token, self._context
        return made

    def ask(self, method: str, path: str, body: Any = None, raw: bytes | None = None, **headers: str) -> Answer:
        """One call. `body` goes as JSON, `raw` as bytes; `_` in a header's name stands for `-`."""
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent["Content-Type"] = "application/json"
        elif raw is not None:
            sent["Content-Type"] = "application/octet-stream"
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self._context)
        try:
            connection.request(method, path, data or None, sent)
            found = connection.getresponse()
            kind = (found.getheader("Content-Type") or "").partition(";")[0]
            text = b"" if kind == "text/event-stream" else found.read()
        finally:
            connection.close()
        return Answer(found.status, kind, json.loads(text) if kind == "application/json" and text else text)

    def get(self, path: str) -> Any:
        """The answer to a GET below /api/v1."""
        return self.ask("GET", PREFIX + path).done()

    def items(self, path: str) -> list[Any]:
        """All pages of a list."""
        found: list[Any] = []
        after = ""
        while True:
            page = self.get(f"{path}{'&' if '?' in path else '?'}limit=1000{f'&after={after}' if after else ''}")
            found += page["items"]
            after = page["next"]
            if not after:
                return found
