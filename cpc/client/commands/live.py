"""`cpcc watch`: a view that is drawn again when something happens, or a line for each event."""

from __future__ import annotations

import shutil
import sys
import time  # a command line tool is at the edge: it may look at the clock
from typing import TYPE_CHECKING

from cpc.client.commands import jobs, waiting
from cpc.client.commands.status import LIVE, event_line
from cpc.client.output import INDENT, ago, counts, facts, harmless, instances_by_state, plural, table
from cpc.core import ids
from cpc.core.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from cpc.client.client import Client
    from cpc.client.context import Context
    from cpc.core.views import ArrayView, EventView, JobDetail

PAUSE = 0.5  # seconds between two drawings at least
QUIET = 10.0  # seconds between two drawings when nothing happens: times go on
BAR = 20  # columns
TOP = 20  # instances of a network in view


def watch(context: Context, what: str, everything: bool) -> int:
    """The command; its exit code: that of the job, or 0 when somebody stops looking."""
    client = context.client()
    job = what if _is_job(what) else None
    project = "" if everything or job else client.require_project(what or None)
    if what and not job:
        client.get_project(what)  # or it is refused before anything is drawn
    try:
        if sys.stdout.isatty() and not context.out.json and not context.out.quiet:
            return _draw(client, job, project)
        return _lines(context, client, job, project)
    except KeyboardInterrupt:
        return 0


def _is_job(what: str) -> bool:
    """Whether this is the id of a job or array. A project whose name looks like one is watched with -p."""
    try:
        ids.read(what)
    except BadInput:
        return False
    return True


def _lines(context: Context, client: Client, job: str | None, project: str) -> int:
    """Events as they come; with a job, to its end."""
    after = client.last_event(project)
    if job is not None and waiting.over(found := client.job(job)):
        context.out.note(waiting.line(found))
        return waiting.code([found])
    for event in client.watch(after, project=project, job=job or ""):
        _line(context, event)
        if job is not None and event.kind.startswith("job.") and waiting.over(found := client.job(job)):
            context.out.note(waiting.line(found))
            return waiting.code([found])
    return 0


def _line(context: Context, event: EventView) -> None:
    context.out.line("event", event, lambda: event_line(event), lambda: [ids.show_event(event.number)])


def _draw(client: Client, job: str | None, project: str) -> int:
    """On a screen of its own, which is gone afterwards."""
    from cpc.client.watch import Changes

    with Changes(client, project=project, job=job or "") as changes:
        print("\x1b[?1049h\x1b[?25l", end="")
        try:
            while True:
                found = _look(client, job, project)
                if found is not None:
                    return waiting.code([found])
                changes.wait(QUIET)
                time.sleep(PAUSE)
        finally:
            print("\x1b[?25h\x1b[?1049l", end="", flush=True)
            if job is not None:
                print(_last_words(client, job))


def _last_words(client: Client, job: str) -> str:
    try:
        found = client.job(job)
    except Unavailable as error:
        return harmless(error)
    return waiting.line(found) if waiting.over(found) else f"{found.id} goes on; {_states(found)}"


def _states(found: JobDetail | ArrayView) -> str:
    from cpc.core.views import ArrayView

    return counts(found.jobs) if isinstance(found, ArrayView) else f"it is {found.state}"


def _look(client: Client, job: str | None, project: str) -> JobDetail | ArrayView | None:
    """Draw what is so now; the job, if that is what is watched and it has ended."""
    found = None
    try:
        if job is None:
            text = _project(client, project)
        else:
            found = client.job(job)
            text = _job(client, found)
    except Unavailable as error:
        text = f"{harmless(error)}\n\nstill trying; Ctrl-C ends this"
    rows = shutil.get_terminal_size().lines
    lines = text.splitlines()
    if len(lines) > rows - 2:
        lines = [*lines[: rows - 3], f"… {len(lines) - rows + 3} more lines"]
    head = f"cpcc watch  {time.strftime('%H:%M:%S')}  (Ctrl-C ends this)"
    screen = "\x1b[K\n".join([head, "", *lines])
    print(f"\x1b[H{screen}\x1b[K\x1b[J", end="", flush=True)
    return found if found is not None and waiting.over(found) else None


def _project(client: Client, project: str) -> str:
    state = client.status()
    lines = [f"Workers: {state.workers}, {state.workers_busy} of them busy   Jobs: {counts(state.jobs)}"]
    lines += [f"Note: {harmless(warning)}" for warning in state.warnings]
    if not project:
        running = client.all_jobs(states=",".join(LIVE), limit=200)
        return "\n".join([*lines, "", jobs.listing(running)])
    lines += ["", f"Project {harmless(project)}", *_network(client, project), ""]
    arrays = client.arrays(project, limit=100)
    rows = [(one.id, one.name, _bar(one), counts(one.jobs), one.command) for one in arrays]
    submissions = table(("id", "name", "done", "states", "command"), rows, empty="no submissions yet")
    return "\n".join([*lines, submissions])


def _network(client: Client, project: str) -> list[str]:
    """The instances of its network: how many are in which state, what is wrong, and what the first of them do."""
    view = client.get_project(project)
    if not view.instances:
        return []
    lines = ["", instances_by_state(view.instances)]
    for item, where in (("error", view.errors), ("warning", view.warnings)):
        lines += [f"{INDENT}{item} in {harmless(path)}: cpcc get {harmless(path)}.msg.{item}" for path in where]
    found = client.network(project).item(limit=TOP)
    rows = [(one.name, one.state, one.function, one.running) for one in found.instances]
    lines += ["", table(("instance", "state", "function", "now"), rows)]
    return [*lines, f"… of {plural(found.count, 'instance')}"] if found.next else lines


def _bar(array: ArrayView) -> str:
    part = sum(array.jobs.get(state, 0) for state in waiting.OVER) / max(1, array.size)
    return "█" * int(part * BAR) + "░" * (BAR - int(part * BAR)) + f" {part:4.0%}"


def _job(client: Client, found: JobDetail | ArrayView) -> str:
    from cpc.core.views import ArrayView

    if isinstance(found, ArrayView):
        running = client.jobs(found.project, states="running", array=found.id, limit=100)
        head = facts(
            [("array", found.id), ("command", found.command), ("jobs", counts(found.jobs)), ("done", _bar(found))]
        )
        return f"{head}\n\n{jobs.listing(running) if running else 'none of its jobs runs now'}"
    values = [
        ("job", found.id), ("command", found.command), ("state", jobs.state(found)), ("worker", found.worker),
        ("running for", ago(found.started) if found.state == "running" else ""), ("attempts", found.attempts or ""),
    ]  # fmt: skip
    if found.state in ("waiting", "blocked"):
        values += [("why", reason.text) for reason in client.why(found.id).reasons]
    return facts(values)
