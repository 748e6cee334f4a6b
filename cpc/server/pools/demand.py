"""What waits in the queue and who is joined, as decisions about pools see them: read off the index, within a unit."""

from __future__ import annotations

from cpc.core import ids
from cpc.core.clock import SECOND
from cpc.pools.facts import Demand, Worker
from cpc.server.pools.book import Book
from cpc.server.queue import Queue
from cpc.store.transaction import Tx


def demand(queue: Queue, tx: Tx) -> list[Demand]:
    """Every class of jobs that wait and could run now. Costs as much as there are classes, not as there are jobs."""
    found = []
    for (project, number), window in queue.index.windows.items():
        if window.total <= 0 or project in queue.index.paused:
            continue
        if window.needs_refill:
            queue.refill(tx, window)
        if window.head is None:
            continue
        rank, job = window.head
        array = ids.array(job)
        submission = queue.specs.get(tx, array)
        running, longest, half = queue.index.ages(project, number, tx.now)
        found.append(
            Demand(
                project=project,
                requirement=queue.index.requirements[number],
                exact=submission.exact,
                count=window.total,
                rank=rank,
                standing=queue.index.shares.standing(project, queue.now),
                waited=max(0.0, (tx.now - submission.row.submitted) / SECOND),
                seconds=queue.pace.of(array) or 0.0,
                before=queue.pace.of_alike(project, number) or 0.0,
                running=running,
                longest=longest / SECOND,
                half=half / SECOND,
            )
        )
    return found


def workers(queue: Queue, book: Book) -> list[Worker]:
    """Every worker of ours that is joined; what other servers lend is theirs to give and take back. Since when one is idle is
    remembered in the book."""
    now, found = book.now, []
    for session in queue.index.sessions.values():
        if session.home:
            continue
        if session.leases:
            book.idle.pop(session.worker, None)
        else:
            book.idle.setdefault(session.worker, now)
        left = None if session.deadline is None else session.deadline - queue.now
        found.append(
            Worker(
                number=session.worker,
                token=book.workers.get(session.worker, ""),
                total=session.total,
                free=session.free,
                programs=session.profile.programs,
                labels=tuple(session.profile.labels),
                project=session.project,
                used=session.worker in book.used,
                idle_since=book.idle.get(session.worker, 0.0),
                draining=session.drain is not None,
                deadline=0.0 if left is None else now + left,
            )
        )
    return found
