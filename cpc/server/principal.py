"""Who is asking, and one call that changes something."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `scope` narrows what the token may do: "all", "read", or "project:ID" (the number of a project).

    `user` and `token` are ids; both are 0 for the server itself (and its command line on the same machine) and for
    somebody who has not logged in.
    """

    user: int
    name: str
    super_user: bool
    token: int = 0
    scope: str = "all"

    @property
    def actor(self) -> str:
        """How the event log calls this principal."""
        return f"user:{self.name}" if self.user else (self.name or "nobody")

    @property
    def project(self) -> int:
        """The one project the token is good for; 0: any."""
        return int(self.scope.removeprefix("project:")) if self.scope.startswith("project:") else 0


SERVER = Principal(user=0, name="server", super_user=True)
NOBODY = Principal(user=0, name="", super_user=False, scope="read")


@dataclass(frozen=True, slots=True)
class Call:
    """A call that changes something. The same `key` (1–64 characters, "" = none) gets the same answer for 30 days.

    `digest` is the SHA-256 of method, path and body: the same key with another digest is refused.
    """

    who: Principal
    key: str = ""
    digest: bytes = b""

    @classmethod
    def of(cls, who: Principal, key: str, method: str, path: str, body: bytes) -> Call:
        """The call that a request makes."""
        return cls(who, key, hashlib.sha256(b"\0".join([method.encode(), path.encode(), body])).digest())
