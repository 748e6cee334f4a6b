"""Stories of trust that ends while two servers do not hear each other: both know as soon as they meet."""

from __future__ import annotations

import pytest

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
