"""Custody: results of other servers' jobs that this server keeps because their owner cannot be reached.

    worker ── result ──▶ home ──▶ on our disk, answered: the worker may forget it and leave
                           │ the owner can be reached again
                           └──▶ chunks that it lacks ▸ the result ▸ its verdict ▸ forgotten here

Only the home of the worker takes custody; the owner alone decides what becomes of a result. Custody ends with its verdict
or with an administrator's act, also when trust in the owner has been revoked meanwhile, and it survives restarts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.logger import Logger

from cpc.core.chance import Chance
from cpc.core.clock import Clock, Timer, Timers
from cpc.core.errors import CopernicusError, NotFound, Unavailable
from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.core.pieces import Data
from cpc.core.views import CustodyView, Page
from cpc.queue.verdict import Verdict
from cpc.server.federation.held import EARLY_TIME, Held, Item, Kept, Lost
from cpc.server.federation.ways import Ways
from cpc.server.gate import Gate
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from cpc.server.storage import Storage, show_size
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.messages import Checkpoint, ChunkList, Message, Result, Settled
from cpc.wire.peer_messages import FarChunkPut, FarMissing

CHUNK_TIME = 240.0
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0  # seconds between tries
MAX_NAME = 200
RENEW = 30.0  # seconds between signs of life for leases whose results are being handed in
LANES = 4  # chunks on their way at once
ASK_AT_ONCE = 1000

_log = Logger()


class Nothing(Message, frozen=True):
    """An empty answer."""


class Reports(Protocol):
    """How a result is reported to its owner."""

    async def hand_in(
        self, route: tuple[str, ...], worker: int, result: Result, checkpoint: Checkpoint | None
    ) -> Settled | None:
        """The owner's word; None: not now, again later. Unavailable when it cannot be reached."""
        ...

    async def renew(self, route: tuple[str, ...], held: dict[int, tuple[Lease, ...]]) -> None:
        """Tell the owner that we have these (its leases, by the worker's number), so that nobody is given their jobs."""
        ...


@dataclass(slots=True)
class _Owner:
    """How far we are with one owner."""

    busy: bool = False
    timer: Timer | None = None
    pause: float = FIRST_PAUSE
    trouble: str = ""
    again: bool = False  # something has come, or the way has opened, while we were busy
    renewed: float = -1e9  # monotonic


class Custody:
    """`reports` is set by whoever puts the federation together, before `start`."""

    def __init__(
        self, *, ways: Ways, held: Held, store: Store, gate: Gate, storage: Storage, timers: Timers, clock: Clock,
        chance: Chance, limit: Callable[[], int], called: Callable[[str], str] = lambda server: f"server {server}",
        name_of: Callable[[int], str] = str,
    ) -> None:  # fmt: skip
        self._ways = ways
        self._held = held
        self._store = store
        self._gate = gate
        self._storage = storage
        self._timers = timers
        self._clock = clock
        self._chance = chance
        self._limit = limit
        self._called = called
        self._name_of = name_of
        self._owners: dict[str, _Owner] = {}
        self._sweeping: Timer | None = None
        self._stopped = False
        self._unknown: set[Lease] = set()  # those that their owners have said to keep
        self.reports: Reports | None = None
        self.gone: Callable[[], None] = lambda: None  # told when nobody waits for a result any more
        self.handed_in = 0  # since the start

    async def load(self) -> None:
        """Read what is kept."""
        await self._held.open()
        for words in self._held.damage:
            _log.error("{words}", words=words)

    def start(self) -> None:
        """Begin to hand it in."""
        self._ways.on_change(self._changed)
        for owner in self._waiting():
            self._kick(owner)

    def stop(self) -> None:
        """No more tries; what is kept stays kept."""
        self._stopped = True
        for timer in (self._sweeping, *(each.timer for each in self._owners.values())):
            if timer is not None and timer.active():
                timer.cancel()

    # --- what is kept ---

    @property
    def size(self) -> int:
        """In bytes, chunks that came before their results included."""
        return self._held.size

    def __len__(self) -> int:
        return len(self._held.items)

    def leases(self, owner: str) -> dict[int, tuple[Lease, ...]]:
        """What our workers, by number, have handed to us for an owner: the leases, as the workers know them. To their owner
        they are still held."""
        found: dict[int, tuple[Lease, ...]] = {}
        for item in self._held.items.values():
            if item.owner == owner:
                found[item.worker] = (*found.get(item.worker, ()), item.lease)
        return found

    def keeps(self, worker: int, path: str) -> bool:
        """Whether something of our worker with this number waits for the owner at the end of `path`."""
        return any(item.worker == worker and item.lease.path == path for item in self._held.items.values())

    def waits(self, peer: str) -> bool:
        """Whether something is to be handed in by way of this peer. What its owner does not know waits for people."""
        return any(lease.route[0] == peer for lease in self._held.items if lease not in self._unknown)

    def has(self, lease: Lease) -> bool:
        """Whether the result of this lease (with its path) is in custody."""
        return lease in self._held.items

    # --- in ---

    def _check(self) -> None:
        if not self._limit():
            raise Unavailable("the owner of the job cannot be reached", "the worker keeps the result until it can")
        self._storage.check_floor()

    def missing(self, lease: Lease, digests: Iterable[bytes]) -> tuple[bytes, ...]:
        """Chunks that must be sent before a result of this lease (with its path) can be taken. Unavailable: nothing is taken."""
        self._check()
        return self._held.missing(lease, digests)

    async def put_chunk(self, lease: Lease, digest: bytes, data: Data) -> None:
        """Keep a chunk whose result will follow; on disk when this returns. Unavailable: there is no room."""
        self._check()
        await self._held.put_chunk(lease, digest, data)
        self._storage.took(len(data))
        if self._sweeping is None:
            self._sweeping = self._timers.callLater(EARLY_TIME, self._sweep)

    async def take(self, worker: int, result: Result, checkpoint: Checkpoint | None = None) -> bool:
        """Take a result of our worker with this number, whose lease has a path. True: it is on disk, the worker may forget
        it. False: chunks are missing, or there is no room; the worker keeps it and tries again."""
        lease = result.lease
        kept = Kept(worker, self._name_of(worker)[:MAX_NAME], self._clock.now(), result, checkpoint)
        known = lease in self._held.items
        try:
            if not known:
                self._check()
            item = await self._held.add(lease, kept)
        except Unavailable as refusal:
            known_owner = self._owners.get(lease.route[-1])
            if known_owner is not None:
                known_owner.trouble = str(refusal)
            return False
        if item is None:
            return False
        if not known:
            self._storage.took(item.body)
            self._tell("custody.taken", item)
            self._kick(item.owner)
        return True

    def _tell(self, kind: str, item: Item, verdict: str = "") -> None:
        self._store.write(lambda tx: self._event(tx, "server", kind, item, verdict)).addErrback(
            lambda failure: _log.warn("an event was not written: {why}", why=failure.value)
        )

    def _event(self, tx: Tx, actor: str, kind: str, item: Item, verdict: str = "") -> None:
        said: dict[str, Any] = {
            "job": item.job,
            "attempt": item.lease.attempt,
            "owner": item.owner,
            "worker": item.name,
        }
        if verdict:
            said["verdict"] = verdict
        tx.event(actor, kind, **said)

    # --- out ---

    def _waiting(self) -> list[str]:
        return list(dict.fromkeys(item.owner for item in self._held.items.values()))

    def _owner(self, owner: str) -> _Owner:
        return self._owners.setdefault(owner, _Owner())

    def _changed(self, peer: str, up: bool) -> None:
        """A peer has come: whatever goes by it is tried at once."""
        if up:
            for owner in dict.fromkeys(i.owner for i in self._held.items.values() if i.lease.route[0] == peer):
                self._owner(owner).pause = FIRST_PAUSE
                self._kick(owner)

    def _kick(self, owner: str) -> None:
        """Begin to hand in what is kept for an owner, unless that is under way."""
        state = self._owner(owner)
        if self._stopped or self.reports is None:
            return
        if state.busy:
            state.again = True
            return
        if state.timer is not None and state.timer.active():
            state.timer.cancel()
        state.busy = True
        ensureDeferred(self._hand_over(owner, state)).addErrback(
            lambda failure: _log.failure("handing in what is in custody failed", failure)
        )

    async def _hand_over(self, owner: str, state: _Owner) -> None:
        state.again = False
        trouble = ""
        try:
            for item in [each for each in self._held.items.values() if each.owner == owner]:
                if self._stopped or item.lease not in self._held.items:
                    continue
                refusal = await self._hand_in(item)
                trouble = trouble or refusal
                if not refusal:
                    state.pause = FIRST_PAUSE
        except CopernicusError as error:
            trouble = str(error)
        finally:
            state.busy = False
            state.trouble = trouble
        if self._stopped:
            return
        if not any(each.owner == owner for each in self._held.items.values()):
            del self._owners[owner]
        elif state.again and not state.trouble:
            self._kick(owner)
        else:
            due, state.pause = state.pause, min(LONGEST_PAUSE, state.pause * 2)
            state.timer = self._timers.callLater(self._chance.uniform(due / 2, due), self._kick, owner)

    async def _hand_in(self, item: Item) -> str:
        """One result, to its end; else why it must wait. Unavailable: the owner cannot be reached."""
        route = (self._ways.here, *item.lease.route)
        assert self.reports is not None
        await self._renew(route, item.owner)
        try:
            kept = await self._held.read(item.lease)
            await self._send_chunks(route, item)
        except Lost as error:
            words = f"the result was lost in custody, on the disk of its worker's home: {error.message}"
            _log.error("{words}", words=words)
            kept = Kept(item.worker, item.name, item.since, Result(item.lease, Outcome.REFUSED, message=words))
        except Unavailable:
            raise
        except CopernicusError as error:
            # The owner does not want these files; its verdict on the result says what becomes of it.
            _log.info("files of {lease}: {error}", lease=item.lease, error=error)
        result = msgspec.structs.replace(kept.result, lease=item.lease.of_owner())
        checkpoint = kept.checkpoint
        if checkpoint is not None:
            checkpoint = msgspec.structs.replace(checkpoint, lease=item.lease.of_owner())
        try:
            settled = await self.reports.hand_in(route, item.worker, result, checkpoint)
        except Unavailable:
            raise
        except CopernicusError as error:
            return str(error)
        if settled is None:
            return "the owner cannot take the result now"
        if settled.verdict == Verdict.ASIDE:
            self._unknown.add(item.lease)
            self.gone()
            return "its server, restored from a backup, does not know the job: `cpcc custody-drop`, if nobody wants it"
        await self._held.forget(item.lease)
        self._unknown.discard(item.lease)
        self.gone()
        self.handed_in += 1
        self._tell("custody.handed-in", item, verdict=settled.verdict)
        return ""

    async def _renew(self, route: tuple[str, ...], owner: str) -> None:
        """The owner knows us again, and thinks that what we do not name is lost: name it before much time has gone."""
        state, now = self._owner(owner), self._clock.monotonic()
        if now - state.renewed >= RENEW and self.reports is not None:
            state.renewed = now
            held = {
                worker: tuple(lease.of_owner() for lease in leases) for worker, leases in self.leases(owner).items()
            }
            await self.reports.renew(route, held)

    async def _send_chunks(self, route: tuple[str, ...], item: Item) -> None:
        lease = item.lease.of_owner()
        for start in range(0, len(item.digests), ASK_AT_ONCE):
            asked = item.digests[start : start + ASK_AT_ONCE]
            question = FarMissing(lease=lease, worker=item.worker, digests=asked)
            missing = await self._ways.ask_far(route, "far-missing", question, ChunkList, CHUNK_TIME, bulk=True)
            left = iter([digest for digest in missing.digests if digest in asked])

            async def lane(left: Iterable[bytes] = left) -> None:
                for digest in left:
                    await self._renew(route, item.owner)
                    data = await self._held.read_chunk(digest)
                    put = FarChunkPut(lease=lease, worker=item.worker, digest=digest, data=data)
                    await self._ways.ask_far(route, "far-chunk-put", put, Nothing, CHUNK_TIME, bulk=True)

            for good, failure in await DeferredList([ensureDeferred(lane()) for _ in range(LANES)], consumeErrors=True):
                if not good:
                    raise failure.value  # type: ignore[attr-defined]

    def _sweep(self) -> None:
        self._sweeping = self._timers.callLater(EARLY_TIME, self._sweep)
        ensureDeferred(self._held.sweep()).addErrback(lambda failure: _log.failure("tidying custody failed", failure))

    # --- for people ---

    def lines(self) -> tuple[str, ...]:
        """What an administrator should know, in sentences, for the status."""
        found = list(self._held.damage)
        for owner in self._waiting():
            items = [each for each in self._held.items.values() if each.owner == owner]
            size = show_size(sum(item.size for item in items))
            trouble = self._owner(owner).trouble
            found.append(
                f"{len(items)} {'result' if len(items) == 1 else 'results'} ({size}) for {self._called(owner)} in custody"
                f"{': ' + trouble if trouble else ''}; `cpcc custody` lists them"
            )
        return tuple(found)

    async def page(self, who: Principal, after: str = "", limit: int = 100) -> Page:
        """What is in custody, oldest first."""

        def unit(tx: Tx) -> Page:
            views = [self._view(item) for item in self._held.items.values()]
            names = [view.id for view in views]
            first = names.index(after) + 1 if after in names else 0
            last = names[first + limit - 1] if len(names) > first + limit else ""
            return Page(items=tuple(views[first : first + limit]), next=last)

        return await self._gate.read(who, Act.CUSTODY_LIST, unit)

    async def drop(self, call: Call, name: str) -> CustodyView:
        """Give a result up: it is removed, and its owner will run the job again. NotFound."""

        def unit(tx: Tx) -> CustodyView:
            found = [item for item in self._held.items.values() if ident(item.lease) == name]
            if not found:
                raise NotFound(f"there is no result {name[:40]!r} in custody", "`cpcc custody` lists what is")
            item = found[0]
            self._event(tx, call.who.actor, "custody.dropped", item)
            tx.after(lambda: self._drop(item.lease))
            return self._view(item)

        return await self._gate.write(call, Act.CUSTODY_DROP, unit, answer=CustodyView)

    def _drop(self, lease: Lease) -> None:
        self._unknown.discard(lease)
        ensureDeferred(self._held.forget(lease)).addCallbacks(
            lambda _: self.gone(), lambda failure: _log.failure("dropping a result from custody failed", failure)
        )

    def _view(self, item: Item) -> CustodyView:
        state = self._owners.get(item.owner)
        return CustodyView(
            id=ident(item.lease), owner=item.owner, job=item.job,
            attempt=item.lease.attempt, worker=item.name, since=item.since, size=item.size,
            trouble=state.trouble if state else "",
        )  # fmt: skip


def ident(lease: Lease) -> str:
    """How people name a result in custody: the same at each start."""
    return hashlib.sha256(msgspec.msgpack.encode(lease)).hexdigest()[:10]
