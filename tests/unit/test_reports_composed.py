"""Reports of a home: each is one that its owner takes, and all that there is to say is said, in order."""

from __future__ import annotations

from cpc.core.lease import Lease
from cpc.core.manifest import Manifest
from cpc.core.outcome import Outcome
from cpc.server.federation.loans import MOST_WORKERS, Owner, compose
from cpc.server.federation.portions import MOST_HELD, MOST_SAID
from cpc.wire.messages import Checkpoint, Result
from tests.helpers.lending_fixture import Make, make

__all__ = ["make"]

JOBS = 20


def test_what_many_workers_have_saved_while_their_owner_was_away_is_told_in_reports_that_it_takes(make: Make) -> None:
    home = make("a")["a"]
    owner = Owner("c")
    for number in range(1, MOST_WORKERS + 1):
        loan = owner.loan(number)
        for job in range(JOBS):
            lease = Lease(number * JOBS + job, 1, 1, "c")
            loan.checkpoints[lease] = Checkpoint(lease=lease, files=Manifest())
            if not number % 64:  # the others run still
                loan.results[lease] = Result(lease=lease, outcome=Outcome.OK, exit_code=0)
    saved: set[int] = set()
    told: set[int] = set()
    while any(loan.dirty for loan in owner.loans.values()):
        _, report = compose(owner, home.queue, home.lending.asking, None, everything=False)
        assert sum(len(one.results) + len(one.checkpoints) for one in report.workers) <= MOST_SAID
        saved |= {checkpoint.lease.job for one in report.workers for checkpoint in one.checkpoints}
        told |= {result.lease.job for one in report.workers for result in one.results}
        assert told <= saved, "no result goes ahead of its checkpoint"
    assert len(saved) == MOST_WORKERS * JOBS
    assert len(told) == MOST_WORKERS // 64 * JOBS


def test_what_many_workers_have_is_named_in_reports_that_an_owner_takes(make: Make) -> None:
    """Each worker's in one of them, soon: their leases live by it."""
    home = make("a")["a"]
    owner = Owner("c")
    for number in range(1, MOST_WORKERS + 1):
        owner.loan(number).hold((Lease(number * 2000 + job, 1, 1, "c") for job in range(1500)), 0.0)
    named: set[int] = set()
    reports, everything = 0, True
    while any(loan.dirty for loan in owner.loans.values()):
        _, report = compose(owner, home.queue, home.lending.asking, None, everything)
        reports, everything = reports + 1, False
        assert sum(len(one.holds) for one in report.workers) <= MOST_HELD
        named |= {one.worker for one in report.workers if len(one.holds) == 1500}
    assert len(named) == MOST_WORKERS
    assert reports == 2
