"""Servers that know each other, as real processes: asked, trusted, through a tunnel, revoked."""

from __future__ import annotations

import json
import time
from functools import lru_cache

import pytest

from cpc.core.peer_views import PeerView
from tests.acceptance.conftest import Make
from tests.helpers.network_of_processes import Network
from tests.helpers.ports import free_ports
from tests.helpers.tunnel import Tunnel


@pytest.fixture(scope="module")
def two(make_network: Make) -> tuple[Network, Network]:
    """Two servers that have never heard of each other."""
    return make_network(), make_network()


def peer(network: Network, other: Network) -> PeerView:
    """What a server says of another."""
    found = [one for one in network.client.peers().all() if one.id == server_id(other)]
    assert len(found) == 1, network.client.peers().all()
    return found[0]


@lru_cache
def server_id(network: Network) -> str:
    """Asked once: it may not run later."""
    return network.client.server_info().id


def linked(one: Network, other: Network) -> bool:
    return peer(one, other).connected and peer(other, one).connected


def connect(one: Network, other: Network) -> None:
    """The whole way, as administrators do it."""
    one.cpcc("connect-server", "127.0.0.1", str(other.client_port), "-y").done()
    other.cpcc("trust", server_id(one), "--fingerprint", one.client.server_info().fingerprint).done()
    one.until(lambda: linked(one, other), "the two are connected")


def test_two_servers_are_connected_trusted_and_parted(two: tuple[Network, Network]) -> None:
    a, b = two
    ids = server_id(a), server_id(b)
    port = str(b.client_port)
    assert "nobody is here to compare" in a.cpcc("connect-server", "127.0.0.1", port).refused()
    wrong = a.cpcc("connect-server", "127.0.0.1", port, "--fingerprint", "0" * 64).refused()
    assert "has another fingerprint" in wrong
    assert a.client.peers().all() == []
    for _ in range(2):
        fingerprint = b.client.server_info().fingerprint
        said = a.cpcc("connect-server", "127.0.0.1", port, "--fingerprint", fingerprint).done()
        assert f"Connection request sent to 127.0.0.1 {port}" in said
    assert (peer(a, b).state, peer(b, a).state) == ("sent", "received")
    assert ids[1] in a.cpcc("cs").done()
    listed = b.cpcc("connected-servers").done()
    assert "Received connection requests" in listed
    assert ids[0] in listed
    assert "No server" not in listed
    b.cpcc("trust", "-all", "-y").done()
    a.until(lambda: linked(a, b), "the two are connected")
    assert "Connected nodes:" in a.cpcc("list-nodes").done()
    assert "is trusted already" in a.cpcc("connect-server", "127.0.0.1", port, "-y").refused()
    began = time.monotonic()
    hops = json.loads(a.cpcc("--json", "ping", ids[1][:8]).done())["data"]["hops"]
    assert [hop["id"] for hop in hops] == [ids[1]]
    assert 0 < hops[0]["seconds"] < time.monotonic() - began
    b.cpcc("revoke", ids[0]).done()
    a.until(lambda: peer(a, b).state == "withdrawn", "the other side knows")
    assert "it has ended the trust" in peer(a, b).note
    assert not peer(b, a).connected
    assert "both administrators say: cpcc trust" in a.cpcc("cs").done()
    agreed = a.cpcc("trust", ids[1], "-y")
    assert agreed.done()
    assert "is connected as soon as it trusts this server, too" in agreed.err
    assert peer(a, b).state == "sent"
    b.cpcc("trust", ids[0], "-y").done()
    a.until(lambda: linked(a, b), "the two are connected again")
    b.cpcc("revoke", ids[0]).done()
    a.until(lambda: peer(a, b).state == "withdrawn", "the other side knows again")
    for one in (a, b):
        one.cpcc("refuse-server", ids[0] if one is b else ids[1]).done()
        assert one.client.peers().all() == []
    a.cpcc("connect-server", "127.0.0.1", port, "-y").done()
    assert ids[0] in b.cpcc("refuse-server", "--all").done()
    assert b.client.peers().all() == []
    assert "no server has asked" in b.cpcc("refuse-server", "-all").done()
    assert "name the servers" in b.cpcc("refuse-server").refused()
    a.cpcc("refuse-server", ids[1]).done()
    assert "'' is not a host name or address" in a.cpcc("connect-server", "").refused()


def test_a_tunnel_is_needed_for_the_request_only(two: tuple[Network, Network]) -> None:
    """Server b stands behind a firewall, and can only call out; a reaches it through two forwarded ports, for a while."""
    a, b = two
    machines, people = Tunnel(b.port), Tunnel(b.client_port)
    given = ("--server-port", str(machines.port), "-y")
    a.cpcc("connect-server", "127.0.0.1", str(people.port), *given).done()
    tried = [(address.port, address.client_port) for address in peer(a, b).addresses]
    assert tried == [(machines.port, people.port), (b.port, b.client_port)]
    machines.close()
    people.close()
    b.cpcc("trust", server_id(a), "-y").done()
    a.until(lambda: linked(a, b), "the two are connected, by b")
    a.cpcc("peer", server_id(b), "--lent-cores", "4", "--accepted-off", "--lend-on", "2").done()
    shown = a.cpcc("peer", server_id(b)).done()
    assert "4 cores" in shown
    assert "nothing" in shown
    status = a.cpcc("status").done()
    assert "connected to 1 other server" in status
    b.stop_server()
    a.until(lambda: not peer(a, b).connected, "a sees that b is gone")
    assert "Nodes currently unreachable" in a.cpcc("cs").done()
    assert "cannot be reached" in a.cpcc("status").done()
    b.start()
    b.until(lambda: linked(a, b), "they are connected again")
    assert peer(a, b).agreement.lend_on == 2


def test_a_port_that_has_changed_is_announced_and_found_again(two: tuple[Network, Network]) -> None:
    a, b = two
    before = a.port
    a.stop_server()
    (a.port,) = free_ports(1)
    a.run("cpc-server", "config", "port", str(a.port)).done()
    a.start()
    b.until(lambda: linked(a, b), "they are connected again")
    assert {address.port for address in peer(b, a).addresses} == {before, a.port}
    b.kill_server()
    b.start()
    b.until(lambda: linked(a, b), "b has found a where it is now, or a has found b")


def test_three_servers_in_a_chain_see_each_other(two: tuple[Network, Network], make_network: Make) -> None:
    a, b = two
    c = make_network()
    b.cpcc("connect-server", "127.0.0.1", str(c.client_port), "-y").done()
    c.cpcc("trust", "-all", "-y").done()
    b.until(lambda: linked(b, c), "b and c are connected")
    found = a.client.peers().network()
    assert [seen.id for seen in found.servers] == [server_id(one) for one in (a, b, c)]
    hops = json.loads(a.cpcc("--json", "ping", server_id(c)).done())["data"]["hops"]
    assert [hop["id"] for hop in hops] == [server_id(b), server_id(c)]
    assert server_id(c) in a.cpcc("network").done()
    a.cpcc("network-graph", "net.svg").done()
    assert (a.directory / "net.svg").read_text().startswith("<svg ")
    c.kill_server()
    b.until(lambda: not peer(b, c).connected, "b sees that c is gone")
    assert "no server" in a.cpcc("ping", server_id(c)).refused()
    assert "nothing listens" in a.cpcc("connect-server", "127.0.0.1", str(c.client_port), "-y").refused()
    assert "this server itself" in a.cpcc("connect-server", "127.0.0.1", str(a.client_port), "-y").refused()
    assert "not a Copernicus server" in a.cpcc("connect-server", "127.0.0.1", str(b.port), "-y").refused()
