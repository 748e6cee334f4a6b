"""A chain of three real servers: the worker at one end runs the jobs of the other, through the one between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cpc.core.peer_views import ServerSeenView
from tests.acceptance.conftest import Make
from tests.helpers.network_of_processes import Network


def server_id(network: Network) -> str:
    return network.client.server_info().id


def linked(one: Network, other: Network) -> bool:
    return any(peer.id == server_id(other) and peer.connected for peer in one.client.peers().all())


def servers(one: Network) -> dict[str, ServerSeenView]:
    """What it sees of all servers, itself included, by their ids."""
    return {seen.id: seen for seen in one.client.peers().network().servers}


def connect(one: Network, other: Network) -> None:
    """As administrators do it."""
    one.cpcc("connect-server", "127.0.0.1", str(other.client_port), "-y").done()
    other.cpcc("trust", server_id(one), "--fingerprint", one.client.server_info().fingerprint).done()
    one.until(lambda: linked(one, other) and linked(other, one), "the two are connected")


@pytest.fixture(scope="module")
def chain(make_network: Make) -> Iterator[tuple[Network, Network, Network]]:
    """a – b – c, where a lets those behind b use its workers."""
    a, b, c = make_network(), make_network(), make_network()
    connect(a, b)
    connect(b, c)
    a.cpcc("peer", server_id(b), "--lend-on", "1").done()
    return a, b, c


def test_jobs_at_one_end_of_a_chain_run_at_the_other(chain: tuple[Network, Network, Network]) -> None:
    a, b, c = chain
    with a.working(cores=2):
        before = c.shell("echo hello > out; sleep 0.2", array=4)
        assert c.end_of_array(before).jobs == {"succeeded": 4}
        assert c.output(f"{before}[3]", "out") == b"hello\n"
        job = c.shell("echo started; sleep 100")
        c.running(job)
        assert "1 worker of other servers runs jobs of this one" in c.cpcc("status").done()
        # c knows it first: it has given the job to a, which may not have heard of it yet.
        c.until(lambda: servers(c)[server_id(a)].busy_cores, "a knows that its worker has something to do")
        found = servers(c)
        assert found[server_id(a)].working_for == {server_id(c): 1}
        assert (found[server_id(a)].workers, found[server_id(a)].busy_cores) == (1, 1)
        assert found[server_id(b)].peers in ((server_id(a), server_id(c)), (server_id(c), server_id(a)))
        b.kill_server()
        b.start()
        c.cpcc("cancel", job).done()
        c.in_state(job, "cancelled")
        again = c.shell("echo again")
        c.success_of(again)


def test_what_runs_when_trust_ends_may_come_to_its_end_and_is_handed_in_when_there_is_trust_again(
    chain: tuple[Network, Network, Network],
) -> None:
    a, b, _ = chain
    gate = a.directory / "gate"
    with a.working(cores=1) as worker:
        name = a.name(worker)
        job = b.shell(f"until test -e {gate}; do sleep 0.05; done; echo once >> {gate}")
        b.running(job)
        shown = a.cpcc("workers").done()
        assert f"runs 1 job of server {server_id(b)[:8]}" in shown
        a.cpcc("revoke", server_id(b)).done()
        b.in_state(job, "waiting")
        assert "the connected server lends no worker for it now" in b.cpcc("why", job).done()
        a.cpcc("peer", server_id(b), "--lent-cores", "1").done()  # for later
        assert f"runs 1 job of server {server_id(b)[:8]}" in a.cpcc("workers").done()  # it may come to its end
        gate.touch()
        a.until(a.client.custody, "the result is kept")
        a.until(lambda: "runs" not in a.cpcc("workers").done(), "its worker has nothing to do any more")
        (kept,) = a.client.custody()
        assert (kept.owner, kept.job, kept.worker) == (server_id(b), job, name)
        assert "is not trusted here" in a.cpcc("custody").done()
        for one, other in ((a, b), (b, a)):
            one.cpcc("trust", server_id(other), "-y").done()
        b.success_of(job)
        assert gate.read_text() == "once\n"
        a.until(lambda: not a.client.custody(), "nothing is kept any more")
