"""Allocations and nodes: what pools were asked for, and the machines behind them."""

from __future__ import annotations

import time  # a command line tool is at the edge: it may look at the clock
from typing import TYPE_CHECKING

import click

from cpc.client.context import Context, pass_context
from cpc.client.output import facts, harmless, table, when
from cpc.core.errors import CopernicusError, NotFound, Unavailable
from cpc.core.numbers import Whole

if TYPE_CHECKING:
    from cpc.core.pool_views import AllocationView, NodeView

PAUSE = 2.0  # seconds between two looks at a node that is being drained


@click.command("allocations")
@click.argument("pool", required=False)
@click.option("--live", is_flag=True, help="Those only that have not ended.")
@click.option("--limit", type=Whole(1, 100_000), default=50, show_default=True, help="So many, newest first.")
@pass_context
def allocations(context: Context, pool: str | None, live: bool, limit: int) -> None:
    """List what pools were asked for, newest first."""
    found = context.client().allocations(pool or "", live, limit)

    def people() -> str:
        rows = [
            (one.id, one.pool, one.native, one.state, f"{one.nodes}x{one.cores // max(1, one.nodes)}", when(one.asked),
             when(one.started) if one.started else "", len(one.workers), _end(one))
            for one in found
        ]  # fmt: skip
        header = ("allocation", "pool", "job there", "state", "cores", "asked", "started", "workers", "why")
        return table(header, rows, empty="no allocations; pools are asked when jobs wait that they could run")

    context.out.data("allocations", found, people, lambda: [one.id for one in found])


def _end(one: AllocationView) -> str:
    if one.waiting:
        return f"{'stuck' if one.stuck else 'waits'}: {one.waiting}"
    return f"{one.reason}: {one.words}" if one.reason and one.words else one.reason or one.why


@click.group("allocation")
def allocation() -> None:
    """Show or cancel one allocation."""


@allocation.command("show")
@click.argument("id")
@pass_context
def show(context: Context, id: str) -> None:
    """Everything about an allocation."""
    one = context.client().allocation(id)
    from cpc.core.resources import show_span

    values: list[tuple[str, object]] = [
        ("allocation", one.id), ("pool", one.pool), ("job there", one.native), ("token", one.token), ("state", one.state),
        ("reason", one.reason), ("words", one.words), ("asked for", one.why),
        ("waits for", f"{one.waiting} (which does not come by itself)" if one.stuck else one.waiting),
        ("only for project", one.project),
        ("nodes", one.nodes), ("cores", one.cores), ("walltime", show_span(one.walltime)), ("ran on", ", ".join(one.ran_on)),
        ("workers", ", ".join(one.workers)), ("started again", one.restarts or ""), ("asked", when(one.asked)),
        ("started", when(one.started) if one.started else ""), ("ends", when(one.ends) if one.ends else ""),
        ("ended", when(one.ended) if one.ended else ""),
    ]  # fmt: skip
    context.out.data("allocation", one, lambda: facts(values), lambda: [one.id])


@allocation.command("cancel")
@click.argument("id")
@click.argument("reason", nargs=-1)
@pass_context
def cancel(context: Context, id: str, reason: tuple[str, ...]) -> None:
    """End an allocation; its workers hand back what they have, and no job is blamed."""
    one = context.client().cancel_allocation(id, " ".join(reason))
    text = f"Allocation {one.id} of pool {one.pool} is being cancelled."
    context.out.data("allocation", one, lambda: harmless(text), lambda: [one.id])


# --- nodes ----------------------------------------------------------------------------------------------------------------


@click.command("nodes")
@click.argument("pool", required=False)
@pass_context
def nodes(context: Context, pool: str | None) -> None:
    """List the nodes of the pools' batch systems, with our workers on them."""
    found = context.client().nodes(pool or "")

    def people() -> str:
        rows = [
            (one.name, one.pool, one.state, f"{one.cores_used}/{one.cores}", _free(one), _trend(one), len(one.workers),
             sum(len(worker.jobs) for worker in one.workers), _why(one))
            for one in found
        ]  # fmt: skip
        header = ("node", "pool", "state", "cores used", "memory free", "in an hour", "workers", "jobs", "why")
        return table(header, rows, empty="no pools, or no nodes in them")

    context.out.data("nodes", found, people, lambda: [one.name for one in found])


def _free(one: NodeView) -> str:
    from cpc.core.resources import show_size

    return show_size(one.memory_free) if one.memory_free >= 0 else ""


def _trend(one: NodeView) -> str:
    from cpc.core.resources import show_size

    return f"{'+' if one.memory_trend > 0 else ''}{show_size(one.memory_trend)}" if one.memory_trend else ""


def _why(one: NodeView) -> str:
    from cpc.core.resources import show_span

    words = [f"{one.reason} ({one.reason_by})" if one.reason_by else one.reason] if one.reason else []
    if one.excluded:
        words.append(f"left out for {show_span(one.excluded)}: {one.excluded_why}")
    return "; ".join(words)


def drain(
    context: Context, name: str, reason: str, *, finish: bool, pool: str, wait: bool, error: CopernicusError | None
) -> int:
    """For `cpcc drain NAME`, where NAME is no worker. Raises `error` when it is no node either; the exit code."""
    client = context.client()
    try:
        one = client.drain_node(name, reason, finish, pool)
    except NotFound as missing:
        raise (missing if error is None else _neither(name, missing)) from None
    if wait:
        try:
            one = _drained(context, one)
        except KeyboardInterrupt:
            text = f"Node {one.name} stays drained. See what runs there: cpcc nodes {one.pool}   undo: cpcc resume {one.name}"
            context.out.note(harmless(text))
            return 130
    context.out.data("node", one, lambda: harmless(_still(one)), lambda: [one.name])
    return 0


def _neither(name: str, missing: NotFound) -> NotFound:
    """For a name that is no worker's, and no node's."""
    return NotFound(f"there is no worker {name!r}, and {missing.message}", "see `cpcc workers` and `cpcc nodes`")


def _drained(context: Context, one: NodeView) -> NodeView:
    """Wait until nothing runs there, saying what still does whenever that changes; also while nobody answers for a while."""
    said, away = "", False
    while one.state != "drained" or any(worker.jobs for worker in one.workers):
        if one.state in ("down", "off"):
            break
        text = _still(one)
        if text != said and not away:
            said = text
            context.out.note(text)
        time.sleep(PAUSE)
        try:
            one = context.client().node(one.name, one.pool)
        except Unavailable as error:
            if not away:
                context.out.note(f"{error.message}; waiting for it")
            away = True
        else:
            away = False
    return one


def _still(one: NodeView) -> str:
    jobs = [job for worker in one.workers for job in worker.jobs]
    words = f"Node {one.name} is {one.state}"
    if jobs:
        shown = ", ".join(jobs[:5]) + (f" and {len(jobs) - 5} more" if len(jobs) > 5 else "")
        words += f"; {len(jobs)} job(s) of ours run there: {shown}"
    if one.cores_used:
        words += f"; {one.cores_used} of its cores are in use"
    return words


def resume(context: Context, name: str, pool: str, error: CopernicusError | None) -> None:
    """For `cpcc resume NAME`, where NAME is no worker."""
    try:
        one = context.client().resume_node(name, pool)
    except NotFound as missing:
        raise (missing if error is None else _neither(name, missing)) from None
    # A node that is asked whether it is well is "down" for some seconds: its batch system's word, not what was done.
    state = "resumed, and still down for its batch system" if one.state == "down" else one.state
    text = f"Node {one.name} is {state}; its workers get jobs again."
    context.out.data("node", one, lambda: harmless(text), lambda: [one.name])
