"""Other servers that this one knows: what was agreed with each."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec


class PeerState(enum.StrEnum):
    """How far two servers are with each other. Whether a connection is up is another matter."""

    SENT = "sent"  # we have asked, and wait for the other side's trust
    RECEIVED = "received"  # it has asked, and waits for ours
    TRUSTED = "trusted"  # both sides have agreed
    REVOKED = "revoked"  # our operator has ended the trust, or will not be asked: it is told so
    WITHDRAWN = "withdrawn"  # the other side has ended the trust


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one direction of lending may come to. `cores` and the lists: None sets no limit, zero or an empty list is nothing.

    `projects` are names at the server that sets the limit, so they bind where that server is the owner of the jobs;
    `executables` are names as in `gromacs/mdrun`.
    """

    off: bool = False
    cores: int | None = None
    projects: tuple[str, ...] | None = None
    executables: tuple[str, ...] | None = None


class Agreement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What this server's operator has set for one peer.

    `lent`: our workers (and those lent to us) for jobs of the peer and of those behind it. `accepted`: the peer's workers
    for jobs of ours. `lend_on`: how many servers beyond the peer may use what is lent to it; 0 is the peer only.
    `denied`: ids of servers that may not be on a route through this peer.
    """

    lent: Limits = Limits()
    accepted: Limits = Limits()
    lend_on: int = 0
    denied: tuple[str, ...] = ()


class Bound(msgspec.Struct, frozen=True, array_like=True):
    """What one server on a route, from a home to an owner, lets the next one have now of the workers that are lent by it: said
    with what passes it, where that is not everything.

    `place` is that of the server on the route. `off`: nothing more. `cores`: so many, with those that run by this step already;
    `executables` as in `Limits`. None sets no bound.
    """

    place: Annotated[int, msgspec.Meta(ge=0, le=64)]
    off: bool = False
    cores: Annotated[int, msgspec.Meta(ge=0)] | None = None
    executables: Annotated[tuple[str, ...], msgspec.Meta(max_length=256)] | None = None


class Address(msgspec.Struct, frozen=True):
    """Where a server can be reached: by machines at `port`, by people at `client_port`."""

    host: str
    port: int
    client_port: int
