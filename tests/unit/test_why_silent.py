"""Why a job waits: workers that went with their allocation are not among those that could come back."""

from __future__ import annotations

from pathlib import Path

from cpc.core import ids
from cpc.queue.why import Because
from cpc.server import joining
from cpc.server.principal import SERVER
from tests.helpers.network_bench import NetworkBench


def test_workers_whose_bundle_is_revoked_are_not_silent_but_gone(tmp_path: Path) -> None:
    bench = NetworkBench(tmp_path)
    workers = [bench.worker(name) for name in ("w1", "w2")]
    for worker in workers:
        bench.lose(worker)
    job = bench.submit("true")

    def why() -> str:
        return bench.wait(bench.jobs.why(SERVER, ids.show(job))).reasons[0].text

    assert why() == "no worker is connected; 2 known worker(s) are silent"
    bench.do(lambda tx: joining.revoke(bench.queue, tx, 1, "its allocation has ended"))
    assert why() == "no worker is connected"
    bench.close()


def test_other_servers_that_lend_nothing_are_named_too(tmp_path: Path) -> None:
    bench = NetworkBench(tmp_path)
    job = bench.submit("true")

    def reasons() -> list[tuple[str, str]]:
        return [(one.kind, one.text) for one in bench.wait(bench.jobs.why(SERVER, ids.show(job))).reasons]

    assert reasons() == [("no-worker", "no worker is connected")]
    bench.jobs.servers = lambda: 1
    assert reasons()[1:] == [("no-worker", "the connected server lends no worker for it now")]
    bench.jobs.servers = lambda: 3
    assert reasons()[1:] == [("no-worker", "the 3 connected servers lend no worker for it now")]
    bench.close()


def test_where_pools_bring_workers_nobody_is_told_that_only_hands_do(tmp_path: Path) -> None:
    bench = NetworkBench(tmp_path)
    job = bench.submit("true")

    def steps() -> list[str]:
        return [one.step for one in bench.wait(bench.jobs.why(SERVER, ids.show(job))).reasons]

    assert steps() == ["start one: cpc-worker -c BUNDLE.cnx"]
    bench.jobs.pools_say = lambda tx, facts: [Because("pool", "one is on its way", "wait")]
    assert steps() == ["wait", "pools bring them, or start one: cpc-worker -c BUNDLE.cnx"]
    bench.close()
