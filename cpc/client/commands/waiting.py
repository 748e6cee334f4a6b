"""Waiting for the ends of jobs: by long questions, or with a bar that moves when the event stream says so."""

from __future__ import annotations

import time  # a command line tool is at the edge: it may look at the clock
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cpc.client.output import Bar, counts, harmless
from cpc.core.errors import CopernicusError, Unavailable

if TYPE_CHECKING:
    from cpc.client.client import Client
    from cpc.client.context import Context
    from cpc.core.views import ArrayView, JobDetail

    Found = JobDetail | ArrayView

OVER = ("succeeded", "failed", "cancelled")
LONGEST = 60.0  # seconds that one question may take
PAUSE = 0.3  # seconds between two looks at a busy array


class TimedOut(CopernicusError):
    """Not all had ended when the time was over."""


def wait(context: Context, jobs: Sequence[str], timeout: float | None = None) -> list[Found]:
    """All of these jobs and arrays, ended. Goes on while the server is away. TimedOut after `timeout` seconds."""
    client = context.client()
    end = time.perf_counter() + timeout if timeout is not None else None
    found = [client.job(job) for job in jobs]  # an unknown one is told before anything is waited for
    with Bar("waiting", shown=not context.out.quiet) as bar:
        for place, job in enumerate(jobs):
            if not over(found[place]):
                found[place] = (_with_bar if bar.shown else _plain)(client, context, bar, job, found, place, end)
    return found


def _plain(
    client: Client, context: Context, _bar: Bar, job: str, _found: list[Found], _place: int, end: float | None
) -> Found:
    away = False
    while True:
        left = _left(end, job)
        try:
            state = client.wait(job, min(LONGEST, left))
        except Unavailable as error:
            away = _stay(context, error, away)
            continue
        if over(state):
            return state


def _with_bar(
    client: Client, context: Context, bar: Bar, job: str, found: list[Found], place: int, end: float | None
) -> Found:
    from cpc.client.watch import Changes

    away = False
    with Changes(client, job=job) as changes:
        while True:
            try:
                found[place] = client.job(job)
                away = False
            except Unavailable as error:
                away = _stay(context, error, away)
                continue
            if over(found[place]):
                return found[place]
            done = sum(map(_ended, found))
            bar.update(done, sum(map(_size, found)), _text(found[place]))
            changes.wait(min(LONGEST, _left(end, job)))
            time.sleep(PAUSE)


def _left(end: float | None, job: str) -> float:
    if end is None:
        return LONGEST
    left = end - time.perf_counter()
    if left <= 0:
        raise TimedOut(f"{job} has not ended yet", f"it goes on; see `cpcc why {job}`")
    return left


def _stay(context: Context, error: Unavailable, told: bool) -> bool:
    """The server is away: say so once, and try again. True: it has been said."""
    if not told:
        context.out.note(f"{error.message}; still trying")
    time.sleep(2.0)
    return True


def over(found: Found) -> bool:
    """Whether it, or all of it, has ended."""
    from cpc.core.views import ArrayView

    return _ended(found) == found.size if isinstance(found, ArrayView) else found.state in OVER


def _size(found: Found) -> int:
    from cpc.core.views import ArrayView

    return found.size if isinstance(found, ArrayView) else 1


def _ended(found: Found) -> int:
    from cpc.core.views import ArrayView

    if isinstance(found, ArrayView):
        return sum(found.jobs.get(state, 0) for state in OVER)
    return int(found.state in OVER)


def _text(found: Found) -> str:
    from cpc.core.views import ArrayView

    return f"{found.id}: {counts(found.jobs) if isinstance(found, ArrayView) else found.state}"


def show(context: Context, found: list[Found]) -> None:
    """How they have ended."""
    context.out.data("ended", found, lambda: "\n".join(map(line, found)))


def line(found: Found) -> str:
    """How one has ended, in a sentence."""
    from cpc.core.views import ArrayView

    if isinstance(found, ArrayView):
        text = f"Array {found.id}: {counts(found.jobs)}"
        failed = found.size - found.jobs.get("succeeded", 0)
        return harmless(f"{text}. See `cpcc jobs --array {found.id} --state failed`" if failed else text)
    text = f"Job {found.id} has {found.state}" if found.state != "cancelled" else f"Job {found.id} was cancelled"
    if found.state == "succeeded":
        return harmless(text)
    return harmless(f"{text}: {found.reason or found.outcome or 'no reason was given'}. See `cpcc job {found.id}`")


def code(found: Sequence[Found]) -> int:
    """0 if all have succeeded."""
    from cpc.core.views import ArrayView

    for one in found:
        good = one.jobs.get("succeeded", 0) == one.size if isinstance(one, ArrayView) else one.state == "succeeded"
        if not good:
            return 1
    return 0
