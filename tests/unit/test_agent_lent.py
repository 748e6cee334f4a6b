"""A worker with jobs of several servers: their numbers may be the same, and everything about them is kept apart."""

from __future__ import annotations

from typing import Any

from cpc.core import ids
from cpc.core.lease import Lease
from cpc.core.resources import Amounts
from cpc.wire.messages import Orders, Task
from tests.helpers.programs import Program
from tests.helpers.worker_fixture import expected, world
from tests.helpers.worker_world import Script

__all__ = ["expected"]


def of(path: str, number: int = 1) -> Lease:
    return Lease(ids.make(1, number), 1, 1, path)


def add(script: Script, lease: Lease, *argv: str, cores: int = 1, **fields: Any) -> None:
    script.tasks.append(Task(lease=lease, project=ids.make(1, 1), granted=Amounts(cores=cores), argv=argv, **fields))


def test_jobs_of_the_same_number_run_side_by_side_and_each_result_is_its_own() -> None:
    leases = [of(""), of("b"), of("b/c"), of("c")]
    programs = {
        f"p{place}": Program(10.0, writes=((1.0, "out", f"I am {lease.path}".encode()),))
        for place, lease in enumerate(leases)
    }
    here = world(**programs)
    for place, lease in enumerate(leases):
        add(here.script, lease, f"p{place}")
    here.worker()
    here.until(lambda: all(here.script.settled(lease) for lease in leases))
    for lease in leases:
        assert here.script.file(lease, "out") == f"I am {lease.path}".encode()


def test_a_hello_tells_what_runs_for_others_and_what_it_was_granted() -> None:
    here = world(md=Program(500.0))
    add(here.script, of("b/c"), "md", cores=2, env={"CPC_INDEX": "0"})
    add(here.script, of("b"), "md", cores=1)
    add(here.script, of(""), "md")
    here.worker()
    here.until(lambda: len(here.script.leased) == 3)
    here.reactor.advance(5.0)
    here.restart_server(10.0)
    here.until(lambda: len(here.script.hellos) == 2)
    hello = here.script.hellos[-1]
    assert hello.paths
    assert {held.lease: held.granted.cores for held in hello.lent} == {of("b/c"): 2, of("b"): 1}
    assert {held.lease.path: held.first for held in hello.lent} == {"b/c": True, "b": False}
    assert not any(held.waits for held in hello.lent)
    assert set(hello.holds) == {of("b/c"), of("b"), of("")}


def test_what_was_not_handed_in_for_others_is_handed_in_by_the_next_worker_there() -> None:
    here = world(a=Program(5.0, writes=((1.0, "out", b"a"),)), b=Program(5.0, writes=((1.0, "out", b"b"),)))
    here.script.settle = False
    add(here.script, of(""), "a")
    add(here.script, of("b/c"), "b")
    worker = here.worker()
    here.until(lambda: len(here.script.results) == 2)
    worker.kill()
    here.script.results.clear()
    here.script.settle = True
    here.worker(name="n1", pid=101)
    here.until(lambda: here.script.settled(of("b/c")) and here.script.settled(of("")), within=2000.0)
    assert here.script.file(of("b/c"), "out") == b"b"
    assert here.script.file(of(""), "out") == b"a"


def test_a_cancel_means_the_job_of_that_owner() -> None:
    here = world(md=Program(500.0))
    for path in ("", "b"):
        add(here.script, of(path), "md")
    worker = here.worker()
    here.until(lambda: len(here.script.leased) == 2)
    here.reactor.advance(5.0)
    here.server.push(Orders(cancel=((of("b"), "not wanted"),)))
    here.reactor.advance(60.0)
    assert set(worker.agent.desk.attempts) == {of("")}
