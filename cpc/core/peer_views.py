"""What the public API shows of other servers, and what servers that are not trusted yet send there."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from cpc.core.errors import BadInput
from cpc.core.peer import Address, Agreement
from cpc.core.views import View


class PeerView(View, frozen=True):
    """A server that is known here. `state`: sent, received, trusted, revoked (by us) or withdrawn (by it); `connected`:
    there is a link with it now.

    `priority`: 0 is asked first. `addresses`: where it is looked for, in order. `trouble`: why there is no link, as far as
    is known; `note`: why trust ended. Times in µs UTC; None: never. `quarantined`: bytes of results that it has brought and that
    nobody here knows of.
    """

    id: str
    name: str
    state: str
    connected: bool
    priority: int
    addresses: tuple[Address, ...]
    fingerprint: str
    agreement: Agreement
    requested: int
    trusted: int | None
    seen: int | None
    release: str
    origin: str  # the address that its request came from
    trouble: str
    note: str
    quarantined: int = 0


class PeerSeen(View, frozen=True):
    """Who answers at an address: to be compared by a person before it is asked. `port`: where its machines' door should be."""

    id: str
    name: str
    release: str
    fingerprint: str
    host: str
    port: int
    client_port: int


class PeerRequest(View, frozen=True):
    """A server asks another one, `to`, to be trusted, or takes that back (`withdrawn`).

    `word` is one that the asked server has just given (the header X-Copernicus-Word of `/server`): a request is good once, and
    who has kept one cannot send it again. `authority` is its certificate (PEM), `signature` (base64) that of the same key
    over all the rest: nobody can ask in the name of somebody else. Newer releases may say more; what is not known here is
    signed all the same, and ignored.
    """

    to: str
    authority: str
    name: str
    release: str
    host: str
    port: int
    client_port: int
    withdrawn: bool = False
    word: str = ""
    signature: str = ""

    @property
    def signed(self) -> bytes:
        """What the signature is of."""
        return signed_part(msgspec.json.encode(self))

    @property
    def signature_bytes(self) -> bytes:
        """The signature; empty when it is not one."""
        try:
            return base64.b64decode(self.signature, validate=True)
        except (binascii.Error, ValueError):
            return b""


def signed_part(request: bytes) -> bytes:
    """What the signature of a request (JSON, as it was sent) is of: all of it, in its order, with an empty signature. BadInput
    for what cannot be read, or written again, though it may be skipped: numbers beyond all bounds, lists without end."""
    try:
        said = msgspec.json.decode(request, type=dict[str, Any])
        return b"copernicus request between servers\0" + msgspec.json.encode({**said, "signature": ""})
    except (msgspec.MsgspecError, RecursionError, ValueError):
        raise BadInput("the request says what cannot be read", "compare the releases") from None


class PeerAnswer(View, frozen=True):
    """What becomes of a request: the id of the server that was asked, and how far it is with the one that asks ("": it
    knows it no more)."""

    id: str
    state: str


class ServerSeenView(View, frozen=True):
    """A server in the network. `route`: the ids of the servers on the shortest way to it, from the one that was asked."""

    id: str
    name: str
    release: str
    peers: tuple[str, ...]
    workers: int
    cores: int
    busy_cores: int
    jobs_waiting: int
    working_for: dict[str, int]  # owner's id → jobs that its workers run for it
    route: tuple[str, ...]


class NetworkOfServers(View, frozen=True):
    """All servers that could be reached, the one that was asked first."""

    here: str
    servers: tuple[ServerSeenView, ...]


class Hop(View, frozen=True):
    """A server on the way, and the seconds from here to it and back; None when it did not answer, for `trouble`."""

    id: str
    name: str
    seconds: float | None
    trouble: str = ""


class PingView(View, frozen=True):
    hops: tuple[Hop, ...]
