"""How things are: the server, the queue, what runs, what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cpc.client.context import Context, pass_context
from cpc.client.output import INDENT, ago, counts, harmless, plural, table, when
from cpc.core import ids
from cpc.core.errors import BadInput, Gone
from cpc.core.numbers import Whole

if TYPE_CHECKING:
    from cpc.client.client import Client
    from cpc.core.views import EventView, JobView, ProjectView, ServerStatus

MANY = 1000
LIVE = ("blocked", "waiting", "running")


@click.command("status")
@click.argument("project", required=False)
@pass_context
def status(context: Context, project: str | None) -> None:
    """How the server is, and the current project or PROJECT."""
    client = context.client()
    name = project or client.project
    state = client.status() if not project else None
    view = client.get_project(name) if name else None

    def people() -> str:
        lines = _network(state) if state else []
        lines += _project(view, current=view.name == client.project) if view else []
        return "\n".join(lines)

    context.out.data("status", {"server": state, "project": view}, people)


def _network(state: ServerStatus) -> list[str]:
    from cpc.core.resources import show_size

    server = state.server
    lines = [
        f"Server {harmless(server.name)}, release {harmless(server.release)}, running for {ago(server.started)}:",
        f"{INDENT}{plural(state.workers, 'worker')}, {state.workers_busy} of them busy{_borrowed(state)}",
        *_servers(state),
        f"{INDENT}jobs: {counts(state.jobs)}",
        f"{INDENT}files: {show_size(state.storage_used)}, {show_size(state.storage_free)} free",
    ]
    if state.intake_paused:
        lines.append(f"{INDENT}NO NEW JOBS ARE TAKEN: {harmless(state.intake_paused)}")
    return lines + [f"{INDENT}Note: {harmless(warning)}" for warning in state.warnings]


def _borrowed(state: ServerStatus) -> str:
    borrowed = state.workers_borrowed
    verb = "runs" if borrowed == 1 else "run"
    return f"; {plural(borrowed, 'worker')} of other servers {verb} jobs of this one" if borrowed else ""


def _servers(state: ServerStatus) -> list[str]:
    if not state.servers_connected + state.servers_away:
        return []
    away = f", {state.servers_away} cannot be reached (cpcc connected-servers)" if state.servers_away else ""
    return [f"{INDENT}connected to {plural(state.servers_connected, 'other server')}{away}"]


def _project(view: ProjectView, current: bool) -> list[str]:
    from cpc.core.resources import show_size

    queued = sum(view.jobs.get(state, 0) for state in ("blocked", "waiting"))
    running = view.jobs.get("running", 0)
    ended = {state: count for state, count in view.jobs.items() if state not in LIVE}
    quota = f" of {show_size(view.quota)}" if view.quota else ""
    members = ", ".join(f"{member.user} ({member.role})" for member in view.members)
    return [
        f"Project {harmless(view.name)}{' (current project)' if current else ''}:",
        *_instances(view),
        f"{INDENT}{plural(queued, 'command') if queued else 'no commands'} in queue",
        f"{INDENT}{plural(running, 'command') if running else 'no commands'} running",
        *([f"{INDENT}ended: {counts(ended)}"] if any(ended.values()) else []),
        f"{INDENT}files: {show_size(view.storage_used)}{quota}",
        f"{INDENT}members: {harmless(members)}",
    ]


def _instances(view: ProjectView) -> list[str]:
    """Those of its network by state, and how to get at what went wrong."""
    total = sum(view.instances.values())
    if not total:
        return []
    lines = [f"{INDENT}{plural(total, 'function instance')}, of which"]
    lines += [f"{3 * INDENT}{count} in state '{state}'" for state, count in view.instances.items() if count]
    for what, where, item in (("errors", view.errors, "error"), ("warnings", view.warnings, "warning")):
        if where:
            lines.append(f"{INDENT}There are runtime {what} in this project; fetch {item} messages with:")
            lines += [f"{2 * INDENT}  cpcc get {harmless(path)}.msg.{item}" for path in where]
    return lines


@click.command("queue")
@click.option("--limit", type=Whole(1), default=MANY, show_default=True, help="How many at most.")
@pass_context
def queue(context: Context, limit: int) -> None:
    """Queued and running jobs of all projects that you may see."""
    from cpc.core import ids

    client = context.client()
    waiting = client.all_jobs(states="waiting,blocked", project=context.named_project, limit=limit)
    running = client.all_jobs(states="running", project=context.named_project, limit=limit)
    waiting.sort(key=lambda job: (-job.priority, ids.read(job.id)[0]))
    running.sort(key=lambda job: ids.read(job.id)[0])

    def people() -> str:
        lines = ["Queued", _queue(waiting), "", "Running", _queue(running)]
        if max(len(waiting), len(running)) == limit:
            lines += ["", f"Not more than {limit} of each are shown; --limit shows more."]
        return "\n".join(lines)

    context.out.data(
        "queue", {"queued": waiting, "running": running}, people, lambda: [job.id for job in waiting + running]
    )


def _queue(found: list[JobView]) -> str:
    """The original's columns; `why` tells the rest."""
    rows = [
        (job.priority, job.project, job.id, f"{job.command}{' (blocked)' if job.state == 'blocked' else ''}")
        for job in found
    ]
    return table(("Pty", "Project", "Job", "Executable"), rows, empty=f"{INDENT}(none)")


@click.command("running")
@pass_context
def running(context: Context) -> None:
    """Jobs that run now, of all projects that you may see."""
    found = context.client().all_jobs(states="running", project=context.named_project, limit=1 << 20)

    def people() -> str:
        rows = [(job.id, job.project, job.worker, job.attempts, _since(job), job.command) for job in found]
        header = ("job", "project", "worker", "attempt", "for", "command")
        return "Running:\n" + table(header, rows, empty=f"{INDENT}(none)")

    context.out.data("jobs", found, people, lambda: [job.id for job in found])


def _since(job: JobView) -> str:
    return "waits for room" if job.waits_for_room else ago(job.started)


@click.command("heartbeats")
@pass_context
def heartbeats(context: Context) -> None:
    """When running attempts would be given to another worker, unless theirs is heard of."""
    found = context.client().heartbeats()

    def people() -> str:
        rows = [
            (one.job, one.attempt, one.worker, f"{one.expires_in:.0f} s{', its server is silent' * one.suspended}")
            for one in found
        ]
        return "Heartbeat items:\n" + table(
            ("job", "attempt", "worker", "expires in"), rows, empty=f"{INDENT}(none)", flexible=2
        )

    context.out.data("heartbeats", found, people, lambda: [one.job for one in found])


@click.command("watch")
@click.argument("what", metavar="[PROJECT|JOB]", required=False, default="")
@click.option("--everything", is_flag=True, help="All projects, not only the current one.")
@pass_context
def watch(context: Context, what: str, everything: bool) -> int:
    """See the current project or PROJECT, its network and its jobs, or a job or array, as it goes on.

    A live view on a terminal, until Ctrl-C or the end of the job; elsewhere a line for each event.
    """
    from cpc.client.commands import live

    return live.watch(context, what, everything)


def _number(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    """A number as `cpcc events` or its JSON shows it."""
    try:
        return None if text is None else ids.read_event(text)
    except BadInput as error:
        raise click.BadParameter(str(error)) from None


@click.command("events")
@click.option(
    "--after",
    callback=_number,
    metavar="NUMBER",
    help="Those after the event with this number, as it is shown; 0: all.",
)
@click.option("--kind", default="", help="Only one kind, for example job.failed.")
@click.option("--limit", type=Whole(1), default=100, show_default=True, help="How many at most.")
@click.option("-f", "--follow", is_flag=True, help="And what happens from now on, as it happens.")
@pass_context
def events(context: Context, after: int | None, kind: str, limit: int, follow: bool) -> None:
    """What happened: the newest events, or those after a number."""
    client = context.client()
    project = context.named_project
    newest = client.last_event(project) if after is None else after
    found = (_newest if after is None else _after)(client, newest, project, kind, limit)
    if not follow:
        _show_events(context, "events", found)
        return
    for event in found:
        _show_event(context, event)
    last = found[-1].number if found else newest
    for event in client.watch(last, project=project, kind=kind):
        _show_event(context, event)


def _after(client: Client, after: int, project: str, kind: str, limit: int) -> list[EventView]:
    try:
        return client.events(after, project=project, kind=kind, limit=limit)
    except Gone:
        shown = ids.show_event(after)
        raise Gone(f"some events after {shown} are past their retention", "what is left: --after 0") from None


def _newest(client: Client, newest: int, project: str, kind: str, limit: int) -> list[EventView]:
    """The newest `limit` events: looked for further and further back, because other kinds lie between them."""
    oldest = client.events(0, project=project, limit=1)
    if not oldest:
        return []
    span = 2 * limit
    while True:
        start = max(oldest[0].number - 1, newest - span)
        found = client.events(start, project=project, kind=kind, limit=1 << 30)
        if len(found) >= limit or start < oldest[0].number:
            return found[-limit:]
        span *= 8


def _show_event(context: Context, event: EventView) -> None:
    context.out.line("event", event, lambda: event_line(event), lambda: [ids.show_event(event.number)])


def _show_events(context: Context, kind: str, found: list[EventView]) -> None:
    def people() -> str:
        return "\n".join(event_line(event) for event in found)

    context.out.data(kind, found, people, lambda: [ids.show_event(event.number) for event in found])


def event_line(event: EventView) -> str:
    """One event for people."""
    details = [f"{name}={_detail(name, value)}" for name, value in event.details.items() if value not in ("", None)]
    parts = (ids.show_event(event.number), when(event.time), event.kind, event.project, event.actor, " ".join(details))
    return harmless("  ".join(part for part in parts if part))


def _detail(name: str, value: object) -> str:
    if name == "expires" and isinstance(value, int):
        return when(value).replace(" ", "T")
    if isinstance(value, list):
        shown = ",".join(map(str, value[:8]))
        return f"{shown},… ({len(value)})" if len(value) > 8 else shown
    return str(value)


@click.command("audit")
@click.argument("user", required=False)
@click.option("--limit", type=Whole(1), default=100, show_default=True, help="The newest so many.")
@pass_context
def audit(context: Context, user: str | None, limit: int) -> None:
    """What was done with special rights, by all or by USER; newest last."""
    _show_events(context, "audit", context.client().audit(user or "")[-limit:])
