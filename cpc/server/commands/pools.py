"""Pools, when no server runs."""

from __future__ import annotations

import time  # a command line tool is at the edge: it may look at the clock

import click

from cpc.core.errors import Unavailable
from cpc.core.numbers import Real
from cpc.server import upkeep
from cpc.server.commands import Context, pass_context

_PAUSE = 1.0


@click.command("pool-stop", short_help="Cancel all that a pool has in its batch system.")
@click.argument("name", metavar="POOL")
@click.option("--wait", type=Real(0), default=60.0, show_default=True, metavar="SECONDS",
              help="How long to wait until it is gone.")  # fmt: skip
@pass_context
def pool_stop(context: Context, name: str, wait: float) -> int:
    """Cancel everything in a pool's batch system that has a token of this server. Needs no running server.

    The pool is paused, too, so that a server that runs, or is started, does not ask for the same again. Of a pool that was
    removed (cpcc pool rm --forget) that is ended which was left behind, once its scheduler can be used again.
    """
    from cpc.server.offline import wait as finished
    from cpc.server.pools import offline
    from cpc.store import checks

    place = context.place()
    config = upkeep.check_config(place)
    row, there = offline.find(config.database, name)
    if there:
        with context.office(place, config) as office:
            office.pause_pool(row.name, "cpc-server pool-stop")
    scheduler = offline.scheduler(row, context.clock, context.chance)
    server = checks.server_id(config.database)
    found = finished(offline.live(scheduler, row, server))
    if found:
        finished(offline.cancel(scheduler, found))
    stop = context.clock.monotonic() + wait
    left = found
    while left and context.clock.monotonic() < stop:
        time.sleep(_PAUSE)
        left = finished(offline.live(scheduler, row, server))
    if left:
        names = ", ".join(one.native for one in left[:10])
        raise Unavailable(
            f"{len(left)} of {len(found)} are still there: {names}", "call again, or see the batch system"
        )
    state = "is paused" if there else "was removed"
    click.echo(f"Pool {row.name} {state} and has nothing in its batch system; {len(found)} were cancelled.")
    return 0
