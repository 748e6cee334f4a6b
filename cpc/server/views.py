"""Rows as the public API shows them."""

from __future__ import annotations

import urllib.parse

import msgspec

from cpc.core import ids
from cpc.core.manifest import Entry
from cpc.core.views import ArrayView, AttemptView, FileView, JobDetail, JobView
from cpc.store.arrays import ArrayRow
from cpc.store.attempts import AttemptRow
from cpc.store.jobs import DoneRow, JobRow
from cpc.store.page import Shown, Try


def job(
    row: JobRow | DoneRow, array: ArrayRow, project: str, submitter: str,
    last: AttemptRow | None = None, worker: str = "", *,
    wall: float | None = None, waits_for_room: bool = False,
) -> JobView:  # fmt: skip
    """A job in a list. `last`: its newest attempt, if it has had one."""
    done = row if isinstance(row, DoneRow) else None
    return JobView(
        id=ids.show(row.id, array.elements),
        project=project,
        name=array.name,
        command=array.command,
        state=row.state.label,
        priority=-row.rank if isinstance(row, JobRow) else array.priority,
        submitted=array.submitted,
        submitter=submitter,
        started=last.started if last else None,
        ended=done.ended if done else None,
        outcome=done.outcome if done else None,
        exit_code=done.exit_code if done else None,
        reason=done.reason if done else "",
        attempts=row.attempts,
        failures=row.failures,
        losses=row.losses,
        worker=worker,
        wall_seconds=wall,
        waits_for_room=waits_for_room,
    )


def detail(shown: JobView, about: Shown) -> JobDetail:
    """A job with everything that is known of it."""
    return JobDetail(
        **{name: getattr(shown, name) for name in shown.__struct_fields__},
        spec=msgspec.to_builtins(about.spec, builtin_types=()),
        history=tuple(attempt(one) for one in about.history),
        checkpoint=about.checkpoint,
        tail=next((one.tail for one in reversed(about.history) if one.tail is not None), ""),
    )


def attempt(one: Try) -> AttemptView:
    """One try."""
    row = one.row
    return AttemptView(
        number=row.number,
        worker=one.worker,
        host=one.host,
        granted=row.granted,
        started=row.started,
        ended=row.ended,
        outcome=row.outcome,
        exit_code=row.exit_code,
        message=row.message,
        wall_seconds=row.wall,
        cpu_seconds=row.cpu,
        max_memory=row.memory,
        late=row.late,
    )


def array(row: ArrayRow, project: str, submitter: str, states: dict[str, int]) -> ArrayView:
    """A submission of several jobs; `states` as counted."""
    return ArrayView(
        id=ids.show(row.id),
        project=project,
        name=row.name,
        command=row.command,
        size=row.size,
        jobs=states,
        submitted=row.submitted,
        submitter=submitter,
        priority=row.priority,
    )


def file(entry: Entry, base: str) -> FileView:
    """One path of a result; `base` is the address of the result's directory."""
    return FileView(
        path=entry.path.decode("utf-8", "replace"),
        kind=entry.kind,
        size=entry.content.size if entry.content else 0,
        digest=entry.content.digest.hex() if entry.content else "",
        mode=entry.mode,
        target=entry.target.decode("utf-8", "replace"),
        url=f"{base}/{urllib.parse.quote(entry.path)}",
    )
