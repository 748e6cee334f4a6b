"""Pages of the manual that are printed from the code. `--check` fails when one is not current.

python -m docs.generate [--check]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from cpc.core.outcome import Outcome
from cpc.dataflow import instance, step
from cpc.pools import allocation
from cpc.queue import job, spare, verdict
from cpc.server import roles, settings
from cpc.server.commands.settings import BASICS
from cpc.server.federation import peering
from cpc.worker import running
from docs import commands

HERE = Path(__file__).parent
CODE = HERE.parent / "cpc"

#: What happened, as it is called in the event log. A test compares the names with those in the code.
EVENTS = {
    "job.submitted": "a job or array was taken in",
    "job.started": "a worker got it",
    "job.checkpointed": "the server has a checkpoint of it",
    "job.requeued": "its attempt ended without a result; it runs again",
    "job.reserved": "it has waited long for room: a worker is kept free for it",
    "job.succeeded": "it has succeeded",
    "job.failed": "it has failed, and does not run again by itself",
    "job.cancelled": "it was cancelled, by a person or because a job that it waited for failed",
    "job.retried": "it got a fresh start",
    "job.forgotten": "it was removed with its files",
    "submission.forgotten": "a large one is being removed, in several steps; a restart goes on with it",
    "network.edited": "somebody has changed a project's network",
    "network.answered": "the function of an instance has given an answer; `closed`: its step is over",
    "network.loaded": "a saved project was loaded",
    "instance.error": "an instance of a network is stopped by an error",
    "result.quarantined": "a result came that this server, restored from a backup, does not know; it is kept aside",
    "result.unknown": "the same of a job that it does not know: the `worker` on `host` keeps it in its work directory",
    "quarantine.full": "a peer brings more such results than `quarantine_limit`: they are refused",
    "file.uploaded": "a file was uploaded",
    "file.damaged": "a piece of a file was found damaged; it is asked for again when somebody sends a file with it",
    "worker.joined": "a worker has joined",
    "worker.left": "a worker has left in order, or was put out",
    "worker.lost": "a worker was silent for heartbeat_time",
    "worker.drained": "a worker gets no more jobs",
    "worker.resumed": "a drained worker gets jobs again",
    "worker.lent": "a worker runs jobs of another server; at most once in an hour for each of both",
    "worker.borrowed": "a worker of another server runs jobs of this one, for the first time",
    "pool.added": "a batch system was added",
    "pool.changed": "its settings were changed",
    "pool.removed": "it was removed",
    "pool.paused": "it is asked for nothing more",
    "pool.resumed": "it is asked again",
    "allocation.asked": "a pool is asked for workers, and for whom",
    "allocation.started": "an allocation runs; `waited` in seconds",
    "allocation.ended": "it has ended: why, and how long it `ran`",
    "allocation.cancelled": "somebody has cancelled it",
    "allocation.orphaned": "one that nobody knows any more was found in the batch system, and is cancelled",
    "node.excluded": "worker after worker has failed on a node: it is left out for a while",
    "node.drained": "a node of a batch system was drained, with the workers on it",
    "node.resumed": "it is used again",
    "project.created": "a project was made",
    "project.changed": "its quota or weight was changed",
    "project.deleted": "it was deleted",
    "member.granted": "a user got a role in a project",
    "member.revoked": "a user lost it",
    "user.created": "a user was made",
    "user.changed": "a user was promoted, demoted, disabled or enabled, or got a new password",
    "user.deleted": "a user was deleted",
    "user.login": "somebody logged in",
    "user.login-failed": "a wrong password",
    "token.made": "a token was made",
    "token.deleted": "a token was revoked",
    "bundle.made": "a connection bundle was made",
    "bundle.revoked": "it was revoked",
    "peer.asked": "this server has asked another one to be connected",
    "peer.requested": "another server has asked to be connected",
    "peer.trusted": "another server is trusted",
    "peer.dropped": "a request was refused or taken back, or a server forgotten whose trust has ended",
    "peer.revoked": "the trust in another server was ended here",
    "peer.withdrew": "another server has ended its trust in this one",
    "peer.changed": "when another server is asked for work, or what is lent and accepted, was changed",
    "custody.taken": "a result of another server's job is kept here, because that server cannot be reached",
    "custody.handed-in": "its server has it; `verdict`: what became of it",
    "custody.dropped": "an administrator has given it up",
    "setting.changed": "a setting was changed",
    "server.started": "the server has started",
    "server.stopped": "it has stopped in order",
}


def job_chart() -> str:
    """The job's states as a Mermaid chart and a table."""
    lines = [
        "# The life of a job",
        "",
        "Printed from `cpc/queue/job.py`. What is not drawn cannot happen.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> waiting",
        "    [*] --> blocked",
    ]
    for (state, event), after in job.TABLE.items():
        lines.append(f"    {state.label} --> {after.label}: {event}")
    lines += [f"    {state.label} --> [*]" for state in job.State if state.terminal]
    lines += ["```", "", "| state | event | becomes |", "|---|---|---|"]
    lines += [f"| {state.label} | {event} | {after.label} |" for (state, event), after in job.TABLE.items()]
    return "\n".join(lines) + "\n"


def attempt_chart() -> str:
    """One attempt as its worker sees it."""
    lines = [
        "# An attempt at its worker",
        "",
        "Printed from `cpc/worker/running.py`. The program runs from `placed` to `end`; at `gone` nothing of it is left there.",
        "",
        "```mermaid",
        "stateDiagram-v2",
    ]
    names = sorted({(str(state), str(event), str(after)) for (state, event), after in running.TABLE.items()})
    lines += [f"    {state} --> {after}: {event}" for state, event, after in names]
    lines += ["```", "", "| state | event | becomes |", "|---|---|---|"]
    lines += [f"| {state} | {event} | {after} |" for (state, event), after in running.TABLE.items()]
    return "\n".join(lines) + "\n"


def spare_chart() -> str:
    """Room of a worker that other servers may use."""
    lines = [
        "# Spare room of a worker",
        "",
        "Printed from `cpc/queue/spare.py`. What a round of the own queue leaves of a worker is offered to one other server at a",
        "time. Drawn is what changes the state; the table has every pair.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> full",
    ]
    lines += [
        f"    {state} --> {after}: {event}" for (state, event), after in spare.TABLE.items() if after is not state
    ]
    lines += ["```", "", "| state | event | becomes |", "|---|---|---|"]
    lines += [f"| {state} | {event} | {after} |" for (state, event), after in spare.TABLE.items()]
    return "\n".join(lines) + "\n"


def instance_chart() -> str:
    """An instance's own states."""
    lines = [
        "# The life of an instance",
        "",
        "Printed from `cpc/dataflow/instance.py`. Drawn is what changes the state; the table has every pair.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> held: made by a person",
        "    [*] --> active: made by an active controller",
    ]
    moves = [(state, event, after) for (state, event), after in instance.TABLE.items()]
    lines += [f"    {state.label} --> {after.label}: {event}" for state, event, after in moves if after is not state]
    lines += ["```", "", "| state | event | becomes |", "|---|---|---|"]
    lines += [f"| {state.label} | {event} | {after.label} |" for state, event, after in moves]
    return "\n".join(lines) + "\n"


def step_chart() -> str:
    """The states of a step."""
    lines = [
        "# A step",
        "",
        "Printed from `cpc/dataflow/step.py`. A step is one run of a function on one snapshot of its inputs, with all that its",
        "controller and its jobs need for it. What is not drawn cannot happen.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> ready",
    ]
    lines += [f"    {state.label} --> {after.label}: {event}" for (state, event), after in step.TABLE.items()]
    lines += [f"    {state.label} --> [*]" for state in step.State if not state.open]
    lines += ["```", "", "| state | event | becomes |", "|---|---|---|"]
    lines += [f"| {state.label} | {event} | {after.label} |" for (state, event), after in step.TABLE.items()]
    return "\n".join(lines) + "\n"


def peer_chart() -> str:
    """The states of another server."""
    lines = [
        "# Another server",
        "",
        "Printed from `cpc/server/federation/peering.py`: how far one server is with another one. `asked`, `approved`,",
        "`dropped` and `revoked` are what its own operator does, `requested` and `withdrew` what the other side is heard to do;",
        "they have `met` when a connection was made on which each has proved who it is. What is not drawn is refused.",
        "",
        "```mermaid",
        "stateDiagram-v2",
    ]  # fmt: skip
    for (state, event), (after, _) in peering.TABLE.items():
        lines.append(f"    {state or '[*]'} --> {after or '[*]'}: {event}")
    lines += ["```", "", "| state | event | becomes | and |", "|---|---|---|---|"]
    for (state, event), (after, effects) in peering.TABLE.items():
        lines.append(f"| {state or 'unknown'} | {event} | {after or 'unknown'} | {', '.join(effects)} |")
    lines += ["", "| and | means |", "|---|---|", *(f"| {effect} | {effect.words} |" for effect in peering.Effect)]
    return "\n".join(lines) + "\n"


def allocation_chart() -> str:
    """The states of an allocation, with what the server does."""
    lines = [
        "# The life of an allocation",
        "",
        "Printed from `cpc/pools/allocation.py`. Drawn is what changes the state; the table has every pair.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> asked: a pool is asked",
        "    [*] --> orphaned: seen, and unknown",
    ]
    moves = [(state, event, after, effects) for (state, event), (after, effects) in allocation.TABLE.items()]
    lines += [f"    {state} --> {after}: {event}" for state, event, after, _ in moves if after is not state]
    lines += ["    ended --> [*]", "```", "", "| state | event | becomes | what is done |", "|---|---|---|---|"]
    lines += [f"| {state} | {event} | {after} | {'; '.join(effects)} |" for state, event, after, effects in moves]
    lines += ["", "## Why it ended", "", "| reason | was wanted |", "|---|---|"]
    lines += [f"| {reason} | {'yes' if reason.wanted else 'no'} |" for reason in allocation.Reason if reason]
    return "\n".join(lines) + "\n"


def verdict_table() -> str:
    """What the server makes of a worker's report."""
    lines = [
        "# What becomes of a report",
        "",
        "Printed from `cpc/queue/verdict.py`. A worker reports how an attempt ended; whose attempt it is and where the job",
        "stands decide what happens. Every report is answered, so that the worker may forget it.",
        "",
        "| the attempt is | it ended | the job is | verdict |",
        "|---|---|---|---|",
    ]
    for (relation, kind, state), said in verdict.TABLE.items():
        lines.append(f"| {relation} | {kind} | {state.label} | **{said}** |")
    lines += ["", "## Outcomes", "", "| outcome | kind | blames the job |", "|---|---|---|"]
    for outcome in Outcome:
        lines.append(f"| {outcome} | {verdict.kind(outcome)} | {'yes' if outcome.blames_job else 'no'} |")
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Every setting of the server; those that nothing reads yet are named apart."""
    read = {name for name in settings.SETTINGS if in_use(name)}
    lines = [
        "# Settings",
        "",
        "Printed from `cpc/server/settings.py`. Look at them with `cpc-server config`, change one with",
        "`cpc-server config NAME VALUE` or `cpcc config NAME VALUE`; an empty VALUE means the default. Times are written as",
        "`120`, `15m`, `2h`, `30d`, sizes as `500M`, `2G`.",
        "",
        *_settings(each for name, each in settings.SETTINGS.items() if name in read),
    ]
    unread = [each for name, each in settings.SETTINGS.items() if name not in read]
    if unread:
        lines += ["", "## Without effect in this release", "", "They can be set, but nothing reads them yet.", ""]
        lines += _settings(unread)
    lines += [
        "",
        "## In server.json",
        "",
        "What the server needs before it can open its database. They are set in the same way, by `cpc-server config` only,",
        "and count from the next start on.",
        "",
        "| name | what for | while it runs |",
        "|---|---|---|",
    ]
    lines += [f"| `{name}` | {one.text} | {'no' if one.stopped else 'yes'} |" for name, one in BASICS.items()]
    return "\n".join(lines) + "\n"


def _settings(shown: Iterable[settings.Setting]) -> list[str]:
    lines = ["| name | default | what for | needs a restart |", "|---|---|---|---|"]
    for one in shown:
        lines.append(f"| `{one.name}` | {one.default or '(empty)'} | {one.text} | {'yes' if one.restart else 'no'} |")
    return lines


def in_use(name: str) -> bool:
    """Whether anything but its declaration names the setting."""
    return any(f'"{name}"' in path.read_text() for path in CODE.rglob("*.py") if path.name != "settings.py")


def events_page() -> str:
    """Every kind of event."""
    lines = [
        "# Events",
        "",
        "What `cpcc events`, `cpcc watch --json` and `/api/v1/events` tell, in the order in which it was committed. Each event",
        "has a number, a time (µs UTC), a kind, an actor (`user:NAME`, `worker:NAME`, `server`), a project and details. One",
        "event may cover many jobs: `details.jobs`. They are kept for `keep_events` (about jobs) or `keep_audit` (all others).",
        "",
        "A number is shown as ids are: `57`, and `2.58` after a restore. In JSON and in the API it is one integer, which has the",
        "server's life (1, or more after a restore) in its bits from 52 on. `cpcc events --after` takes both.",
        "",
        "| kind | when |",
        "|---|---|",
        *(f"| `{kind}` | {text} |" for kind, text in EVENTS.items()),
        "",
        "Privileged acts without a kind of their own are `audit.ACT`, with the names of [roles](roles.md).",
    ]
    return "\n".join(lines) + "\n"


_KIND = re.compile(r'"((?:' + "|".join(sorted({kind.partition(".")[0] for kind in EVENTS})) + r')\.[a-z-]+)"')
_FILES = (".cnx", ".json", ".pid", ".lock", ".log")


def kinds_in_the_code() -> set[str]:
    """What looks like a kind of event in server and store, without acts and files."""
    acts = {str(act) for act in roles.Act}
    files = [path for room in ("server", "store") for path in (CODE / room).rglob("*.py")]
    sources = (path.read_text() for path in files if path.name != "roles.py")
    found = {kind for text in sources for kind in _KIND.findall(text)}
    return {kind for kind in found if not kind.endswith(_FILES) and (kind not in acts or kind in EVENTS)}


PAGES: dict[str, Callable[[], str]] = {
    "charts/job.md": job_chart,
    "charts/verdicts.md": verdict_table,
    "charts/attempt.md": attempt_chart,
    "charts/spare.md": spare_chart,
    "charts/instance.md": instance_chart,
    "charts/step.md": step_chart,
    "charts/peer.md": peer_chart,
    "charts/allocation.md": allocation_chart,
    "reference/commands.md": commands.page,
    "reference/events.md": events_page,
    "reference/settings.md": settings_page,
    "reference/roles.md": roles.markdown,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or say which are not current."""
    stale = []
    for name, page in PAGES.items():
        path = HERE / name
        text = page()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale and "--check" in arguments:
        print(f"not current: {', '.join(stale)}; run python -m docs.generate", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
