"""Jobs: listed, looked at, waited for, cancelled, tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cpc.client.context import Context, pass_context
from cpc.client.output import ago, counts, facts, harmless, harmless_lines, plural, table, when
from cpc.core.errors import BadInput, NotFound
from cpc.core.numbers import PRIORITY, Whole

if TYPE_CHECKING:
    from cpc.core.views import ArrayView, AttemptView, JobDetail, JobView

NEWEST = 100
STATES = ("blocked", "waiting", "running", "succeeded", "failed", "cancelled")


@click.command("jobs")
@click.option("--state", default="", metavar="STATE[,STATE]", help="Only those that are blocked, waiting, running, …")
@click.option("--array", default="", metavar="ID", help="Only those of one array.")
@click.option("--name", default="", help="Only those with this name.")
@click.option("--all", "everything", is_flag=True, help=f"All of them, not only the newest {NEWEST}.")
@click.option("--limit", type=Whole(1), help="The newest so many.")
@click.option("--arrays", is_flag=True, help="A line for each submission instead of each job.")
@pass_context
def jobs(
    context: Context, state: str, array: str, name: str, everything: bool, limit: int | None, arrays: bool
) -> None:  # fmt: skip
    """List the jobs of the project, newest first."""
    unknown = [one for one in filter(None, state.split(",")) if one not in STATES]
    if unknown:
        raise click.UsageError(f"there is no state {unknown[0]!r}; the states are {', '.join(STATES)}")
    client = context.client()
    # To a program a list that is cut without a word would be a trap.
    most = limit or (1 << 30 if everything or context.out.json or context.out.quiet else NEWEST)
    if arrays:
        if state or array or name:
            raise click.UsageError("--arrays lists all submissions; it takes no --state, --array or --name")
        found = client.arrays(limit=most)
        context.out.data("arrays", found, lambda: _arrays(found, most), lambda: [one.id for one in found])
        return
    listed = client.jobs(states=state, name=name, array=array, limit=most)
    context.out.data("jobs", listed, lambda: listing(listed, most), lambda: [one.id for one in listed])


def listing(found: list[JobView], most: int = 0) -> str:
    """A table of jobs."""
    rows = [(job.id, job.state, job.name, job.worker, job.attempts or "", _time(job), job.command) for job in found]
    header = ("job", "state", "name", "worker", "attempts", "time", "command")
    return table(header, rows, empty="no such jobs") + _more(found, most)


def _arrays(found: list[ArrayView], most: int) -> str:
    rows = [(one.id, one.size, counts(one.jobs), one.name, when(one.submitted), one.command) for one in found]
    return table(("id", "jobs", "states", "name", "submitted", "command"), rows, empty="no submissions") + _more(
        found, most
    )


def _more(found: list[JobView] | list[ArrayView], most: int) -> str:
    return f"\nThe newest {most} are shown; --all shows all." if most and len(found) == most else ""


def _time(job: JobView) -> str:
    """How long its program has run: by its worker, who alone knows that when the server was away meanwhile."""
    from cpc.core.resources import show_span

    if job.state == "running":
        return ago(job.started)
    if job.ended is None or job.started is None:
        return ""
    leased = (job.ended - job.started) / 1e6
    return show_span(leased if job.wall_seconds is None else job.wall_seconds)


def state(job: JobView) -> str:
    """Its state in words."""
    return f"placed at worker {job.worker}, waits for room there" if job.waits_for_room else job.state


@click.command("job")
@click.argument("id")
@pass_context
def job(context: Context, id: str) -> None:
    """Everything about a job; of an array, how its jobs are."""
    from cpc.core.views import JobDetail

    client = context.client()
    found = client.job(id)
    if isinstance(found, JobDetail):
        context.out.data("job", found, lambda: _detail(found), lambda: [found.state])
        return

    def people() -> str:
        bad = client.jobs(found.project, states="failed,cancelled", array=found.id, limit=20)
        return _array(found, bad)

    context.out.data("array", found, people, lambda: [f"{state} {number}" for state, number in found.jobs.items()])


def _detail(job: JobDetail) -> str:
    spec = job.spec
    values = [
        ("job", job.id), ("name", job.name), ("project", job.project), ("command", job.command), ("state", state(job)),
        ("reason", job.reason), ("exit code", job.exit_code), ("priority", job.priority or ""),
        ("submitted", f"{when(job.submitted)} by {job.submitter}"), ("started", when(job.started)),
        ("ended", when(job.ended)), ("worker", job.worker), ("needs", _amounts(spec.get("need", {}))),
        ("failures", job.failures or ""), ("losses", job.losses or ""), ("checkpoint", when(job.checkpoint)),
    ]  # fmt: skip
    parts = [facts(values)]
    if job.history:
        header = ("attempt", "worker", "started", "ran", "outcome", "message")
        parts.append(table(header, [_attempt(one) for one in job.history]))
    if job.tail:
        parts.append("the end of its output:\n" + harmless_lines(job.tail))
    return "\n\n".join(parts)


def _attempt(one: AttemptView) -> tuple[object, ...]:
    from cpc.core.resources import show_span

    if one.ended is None:
        ran = ago(one.started)
    elif one.wall_seconds:
        ran = show_span(one.wall_seconds)
    else:  # its worker has not told: lost, or cancelled while it ran
        ran = f"≤ {show_span((one.ended - one.started) / 1e6)}"
    outcome = one.outcome or "running"
    if one.exit_code:
        outcome += f" ({one.exit_code})"
    return one.number, one.worker, when(one.started), ran, outcome + (", late" if one.late else ""), one.message


def _amounts(need: dict[str, object]) -> str:
    from cpc.core.resources import show_size

    parts = [plural(int(str(need.get("cores", 1))), "core")]
    parts += [f"{need['gpus']} GPUs"] if need.get("gpus") else []
    memory, other = need.get("memory"), need.get("other")
    parts += [show_size(memory)] if isinstance(memory, int) and memory else []
    parts += [f"{number} {name}" for name, number in other.items()] if isinstance(other, dict) else []
    return ", ".join(parts)


def _array(array: ArrayView, bad: list[JobView]) -> str:
    values = [
        ("array", array.id), ("name", array.name), ("project", array.project), ("command", array.command),
        ("jobs", f"{array.size}: {counts(array.jobs)}"), ("priority", array.priority or ""),
        ("submitted", f"{when(array.submitted)} by {array.submitter}"),
    ]  # fmt: skip
    rows = [(job.id, job.state, job.worker, job.reason or job.outcome) for job in bad]
    shown = table(("job", "state", "worker", "reason"), rows)
    return facts(values) + (f"\n\n{shown}" if shown else "")


@click.command("wait")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--timeout", metavar="TIME", help="Wait no longer than that, for example 10m; then the exit code is 1.")
@pass_context
def wait(context: Context, ids: tuple[str, ...], timeout: str | None) -> int:
    """Wait until jobs and arrays have ended. Exit code 1 unless all have succeeded."""
    from cpc.client.commands import waiting
    from cpc.core.resources import parse_span

    found = waiting.wait(context, ids, parse_span(timeout) if timeout else None)
    waiting.show(context, found)
    return waiting.code(found)


@click.command("cancel")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", default="", help="Why; it is kept with the jobs.")
@pass_context
def cancel(context: Context, ids: tuple[str, ...], reason: str) -> None:
    """Cancel jobs and arrays, also those that run."""
    client = context.client()
    count = 0
    for one in ids:
        count += client.cancel(one, reason)
    context.out.data("cancelled", {"cancelled": count}, lambda: f"Cancelled {plural(count, 'job')}.")


@click.command("retry")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@pass_context
def retry(context: Context, ids: tuple[str, ...]) -> None:
    """Give failed and cancelled jobs another chance."""
    client = context.client()
    made = [client.retry(one) for one in ids]

    def people() -> str:
        return "\n".join(
            harmless(f"{plural(one.size, 'job')} of {one.id} {'waits' if one.size == 1 else 'wait'} again.")
            for one in made
        )

    context.out.data("retried", made, people, lambda: [one.id for one in made])


@click.command("priority", context_settings={"ignore_unknown_options": True})
@click.argument("id")
@click.argument("priority", type=PRIORITY)
@pass_context
def priority(context: Context, id: str, priority: int) -> None:
    """Give a job or array another priority, -30 to 30; higher comes first."""
    context.client().prioritise(id, priority)
    context.out.say(f"{id} has priority {priority} now.")


@click.command("forget")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@pass_context
def forget(context: Context, ids: tuple[str, ...]) -> None:
    """Remove finished jobs or arrays, with their files, from the server."""
    client = context.client()
    for one in ids:
        client.forget(one)
        context.out.say(f"Forgot {one} and its files.")


@click.command("why")
@click.argument("id")
@pass_context
def why(context: Context, id: str) -> None:
    """Why a job is not running, or why a pool is asked for nothing (ID: its name), and what to do about it."""
    try:
        found = context.client().why(id)
    except (BadInput, NotFound) as error:
        from cpc.client.commands.pools import why_pool

        return why_pool(context, id, error)

    def people() -> str:
        lines = [f"{found.id} is {found.state}:" if found.state in ("waiting", "blocked") else f"{found.id}:"]
        for reason in found.reasons:
            lines.append(f"   - {reason.text}" + (f"  ({reason.step})" if reason.step else ""))
        return "\n".join(map(harmless, lines))

    context.out.data("why", found, people, lambda: [reason.kind for reason in found.reasons])


@click.command("command-failed")
@click.argument("id")
@pass_context
def command_failed(context: Context, id: str) -> None:
    """Declare what a job is doing now lost: it is ended there, and goes back to the queue."""
    context.client().fail_attempt(id)
    context.out.say(f"Job {id} is back in the queue.")
