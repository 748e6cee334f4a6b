"""A result on its way to the server: its chunks are uploaded, then it is reported, then it is settled and forgotten."""

from __future__ import annotations

import enum

import msgspec

from cpc.core.clock import Timer
from cpc.core.errors import CopernicusError, Damaged
from cpc.core.lease import Lease
from cpc.core.manifest import Manifest
from cpc.core.outcome import Outcome
from cpc.core.reading import UNREADABLE
from cpc.core.resources import show_size
from cpc.spool.spool import Spool
from cpc.wire.messages import Result
from cpc.worker.aside import DAYS
from cpc.worker.collecting import Source, sources, words
from cpc.worker.room import Kept, Room
from cpc.worker.transfer import Stopped
from cpc.worker.waiting import Backoff, in_background

KEEP_IN_MEMORY = 64 << 10


class Way(enum.StrEnum):
    UPLOADING = "uploading"
    READY = "ready"  # to be reported with the next turn
    TOLD = "told"  # reported in this session, not settled yet
    PAUSED = "paused"  # the server could not take it: again later
    SETTLED = "settled"


class Delivery:
    """One result. `spool` is None for results that have only words and need no disk.

    `directory` is its run directory, kept until it is settled, because that is where its chunks are. `bare`: nothing was in
    it, and it is another's by now.
    """

    def __init__(
        self,
        room: Room,
        lease: Lease,
        directory: str,
        spool: Spool | None,
        kept: Kept | None = None,
        bare: bool = False,
    ) -> None:
        self.lease = lease
        self.way = Way.UPLOADING
        self.trouble = ""
        self._room = room
        self._directory = directory
        self._bare = bare
        self._spool = spool
        self._kept = kept
        self._backoff = Backoff(room.chance, 5.0, 300.0)
        self._timer: Timer | None = None
        self.checkpoint_told = False
        self.told_at = 0.0  # monotonic
        self._began = 0.0  # monotonic: when its upload began
        self._stage_out = 0.0  # seconds that the upload took
        self._forgotten = False
        self.weight = 0  # about how many bytes it takes in a turn

    @property
    def is_brief(self) -> bool:
        """Whether its report carries all of it, and is small enough to stay in memory: then it can be told from there."""
        kept = self.kept()
        return not self._parts(kept) and _weight(kept) <= KEEP_IN_MEMORY

    @property
    def is_on_its_way(self) -> bool:
        """Whether its files have to be sent before it can be told."""
        return self.way in (Way.UPLOADING, Way.PAUSED)

    @property
    def is_settled(self) -> bool:
        """Whether nobody needs it here any more: the server has it on record, or it lies aside."""
        return self._forgotten

    def begin(self) -> None:
        """Upload what is too big for the report itself."""
        self.way = Way.UPLOADING
        kept = self.kept()
        parts = self._parts(kept)
        if parts:
            in_background(self._upload(kept, parts), f"the result of {self.lease}")
        else:
            self._uploaded(kept)

    def kept(self) -> Kept:
        """The result and its checkpoint, from memory or from the spool."""
        if self._kept is not None:
            return self._kept
        assert self._spool is not None
        try:
            return msgspec.msgpack.decode(self._spool.read(self.lease), type=Kept)
        except (Damaged, OSError, *UNREADABLE) as error:
            return self._lost(error)

    def report(self, kept: Kept) -> Result:
        """What the server is told: the result, and how long its chunks were under way."""
        if not self._stage_out:
            return kept.result
        return msgspec.structs.replace(kept.result, stage_out_seconds=self._stage_out)

    def _parts(self, kept: Kept) -> dict[bytes, Source]:
        """What the report cannot carry."""
        carried = kept.result.small
        if kept.checkpoint is None and all(
            digest in carried for _, content in kept.result.files.files() for digest in content.chunks
        ):
            return {}
        manifests = [kept.result.files] + ([kept.checkpoint] if kept.checkpoint else [])
        in_checkpoint = {digest for _, content in (kept.checkpoint or Manifest()).files() for digest in content.chunks}
        return {
            digest: source
            for digest, source in sources(self._directory, *manifests).items()
            if digest not in carried or digest in in_checkpoint
        }

    async def _upload(self, kept: Kept, parts: dict[bytes, Source]) -> None:
        try:
            self._began = self._began or self._room.clock.monotonic()
            await self._room.transfer.upload(self.lease, parts, lambda: self.way is Way.UPLOADING)
            self._stage_out = self._room.clock.monotonic() - self._began
        except Stopped:
            return
        except (Damaged, OSError) as error:
            self._kept = self._lost(error)
        except CopernicusError as error:
            # The server does not want these files; its verdict on the report says what becomes of the result.
            self.trouble = words(error)
        self._uploaded(self._kept or kept)

    def _uploaded(self, kept: Kept) -> None:
        if self.way is Way.UPLOADING:
            self.weight = _weight(kept)
            if self._spool is not None and self.weight > KEEP_IN_MEMORY:
                self._kept = None
            self.way = Way.READY
            self._room.hooks.changed()

    def _lost(self, error: BaseException) -> Kept:
        """This worker's disk lost the result: the job did nothing wrong and is to run again."""
        text = f"the result was lost on the worker's disk: {words(error)}"
        self._room.hooks.fault(text)
        return Kept(Result(lease=self.lease, outcome=Outcome.REFUSED, message=text))

    def told(self) -> None:
        """It was in a turn that the server answered."""
        if self.way is Way.READY:
            self.way = Way.TOLD
            self.told_at = self._room.clock.monotonic()

    def again(self) -> None:
        """A new session, or no word for long: tell it once more."""
        if self.way is Way.TOLD:
            self.way = Way.READY

    def postpone(self) -> None:
        """The server could not take it now: ask after a pause what is missing, and report again."""
        if self.way in (Way.READY, Way.TOLD):
            self.way = Way.PAUSED
            self.checkpoint_told = False  # what was not taken may have been the checkpoint that goes ahead of it
            self._timer = self._room.reactor.callLater(self._backoff.pause(), self.begin)

    def settle(self) -> None:
        """The server's word is on record: forget it, and remove what was kept for it."""
        self.abandon()
        self.way = Way.SETTLED
        self._forgotten = True
        if self._spool is not None:
            self._spool.forget(self.lease)
        if self._directory and not self._bare:
            in_background(self._clear(), f"forgetting {self.lease}")
        else:
            self._room.hooks.settled(self)

    async def _clear(self) -> None:
        await self._room.clear_away(lambda: self._room.spares.give(self._directory))
        self._room.hooks.settled(self)

    async def put_aside(self) -> None:
        """The server does not know the job, because a backup was restored: nobody but us has what it has done."""
        if self.way is Way.SETTLED:
            return
        self.abandon()
        self.way = Way.SETTLED
        place = ""
        if self._directory:
            result = self.kept().result
            try:
                place = await self._room.offload(lambda: self._room.aside.put(self.lease, self._directory, result))
            except OSError as error:
                self._room.say(f"the result of {self.lease} cannot be kept aside: {words(error)}; it is tried again")
                self.way = Way.TOLD
                self.postpone()
                return
        if self._directory:
            kept = f"what it has left is kept for {DAYS} days in {place}" if place else self._no_room()
            whose = "its server" if self.lease.path else "the server"
            self._room.say(f"{self.lease} is of a job that {whose}, restored from a backup, does not know: {kept}")
        self.settle()

    def _no_room(self) -> str:
        words_ = "there is no room to keep what it has left"
        if not self.lease.path:
            return words_
        aside = self._room.aside
        return f"{words_}: all jobs of other servers may leave {show_size(aside.most_lent)} in {aside.directory}"

    def abandon(self) -> None:
        """No more timers: the agent ends. What is in the spool stays there."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


def _weight(kept: Kept) -> int:
    entries = len(kept.result.files.entries) + (len(kept.checkpoint.entries) if kept.checkpoint else 0)
    chunks = kept.result.files.size >> 22
    return sum(map(len, kept.result.small.values())) + 200 * entries + 40 * chunks + 5000
