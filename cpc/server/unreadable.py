"""A file that a job needs cannot be read at the server any more. Another attempt would meet the same, so there is none."""

from __future__ import annotations

from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.queue.job import Event, State, after
from cpc.queue.session import Running
from cpc.server import closing
from cpc.server.closing import Ending
from cpc.server.queue import Queue
from cpc.store import attempts
from cpc.store.jobs import DoneRow
from cpc.store.transaction import Tx


def give_up(queue: Queue, tx: Tx, lease: Lease, digest: bytes, words: str) -> None:
    """Chunk `digest`, which the holder of this lease has asked for, is damaged, as `words` say.

    A damaged input ends the job in words; when the input has come again it can be retried. A damaged checkpoint is dropped: the
    next attempt begins anew.
    """
    run = queue.index.running.get(lease.job)
    if run is None or run.lease != lease:
        return
    spec = queue.specs.get(tx, run.array).spec
    name = next((one.path for one in spec.inputs if digest in one.content.chunks), "")
    if name:
        _fail(queue, tx, run, f"its input {name} is damaged at the server: {words}; send the input again, then retry")
    elif run.checkpoint:
        closing.drop_checkpoint(tx, lease.job)
        queue.index.alter(run, checkpoint=False)
    queue.round(tx)


def _fail(queue: Queue, tx: Tx, run: Running, reason: str) -> None:
    row = closing.end_attempt(queue, tx, run, Ending(Outcome.REFUSED, message=reason))
    attempts.end(tx, [row])
    done = DoneRow(
        id=run.lease.job, project=run.project, state=after(State.RUNNING, Event.GAVE_UP), outcome=Outcome.REFUSED.value,
        exit_code=None, attempts=run.lease.attempt, accepted=0, failures=run.failures, losses=run.losses, ended=tx.now,
        reason=reason,
    )  # fmt: skip
    closing.close(queue, tx, [done], "server", frozenset({run.lease.job} if run.checkpoint else ()))
