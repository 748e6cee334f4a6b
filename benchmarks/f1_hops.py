"""F1: the project is at one server, the only worker at another one, with 0 to 3 hops between them.

For each number of hops: W1 (throughput), one job at a time (latency), W4 (payload), and what the servers used for it. Then a
gateway that only relays: its memory with a GiB of payload in transit, and what a hundred idle peers cost.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import usage, w4_payload
from benchmarks.report import Table
from benchmarks.system import System
from cpc.core.peer import Agreement

PATIENCE = 120.0
MOST_HOPS = 3
WARM_UP = 3
PAUSE = 0.02


class Chain:
    """Servers in a row: the first has the worker, the last the project. `hops` links between them."""

    def __init__(self, directory: Path, hops: int) -> None:
        self.servers: list[System] = []
        for number in range(hops + 1):
            place = directory / str(number)
            place.mkdir()
            made = System(place)
            self.servers.append(made)
            made.start(worker=number == 0)
        for one, other in zip(self.servers, self.servers[1:], strict=False):
            _trust(one, other)
        for each in self.servers:
            for peer in each.client.peers().all():
                each.client.peers().set_agreement(peer.id, Agreement(lend_on=max(0, hops - 1)))
        if hops:
            self.owner.wait(self.owner.submit(array=4))

    @property
    def owner(self) -> System:
        """Who has the project."""
        return self.servers[-1]

    def meter(self) -> usage.Meter:
        """CPU of home, relays together, and owner; with no hops, home and owner are one."""
        names = {0: "home", len(self.servers) - 1: "owner"}
        alone = {names.get(number, f"relay{number}"): each.server for number, each in enumerate(self.servers)}
        return usage.Meter({**alone, "agent": self.servers[0].worker})

    def stop(self) -> None:
        for each in reversed(self.servers):
            each.stop()


@contextlib.contextmanager
def chain(hops: int) -> Iterator[Chain]:
    """A fresh row of servers; nothing of it is left afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="cpc-bench-"))
    made: Chain | None = None
    try:
        made = Chain(directory, hops)
        yield made
    finally:
        if made is not None:
            made.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _trust(one: System, other: System) -> None:
    asking, answering = one.client.peers(), other.client.peers()
    asking.ask(asking.look("127.0.0.1", other.port + 1, other.port))
    (request,) = (peer for peer in answering.all() if peer.state == "received")
    answering.trust(request)
    _until(lambda: all(peer.connected for peers in (asking, answering) for peer in peers.all()))


def _until(holds: object, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end, "the servers are not connected"
        time.sleep(0.02)


def throughput(row: Chain, size: int) -> dict[str, float]:
    """W1: jobs a second, and µs a job of each server."""
    with row.meter() as meter:
        row.owner.wait(row.owner.submit(array=size))
    return {"jobs_s": size / meter.wall, **_micros(meter, size)}


def latency(row: Chain, count: int) -> dict[str, float]:
    """W2: ms from submit to the client's knowledge of the end; the median."""
    times = []
    for _ in range(count + WARM_UP):
        time.sleep(PAUSE)
        begin = time.perf_counter()
        row.owner.wait(row.owner.submit())
        times.append(time.perf_counter() - begin)
    return {"latency_ms": statistics.median(times[WARM_UP:]) * 1e3}


def payload(row: Chain, count: int) -> dict[str, float]:
    """W4: MiB/s from the worker over all servers into the client's memory."""
    with row.meter() as meter:
        w4_payload.fetch(row.owner, count)
    size = count * w4_payload.PAYLOAD / usage.MIB
    return {"mib_s": size / meter.wall}


def _micros(meter: usage.Meter, size: int) -> dict[str, float]:
    relays = [name for name in meter.seconds if name.startswith("relay")]
    found = {name: meter.seconds.get(name, 0.0) for name in ("home", "owner")}
    found["relay"] = sum(meter.seconds[name] for name in relays) / max(1, len(relays))
    return {f"{name}_us": seconds / size * 1e6 for name, seconds in found.items()}


def hops(size: int, runs: int) -> list[Table]:
    """A table for each number of hops, and how each compares with none."""
    tables = []
    middle: list[dict[str, float]] = []
    for number in range(MOST_HOPS + 1):
        table = Table(f"F1 {number} hops, {size} jobs, {max(4, size // 100)} × 10 MiB")
        for _ in range(runs):
            with chain(number) as row:
                table.add(**throughput(row, size), **latency(row, 30), **payload(row, max(4, size // 100)))
        tables.append(table)
        middle.append(table.medians())
    ratio = Table("F1 beside no hop: throughput, added latency for each hop, payload")
    none = middle[0]
    for number, found in enumerate(middle):
        ratio.add(
            hops=float(number),
            w1_ratio=found["jobs_s"] / none["jobs_s"],
            ms_a_hop=(found["latency_ms"] - none["latency_ms"]) / max(1, number),
            w4_ratio=found["mib_s"] / none["mib_s"],
        )
    return [*tables, ratio]


def gateway(megabytes: int) -> Table:
    """Home, gateway, owner: what the gateway has in memory before, and at most while so much payload goes through it."""
    table = Table(f"F1 gateway, {megabytes} MiB in transit")
    with chain(2) as row:
        relay = row.servers[1].server
        before = usage.resident(relay)
        with row.meter() as meter:
            w4_payload.fetch(row.owner, max(1, megabytes * int(usage.MIB) // w4_payload.PAYLOAD))
        table.add(
            before_mib=before,
            most_mib=usage.peak(relay),
            cpu_ms_mib=meter.seconds["relay1"] / megabytes * 1e3,
            mib_s=megabytes / meter.wall,
        )
    return table


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--size", type=int, default=2000, help="jobs of a run (default 2000)")
    parser.add_argument("--runs", type=int, default=3, help="repetitions (default 3)")
    parser.add_argument(
        "--megabytes", type=int, default=1024, help="payload through the gateway (default 1024; 0: none)"
    )
    parser.add_argument("--peers", type=int, default=100, help="idle peers (default 100; 0: none)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if given.size:
        for table in hops(given.size, given.runs):
            table.show(given.json)
    if given.megabytes:
        gateway(given.megabytes).show(given.json)
    if given.peers:
        from benchmarks import idle_peers

        idle_peers.run(given.peers).show(given.json)


if __name__ == "__main__":
    main()
