"""Why a job is not running: every reason that holds, the nearest miss first, in words that name the next step."""

from __future__ import annotations

from dataclasses import dataclass

from cpc.core import ids
from cpc.queue.index import Index
from cpc.queue.job import State
from cpc.queue.match import Exact, blocked_by, has_time, held_back
from cpc.queue.requirement import Requirement, misses, shortage
from cpc.queue.session import Session
from cpc.queue.window import Key

#: What the first reason of a job that waits can be, in the order in which they are looked for.
KINDS = ("paused", "no-worker", "nobody", "draining", "stepped-back", "full", "turn", "soon")

#: How many workers are named before the rest is only counted.
NAMED = 3


@dataclass(frozen=True, slots=True)
class Because:
    """One reason. `kind` is stable: those of KINDS, and blocked, held, intake, again, placed, running,
    ended."""

    kind: str
    text: str
    step: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the job; `ahead`: how many waiting jobs of its own project and class come before it."""

    job: int
    state: State
    project: int
    requirement: Requirement
    number: int  # of the class
    key: Key
    exact: Exact
    ahead: int
    silent: int = 0  # workers that are known but not joined


def waiting(index: Index, job: Facts, now: float) -> list[Because]:
    """The reasons for a job in state WAITING."""
    kind, sessions = standing(index, job, now)
    match kind:
        case "paused":
            return [Because("paused", "its project gets no new leases now", "see `cpcc status`")]
        case "no-worker":
            return [_nobody_joined(index, job)]
        case "nobody":
            return _nearest_misses(job, sessions)
        case "draining" | "stepped-back":
            return _not_taking(sessions)
        case "full":
            return _all_full(job, sessions, now)
        case "turn":
            return [Because("turn", _after_whom(index, job, sessions[0]))]
    return [Because("soon", f"{sessions[0].name} has room; the job is next in the coming round")]


def standing(index: Index, job: Facts, now: float) -> tuple[str, list[Session]]:
    """The kind of the first reason for a job in state WAITING, and the workers that it is about.

    The only place where that is decided: for one job's `why` and for the figures of all that wait.
    """
    if job.project in index.paused:
        return "paused", []
    sessions = [session for session in index.sessions.values() if session.serves(job.project)]
    if not sessions:
        return "no-worker", []
    able = [session for session in sessions if _could(index, job, session)]
    if not able:
        return "nobody", sessions
    # A borrowed worker takes jobs whenever its home says that it has room: until then it is as good as full.
    ready = [session for session in able if (session.wants or session.home) and session.drain is None]
    if not ready:
        return "stepped-back" if able[0].drain is None else "draining", able
    free = [
        session
        for session in ready
        if session.wants
        and not session.sated
        and session.free.covers(job.exact.need)
        and has_time(session, job.exact, now)
    ]
    if not free:
        return "full", ready
    held: list[Session] = []
    behind: list[Session] = []
    for session in free:
        if held_back(index, session, job.key):
            held.append(session)
        elif session.ahead:
            behind.append(session)
    return ("turn", behind or held) if len(held) + len(behind) == len(free) else ("soon", free)


def _could(index: Index, job: Facts, session: Session) -> bool:
    """Whether the worker could ever run the job; remembered by class, because the figures ask it often."""
    if job.number and job.number in index.requirements:
        fits = index.can_run(session.profile, job.number)
    else:
        fits = not misses(job.requirement, session.profile)
    return fits and session.total.covers(job.exact.need)


def _after_whom(index: Index, job: Facts, session: Session) -> str:
    if not held_back(index, session, job.key):
        return f"{session.name} first begins {len(session.ahead)} brief job(s) that it has already"
    other = ids.show(session.reserved, ids.index(session.reserved) > 0)
    return f"{session.name} is being kept free for job {other}, which has waited longer for room"


def _never(job: Facts, session: Session) -> list[tuple[str, str]]:
    found = misses(job.requirement, session.profile)
    return found or shortage(job.exact.need, session.total, "in all")


def _nobody_joined(index: Index, job: Facts) -> Because:
    others = len(index.sessions)
    if others:
        return Because(
            "no-worker", f"the {others} worker(s) that are joined take jobs of other projects only",
            "start a worker without -p, or with this project",
        )  # fmt: skip
    known = f"; {job.silent} known worker(s) are silent" if job.silent else ""
    return Because("no-worker", f"no worker is connected{known}", "start one: cpc-worker -c BUNDLE.cnx")


def nobody_lends(servers: int) -> Because:
    """Beside the reasons that our own workers give, when so many other servers are connected."""
    which = "the connected server lends" if servers == 1 else f"the {servers} connected servers lend"
    return Because(
        "no-worker", f"{which} no worker for it now",
        "`cpcc network` shows whose are idle; what may be lent, and how far, is set at their servers: cpcc peer",
    )  # fmt: skip


def _nearest_misses(job: Facts, sessions: list[Session]) -> list[Because]:
    ranked = sorted(
        ((_never(job, session), session) for session in sessions), key=lambda miss: (len(miss[0]), miss[1].name)
    )
    found = [
        Because("nobody", f"worker {session.name}: {'; '.join(words for _, words in missing)}")
        for missing, session in ranked[:NAMED]
    ]
    if len(ranked) > NAMED:
        found.append(Because("nobody", f"{len(ranked) - NAMED} more worker(s) do not fit either"))
    return [Because("nobody", "no connected worker could ever run it", "change the job, or add such a worker"), *found]


def _not_taking(able: list[Session]) -> list[Because]:
    found = []
    for session in able[:NAMED]:
        if session.drain is not None:
            found.append(
                Because(
                    "draining", f"worker {session.name} is draining: {session.drain}", f"cpcc resume {session.name}"
                )
            )
        else:
            found.append(
                Because("stepped-back", f"worker {session.name} takes no jobs now", "see its note in `cpcc workers`")
            )
    return found


def _why_full(job: Facts, session: Session, now: float) -> str:
    if session.home:
        return f"it is borrowed, and runs {len(session.leases)} job(s) of this server; its own server gives us no more of it now"
    return "; ".join(words for _, words in blocked_by(job.exact, session, now))


def _all_full(job: Facts, ready: list[Session], now: float) -> list[Because]:
    ranked = sorted(
        ready, key=lambda session: (len(blocked_by(job.exact, session, now)), -session.free.cores, session.name)
    )
    found = [Because("full", f"worker {session.name}: {_why_full(job, session, now)}") for session in ranked[:NAMED]]
    place = f"; {job.ahead} job(s) of its kind are before it" if job.ahead else ""
    reserved = next((session for session in ready if session.reserved == job.job), None)
    keeps = f"; {reserved.name} is being kept free for it" if reserved else ""
    return [
        Because("full", f"all {len(ready)} worker(s) that fit are busy{place}{keeps}", "wait, or add workers"),
        *found,
    ]
