"""Other servers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from cpc.core.peer import Agreement
from cpc.core.peer_views import NetworkOfServers, PeerAnswer, PeerRequest, PeerSeen, PeerView, PingView, signed_part
from cpc.core.views import Page
from cpc.server.http.ask import Ask
from cpc.server.http.route import Nothing, Question, route
from cpc.server.roles import Act

Port = Annotated[int, Meta(ge=1, le=65535)]
Fingerprint = Annotated[str, Meta(min_length=64, max_length=64)]


class Place(Question, frozen=True):
    """Where a server is. `port`, its machines' door, if it is not where it says or as far moved as `client_port` is."""

    host: Annotated[str, Meta(max_length=255)]
    client_port: Port = 14807
    port: Port | None = None


class NewPeer(Place, frozen=True, kw_only=True):
    """`fingerprint`: what `/peers/look` has shown, and a person has compared; 64 hexadecimal digits."""

    fingerprint: Fingerprint


class Compared(Question, frozen=True):
    """`fingerprint`: what the list shows, and a person has compared; 64 hexadecimal digits."""

    fingerprint: Fingerprint


class End(Question, frozen=True):
    """`hand_back`: running work goes back to whose it is now; otherwise it is finished, if it can be."""

    hand_back: bool = False


class PeerChange(Question, frozen=True):
    """What is left out stays as it is; an agreement is given whole. `share`: the priority is that of others too, who then share;
    else it comes before whoever has it."""

    priority: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    share: bool = False
    agreement: Agreement | None = None


@route("GET", "/peers", act=Act.PEER_LIST)
async def page(ask: Ask) -> Annotated[Page, PeerView]:
    """The servers that have asked, were asked, are trusted or were; those first that are asked first for work."""
    return await ask.services.peers.page(ask.who)


@route("POST", "/peers/look", act=Act.PEER_ASK)
async def look(ask: Ask, body: Place) -> PeerSeen:
    """Who answers at an address, to be compared before it is asked. Changes nothing."""
    return await ask.services.peers.look(ask.who, body.host, body.client_port, body.port or 0)


@route("POST", "/peers", act=Act.PEER_ASK)
async def add(ask: Ask, body: NewPeer) -> PeerView:
    """Ask a server to be connected. It is trusted by this one from now on, and has to trust it in turn."""
    return await ask.services.peers.ask(ask.call, body.host, body.client_port, body.port or 0, body.fingerprint)


@route("GET", "/peers/{id}", act=Act.PEER_LIST)
async def get(ask: Ask, id: str) -> PeerView:
    """One server, by id, the beginning of one, or name."""
    return await ask.services.peers.get(ask.who, id)


@route("POST", "/peers/{id}/trust", act=Act.PEER_TRUST)
async def trust(ask: Ask, id: str, body: Compared) -> PeerView:
    """Trust a server that has asked, or one with which the trust has ended: that one has to agree, too."""
    return await ask.services.peers.trust(ask.call, id, body.fingerprint)


@route("POST", "/peers/{id}/revoke", act=Act.PEER_REVOKE)
async def revoke(ask: Ask, id: str, body: End) -> PeerView:
    """End the trust in a server at once; one that has only asked may not ask again."""
    return await ask.services.peers.revoke(ask.call, id, body.hand_back)


@route("PATCH", "/peers/{id}", act=Act.PEER_CHANGE)
async def change(ask: Ask, id: str, body: PeerChange) -> PeerView:
    """Change when a server is asked for work, or what is lent to it and accepted from it."""
    return await ask.services.peers.change(
        ask.call, id, priority=body.priority, share=body.share, agreement=body.agreement
    )


@route("DELETE", "/peers/{id}", act=Act.PEER_DROP)
async def drop(ask: Ask, id: str) -> Nothing:
    """Refuse a server's request, take back one's own, or forget a server whose trust has ended."""
    await ask.services.peers.drop(ask.call, id)
    return Nothing()


@route("POST", "/peer-requests", act=Act.PEER_REQUEST, limit=32 << 10, newer=True)
async def request(ask: Ask, body: PeerRequest) -> PeerAnswer:
    """For other servers: ask to be trusted, or take that back. The request is signed; people decide. Unknown fields are those
    of newer releases, and ignored.
    """
    return await ask.services.peer_requests.take(body, ask.request.peer, signed_part(ask.body))


@route("GET", "/servers", act=Act.PEER_LIST)
async def network(ask: Ask) -> NetworkOfServers:
    """All servers that can be reached from here, across any number of hops."""
    return await ask.services.surveying.network(ask.who)


@route("GET", "/servers/{id}/ping", act=Act.PEER_LIST)
async def ping(ask: Ask, id: str) -> PingView:
    """How long it takes to each server on the way to this one."""
    return await ask.services.surveying.ping(ask.who, id)
