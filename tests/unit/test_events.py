"""The event log for people: pages and streams lose nothing, repeat nothing, and show what one's roles allow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

from cpc.core import ids
from cpc.core.errors import BadInput, CopernicusError, Denied, Gone, NotFound, NotLoggedIn
from cpc.core.spec import JobSpec
from cpc.core.views import EventView
from cpc.server import events as events_service
from cpc.server.principal import SERVER, Principal
from cpc.store import arrays, history, projects
from cpc.store.arrays import ArrayRow
from cpc.store.transaction import Tx
from tests.helpers.people import People, people
from tests.helpers.stores import sqlite_url


@pytest.fixture
def world(database_url: str) -> Iterator[People]:
    yield from people(database_url)


class Watcher:
    """Reads a stream to its end, or as long as it gives something."""

    def __init__(self, world: People, who: Principal, after: int = 0, **wanted: str) -> None:
        self.seen: list[EventView] = []
        self.error: BaseException | None = None
        filters = {"kind": "", "project": "", "job": "", **wanted}
        self._running: Deferred[None] = ensureDeferred(self._watch(world.events.stream(who, after, **filters)))
        self._running.addErrback(self._failed)

    async def _watch(self, stream: AsyncIterator[EventView]) -> None:
        async for event in stream:
            self.seen.append(event)

    def _failed(self, failure: Any) -> None:
        self.error = failure.value

    @property
    def numbers(self) -> list[int]:
        return [event.number for event in self.seen]

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.seen]

    def leave(self) -> None:
        if self.error is None:
            self._running.cancel()
            assert isinstance(self.error, CancelledError)


def happen(world: People, *kinds: str, project: str = "", subject: int = 0, **details: Any) -> list[int]:
    """Events in one commit; their numbers."""

    def unit(tx: Tx) -> list[int]:
        row = projects.by_name(tx, project) if project else None
        number = row.id if row else 0
        return [tx.event("test", kind, project=number, subject=subject, **details) for kind in kinds]

    return world.do(world.store.write(unit))


def mark(world: People) -> int:
    """The number of the newest event."""
    return world.store.writer.last_event


# --- pages ---


def test_a_page_ends_where_the_next_one_begins(world: People) -> None:
    root = world.user("root", True)
    after = mark(world)
    made = happen(world, *["server.started"] * 25)
    found: list[int] = []
    while True:
        page = world.do(world.events.page(root, after, limit=10))
        found += [event.number for event in page.items]
        if not page.next:
            break
        after = int(page.next)
    assert found == made


def test_a_page_of_what_is_rare_does_not_read_the_whole_log(world: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_service, "SCAN", 10)
    root = world.user("root", True)
    after = mark(world)
    happen(world, *["server.started"] * 120)
    (rare,) = happen(world, "server.stopped")
    found: list[int] = []
    pages = 0
    while True:
        page = world.do(world.events.page(root, after, kind="server.stopped"))
        found += [event.number for event in page.items]
        pages += 1
        if not page.next:
            break
        assert int(page.next) > after
        after = int(page.next)
    assert found == [rare]
    assert pages == 3


def test_kinds_are_exact_or_a_group(world: People) -> None:
    root = world.user("root", True)
    after = mark(world)
    happen(world, "server.started", "server.stopped", "worker.joined")

    def kinds(wanted: str) -> list[str]:
        return [event.kind for event in world.do(world.events.page(root, after, kind=wanted)).items]

    assert kinds("server.started") == ["server.started"]
    assert kinds("server.*") == ["server.started", "server.stopped"]
    assert kinds("server") == []
    for wanted in ("%", "server.%", "a_b", "*", "x" * 65, "\0"):
        with pytest.raises(BadInput, match="not a kind"):
            kinds(wanted)


def test_one_sees_the_events_of_ones_projects_and_of_workers_and_the_server(world: People) -> None:
    root, ann, eve = world.user("root", True), world.user("ann"), world.user("eve")
    world.project(ann, "alpha")
    after = mark(world)
    happen(world, "job.submitted", project="alpha")
    happen(world, "worker.joined", "server.started", "user.changed", "workershop.opened")
    assert world.kinds(root, after) == [
        "job.submitted", "worker.joined", "server.started", "user.changed", "workershop.opened",
    ]  # fmt: skip
    assert world.kinds(ann, after) == ["job.submitted", "worker.joined", "server.started"]
    assert world.kinds(eve, after) == ["worker.joined", "server.started"]
    with pytest.raises(NotFound):
        world.do(world.events.page(eve, after, project="alpha"))
    page = world.do(world.events.page(ann, after, project="alpha"))
    assert [(event.kind, event.project) for event in page.items] == [("job.submitted", "alpha")]


def test_a_token_for_one_project_sees_no_events_of_another(world: People) -> None:
    root = world.user("root", True)
    world.project(root, "alpha")
    world.project(root, "beta")
    token, _ = world.do(world.accounts.make_token(world.call(root), "t", "project:alpha", 3600.0))
    who = world.do(world.accounts.authenticate(token))
    after = mark(world)
    happen(world, "job.submitted", project="alpha")
    happen(world, "job.submitted", project="beta")
    happen(world, "user.changed", "worker.joined")
    page = world.do(world.events.page(who, after))
    assert [(event.kind, event.project) for event in page.items] == [("job.submitted", "alpha"), ("worker.joined", "")]


def test_subjects_are_shown_as_people_know_them(world: People) -> None:
    root = world.user("root", True)
    after = mark(world)
    happen(world, "job.started", subject=ids.make(1, 57), jobs=["57[3]"])
    happen(world, "job.started", subject=ids.make(1, 57), jobs=["57[3]", "57[4]"])
    happen(world, "worker.joined", subject=ids.make(1, 9), worker="w9")
    happen(world, "user.changed", subject=ids.make(1, 8), name="ann")
    happen(world, "other.thing", subject=ids.make(1, 7))
    shown = [event.subject for event in world.do(world.events.page(root, after)).items]
    assert shown == ["57[3]", "57", "w9", "ann", "7"]


def test_what_retention_has_removed_is_gone_not_skipped(world: People) -> None:
    root, ann = world.user("root", True), world.user("ann")
    world.project(ann, "alpha")
    after = mark(world)
    happen(world, "job.submitted", "job.succeeded", project="alpha")
    happen(world, "worker.joined")
    world.do(world.store.write(lambda tx: history.trim_events(tx, -1, tx.now + 1, 0, 1000)))
    for who, project in ((root, ""), (ann, ""), (ann, "alpha")):
        with pytest.raises(Gone, match="retention"):
            world.do(world.events.page(who, after, project=project))
        watcher = Watcher(world, who, after, project=project)
        assert isinstance(watcher.error, Gone)
    assert "worker.joined" in world.kinds(root, 0)
    assert world.kinds(ann, after + 2) == ["worker.joined"]


# --- the audit ---


def test_the_audit_is_in_order_and_in_pages(world: People) -> None:
    root, ann = world.user("root", True), world.user("ann")
    after = mark(world)
    happen(world, *["job.started"] * 50)
    world.project(ann, "alpha")
    world.do(world.projects.grant(world.call(ann), "alpha", "root", "viewer"))
    world.do(world.settings.set(world.call(root), "beats", "5"))
    happen(world, *["worker.joined"] * 5)
    first = world.do(world.events.audit(root, after, limit=2))
    second = world.do(world.events.audit(root, int(first.next), limit=2))
    kinds = [event.kind for event in (*first.items, *second.items)]
    assert (kinds, second.next) == (["project.created", "member.granted", "setting.changed"], "")
    only = world.do(world.events.audit(root, after, user="root"))
    assert [event.kind for event in only.items] == ["setting.changed"]
    with pytest.raises(Denied):
        world.do(world.events.audit(ann))


# --- streams ---


def test_a_stream_gives_what_was_and_then_what_comes(world: People) -> None:
    root = world.user("root", True)
    after = mark(world)
    before = happen(world, "worker.joined", "worker.left")
    watcher = Watcher(world, root, after)
    assert watcher.numbers == before
    later = happen(world, "worker.joined")
    assert watcher.numbers == before + later
    watcher.leave()
    happen(world, "worker.joined")
    assert watcher.numbers == before + later


def test_an_idle_watcher_costs_no_reads(world: People) -> None:
    root = world.user("root", True)
    watchers = [Watcher(world, root, mark(world)) for _ in range(20)]
    reads: list[Any] = []
    read = world.store.read
    world.store.read = lambda unit: reads.append(unit) or read(unit)  # type: ignore[method-assign, func-returns-value]
    world.do(world.store.write(lambda tx: tx.next("nothing")))
    assert reads == []
    happen(world, "worker.joined")
    first = len(reads)
    happen(world, "worker.joined")
    # One read for all; each of them had to learn once what it may see.
    assert len(reads) - first == 1
    assert all(len(watcher.seen) == 2 for watcher in watchers)
    for watcher in watchers:
        watcher.leave()
    happen(world, "worker.joined")
    assert len(reads) - first == 1


def test_a_watcher_who_resumes_by_number_loses_and_repeats_nothing(world: People) -> None:
    root = world.user("root", True)
    after = mark(world)
    made: list[int] = []
    seen: list[int] = []
    for size in (3, 1, 4, 1, 5):
        watcher = Watcher(world, root, seen[-1] if seen else after)
        made += happen(world, *["worker.joined"] * size)
        watcher.leave()
        made += happen(world, *["worker.left"] * size)
        seen += watcher.numbers
    watcher = Watcher(world, root, seen[-1])
    assert seen + watcher.numbers == made
    watcher.leave()


def test_a_fresh_database_is_watched_from_the_first_event(world: People) -> None:
    watcher = Watcher(world, SERVER, 0)
    made = happen(world, "server.started")
    assert watcher.numbers == made
    watcher.leave()


def test_more_than_the_tail_holds_is_not_lost(world: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_service, "TAIL", 5)
    monkeypatch.setattr(events_service, "SCAN", 3)
    root = world.user("root", True)
    watcher = Watcher(world, root, mark(world))
    made: list[int] = []
    for size in (1, 4, 5, 6, 40, 2):
        made += happen(world, *["worker.joined"] * size)
    assert watcher.numbers == made
    watcher.leave()


def test_who_comes_from_before_the_tail_reads_the_log(world: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_service, "TAIL", 5)
    root = world.user("root", True)
    after = mark(world)
    first = Watcher(world, root, after)
    made: list[int] = []
    for _ in range(4):
        made += happen(world, *["worker.joined"] * 3)
    second = Watcher(world, root, after)
    assert first.numbers == second.numbers == made
    first.leave()
    second.leave()


def test_a_stream_of_one_project_ends_when_the_role_does(world: People) -> None:
    ann, bob = world.user("ann"), world.user("bob")
    world.project(ann, "alpha")
    world.do(world.projects.grant(world.call(ann), "alpha", "bob", "viewer"))
    narrow = Watcher(world, bob, mark(world), project="alpha")
    wide = Watcher(world, bob, mark(world))
    happen(world, "job.submitted", project="alpha")
    world.do(world.projects.revoke(world.call(ann), "alpha", "bob"))
    happen(world, "job.started", project="alpha")
    happen(world, "worker.joined")
    assert narrow.kinds == ["job.submitted"]
    assert isinstance(narrow.error, NotFound)
    assert (wide.kinds, wide.error) == (["job.submitted", "worker.joined"], None)
    wide.leave()


def test_a_new_role_is_seen_by_a_stream_that_is_open(world: People) -> None:
    ann, bob = world.user("ann"), world.user("bob")
    world.project(ann, "alpha")
    watcher = Watcher(world, bob, mark(world))
    happen(world, "job.submitted", project="alpha")
    world.do(world.projects.grant(world.call(ann), "alpha", "bob", "viewer"))
    happen(world, "job.started", project="alpha")
    assert watcher.kinds == ["member.granted", "job.started"]
    watcher.leave()


def test_a_deleted_user_watches_no_longer(world: People) -> None:
    root, ann = world.user("root", True), world.user("ann")
    watcher = Watcher(world, ann, mark(world))
    world.do(world.accounts.delete_user(world.call(root), "ann"))
    assert isinstance(watcher.error, NotLoggedIn)


def test_a_stream_about_one_job_shows_its_events_only(world: People) -> None:
    ann, eve = world.user("ann"), world.user("eve")
    world.project(ann, "alpha")
    number = add_array(world, "alpha")
    shown = ids.show(number)
    one = Watcher(world, ann, mark(world), job=f"{shown}[1]")
    every = Watcher(world, ann, mark(world), job=shown)
    happen(world, "job.submitted", project="alpha", subject=number, jobs=[shown])
    happen(world, "job.started", project="alpha", subject=number, jobs=[f"{shown}[1]"])
    happen(world, "job.started", project="alpha", subject=number, jobs=[f"{shown}[2]"])
    happen(world, "job.started", project="alpha", subject=ids.make(1, 999), jobs=["999"])
    assert [event.subject for event in one.seen] == [shown, f"{shown}[1]"]
    assert [event.subject for event in every.seen] == [shown, f"{shown}[1]", f"{shown}[2]"]
    for who, job in ((eve, shown), (ann, "12345")):
        assert isinstance(Watcher(world, who, 0, job=job).error, NotFound)
    assert isinstance(Watcher(world, ann, 0, job="x").error, BadInput)
    one.leave()
    every.leave()


def add_array(world: People, project: str) -> int:
    """A submission of three jobs."""

    def unit(tx: Tx) -> int:
        row = projects.by_name(tx, project)
        assert row is not None
        number = tx.next("array")
        arrays.add(
            tx,
            ArrayRow(
                id=number, project=row.id, submitter=1, name="", command="x", requirement=1, priority=0,
                size=3, elements=True, submitted=0, open=3, succeeded=0, failed=0, cancelled=0,
            ),
            JobSpec(argv=("x",), array=3),
        )  # fmt: skip
        return number

    return world.do(world.store.write(unit))


def test_a_database_that_is_away_ends_streams_instead_of_stopping_them(world: People) -> None:
    root = world.user("root", True)
    watcher = Watcher(world, root, mark(world))
    read = world.store.read

    def away(unit: Any) -> Any:
        raise CopernicusError("the database is away")

    world.store.read = away  # type: ignore[method-assign]
    happen(world, "worker.joined")
    assert isinstance(watcher.error, CopernicusError)
    world.store.read = read  # type: ignore[method-assign]
    again = Watcher(world, root, mark(world) - 1)
    assert again.kinds == ["worker.joined"]
    again.leave()


_MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("happen"), st.integers(1, 9)),
        st.tuples(st.just("watch"), st.integers(0, 2)),
        st.tuples(st.just("leave"), st.integers(0, 2)),
    ),
    max_size=30,
)


@settings(max_examples=40)
@given(moves=_MOVES, tail=st.integers(1, 6), scan=st.integers(1, 6))
def test_whoever_comes_and_goes_sees_each_event_once_in_order(
    moves: list[tuple[str, int]], tail: int, scan: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events_service, "TAIL", tail)
        patch.setattr(events_service, "SCAN", scan)
        made = people(sqlite_url(tmp_path_factory.mktemp("events")))
        world = next(made)
        ann = world.user("ann")
        world.project(ann, "alpha")
        start = mark(world)
        happened: list[int] = []
        seen: list[list[int]] = [[], [], []]
        open_now: dict[int, Watcher] = {}
        wanted = ({}, {"project": "alpha"}, {"kind": "job.*"})

        def leave(who: int) -> None:
            if who in open_now:
                watcher = open_now.pop(who)
                watcher.leave()
                seen[who] += watcher.numbers

        for move, number in moves:
            if move == "happen":
                kinds = ["user.login"] * (number % 3) + ["job.started"] * number
                happened += happen(world, *kinds, project="alpha")[number % 3 :]
            elif move == "watch" and number not in open_now:
                after = seen[number][-1] if seen[number] else start
                open_now[number] = Watcher(world, ann, after, **wanted[number])
            elif move == "leave":
                leave(number)
        for who in range(3):
            leave(who)
            last = Watcher(world, ann, seen[who][-1] if seen[who] else start, kind="job.*")
            found = seen[who] + last.numbers
            assert [each for each in found if each in happened] == happened
            assert found == sorted(set(found))
            last.leave()
        next(made, None)
