"""Other servers, in memory: for tests of the people's door."""

from __future__ import annotations

import msgspec

from cpc.core.errors import Conflict, NotFound
from cpc.core.peer import Address, Agreement
from cpc.core.peer_views import (
    NetworkOfServers,
    PeerAnswer,
    PeerRequest,
    PeerSeen,
    PeerView,
    PingView,
    ServerSeenView,
)
from cpc.core.views import Page
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from tests.helpers.fake_world import NOW, World

OTHER = "00000000-0000-4000-8000-000000000002"


def peer_view(**changes: object) -> PeerView:
    view = PeerView(
        id=OTHER, name="other", state="received", connected=False, priority=0, addresses=(Address("o", 13807, 14807),),
        fingerprint="ab" * 32, agreement=Agreement(), requested=NOW, trusted=None, seen=None, release="3.0",
        origin="10.0.0.1", trouble="", note="",
    )  # fmt: skip
    return msgspec.structs.replace(view, **changes)


class FakePeers:
    def __init__(self, world: World) -> None:
        self.world = world
        self.known = {OTHER: peer_view()}

    async def page(self, who: Principal) -> Page:
        self.world.admit(who, Act.PEER_LIST)
        return Page(items=tuple(self.known.values()))

    async def get(self, who: Principal, server: str) -> PeerView:
        self.world.admit(who, Act.PEER_LIST)
        if server not in self.known:
            raise NotFound(f"no server {server!r} is known here")
        return self.known[server]

    async def look(self, who: Principal, host: str, client_port: int, port: int) -> PeerSeen:
        self.world.admit(who, Act.PEER_ASK)
        return PeerSeen(
            id=OTHER, name="other", release="3.0", fingerprint="ab" * 32, host=host, port=port or 13807,
            client_port=client_port,
        )  # fmt: skip

    async def ask(self, call: Call, host: str, client_port: int, port: int, fingerprint: str) -> PeerView:
        return self._change(call, Act.PEER_ASK, OTHER, state="sent")

    async def trust(self, call: Call, server: str, fingerprint: str) -> PeerView:
        return self._change(call, Act.PEER_TRUST, server, state="trusted", trusted=NOW)

    async def drop(self, call: Call, server: str) -> object:
        def change() -> None:
            if self.known.pop(server, None) is None:
                raise NotFound(f"no server {server!r} is known here")

        return self.world.once(call, Act.PEER_DROP, change)

    async def revoke(self, call: Call, server: str, hand_back: bool) -> PeerView:
        return self._change(call, Act.PEER_REVOKE, server, state="revoked")

    async def change(
        self, call: Call, server: str, *, priority: int | None, share: bool, agreement: Agreement | None
    ) -> PeerView:  # fmt: skip
        changes = {"priority": priority, "agreement": agreement}
        given = {name: value for name, value in changes.items() if value is not None}
        return self._change(call, Act.PEER_CHANGE, server, **given)

    def _change(self, call: Call, act: Act, server: str, **changes: object) -> PeerView:
        def change() -> PeerView:
            if server not in self.known:
                raise NotFound(f"no server {server!r} is known here")
            self.known[server] = msgspec.structs.replace(self.known[server], **changes)
            return self.known[server]

        return self.world.once(call, act, change)


class FakePeerRequests:
    def __init__(self, world: World) -> None:
        self.world = world

    def word(self) -> str:
        return "a word"

    async def take(self, request: PeerRequest, address: str, signed: bytes) -> PeerAnswer:
        if request.to != "00000000-0000-4000-8000-000000000001":
            raise Conflict("that is another server")
        return PeerAnswer(id=request.to, state="received")


class FakeSurveying:
    def __init__(self, world: World) -> None:
        self.world = world

    async def network(self, who: Principal) -> NetworkOfServers:
        self.world.admit(who, Act.PEER_LIST)
        here = "00000000-0000-4000-8000-000000000001"
        seen = ServerSeenView(
            id=here, name="test", release="3.0", peers=(), workers=1, cores=4, busy_cores=2, jobs_waiting=0,
            working_for={}, route=(here,),
        )  # fmt: skip
        return NetworkOfServers(here=here, servers=(seen,))

    async def ping(self, who: Principal, server: str) -> PingView:
        self.world.admit(who, Act.PEER_LIST)
        if server != "00000000-0000-4000-8000-000000000001":
            raise NotFound(f"no server {server!r} can be reached from here")
        return PingView(hops=())
