"""All that can be looked at of a pool from the server's machine: for `cpcc doctor POOL` and `cpc-server doctor`."""

from __future__ import annotations

from collections.abc import Sequence

from cpc.api.scheduler import Run, Scheduler
from cpc.core.allocation import Check, NodeSeen
from cpc.core.errors import CopernicusError, Unavailable
from cpc.pools.allocation import Allocation, State
from cpc.pools.facts import Pool
from cpc.server.pools import script
from cpc.server.pools.ground import Ground
from cpc.server.pools.means import Means


async def examine(scheduler: Scheduler, facts: Pool, means: Means, ground: Ground, run: Run) -> tuple[Check, ...]:
    """What the batch system says of itself and of such a request, then what this machine says of the nodes."""
    checks = list(await scheduler.diagnose())
    try:
        checks += await scheduler.check(script.wanted(facts, means, example(facts), scheduler))
    except Unavailable as error:
        if all(one.ok for one in checks):  # else the reason has been said
            checks.append(Check("request", False, error.message, error.hint))
    except CopernicusError as error:
        checks.append(Check("request", False, error.message, error.hint))
    return (*checks, *await stands(scheduler, facts, means, ground, run))


async def stands(scheduler: Scheduler, facts: Pool, means: Means, ground: Ground, run: Run) -> tuple[Check, ...]:
    """What this machine itself can say of the pool."""
    try:
        nodes: Sequence[NodeSeen] = await scheduler.nodes(facts.queue)
    except CopernicusError:
        nodes = ()  # said by the checks of the batch system
    return await ground.look(run, facts, means, nodes)


def example(facts: Pool) -> Allocation:
    """An allocation as the pool would be asked for."""
    return Allocation(
        token="cpc-example", pool=facts.number, state=State.ASKED, asked_at=0.0, nodes=facts.nodes, each=facts.each,
        walltime=facts.walltime, direct=facts.direct,
    )  # fmt: skip
