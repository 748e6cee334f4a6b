"""Other servers for programs: those that are known, the trust in them, and the network that they make.

>>> peers = Client.from_config().peers()
>>> seen = peers.look("lab.example.org")
>>> seen.fingerprint  # compare it with what `cpc-server setup` has printed there
>>> peers.ask(seen)
"""

from __future__ import annotations

from cpc.client.calls import Calls, part, understood
from cpc.core.peer import Agreement
from cpc.core.peer_views import NetworkOfServers, PeerSeen, PeerView, PingView


class Peers(Calls):
    """Servers are named by id, the beginning of one (4 characters at least), or name."""

    def all(self) -> list[PeerView]:
        """All that are known, those first that are asked first."""
        return self._all(PeerView, "/peers")

    def get(self, server: str) -> PeerView:
        """One of them."""
        return self._get(PeerView, f"/peers/{part(server)}")

    def look(self, host: str, client_port: int = 14807, port: int | None = None) -> PeerSeen:
        """Who answers at an address. Nothing is changed by looking."""
        body = {"host": host, "client_port": client_port, "port": port}
        return understood(self._call("POST", "/peers/look", body), PeerSeen)

    def ask(self, seen: PeerSeen) -> PeerView:
        """Ask that server to be connected: it is trusted from now on, and its administrator has to trust this one."""
        body = {
            "host": seen.host, "client_port": seen.client_port, "port": seen.port, "fingerprint": seen.fingerprint,
        }  # fmt: skip
        return self._change(PeerView, "POST", "/peers", body)

    def trust(self, peer: PeerView) -> PeerView:
        """Trust a server that has asked; its fingerprint was compared."""
        return self._change(PeerView, "POST", f"/peers/{part(peer.id)}/trust", {"fingerprint": peer.fingerprint})

    def drop(self, server: str) -> None:
        """Refuse its request, take back one's own, or forget a server that is revoked."""
        self._call("DELETE", f"/peers/{part(server)}")

    def revoke(self, server: str, hand_back: bool = False) -> PeerView:
        """End the trust at once; `hand_back`: running work goes back, otherwise it is finished, if it can be."""
        return self._change(PeerView, "POST", f"/peers/{part(server)}/revoke", {"hand_back": hand_back})

    def set_priority(self, server: str, priority: int, share: bool = False) -> PeerView:
        """When it is asked for work: 0 first. It comes before whoever has that priority; with `share` it has the same."""
        return self._change(
            PeerView, "PATCH", f"/peers/{part(server)}", {"priority": priority} | ({"share": True} if share else {})
        )

    def set_agreement(self, server: str, agreement: Agreement) -> PeerView:
        """What is lent to it and accepted from it."""
        return self._change(PeerView, "PATCH", f"/peers/{part(server)}", {"agreement": agreement})

    def network(self) -> NetworkOfServers:
        """All servers that can be reached, across any number of hops."""
        return self._get(NetworkOfServers, "/servers")

    def ping(self, server: str) -> PingView:
        """How long it takes to each server on the way to this one."""
        return self._get(PingView, f"/servers/{part(server)}/ping")
