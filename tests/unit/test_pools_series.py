"""Allocations that are alike are asked for in one request, and each of them is still its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from cpc.core.allocation import MAX_SCRIPT, Handle, Seen, SeenOutcome, SeenState, Wanted
from cpc.core.errors import Unavailable
from cpc.core.resources import Amounts
from cpc.pools.allocation import Event, Reason, State
from cpc.pools.facts import Ask
from cpc.server.pools import series
from cpc.server.principal import SERVER
from cpc.store.transaction import Tx
from tests.helpers.pool_world import PoolWorld
from tests.helpers.stores import sqlite_url


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    made.system.most = 100
    yield made
    made.close()


def test_what_the_system_is_told_and_who_it_is_to_us_follow_from_each_other() -> None:
    base = series.base("cpc-0a1b2c3d-1r2-7")
    assert series.part(series.element(base, 12)) == (base, 12)
    assert series.part("cpc-0a1b2c3d-1r2-7") == ("cpc-0a1b2c3d-1r2-7", 0)
    assert series.handle(f"{base}-3", "9_3") == Handle("9_3", base, 3)
    for token, index, mine in ((base, 3, f"{base}-3"), ("cpc-0a1b2c3d-1r2-7", 0, "cpc-0a1b2c3d-1r2-7")):
        assert series.own(Seen(native="9", token=token, index=index, state=SeenState.WAITING)) == mine


def test_what_is_alike_is_one_request_and_each_worker_enrols_as_its_own(world: PoolWorld) -> None:
    world.pool()
    world.submit(40)
    world.until(lambda: len(world.workers) == 3)
    world.advance(30.0)
    assert world.system.calls.count("submit") == 1
    rows = world.rows()[:3]
    assert [row.native for row in rows] == ["1_0", "1_1", "1_2"]
    (base,) = {series.part(row.token)[0] for row in rows}
    assert [row.token for row in rows] == [f"{base}-{index}" for index in range(3)]
    assert len({row.bundle for row in rows}) == 3
    assert all(row.facts.joined == 1 and row.facts.used for row in rows)
    world.settle()
    assert world.turned_away == 0
    assert {row.facts.reason for row in world.rows()} == {Reason.LEFT}


def test_no_request_is_larger_than_its_script_may_be(world: PoolWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "MOST", 2)
    world.pool()
    world.submit(40)
    world.until(lambda: len(world.workers) == 3)
    assert [row.native for row in world.rows()[:3]] == ["1_0", "1_1", "2"]
    world.settle()


def test_the_script_of_the_longest_series_is_far_below_its_limit(world: PoolWorld) -> None:
    world.pool(max_allocations=2 * series.MOST, backlog=2 * series.MOST)
    world.system.most = world.system.longest = 1000
    world.submit(4 * series.MOST, walltime=3000.0)
    world.known_to_be_long()
    world.until(lambda: world.system.entries)
    script = world.system.entries["1_0"].wanted.script
    assert script.count("BEGIN PRIVATE KEY") == series.MOST
    assert len(script) < MAX_SCRIPT // 3


@pytest.mark.parametrize("what", ["silent", "rubbish"])
def test_a_lost_answer_of_a_series_is_settled_by_the_tokens(world: PoolWorld, what: str) -> None:
    world.pool()
    world.system.trouble.append(("submit", what))
    world.submit(9)
    world.settle()
    assert [row.native for row in world.rows()[:3]] == ["1_0", "1_1", "1_2"]
    owns = [one.own for one in world.system.entries.values()]
    assert len(owns) == len(set(owns))
    assert world.turned_away == 0


def test_half_of_a_series_that_got_lost_is_given_up_and_the_other_half_is_kept(world: PoolWorld) -> None:
    world.pool()
    world.system.trouble.append(("submit", "silent"))
    take = world.system.take

    def losing(wanted: Wanted) -> str:
        native = take(wanted)
        world.system.entries.pop("1_1", None)
        return native

    world.system.take = losing  # type: ignore[method-assign]
    world.submit(30)
    world.settle()
    first, second, third = world.rows()[:3]
    assert (second.facts.reason, second.facts.words) == (Reason.REFUSED, "the submission got lost")
    assert [first.facts.reason, third.facts.reason] == [Reason.LEFT] * 2


@pytest.mark.parametrize("after", [True, False])
def test_a_server_that_dies_between_intention_and_answer_finds_each_of_a_series(world: PoolWorld, after: bool) -> None:
    world.pool()
    take = world.system.take

    def killed(wanted: Wanted) -> str:
        world.system.take = take  # type: ignore[method-assign]
        assert wanted.count == 3
        assert {row.token for row in world.rows()} == {f"{wanted.token}-{index}" for index in range(3)}, "on disk"
        if after:
            take(wanted)
        world.kill()
        raise Unavailable("nobody hears this any more")

    world.system.take = killed  # type: ignore[method-assign]
    world.submit(12)
    world.until(lambda: not world.live)
    world.advance(7.0)
    world.start()
    world.settle()
    assert [row.facts.reason for row in world.rows()[:3]] == [Reason.LEFT if after else Reason.REFUSED] * 3
    owns = [one.own for one in world.system.entries.values()]
    assert len(owns) == len(set(owns))
    assert set(owns) <= {row.token for row in world.rows()}


def test_where_the_system_takes_fewer_than_that_for_now_fewer_are_asked_for(world: PoolWorld) -> None:
    world.pool(max_allocations=8)
    world.system.limit = 3
    world.system.nodes = ("n1", "n2", "n3", "n4")
    world.submit(100)
    world.known_to_be_long()
    world.until(lambda: world.system.alive())
    world.advance(1.0)
    assert [one.native for one in world.system.alive()] == ["1_0", "1_1"]
    refused = [row for row in world.rows() if row.facts.reason is Reason.REFUSED]
    assert len(refused) == 6
    assert {row.facts.words for row in refused} == {"at most 3 of a user"}
    assert world.system.calls.count("submit") == 3, "eight, four, two"
    world.system.limit = 0
    world.settle()


def test_a_limit_on_series_is_asked_for_once_and_is_no_refusal(world: PoolWorld) -> None:
    world.pool(max_allocations=5)
    world.system.longest = 2
    world.system.nodes = ("n1", "n2", "n3", "n4", "n5")
    world.submit(100)
    world.until(lambda: len(world.workers) == 5, 60.0)
    natives = [row.native for row in world.rows() if row.native]
    assert natives == ["1_0", "1_1", "2_0", "2_1", "3"]
    put_off = [row for row in world.rows() if not row.native]
    assert {(row.facts.state, row.facts.reason) for row in put_off} == {(State.ENDED, Reason.CANCELLED)}
    assert "takes 2 at once" in put_off[0].facts.words
    assert not next(iter(world.happening.book.pools.values())).learned.refused.count
    world.settle()


def _asking(world: PoolWorld, then: Callable[[Tx, list[str]], None]) -> list[str]:
    """A series of four is written down, and something happens before it is sent."""
    pool = next(iter(world.happening.book.pools))
    asks = [Ask(pool=pool, nodes=1, each=Amounts(cores=2), walltime=3600.0)] * 4

    def unit(tx: Tx) -> list[str]:
        tokens = [row.token for row in world.happening.ask(tx, asks)]
        then(tx, tokens)
        return tokens

    return world.do(unit)


def test_what_is_not_wanted_any_more_by_the_time_a_series_is_sent_does_not_stay(world: PoolWorld) -> None:
    world.pool(max_allocations=4)
    world.submit(200)

    def cancel(*places: int) -> Callable[[Tx, list[str]], None]:
        def then(tx: Tx, tokens: list[str]) -> None:
            for place in places:
                world.happening.happen(tx, tokens[place], Event.CANCELLED, reason=Reason.CANCELLED, words="a person")

        return then

    tokens = _asking(world, cancel(1, 3))
    world.until(lambda: world.system.entries)
    world.advance(0.05)
    assert list(world.system.entries) == ["1_0", "1_1", "1_2"], "the last one was not even sent"
    assert "\n1) " not in world.system.entries["1_1"].wanted.script, "nobody can enrol with what is not wanted"
    world.until(lambda: not world.system.entries["1_1"].alive, 20.0)
    states = {row.token: (row.facts.state, row.facts.reason) for row in world.rows()}
    assert states[tokens[3]] == (State.ENDED, Reason.CANCELLED)
    world.until(lambda: {row.token for row in world.alive() if row.facts.joined} >= {tokens[0], tokens[2]})
    assert {row.token: row for row in world.rows()}[tokens[1]].facts.reason is Reason.CANCELLED
    sent = world.system.number
    _asking(world, cancel(0, 1, 2, 3))
    world.advance(0.05)
    assert world.system.number == sent, "of which nothing is wanted, nothing is sent"
    world.settle()


def test_cancelling_one_of_a_series_cancels_one(world: PoolWorld) -> None:
    world.pool(idle=30.0)
    world.submit(60)
    world.until(lambda: len(world.workers) == 3)
    second = world.rows()[1]
    world.finish(world.pools.cancel(world.call(), second.token, "too many"))
    world.until(lambda: not world.system.entries["1_1"].alive)
    assert world.system.entries["1_1"].outcome is SeenOutcome.CANCELLED
    assert world.system.entries["1_0"].alive
    assert world.system.entries["1_2"].alive
    world.settle()
    assert [row.facts.reason for row in world.rows()[:3]] == [Reason.LEFT, Reason.CANCELLED, Reason.LEFT]


def test_one_of_a_series_that_is_started_again_is_the_same_allocation(world: PoolWorld) -> None:
    world.pool(idle=30.0)
    world.submit(60)
    world.until(lambda: len(world.workers) == 3)
    world.system.requeue(world.system.entries["1_1"])
    world.until(lambda: any(row.facts.restarts for row in world.alive()))
    assert [row.facts.restarts for row in world.rows()[:3]] == [0, 1, 0]
    world.settle()
    assert world.turned_away == 0


def test_a_series_that_a_lost_life_has_asked_for_is_cancelled_one_by_one(world: PoolWorld) -> None:
    world.pool()
    prefix = world.happening.prefix(next(iter(world.keeper.book.pools)))
    world.submit(1)
    world.until(lambda: world.workers)
    entry = next(iter(world.system.entries.values()))
    world.system.take(replace(entry.wanted, token=f"{prefix}9r999s", count=2))
    world.keeper.hands[next(iter(world.keeper.hands))].look(search=True)
    world.until(lambda: not world.alive())
    assert {world.system.entries[native].outcome for native in ("2_0", "2_1")} == {SeenOutcome.CANCELLED}
    assert world.events("allocation.orphaned") == 2


@pytest.mark.parametrize("what", ["", "limit", "rubbish"])
def test_what_was_sent_is_not_sent_again_because_the_answer_could_not_be_written(world: PoolWorld, what: str) -> None:
    world.pool()
    if what:
        world.system.trouble.append(("submit", what))
    take, requests = world.system.take, next(iter(world.keeper.hands.values()))._requests
    store = requests._store

    def taken(wanted: Wanted) -> str:
        requests._store = Away()  # type: ignore[assignment]
        return take(wanted)

    world.system.take = taken  # type: ignore[method-assign]
    world.submit(40)
    world.until(lambda: world.system.entries)
    world.advance(12.0)
    assert world.finish(world.pools.get(SERVER, "hpc")).state == "unreachable"
    world.system.take = take  # type: ignore[method-assign]
    requests._store = store
    world.settle()
    owns = [one.own for one in world.system.entries.values()]
    assert len(owns) == len(set(owns))
    assert len(owns) <= 4


class Away:
    """A database that takes no writes."""

    async def write(self, unit: object) -> None:
        raise Unavailable("the database does not answer")
