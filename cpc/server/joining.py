"""Workers come, come back, are drained and leave: the units of the writer behind the machines' door."""

from __future__ import annotations

import msgspec

from cpc.core import ids
from cpc.core.errors import BadInput, Conflict, NotFound, Refused, TurnedAway
from cpc.core.lease import Lease
from cpc.core.names import clean
from cpc.core.texts import plain
from cpc.queue.lent import Lent
from cpc.queue.requirement import profile
from cpc.queue.session import Session
from cpc.server import settling
from cpc.server.queue import Queue
from cpc.store import projects, workers
from cpc.store.transaction import Tx
from cpc.store.workers import WorkerRow
from cpc.wire.messages import Hello

MAX_PROGRAMS = 1000
MAX_HELD = 10_000
MOST_AHEAD = 1000
MAX_WORD = 500  # characters of what a worker says about itself
_WORDS = ("boot", "host", "release", "platform", "note", "allocation", "node")


def check_hello(hello: Hello) -> Hello:
    """The hello, or BadInput for what no worker of ours would say."""
    total = hello.total
    if not 1 <= total.cores <= 1 << 20 or not total.possible:
        raise BadInput(f"a worker of {total.cores} cores, {total.gpus} GPUs and {total.memory} bytes cannot join")
    if len(hello.programs) > MAX_PROGRAMS or len(hello.holds) > MAX_HELD or len(hello.labels) > MAX_PROGRAMS:
        raise BadInput("the worker announces more programs, labels or attempts than are taken")
    if len(hello.lent) > MAX_HELD or not all(held.granted.possible for held in hello.lent):
        raise BadInput("the worker says of jobs of other servers what cannot be")
    if any(len(one.name) > MAX_WORD or len(one.version) > MAX_WORD for one in hello.programs):
        raise BadInput(f"the worker announces a program whose name or version has more than {MAX_WORD} characters")
    for label in hello.labels:
        clean(label, "label")
    if hello.project:
        clean(hello.project, "project")
    words = {name: plain(getattr(hello, name), MAX_WORD) for name in _WORDS}
    return msgspec.structs.replace(hello, **words)


def enrolled(tx: Tx, name: str, fingerprint: str, bundle: int) -> WorkerRow:
    """The worker with this key: the same key always gets the same name. TurnedAway once it is revoked."""
    found = workers.by_key(tx, fingerprint)
    if found is not None:
        if found.revoked is not None:
            raise TurnedAway(f"the worker {found.name} has been revoked", "set it up again with another bundle")
        return found
    row = WorkerRow(
        id=tx.next("worker"), name=name, fingerprint=fingerprint, bundle=bundle, host="", created=tx.now,
        last_seen=tx.now, boot="", session=0, hello=b"", drain=None, revoked=None,
    )  # fmt: skip
    workers.add(tx, row)
    return row


def worker(tx: Tx, fingerprint: str) -> WorkerRow:
    """The enrolled worker with this key; Refused if there is none, TurnedAway if it is revoked."""
    found = workers.by_key(tx, fingerprint)
    if found is None:
        raise Refused("this server does not know the worker's key", "enrol again with a connection bundle")
    if found.revoked is not None:
        raise TurnedAway(f"the worker {found.name} has been revoked", "set it up again with another bundle")
    return found


def join(queue: Queue, tx: Tx, row: WorkerRow, hello: Hello, connected: bool) -> tuple[Session, tuple[Lease, ...]]:
    """A session for a worker, new or come back; also the held leases that are not its own any more.

    `connected`: another connection of the same credential is open. Attempts that a former agent (another boot id) had
    and this one does not are over; a lease that never reached the agent goes back without being counted.
    """
    same = row.boot == hello.boot
    if connected and not same:
        raise Conflict(
            f"the worker {row.name} is joined already, from {row.host}",
            "each worker needs a working directory of its own",
        )
    before = queue.index.of_worker(row.id)
    if before is not None:
        queue.index.leave(before.number)
        former = before.number
        tx.after(lambda: queue.outbox.forget(former))
    held = set(hello.holds)
    mine = queue.index.held(row.id)
    for run in mine:
        run.renewed = queue.now
    gone = [run for run in mine if run.lease not in held]
    if gone:
        words = "the lease did not reach the worker" if same else f"the worker on {row.host} was restarted"
        settling.lost(queue, tx, gone, words, counts=not same)
    session = _session(queue, tx, row, hello)
    _lent(queue, tx, session, before, hello, same)
    queue.index.join(session)
    queue.tallies.join(tx)
    workers.joined(tx, row.id, hello.host, hello.boot, session.number, msgspec.msgpack.encode(hello))
    if not same:
        tx.event(
            f"worker:{row.name}", "worker.joined", subject=row.id,
            worker=row.name, host=hello.host, cores=hello.total.cores,
        )  # fmt: skip
    queue.worker_joined(tx, row, session, hello)
    queue.feed(session)
    current = {run.lease for run in mine} - {run.lease for run in gone}
    drop = [lease for lease in hello.holds if lease not in current]
    return session, tuple(lease for lease in drop if not _goes_on(queue, tx, row.id, lease))


def _lent(queue: Queue, tx: Tx, session: Session, before: Session | None, hello: Hello, same: bool) -> None:
    """What the worker runs for others is known from itself; what it has lost of that, from its session before."""
    held = set(hello.holds)
    missing = [lease for lease in before.lent if lease not in held] if before is not None else []
    if missing:
        words = "the lease did not reach the worker" if same else f"the worker on {hello.host} was restarted"
        tx.after(lambda: queue.loans.missing(session.worker, missing, words, not same))
    abroad = [lease for lease in hello.holds if _goes_on(queue, tx, session.worker, lease)]
    if session.paths:  # also with none: what was known of it before is void
        tx.after(lambda: queue.loans.back(session.worker, abroad))


def _goes_on(queue: Queue, tx: Tx, worker: int, lease: Lease) -> bool:
    """Whether what the worker says to have is a job of another server that it may go on with."""
    return bool(lease.path) and queue.loans.knows(lease) and not settling.of_another(queue, tx, worker, lease)


def _session(queue: Queue, tx: Tx, row: WorkerRow, hello: Hello) -> Session:
    project = 0
    if hello.project:
        found = projects.by_name(tx, hello.project)
        if found is None:
            raise NotFound(f"there is no project {hello.project!r}", "start the worker with a project that exists")
        project = found.id
    programs = tuple((program.name, program.version) for program in hello.programs)
    lent = {
        held.lease: Lent(held.lease, held.granted, held.waits, first=held.first)
        for held in hello.lent
        if _goes_on(queue, tx, row.id, held.lease)
    }
    free = hello.total
    for one in lent.values():
        free = free if one.ahead else free - one.granted
    return Session(
        number=tx.next("session"),
        worker=row.id,
        name=row.name,
        profile=profile(programs, hello.labels, hello.total),
        total=hello.total,
        free=free,
        project=project,
        cores_per_job=hello.cores_per_job,
        drain=row.drain,
        deadline=None if hello.time_left is None else queue.now + hello.time_left,
        most_ahead=max(0, min(hello.ahead, MOST_AHEAD)),
        paths=hello.paths,
        lent=lent,
        ahead={lease: one for lease, one in lent.items() if one.ahead},
        since=queue.now,
    )


def leave(queue: Queue, tx: Tx, number: int, reason: str) -> None:
    """The worker said goodbye: what it still held goes back at once, nothing is counted."""
    session = queue.index.sessions.get(number)
    if session is None:
        return
    settling.lost(queue, tx, queue.index.held(session.worker), reason or "the worker left", counts=False)
    _end(queue, tx, session, "worker.left", reason)


def silent(queue: Queue, tx: Tx, session: Session) -> None:
    """No word for a whole heartbeat time: the session is over. Its leases have expired one by one."""
    _end(queue, tx, session, "worker.lost", "no heartbeat")


def _end(queue: Queue, tx: Tx, session: Session, kind: str, reason: str) -> None:
    queue.index.leave(session.number)
    workers.seen(tx, session.worker)
    tx.event(
        f"worker:{session.name}", kind, subject=session.worker, worker=session.name, reason=reason
    )  # fmt: skip
    queue.worker_left(tx, session, kind, reason)
    tx.after(lambda: queue.outbox.forget(session.number))
    if session.paths:
        tx.after(lambda: queue.loans.gone(session.worker, reason, kind == "worker.lost"))


def find(tx: Tx, text: str) -> WorkerRow:
    """The worker with this name or id."""
    found = workers.by_name(tx, text)
    if found is None and text.replace(".", "").isdigit():
        found = workers.get(tx, ids.read(text)[0])
    if found is None:
        raise NotFound(f"there is no worker {text!r}", "see `cpcc workers` for their names")
    return found


def drain(queue: Queue, tx: Tx, row: WorkerRow, reason: str, finish: bool, actor: str) -> None:
    """Give the worker no more jobs; with `finish` false its jobs are checkpointed and handed back."""
    workers.set_drain(tx, row.id, reason)
    tx.event(actor, "worker.drained", subject=row.id, worker=row.name, reason=reason, finish=finish)
    session = queue.index.of_worker(row.id)
    if session is None:
        return
    queue.index.change(session, drain=reason)
    queue.outbox.drain(tx, session.number, reason)
    if not finish:
        for lease in (*session.leases.values(), *session.lent):
            queue.outbox.hand_back(tx, session.number, lease)
    queue.tell_rooms(tx)


def resume(queue: Queue, tx: Tx, row: WorkerRow, actor: str) -> None:
    """Give the worker jobs again."""
    workers.set_drain(tx, row.id, None)
    tx.event(actor, "worker.resumed", subject=row.id, worker=row.name)
    session = queue.index.of_worker(row.id)
    if session is not None:
        queue.index.change(session, drain=None)
        queue.outbox.drain(tx, session.number, "")
        queue.feed(session)


def revoke(queue: Queue, tx: Tx, bundle: int, words: str = "the worker was revoked") -> list[int]:
    """Every worker of a bundle is out: its leases end, its sessions too; the session numbers to be cut off.

    `words`: why its jobs go back to the queue.
    """
    cut: list[int] = []
    for number in workers.revoke_bundle(tx, bundle):
        settling.lost(queue, tx, queue.index.held(number), words, counts=False)
        session = queue.index.of_worker(number)
        if session is not None:
            cut.append(session.number)
            _end(queue, tx, session, "worker.left", words.removeprefix("the worker was "))
    return cut
