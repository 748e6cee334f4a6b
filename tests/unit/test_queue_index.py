"""The index in memory after a rollback is what it was before the batch, whatever the batch did."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cpc.core import ids
from cpc.core.journal import Journal
from cpc.core.lease import Lease
from cpc.core.resources import Amounts
from cpc.core.spec import JobSpec
from cpc.queue import requirement
from cpc.queue.index import Index
from cpc.queue.session import Running, Session

SMALL = requirement.of(JobSpec(argv=("x",)))
LARGE = requirement.of(JobSpec(argv=("x",), need=Amounts(cores=4)))


def state(index: Index) -> Any:
    """All that decisions look at."""
    windows = {
        place: (list(window.entries), dict(window.tried), window.watermark, window.total)
        for place, window in index.windows.items()
        if window.entries or window.total
    }
    sessions = {
        number: (
            session.free,
            session.wants,
            session.drain,
            session.deadline,
            session.reserved,
            dict(session.leases),
            list(session.ahead),
            set(session.over),
        )
        for number, session in index.sessions.items()
    }
    hungry = {
        number: None for sessions in index._hungry.values() for number in sorted(sessions)
    }  # the order within does not matter
    usage = {project: index.shares.usage(project, 1000.0) for project in (1, 2)}
    running = {
        job: (run.lease, run.rank, run.failures, run.losses, run.checkpoint, run.ahead, run.over)
        for job, run in index.running.items()
    }
    held = {worker: {run.lease for run in index.held(worker)} for worker in index._held}
    alike = {kind: {run.lease for run in runs.values()} for kind, runs in index._alike.items()}
    found = windows, sessions, dict(sorted(hungry.items())), usage, running, held, alike, dict(index._by_worker)
    return copy.deepcopy(found)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["wait", "unwait", "start", "end", "over", "join", "leave", "change", "forget", "charge", "fail"]
        ),
        st.integers(0, 30),
        st.integers(0, 30),
    ),
    max_size=60,
)


class Driver:
    """Does to an index what units of the writer do."""

    def __init__(self) -> None:
        self.index = Index(Journal())
        self.index.requirements = {1: SMALL, 2: LARGE}
        self.jobs = 0
        self.sessions = 0

    def take(self, what: str, one: int, two: int) -> None:
        getattr(self, "_" + what)(one, two)

    def _wait(self, one: int, two: int) -> None:
        self.jobs += 1
        self.index.waiting(1 + one % 2, 1 + two % 2, (-(one % 3), ids.make(1, self.jobs)), (two % 2, 0, two % 2))

    def _waiting(self, one: int) -> tuple[int, int, tuple[int, int]] | None:
        found = [
            (project, need, key)
            for (project, need), window in sorted(self.index.windows.items())
            for key in window.entries
        ]
        return found[one % len(found)] if found else None

    def _unwait(self, one: int, _two: int) -> None:
        if (found := self._waiting(one)) is not None:
            self.index.not_waiting(*found)

    def _start(self, one: int, two: int) -> None:
        found = self._waiting(one)
        if found is None:
            return
        project, need, key = found
        self.index.not_waiting(project, need, key)
        self.index.start(
            Running(
                lease=Lease(key[1], 1 + two, 1), array=key[1], project=project, requirement=need, rank=key[0],
                worker=two % 4, granted=Amounts(cores=1), version="", renewed=0.0, started=0, ahead=two % 3 == 0,
            )
        )  # fmt: skip

    def _run(self, one: int) -> Running | None:
        jobs = sorted(self.index.running)
        return self.index.running[jobs[one % len(jobs)]] if jobs else None

    def _end(self, one: int, _two: int) -> None:
        if (run := self._run(one)) is not None:
            self.index.end(run.lease.job)

    def _over(self, one: int, _two: int) -> None:
        if (run := self._run(one)) is not None and (session := self.index.of_worker(run.worker)) is not None:
            self.index.over(session, run)

    def _fail(self, one: int, _two: int) -> None:
        if (run := self._run(one)) is not None:
            self.index.alter(run, failures=run.failures + 1)

    def _join(self, one: int, two: int) -> None:
        before = self.index.of_worker(one % 4)
        if before is not None:
            self.index.leave(before.number)
        self.sessions += 1
        total = Amounts(cores=40)
        self.index.join(
            Session(
                number=self.sessions, worker=one % 4, name=f"w{one % 4}",
                profile=requirement.profile((), (), total), total=total, free=total, wants=bool(two % 2),
                most_ahead=two % 5,
            )
        )  # fmt: skip

    def _session(self, one: int) -> Session | None:
        numbers = sorted(self.index.sessions)
        return self.index.sessions[numbers[one % len(numbers)]] if numbers else None

    def _leave(self, one: int, _two: int) -> None:
        if (session := self._session(one)) is not None:
            self.index.leave(session.number)

    def _change(self, one: int, two: int) -> None:
        if (session := self._session(one)) is not None:
            values: list[dict[str, object]] = [
                {"wants": two % 2 == 0},
                {"drain": "x"},
                {"drain": None},
                {"reserved": 7},
                {"profile": requirement.profile((("sim", "1"),), (), session.total), "wants": True},
                {"profile": requirement.profile((), (), session.total)},
            ]
            self.index.change(session, **values[two % 6])

    def _forget(self, one: int, two: int) -> None:
        self.index.window(1 + one % 2, 1 + two % 2).forget(two % 3)

    def _charge(self, one: int, two: int) -> None:
        self.index.shares.charge(1 + one % 2, two - 10.0, float(one))


@settings(max_examples=200)
@given(STEPS, STEPS)
def test_a_rollback_leaves_memory_as_it_was(before: list[Any], batch: list[Any]) -> None:
    driver = Driver()
    for step in before:
        driver.take(*step)
    driver.index.journal.forget()
    was = state(driver.index)
    for step in batch:
        driver.take(*step)
    driver.index.journal.undo()
    assert state(driver.index) == was
    assert len(driver.index.journal) == 0


@settings(max_examples=100)
@given(STEPS)
def test_free_is_always_total_less_what_was_granted(steps: list[Any]) -> None:
    driver = Driver()
    for step in steps:
        driver.take(*step)
        for session in driver.index.sessions.values():
            held = {job: run.lease for job, run in driver.index.running.items() if run.worker == session.worker}
            assert session.leases == held
            assert {run.lease.job: run.lease for run in driver.index.held(session.worker)} == held
            runs = [driver.index.running[job] for job in held]
            without = sum(
                run.ahead or run.over for run in runs
            )  # they wait at the worker, or have ended, and hold no room
            assert session.free.cores == session.total.cores - (len(held) - without)
            assert set(session.over) == {run.lease.job for run in runs if run.over}
            assert not set(session.over) & set(session.ahead)


def test_a_worker_is_found_by_what_it_may_be_used_for_now() -> None:
    driver = Driver()
    driver.index.requirements[3] = requirement.of(JobSpec(argv=("x",), executable="sim"))
    driver.take("join", 1, 1)
    (session,) = driver.index.sessions.values()
    window = driver.index.window(1, 3)
    assert list(driver.index.hungry(window)) == []
    former, driver.index.journal = session.profile, Journal()
    for profile in (requirement.profile((("sim", "1"),), (), session.total), former):
        driver.index.change(session, profile=profile)
        assert list(driver.index.hungry(window)) == ([session] if profile.programs else [])
    driver.index.journal.undo()
    assert list(driver.index.hungry(window)) == []


def test_a_program_that_has_ended_holds_no_room_while_its_result_is_on_its_way() -> None:
    """But not more of them than there is room for programs: results would come faster than they can be sent."""
    index, journal = Index(Journal()), Journal()
    index.journal = journal
    index.requirements = {1: SMALL}
    session = Session(
        1, 1, "w", requirement.profile((), (), Amounts(cores=2)), Amounts(cores=2), Amounts(cores=2), most_ahead=9
    )
    index.join(session)

    def started(job: int, ahead: bool = False) -> Running:
        run = Running(Lease(job, 1, 1), job, 1, 1, 0, 1, Amounts(cores=1), "", 0.0, 0, ahead=ahead)
        index.start(run)
        return run

    first, second, third, fourth = started(1), started(2), started(3, True), started(4, True)
    index.over(session, first)
    assert (session.free.cores, third.ahead, fourth.ahead) == (0, False, True), "who waited has begun"
    index.over(session, second)
    index.over(session, third)
    assert (session.free.cores, set(session.over), fourth.ahead) == (0, {1, 2}, False)
    index.end(1)
    index.over(session, third)
    assert (session.free.cores, set(session.over)) == (1, {2, 3})
    index.end(3)
    assert session.free.cores == 1, "it had let go of its room before"
    journal.undo()
    assert (index.sessions, session.free.cores, session.over, session.ahead) == ({}, 2, {}, {})


def test_what_holds_nothing_costs_nothing() -> None:
    driver = Driver()
    for number in range(10):
        driver.take("wait", 1, number)
    while driver._waiting(0):
        driver.take("unwait", 0, 0)
    driver.index.journal.forget()
    driver.index.prune()
    assert driver.index.windows == {}
    assert driver.index.requirements == {}
