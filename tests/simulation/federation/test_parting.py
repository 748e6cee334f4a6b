"""Stories of trust that ends while two servers do not hear each other: both know as soon as they meet."""

from __future__ import annotations

import pytest

from cpc.server.federation.first import FIRST
from tests.simulation.by_hand import collected
from tests.simulation.federation import releases
from tests.simulation.federation.by_hand import CHAIN, end, join, quiet, runs, state, submit
from tests.simulation.federation.truth import HEARD
from tests.simulation.federation.universe import Universe
from tests.simulation.versions import Release
from tests.upgrade.tape import read_frame, write_frame

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


# --- servers of several releases ------------------------------------------------------------------------------------------


def test_another_release_says_more_or_less_in_every_message() -> None:
    settled = {"lease": [1, 1, 1, ""], "verdict": "accepted", "note": "n"}
    said = {"workers": [{"worker": 1, "orders": {"settled": [settled]}}], "beat": 15.0}
    frame = bytes(write_frame({"r": 1, "b": said}))[4:]
    more = read_frame(bytes(releases._changed(frame, releases._more))[4:])["b"]
    assert more.keys() - said.keys() == {"zz-new"}
    orders = more["workers"][0]["orders"]
    assert "zz-new" in more["workers"][0]
    assert "zz-new" in orders
    assert orders["settled"][0].keys() == {"zz-new", *settled}
    fewer = read_frame(bytes(releases._changed(frame, releases._fewer))[4:])["b"]
    assert fewer["workers"][0]["orders"]["settled"] == [{"lease": [1, 1, 1, ""], "verdict": "accepted"}]


#: Each in each place.
PLACES = [(Release.OLDER, Release.SAME, Release.NEWER), (Release.SAME, Release.NEWER, Release.OLDER),
          (Release.NEWER, Release.OLDER, Release.SAME)]  # fmt: skip


@pytest.mark.parametrize("places", PLACES, ids=lambda three: "-".join(three))
def test_servers_of_three_releases_lend_each_other_workers_and_end_it(places: tuple[Release, ...]) -> None:
    made = quiet(CHAIN, (1, 0, 0), releases=places)
    join(made, "s1n1")
    small = submit(made, 3, "ok", "1", "10")
    large = submit(made, 3, "ok", "1", "300000")
    steps = submit(made, 3, "steps", "100", checkpoint=("p.cpt",))
    for job in (small, large, steps):
        made.until(lambda job=job: state(made, 3, job) == "succeeded", 300.0)
    for site in made.sites.values():
        assert site.peers is not None
        assert site.peers.federation.links._greeting == releases.GREETINGS[site.release]
    job = submit(made, 3, "ok", "600", "10")
    made.until(lambda: runs(made, "s1n1"))
    made.operators.revoke(made.sites[3], made.sites[2], True, again=100.0)
    made.until(lambda: state(made, 3, job) == "waiting", 90.0)
    made.until(lambda: state(made, 3, job) == "succeeded", 1500.0)
    end(made)
