"""The figures of /metrics that are added up where things happen: each changes for its own reason and for no other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer

from cpc.core.clock import SECOND
from cpc.core.digest import CHUNK
from cpc.core.errors import BadInput
from cpc.core.resources import GIB, Amounts
from cpc.queue import why
from cpc.queue.window import CAPACITY
from cpc.server import joining, pending
from cpc.server.tallies import Tallies
from cpc.store import figures, projects
from cpc.store.database import SQLite
from cpc.store.store import Store
from tests.helpers.benches import Bench
from tests.helpers.files import Shop, block, content_of, wait
from tests.helpers.programs import Program
from tests.helpers.stores import ManualClock, open_store, sqlite_url
from tests.helpers.worker_fixture import world


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def counted(bench: Bench) -> dict[str, int]:
    """The reasons that are not zero. All of them are there, and every job that waits has one."""
    found = wait(pending.reasons(bench.store, bench.queue))
    assert tuple(found) == why.KINDS
    assert sum(found.values()) == sum(window.total for window in bench.queue.index.windows.values())
    return {kind: count for kind, count in found.items() if count}


# --- why jobs wait ---


def test_a_reason_is_counted_while_it_holds(bench: Bench) -> None:
    assert counted(bench) == {}
    bench.submit(array=7)
    assert counted(bench) == {"no-worker": 7}
    worker = bench.worker("w", cores=2, wants=False)
    assert counted(bench) == {"stepped-back": 7}
    bench.submit(array=3, labels=("gpu",))
    assert counted(bench) == {"stepped-back": 7, "nobody": 3}
    bench.turn(worker)
    assert counted(bench) == {"full": 5, "nobody": 3}
    bench.do(lambda tx: joining.drain(bench.queue, tx, joining.find(tx, "w"), "disk", True, "user:root"))
    assert counted(bench) == {"draining": 5, "nobody": 3}
    bench.queue.index.paused.add(bench.project)
    assert counted(bench) == {"paused": 8}


def test_projects_with_workers_of_their_own_are_told_apart(bench: Bench) -> None:
    other = bench.do(lambda tx: projects.add(tx, "q", 1, 0, 1.0)).id
    bench.worker(cores=1, project="q")
    bench.submit(array=2)
    bench.submit(array=5, project=other)
    assert counted(bench) == {"no-worker": 2, "full": 4}


def test_a_job_that_gives_way_to_another_is_counted_so(bench: Bench) -> None:
    worker = bench.worker("w", cores=4)
    first = bench.submit("first", array=4)
    big = bench.submit("big", need=Amounts(cores=4))
    bench.submit("small", array=2)
    bench.do(lambda tx: bench.queue.index.change(worker, reserved=big))
    bench.report(worker, worker.leases[first])
    assert counted(bench) == {"full": 1, "turn": 2}


def test_what_memory_does_not_hold_is_counted_all_the_same(bench: Bench) -> None:
    bench.submit(array=CAPACITY, need=Amounts(cores=2))
    bench.restart()
    assert not any(window.entries for window in bench.queue.index.windows.values())
    assert counted(bench) == {"no-worker": CAPACITY}
    assert not any(window.entries for window in bench.queue.index.windows.values())


def test_the_exact_need_of_the_first_job_counts_where_its_class_would_fit(bench: Bench) -> None:
    bench.worker("w", total=Amounts(cores=4, memory=10 * GIB))
    bench.submit(need=Amounts(cores=1, memory=10 * GIB + 1))
    assert counted(bench) == {"nobody": 1}


def oldest(bench: Bench) -> float:
    """Since when the oldest one waits, by the bench's clock."""
    classes = [(window.project, window.requirement) for window in bench.queue.index.windows.values() if window.total]
    found = bench.do(lambda tx: figures.oldest_waiting(tx, classes))
    return (found - bench.clock.now()) / SECOND + bench.clock.seconds if found is not None else math.nan


def test_the_oldest_job_that_waits_is_found_behind_others_of_its_class_and_priority(database_url: str) -> None:
    bench = Bench(url=database_url)
    assert math.isnan(oldest(bench))
    bench.submit(array=3, priority=-1)  # the oldest, and the last one of its class
    first = oldest(bench)
    for priority in (5, 0):
        bench.clock.seconds += 10
        bench.submit(array=100, priority=priority)
    bench.submit(array=3, labels=("gpu",))
    assert oldest(bench) == first
    worker = bench.worker("w", cores=203)
    assert len(worker.leases) == 203
    assert oldest(bench) == first + 20, "the one of the other class"
    bench.close()


def test_the_look_for_the_oldest_job_is_short_however_many_wait(bench: Bench) -> None:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def cost(jobs: int) -> int:
        nonlocal steps
        bench.submit(array=jobs, priority=jobs % 7)
        database = bench.store.writer._database
        assert isinstance(database, SQLite)
        database._db.set_progress_handler(count, 1)
        steps = 0
        oldest(bench)
        database._db.set_progress_handler(None, 1)
        return steps

    few = cost(101)
    assert cost(20_000) < 3 * few


def test_a_long_look_lets_the_writer_go_on_in_between(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for cores in range(1, 6):
        bench.submit(array=cores, need=Amounts(cores=cores))
    bench.worker(cores=3, wants=False)
    whole = counted(bench)
    monkeypatch.setattr(pending, "STEP", 1)
    units = []
    write = bench.store.write
    monkeypatch.setattr(bench.store, "write", lambda unit: units.append(unit) or write(unit))
    assert counted(bench) == whole == {"stepped-back": 6, "nobody": 9}
    assert len(units) > 5


# --- transactions ---


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Store, ManualClock]]:
    clock = ManualClock()
    made = open_store(sqlite_url(tmp_path), clock)
    yield made, clock
    wait(made.close())


def test_the_time_of_a_transaction_counts_if_it_was_committed(store: tuple[Store, ManualClock]) -> None:
    here, clock = store
    took: list[float] = []
    here.writer.took = took.append

    def lasting(seconds: float, then: Callable[[Any], object]) -> defer.Deferred[Any]:
        def unit(tx: Any) -> object:
            clock.seconds += seconds
            return then(tx)

        return here.write(unit)

    def refuse(tx: Any) -> None:
        tx.event("server", "server.started")
        raise BadInput("no")

    lasting(3.0, lambda tx: tx.event("server", "server.started"))
    lasting(5.0, lambda tx: None)
    lasting(7.0, refuse).addErrback(lambda failure: failure.trap(BadInput))
    lasting(11.0, lambda tx: tx.event("server", "server.stopped"))
    assert took == [3.0, 11.0]


# --- files ---


def test_bytes_of_files_are_counted_when_they_have_arrived_or_left(tmp_path: Path) -> None:
    shop, tallies = Shop(tmp_path), Tallies()
    shop.files.moved = tallies.move
    data = block(1) + block(2, 500)
    shop.upload(data)
    assert tallies.moved == {"in": CHUNK + 500}
    shop.upload(data)  # it is there already
    assert tallies.moved == {"in": CHUNK + 500}
    shop.fetch(content_of(data))
    assert tallies.moved == {"in": CHUNK + 500, "out": CHUNK + 500}
    piece = content_of(data).chunks[1]
    assert len(wait(shop.files.chunk(1, piece))) == 500
    assert tallies.moved["out"] == CHUNK + 1000
    digest = content_of(block(3, 70_000)).digest
    with pytest.raises(BadInput):
        wait(shop.files.put_chunk(1, digest, b"something else"))
    wait(shop.files.put_chunk(1, digest, block(3, 70_000)))
    assert tallies.moved["in"] == CHUNK + 70_500
    shop.end()


def test_small_contents_that_come_in_a_report_are_counted(bench: Bench) -> None:
    from tests.helpers.settlements import files

    worker = bench.worker()
    job = bench.submit()
    manifest, small = files(b"hello")
    bench.report(worker, worker.leases[job], files=manifest, small=small)
    assert bench.queue.tallies.moved == {"in": 5}


def test_how_long_files_were_under_way_is_taken_from_the_worker_once_and_only_if_it_can_be(bench: Bench) -> None:
    seen: list[tuple[str, float]] = []
    bench.queue.tallies.staged = lambda direction, seconds: seen.append((direction, seconds))
    worker = bench.worker()
    job = bench.submit(array=4)
    lease = worker.leases[job]
    bench.report(worker, lease, stage_in_seconds=2.0, stage_out_seconds=3.0)
    assert seen == [("in", 2.0), ("out", 3.0)]
    bench.report(worker, lease, stage_in_seconds=2.0, stage_out_seconds=3.0)  # told again
    bench.report(worker, worker.leases[job + 1])  # it had no files
    bench.report(worker, worker.leases[job + 2], stage_in_seconds=math.inf, stage_out_seconds=math.nan)
    bench.report(worker, worker.leases[job + 3], stage_in_seconds=-1.0, stage_out_seconds=1e300)
    assert seen == [("in", 2.0), ("out", 3.0)]


def test_the_worker_says_how_long_files_were_under_way() -> None:
    here = world(make=Program(50.0, writes=((0.5, "big.dat", bytes(5 << 20)),)))
    data = here.script.put_file(bytes(9 << 20))
    fetching = here.script.add(1, "true", inputs=(("in", data, False),))
    making = here.script.add(2, "make")
    plain = here.script.add(3, "true")
    here.worker()
    here.until(lambda: all(here.script.settled(job) for job in (fetching, making, plain)))
    said = [here.script.results[job][0] for job in (fetching, making, plain)]
    assert [(one.stage_in_seconds > 0, one.stage_out_seconds > 0) for one in said] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    assert all(one.stage_in_seconds + one.stage_out_seconds < 50 for one in said)  # transfers, not the program
