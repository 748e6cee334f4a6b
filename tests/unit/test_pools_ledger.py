"""What pools are charged with, whatever clocks and servers do meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core.allocation import SeenOutcome
from cpc.core.resources import Amounts
from cpc.pools import learning, nodes
from cpc.pools.allocation import Allocation, Reason, State
from cpc.pools.facts import DAY, HOUR, Learned
from cpc.server.principal import SERVER
from cpc.store import pools
from cpc.store.transaction import Tx
from tests.helpers.pool_world import PoolWorld
from tests.helpers.stores import sqlite_url


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    yield made
    made.close()


def test_a_clock_that_was_a_year_ahead_leaves_no_pool_and_no_node_alone_for_a_year(world: PoolWorld) -> None:
    world.pool(budget=10.0)
    number, later = next(iter(world.keeper.book.pools)), world.keeper.book.now + 366 * DAY

    def unit(tx: Tx) -> None:
        book = world.keeper.book
        ran = Allocation(
            token="t", pool=number, state=State.ENDED, asked_at=later, started_at=later, ended_at=later + 3600, joined=1,
            each=Amounts(cores=10), reason=Reason.FAILED,
        )  # fmt: skip
        book.learn(tx, number, learning.refused(learning.ended(Learned(), ran), later, "no"))
        for _ in range(nodes.ENOUGH):
            book.put_node(tx, nodes.failed(book.node(number, "n1"), later, "disk"))

    world.do(unit)
    world.kill()
    world.start()
    book = world.keeper.book
    assert nodes.until(book.node(number, "n1")) <= book.now + nodes.FORGIVE
    world.submit(4)
    world.advance(60.0)
    assert not world.system.entries, "the budget is used up"
    world.advance(DAY + 3 * HOUR)
    assert world.unfinished() == 0
    world.settle()


def test_the_ledger_has_what_allocations_had(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.submit(4)
    world.settle()
    row = world.rows()[0]
    number = next(iter(world.keeper.book.pools))
    days = world.do(lambda tx: pools.days(tx, number, 0))
    assert [day.runs for day in days] == [1]
    had = row.facts.cores * (row.facts.ended_at - row.facts.started_at)
    assert days[0].core_seconds == pytest.approx(had)
    assert world.finish(world.pools.get(SERVER, "hpc")).spent == pytest.approx(had / 3600, rel=0.01)


def test_what_ran_and_ended_while_the_server_was_away_is_paid_for_too(world: PoolWorld) -> None:
    world.pool(max_allocations=1, budget=100.0)
    world.submit(1)
    world.until(world.system.alive)
    entry = world.system.alive()[0]
    world.until(lambda: world.rows()[0].native == entry.native)
    world.kill()
    world.advance(1200.0)
    world.system.end(entry, SeenOutcome.FAILED, "NonZeroExitCode")
    entry.exit = 127
    world.advance(4000.0)
    world.start()
    world.until(lambda: world.rows()[0].facts.state is State.ENDED)
    facts = world.rows()[0].facts
    assert facts.ended_at - facts.started_at == pytest.approx(1200.0, abs=10.0)
    assert world.finish(world.pools.get(SERVER, "hpc")).spent >= 2 * 1190.0 / 3600
    assert facts.words.startswith("exit code 127: a program is not there on the node")
    assert facts.words.endswith("; to see what it prints: cpcc pool set hpc --output FILE")
    world.settle()
