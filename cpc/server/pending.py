"""Why the jobs that wait do, counted for /metrics: by class, never by job, and in short steps between the writer's batches.

All jobs of a window ask for the same, up to a grid cell of memory and walltime, so its first job speaks for them: the kind
counted is the one that `why` gives for that job.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cpc.core import ids
from cpc.queue import why
from cpc.queue.job import State
from cpc.queue.match import Exact
from cpc.queue.why import Facts
from cpc.queue.window import Key, Window
from cpc.server.queue import Queue
from cpc.store import jobs
from cpc.store.store import Store
from cpc.store.transaction import Tx

#: Workers looked at in one step; the writer is held up by some milliseconds.
STEP = 5000

# (class, what of the need it leaves open: memory, walltime, checkpoints; project or 0 for any, key or None for any)
_Asked = tuple[int, int, float, bool, int, Key | None]


@dataclass(slots=True)
class _Look:
    """One look at all windows. Classes that share an answer are asked about once."""

    left: list[tuple[int, int]]
    found: Counter[str] = field(default_factory=Counter)
    known: dict[_Asked, str] = field(default_factory=dict)


async def reasons(store: Store, queue: Queue) -> dict[str, int]:
    """How many jobs wait for each of `why.KINDS`; those that nothing waits for are there with 0."""
    look = _Look(await store.write(lambda tx: list(queue.index.windows)))
    while look.left:
        await store.write(lambda tx: _step(queue, tx, look))
    return {kind: look.found[kind] for kind in why.KINDS}


def _step(queue: Queue, tx: Tx, look: _Look) -> None:
    index = queue.index
    workers = max(1, len(index.sessions))
    own = index.paused | {session.project for session in index.sessions.values()}
    own = own.union(*(session.projects or () for session in index.sessions.values()))
    kept = any(session.reserved for session in index.sessions.values())
    asked = 0
    while look.left and asked < STEP:
        asked += 1
        window = index.windows.get(look.left.pop())
        key = _first(tx, window) if window is not None else None
        if window is None or key is None:
            continue
        exact = queue.exact(tx, ids.array(key[1]))
        project = window.project if window.project in own else 0
        question = (
            window.requirement, exact.need.memory, exact.walltime, exact.checkpoints, project, key if kept else None,
        )  # fmt: skip
        kind = look.known.get(question)
        if kind is None:
            asked += workers
            kind = look.known[question] = _kind(queue, window, key, exact)
        look.found[kind] += window.total


def _first(tx: Tx, window: Window) -> Key | None:
    """The first job that waits, from disk if the window holds none of its jobs now."""
    if window.total <= 0:
        return None
    if window.head is not None or window.watermark is None:
        return window.head
    rows = jobs.eligible(tx, window.project, window.requirement, window.watermark, 1)
    return (rows[0][0], rows[0][1]) if rows else None


def _kind(queue: Queue, window: Window, key: Key, exact: Exact) -> str:
    facts = Facts(
        job=key[1], state=State.WAITING, project=window.project,
        requirement=queue.index.requirements[window.requirement], number=window.requirement, key=key, exact=exact,
        ahead=0,
    )  # fmt: skip
    return why.standing(queue.index, facts, queue.now)[0]
