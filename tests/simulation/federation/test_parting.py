"""Stories of trust that ends while two servers do not hear each other: both know as soon as they meet."""

from __future__ import annotations

import pytest

from cpc.server.federation.first import FIRST
from tests.simulation.by_hand import collected
from tests.simulation.federation.by_hand import end, join, quiet, runs, state, submit
from tests.simulation.federation.truth import HEARD
from tests.simulation.federation.universe import Universe

__all__ = ["collected"]

APART = 120.0  # seconds: the link is lost at both ends


def parted(who: int, hand_back: bool) -> tuple[Universe, int]:
    """Server 1 has a worker, which runs a long job of server 2; they are cut apart, and `who` revokes the other one."""
    made = quiet([(1, 2)], (1, 1))
    join(made, "s1n1")
    job = submit(made, 2, "ok", "400", "10")
    made.until(lambda: runs(made, "s1n1"))
    made.network.partition("s1", "s2")
    made.operators.revoke(made.sites[who], made.sites[3 - who], hand_back, again=1e6)
    made.until(lambda: made.trust.ended, 10.0)
    made.reactor.advance(APART)
    return made, job


@pytest.mark.parametrize("hand_back", [False, True], ids=["finish", "hand back"])
@pytest.mark.parametrize("who", [1, 2], ids=["lender", "borrower"])
def test_an_end_that_was_not_heard_takes_effect_at_the_first_contact(who: int, hand_back: bool) -> None:
    made, job = parted(who, hand_back)
    home = made.sites[1]
    told = made.sites[3 - who]
    assert told.peers is not None
    assert told.peers.federation.book.trusts(made.sites[who].id)
    assert state(made, 2, job) == ("running" if who == 1 else "waiting"), "for peer_grace, if nobody says anything"
    assert runs(made, "s1n1") or (who == 1 and hand_back)
    made.network.heal()
    made.until(lambda: told.peers is not None and not told.peers.federation.book.trusts(made.sites[who].id), HEARD)
    made.until(lambda: state(made, 2, job) == "waiting", made.plan.base.heartbeat_time)
    if hand_back:
        made.until(lambda: not runs(made, "s1n1"), made.plan.base.heartbeat_time)
    else:
        assert runs(made, "s1n1"), "it may come to its end"
        made.until(lambda: home.peers is not None and len(home.peers.custody) == 1, 600.0)
    made.operators.reconcile(home, made.sites[2])
    made.until(lambda: state(made, 2, job) == "succeeded", 900.0)
    made.until(lambda: home.peers is not None and not len(home.peers.custody), 100.0)
    end(made)


# --- custody first -------------------------------------------------------------------------------------------------------------


def begun(made: Universe, server: int, job: int) -> int:
    """How many attempts a job has had."""
    return made.sites[server].attempts(job)


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["small", "large"])
@pytest.mark.parametrize("how", ["trust renewed", "longer than the grace"])
def test_what_is_in_custody_is_handed_in_before_an_idle_worker_could_run_it_again(how: str, size: int) -> None:
    made = quiet([(1, 2)], (1, 0), peer_grace=300.0)
    join(made, "s1n1")
    job = submit(made, 2, "ok", "30", str(size))
    made.until(lambda: runs(made, "s1n1"))
    home = made.sites[1]
    assert home.peers is not None
    custody = home.peers.custody
    if how == "trust renewed":
        made.operators.revoke(home, made.sites[2], False, again=1e6)
    else:
        made.network.partition("s1", "s2")
    made.until(lambda: len(custody) == 1, 300.0)
    made.until(lambda: state(made, 2, job) == "waiting", 1000.0)
    more = submit(made, 2, "ok", "5", "10")
    if how == "trust renewed":
        made.operators.reconcile(home, made.sites[2])
    else:
        made.network.heal()
    made.until(lambda: state(made, 2, more) == "succeeded", 200.0)
    assert (state(made, 2, job), begun(made, 2, job)) == ("succeeded", 1)
    assert custody.handed_in == 1
    end(made)


def test_what_cannot_be_handed_in_keeps_nobody_waiting_for_long() -> None:
    """What is in custody is for a server that stays away, behind the one that has work."""
    made = quiet([(1, 2), (2, 3)], (1, 0, 0))
    join(made, "s1n1")
    submit(made, 3, "ok", "30", "10")
    made.until(lambda: runs(made, "s1n1"))
    made.network.partition("s2", "s3")
    home = made.sites[1]
    made.until(lambda: home.peers is not None and len(home.peers.custody) == 1, 300.0)
    made.network.partition("s1", "s2")
    made.reactor.advance(APART)
    job = submit(made, 2, "ok", "1", "10")
    made.network.heal("s1", "s2")
    made.until(lambda: made.trust.up(1, 2), HEARD)
    came = made.now
    made.reactor.advance(FIRST / 2)
    assert begun(made, 2, job) == 0
    made.until(lambda: state(made, 2, job) == "succeeded", FIRST)
    assert made.now - came < FIRST + 10.0
    made.network.heal()
    made.until(lambda: home.peers is not None and not len(home.peers.custody), 400.0)
    end(made)
