"""What is wrong between the server, a pool's batch system and its nodes."""

from __future__ import annotations

import sys
import time  # a command line tool is at the edge: it may look at the clock
from typing import TYPE_CHECKING

import click

from cpc.client.commands.pools import checks
from cpc.client.context import Context, pass_context
from cpc.core.errors import CopernicusError

if TYPE_CHECKING:
    from cpc.core.pool_views import CheckView, ProbeView

PAUSE = 1.0  # seconds between two questions how far a look from a node is


@click.command("doctor")
@click.argument("name", metavar="POOL")
@click.option(
    "--node", metavar="[NODE]", is_flag=False, flag_value="", default=None,
    help="Look from a node, too (this one, or any): starts a small allocation and waits for what it finds.",
)  # fmt: skip
@pass_context
def doctor(context: Context, name: str, node: str | None) -> int:
    """Look for what is wrong between the server and a pool's batch system; with --node also from one of its nodes.

    A node is looked from by an allocation of one core for a few minutes, which counts against the pool's limits and budget.
    Ctrl-C cancels it.
    """
    found = context.client().doctor_pool(name)
    shown = 0
    if node is not None:
        if not context.out.json and not context.out.quiet:  # people need not wait for what is known already
            context.out.data("checks", found, lambda: checks(found))
            sys.stdout.flush()
            shown = len(found)
        found += _from_node(context, name, node, [one for one in found if not one.ok])
    context.out.data("checks", found, lambda: checks(found[shown:]), lambda: [one.name for one in found if not one.ok])
    return 0 if all(one.ok for one in found) else 1


def _from_node(context: Context, name: str, node: str, failed: list[CheckView]) -> list[CheckView]:
    """What is found there; progress goes to stderr."""
    client = context.client()
    if failed:
        context.out.note(
            f"not all is well here ({', '.join(one.name for one in failed)}); looking from a node all the same"
        )
    view = client.probe_pool(name, node)
    number, said = view.allocation.id, ""
    try:
        while not view.done:
            text = _progress(view)
            if text != said:
                said = text
                context.out.note(text)
            time.sleep(PAUSE)
            view = client.probe(number)
    except KeyboardInterrupt:
        _give_up(context, number)
        raise
    return list(view.checks)


def _give_up(context: Context, number: str) -> None:
    try:
        context.client().cancel_allocation(number, "the look was broken off")
    except CopernicusError as error:
        context.out.note(f"allocation {number} ends by itself within a minute: {error.message}")
    else:
        context.out.note(f"allocation {number} is being cancelled")


def _progress(view: ProbeView) -> str:
    one = view.allocation
    there = f" ({one.native} there)" if one.native else ""
    words = f"allocation {one.id}{there} is {one.state}"
    if one.state == "running" and one.ran_on:
        words += f" on {', '.join(one.ran_on)}"
    return f"{words}: {one.waiting}" if one.waiting else words
