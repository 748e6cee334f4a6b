"""Workers: which there are, and whether they get jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cpc.client.context import Context, pass_context
from cpc.client.output import facts, harmless, plural, table, when
from cpc.core.errors import NotFound

if TYPE_CHECKING:
    from cpc.core.resources import Amounts
    from cpc.core.views import WorkerView


@click.command("workers")
@click.argument("worker", required=False)
@pass_context
def workers(context: Context, worker: str | None) -> None:
    """List the workers; with WORKER, everything about one."""
    client = context.client()
    if worker is not None:
        one = client.worker(worker)
        context.out.data("worker", one, lambda: _detail(one), lambda: [one.name])
        return
    found = client.workers()
    context.out.data("workers", found, lambda: listing(found), lambda: [one.name for one in found])


def listing(found: list[WorkerView]) -> str:
    """A table of workers."""
    rows = [
        (one.name, one.state, one.platform, f"{one.total.cores - one.free.cores}/{one.total.cores}", _gpus(one.total),
         _memory(one.total), len(one.jobs), _span(one.last_heard), _left(one), one.note or _lent(one))
        for one in found
    ]  # fmt: skip
    header = ("worker", "state", "platform", "cores used", "GPUs", "memory", "jobs", "heard", "time left", "note")
    empty = "no workers here, and none borrowed now; start one where there are cores: cpc-worker -c BUNDLE smp"
    return table(header, rows, empty=empty)


def _lent(one: WorkerView) -> str:
    """What it runs for other servers."""
    return "; ".join(f"runs {plural(len(lent.jobs), 'job')} of server {lent.server[:8]}" for lent in one.lent)


def _detail(one: WorkerView) -> str:
    total, free = one.total, one.free
    values = [
        ("worker", one.name), ("id", one.id), ("state", one.state), ("note", one.note), ("host", one.host),
        ("platform", one.platform), ("release", one.release), ("bundle", one.bundle),
        ("cores", f"{total.cores}, {free.cores} free"), ("GPUs", f"{total.gpus}, {free.gpus} free" if total.gpus else ""),
        ("memory", f"{_memory(total)}, {_memory(free) or 'none'} free" if total.memory else ""),
        ("other", ", ".join(f"{name} {number}" for name, number in total.other.items())),
        ("programs", ", ".join(one.programs)), ("labels", ", ".join(one.labels)), ("only for project", one.project),
        ("borrowed from", one.home), ("jobs", ", ".join(one.jobs)),
        *((f"for {lent.server}", ", ".join(lent.jobs)) for lent in one.lent),
        ("joined", when(one.joined)), ("last heard", f"{_span(one.last_heard)} ago"),
        ("time left", _left(one)),
    ]  # fmt: skip
    return facts(values)


def _gpus(amounts: Amounts) -> object:
    return amounts.gpus or ""


def _memory(amounts: Amounts) -> str:
    from cpc.core.resources import show_size

    return show_size(amounts.memory) if amounts.memory else ""


def _span(seconds: float) -> str:
    from cpc.core.resources import show_span

    return show_span(seconds)


def _left(one: WorkerView) -> str:
    return _span(one.time_left) if one.time_left is not None else ""


@click.command("drain")
@click.argument("worker", metavar="WORKER|NODE")
@click.argument("reason", nargs=-1, required=True)
@click.option("--pool", default="", help="NODE is one of this pool.")
@click.option("--wait", is_flag=True, help="Of a node: return when nothing runs there, and say meanwhile what does.")
@click.option("--now", is_flag=True, help="Do not let its jobs end: they are checkpointed and go to other workers.")
@pass_context
def drain(context: Context, worker: str, reason: tuple[str, ...], pool: str, wait: bool, now: bool) -> int | None:
    """Give a worker, or a node of a pool with all workers on it, no more jobs, and say why. Jobs may end, unless --now."""
    from cpc.client.commands import nodes

    words, error = " ".join(reason), None
    if not pool:
        try:
            view = context.client().drain(worker, words, finish=not now)
        except NotFound as missing:
            error = missing
        else:
            _changed(context, view, f"Worker {view.name} is {view.state}: {view.note}")
            return None
    return nodes.drain(context, worker, words, finish=not now, pool=pool, wait=wait, error=error)


@click.command("resume")
@click.argument("worker", metavar="WORKER|NODE")
@click.option("--pool", default="", help="NODE is one of this pool.")
@pass_context
def resume(context: Context, worker: str, pool: str) -> None:
    """Give a drained worker, or a node of a pool, jobs again."""
    from cpc.client.commands import nodes

    error = None
    if not pool:
        try:
            view = context.client().resume(worker)
        except NotFound as missing:
            error = missing
        else:
            return _changed(context, view, f"Worker {view.name} gets jobs again.")
    return nodes.resume(context, worker, pool, error)


def _changed(context: Context, view: WorkerView, text: str) -> None:
    context.out.data("worker", view, lambda: harmless(text), lambda: [view.name])
