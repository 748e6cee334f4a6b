"""F3: what a hundred connected peers cost a server that has an idle worker: CPU and memory. They are simulated in one
process (`python -m benchmarks.idle_peers FILE`), with the production links, TLS and frames; none of them has work.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from twisted.internet import reactor as installed
from twisted.internet.endpoints import TCP4ClientEndpoint

from benchmarks import usage
from benchmarks.report import Options, Table
from benchmarks.system import System, system
from cpc.core.chance import SystemChance
from cpc.core.clock import DAY, SECOND, SystemClock
from cpc.core.errors import Unavailable
from cpc.core.peer import Address, Agreement, PeerState
from cpc.server.federation.book import Book
from cpc.server.federation.links import Links
from cpc.server.federation.ways import Caller
from cpc.store import database, schema
from cpc.store.peers import Addresses, PeerRow
from cpc.store.transaction import pack
from cpc.wire.identity import Authority, Name, Role
from cpc.wire.peer_messages import AskWork, PeerHello, WorkGiven

MONTH = 30 * DAY / SECOND
PATIENCE = 180.0
WATCHED = 60.0  # seconds


class Plan(msgspec.Struct):
    """What the process with the peers is told: the server, and the keys of the authorities (key, certificate)."""

    server: str
    authority: bytes
    port: int
    peers: list[tuple[bytes, bytes]]


def run(options: Options) -> Table:
    """Without peers, then with them, each watched for a minute, or as long as an outage would be if that is less."""
    table = Table(f"F3 {options.size} idle peers, one idle worker")
    for _ in range(options.runs):
        table.add(**_once(options.size, min(WATCHED, options.away)))
    return table


def _once(count: int, seconds: float) -> dict[str, float]:
    with system() as running:
        here = running.client.status().server
        alone = _watch(running, seconds)
        running.end_server()
        plan = _plan(running, here.id, count)
        file = running.directory / "peers.msgpack"
        file.write_bytes(msgspec.msgpack.encode(plan))
        running.start_server()
        peers = subprocess.Popen([sys.executable, "-m", "benchmarks.idle_peers", str(file)])
        try:
            begin = time.monotonic()
            _until(lambda: sum(peer.connected for peer in running.client.peers().all()) == count)
            settled = time.monotonic() - begin
            among = _watch(running, seconds)
        finally:
            peers.terminate()
            peers.wait()
    return {
        "connected_s": settled,
        "cpu_alone": alone[0] * 100,
        "cpu_percent": among[0] * 100,
        "alone_mib": alone[1],
        "with_peers_mib": among[1],
        "kib_a_peer": (among[1] - alone[1]) * 1024 / count,
    }


def _watch(running: System, seconds: float) -> tuple[float, float]:
    """Share of a processor, MiB."""
    with running.meter() as meter:
        time.sleep(seconds)
    return meter.seconds["server"] / meter.wall, usage.resident(running.server)


def _plan(running: System, server: str, count: int) -> Plan:
    """Make the peers, and trust them on the server's side: it is not running."""
    clock, chance = SystemClock(), SystemChance()
    place = running.directory / "servers/default"
    made = [Authority.create(f"peer-{number:03d}", clock, chance) for number in range(count)]
    engine = database.engine(running.url)
    with engine.begin() as connection:
        for each in made:
            row = {
                "id": each.server_id, "state": PeerState.TRUSTED.value, "name": each.server_id,
                "authority": each.certificate_pem, "priority": 1, "addresses": pack(Addresses()),
                "agreement": pack(Agreement()), "origin": "", "note": "", "requested": clock.now(),
                "trusted": clock.now(), "seen": None,
            }  # fmt: skip
            connection.execute(sa.insert(schema.peers).values(row))
    engine.dispose()
    keys = [(each.key_pem, each.certificate_pem) for each in made]
    return Plan(server, (place / "authority.crt").read_bytes(), running.port, keys)


def _until(holds: Any) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(Unavailable):
            if holds():
                return
        assert time.monotonic() < end, "the peers are not connected"
        time.sleep(0.2)


# --- the peers -----------------------------------------------------------------------------------------------------------


def main() -> None:
    """All peers of a plan, until the process is ended."""
    plan = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=Plan)
    kept = [_peer(plan, *keys) for keys in plan.peers]
    cast_reactor: Any = installed
    cast_reactor.callWhenRunning(lambda: [links.start() for links in kept])
    cast_reactor.run()


def _peer(plan: Plan, key: bytes, certificate: bytes) -> Links:
    clock, chance = SystemClock(), SystemChance()
    authority = Authority.load(key, certificate, clock, chance)
    identity = authority.identity(Name(authority.server_id, Role.SERVER), MONTH)
    book = Book(authority.server_id, certificate)
    address = Address("127.0.0.1", plan.port, plan.port + 1)
    book.put(
        PeerRow(
            id=plan.server, state=PeerState.TRUSTED, name="measured", authority=plan.authority, priority=1,
            addresses=Addresses(typed=address), agreement=Agreement(), origin="", note="", requested=0, trusted=0,
            seen=None,
        )
    )  # fmt: skip
    hello = PeerHello(name=authority.server_id, release="3", host="", port=0, client_port=0)
    reactor: Any = installed
    links = Links(
        book=book, say=lambda: hello, identity=lambda: identity,
        connect=lambda host, port: TCP4ClientEndpoint(reactor, host, port), reactor=reactor, clock=clock, chance=chance,
    )  # fmt: skip

    async def nothing(_caller: Caller, _asked: AskWork) -> WorkGiven:
        return WorkGiven(subscribed=300.0)

    links.serve("ask-work", AskWork, nothing, far=False)
    return links


if __name__ == "__main__":
    main()
