"""What operators on the way limit holds for workers that are never idle, over the real wire; told by hand."""

from __future__ import annotations

import itertools

from cpc.core import ids
from cpc.core.peer import Agreement, Limits
from cpc.core.resources import Amounts
from tests.simulation.by_hand import collected
from tests.simulation.federation.by_hand import CHAIN, end, join, quiet, submit
from tests.simulation.federation.plan import FAR
from tests.simulation.federation.universe import Universe

__all__ = ["collected"]


def change(made: Universe, here: int, peer: int, agreement: Agreement) -> None:
    """The operator of one server sets this for another one."""
    made.operators.change(made.sites[here], made.sites[peer], None, agreement)
    made.until(lambda: made.trust.bond(here, peer).agreement == agreement)


def given(made: Universe, since: float) -> set[int]:
    """Of which arrays workers were given jobs since then."""
    return {ids.array(loan.lease.job) for loan in made.truth.loans.values() if loan.at > since}


def used(made: Universe, owner: int) -> int:
    """Cores that jobs of this server have, to its knowledge."""
    server = made.sites[owner].peers
    assert server is not None
    return sum(run.granted.cores for run in server.queue.index.running.values())


def test_what_a_server_between_lends_no_more_comes_no_more_and_what_it_lends_again_comes_again() -> None:
    made = quiet(CHAIN, (1, 0, 0))
    join(made, "s1n1")
    plain = submit(made, 3, "ok", "15", "10", array=400)
    sim = submit(made, 3, "ok", "15", "10", array=400, executable="sim")
    made.reactor.advance(40.0)
    assert given(made, 0.0) == {plain, sim}
    change(made, 2, 3, Agreement(lent=Limits(executables=("sim",)), lend_on=FAR))
    made.reactor.advance(1.0)
    since = made.now
    made.reactor.advance(60.0)
    assert (given(made, since), used(made, 3)) == ({sim}, 4)
    change(made, 2, 3, Agreement(lend_on=FAR))
    made.reactor.advance(60.0)
    assert given(made, since) == {plain, sim}
    change(made, 2, 3, Agreement(lent=Limits(off=True), lend_on=FAR))
    made.reactor.advance(1.0)
    since = made.now
    made.reactor.advance(120.0)
    assert (given(made, since), used(made, 3)) == (set(), 0)
    end(made)


def test_no_more_cores_than_a_server_between_lends_are_used_by_way_of_it() -> None:
    """Workers of two servers before it; jobs of two sizes, so that what is left is not always filled."""
    made = quiet([(1, 3), (2, 3), (3, 4)], (1, 2, 0, 0))
    join(made, "s1n1", "s2n1", "s2n2")
    for seconds, cores in itertools.product(("7", "15"), (1, 2)):
        submit(made, 4, "ok", seconds, "10", array=400, need=Amounts(cores=cores))
    made.reactor.advance(60.0)
    assert used(made, 4) == 12
    change(made, 3, 4, Agreement(lent=Limits(cores=5), lend_on=FAR))
    made.reactor.advance(60.0)
    for _ in range(30):
        made.reactor.advance(5.0)
        assert 3 <= used(made, 4) <= 5
    end(made)
