"""The one writer, on both databases: what is answered is on disk, what is refused leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from twisted.internet import defer
from twisted.internet.task import Clock as FakeReactor

from cpc.core.errors import BadInput, Unavailable
from cpc.store import database, schema, statement
from cpc.store.database import DatabaseAway, DatabaseFull
from cpc.store.statement import Statement
from cpc.store.store import Store
from cpc.store.transaction import Tx
from tests.helpers.stores import HeldThreads, ManualClock, open_store, result

_SET = statement.insert(schema.settings)
_ALL = Statement(sa.select(schema.settings.c.name).order_by(schema.settings.c.name))


def put(name: str) -> Any:
    def unit(tx: Tx) -> str:
        tx.run(_SET, {"name": name, "value": ""})
        return name

    return unit


def names(store: Store) -> list[str]:
    return [row[0] for row in result(store.read(lambda tx: tx.rows(_ALL)))]


Held = tuple[Store, HeldThreads, list[str]]


@pytest.fixture
def held(database_url: str) -> Iterator[Held]:
    """A store whose units collect until `go`; also what it called fatal."""
    threads, fatal = HeldThreads(), list[str]()
    store = Store(
        database_url, writing=threads, reading=threads, clock=ManualClock(), reactor=FakeReactor(),
        fatal=fatal.append, holder="me",
    )  # fmt: skip
    yield store, threads, fatal
    closing = defer.ensureDeferred(store.close())
    threads.go()
    result(closing)


def test_what_is_answered_is_there_for_another_connection(store: Store) -> None:
    assert result(store.write(put("a"))) == "a"
    other = database.connect(store.url, read_only=True)
    other.begin(read_only=True)
    assert other.fetch(_ALL.on(other.dialect)[0]) == [("a",)]
    other.rollback()
    other.close()


def test_a_disk_that_fills_up_at_the_tidying_costs_nothing_that_was_committed(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is on disk by then: it is answered, and the server goes on."""
    store, threads, fatal = held

    def full() -> None:
        raise DatabaseFull("no space left")

    monkeypatch.setattr(store.writer._database, "tidy", full)
    answer = store.write(put("a"))
    threads.go()
    assert result(answer) == "a"
    assert fatal == []


def test_a_refusal_in_a_batch_leaves_the_others_alone(held: Held) -> None:
    store, threads, _ = held

    def refuse(tx: Tx) -> None:
        raise BadInput("no")

    def refuse_late(tx: Tx) -> None:
        put("half")(tx)
        raise BadInput("no")

    first = [store.write(unit) for unit in (put("a"), refuse, put("b"), refuse_late, put("a"), put("c"))]
    threads.go()
    outcomes = [answer.result for answer in first]
    assert outcomes[0] == "a"
    assert outcomes[1].check(BadInput)
    assert outcomes[2] == "b"
    assert outcomes[3].check(BadInput)
    assert outcomes[4].check(database.StatementError)
    assert outcomes[5] == "c"
    for place in (1, 3, 4):
        first[place].addErrback(lambda _: None)
    found: list[list[Any]] = []
    store.read(lambda tx: tx.rows(_ALL)).addCallback(found.append)
    threads.go()
    assert found == [[("a",), ("b",), ("c",)]]


def test_effects_run_after_the_commit_and_never_for_what_was_undone(held: Held) -> None:
    store, threads, _ = held
    seen: list[str] = []

    def good(tx: Tx) -> None:
        put("a")(tx)
        tx.after(lambda: seen.append("good"))
        assert not seen

    def bad(tx: Tx) -> None:
        put("b")(tx)
        tx.after(lambda: seen.append("bad"))
        raise RuntimeError("a defect")

    store.write(good)
    failed = store.write(bad)
    failed.addErrback(lambda failure: failure.trap(RuntimeError))
    threads.go()
    assert seen == ["good"]


def test_memory_is_what_it_was_when_a_unit_is_undone(store: Store) -> None:
    memory: list[int] = []

    def unit(tx: Tx) -> None:
        memory.append(1)
        store.journal.note(memory.pop)
        put("a")(tx)
        raise BadInput("no")

    with pytest.raises(BadInput):
        result(store.write(unit))
    assert not memory
    assert names(store) == []


def test_ids_and_events_of_an_undone_unit_are_not_skipped_in_the_log(store: Store) -> None:
    before = result(store.write(lambda tx: tx.event("server", "x")))

    def unit(tx: Tx) -> None:
        tx.event("server", "y")
        raise BadInput("no")

    with pytest.raises(BadInput):
        result(store.write(unit))
    assert result(store.write(lambda tx: tx.event("server", "z"))) == before + 1


def test_numbers_go_on_after_a_restart(store: Store) -> None:
    first = result(store.write(lambda tx: tx.next("thing", 5)))
    again = open_store(store.url, holder="me again")
    second = result(again.write(lambda tx: tx.next("thing")))
    assert second > first + 4
    result(defer.ensureDeferred(again.close()))


def test_a_second_server_on_the_database_stops_the_first(held: Held) -> None:
    store, threads, fatal = held
    second = open_store(store.url, holder="another")
    failed = store.write(put("a"))
    threads.go()
    with pytest.raises(Unavailable, match="taken over"):
        result(failed)
    assert fatal
    assert names(second) == []
    with pytest.raises(Unavailable):
        result(store.write(put("b")))
    result(defer.ensureDeferred(second.close()))


def test_numbers_of_a_commit_in_doubt_go_on(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first number of a kind was in a commit whose answer was lost: its counter is on disk all the same."""
    store = open_store(database_url)
    connection = store.writer._database
    commit = connection.commit

    def lost() -> None:
        commit()
        raise DatabaseAway("the connection was lost")

    monkeypatch.setattr(connection, "commit", lost)
    answer = store.write(lambda tx: tx.next("thing"))
    store.writer._reactor.advance(1.0)  # type: ignore[attr-defined]
    assert result(store.write(lambda tx: tx.next("thing"))) > result(answer)
    result(defer.ensureDeferred(store.close()))


def test_a_database_that_is_full_when_it_is_asked_about_a_lost_commit_is_asked_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(database_url)
    connect, broken = store.writer._connect, [True]

    def full() -> Any:
        made = connect()
        if broken:
            broken.pop()
            monkeypatch.setattr(made, "fetch", lambda *_: (_ for _ in ()).throw(DatabaseFull("no space left")))
        return made

    monkeypatch.setattr(store.writer, "_connect", full)
    monkeypatch.setattr(store.writer._database, "commit", lambda: (_ for _ in ()).throw(DatabaseAway("lost")))
    answer = store.write(put("a"))
    store.writer._reactor.advance(1.0)  # type: ignore[attr-defined]
    assert store.writer.away
    store.writer._reactor.advance(1.0)  # type: ignore[attr-defined]
    assert result(answer) == "a"
    result(defer.ensureDeferred(store.close()))


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("lost_at", [1, 2, 3])
def test_of_units_decided_one_by_one_each_is_on_disk_once_when_the_connection_breaks_between_them(
    held: Held, lost_at: int, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of four is refused after it had written something, so that each is committed by itself; the connection breaks at one of
    these commits."""
    store, threads, _ = held
    connection = store.writer._database
    commit, commits, effects = connection.commit, list[int](), list[str]()

    def lost() -> None:
        commits.append(1)
        if len(commits) != lost_at:
            return commit()
        if committed:
            commit()
        else:
            connection.rollback()
        raise DatabaseAway("the connection was lost")

    def noted(name: str) -> Any:
        def unit(tx: Tx) -> str:
            tx.after(lambda: effects.append(name))
            return str(put(name)(tx))

        return unit

    def refuse_late(tx: Tx) -> None:
        put("half")(tx)
        raise BadInput("no")

    monkeypatch.setattr(connection, "commit", lost)
    first = [store.write(unit) for unit in (noted("a"), refuse_late, noted("b"), noted("c"))]
    threads.go()
    assert store.writer.away
    assert [answer.called for answer in first] == [lost_at > 1, lost_at > 1, lost_at > 2, False]
    store.writer._reactor.advance(1.0)  # type: ignore[attr-defined]
    threads.go()
    assert [first[place].result for place in (0, 2, 3)] == ["a", "b", "c"]
    assert first[1].result.check(BadInput)
    first[1].addErrback(lambda _: None)
    assert effects == ["a", "b", "c"]
    last = store.write(put("d"))
    found: list[list[Any]] = []
    threads.go()
    store.read(lambda tx: tx.rows(_ALL)).addCallback(found.append)
    threads.go()
    assert last.result == "d"
    assert found == [[("a",), ("b",), ("c",), ("d",)]]


@pytest.mark.parametrize("committed", [True, False])
def test_nobody_is_answered_until_a_lost_commit_is_resolved(
    database_url: str, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks at COMMIT: the sequence number in the database says what happened."""
    store = open_store(database_url)
    connection = store.writer._database
    commit = connection.commit

    def lost() -> None:
        monkeypatch.setattr(connection, "commit", commit)
        if committed:
            commit()
        else:
            connection.rollback()
        raise DatabaseAway("the connection was lost")

    monkeypatch.setattr(connection, "commit", lost)
    runs: list[int] = []

    def unit(tx: Tx) -> str:
        runs.append(1)
        return str(put("a")(tx))

    answer = store.write(unit)
    assert not answer.called
    assert store.writer.away
    store.writer._reactor.advance(1.0)  # type: ignore[attr-defined]
    assert result(answer) == "a"
    assert len(runs) == (1 if committed else 2)
    assert names(store) == ["a"]
    assert not store.writer.away
    result(defer.ensureDeferred(store.close()))
