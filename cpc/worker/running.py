"""One attempt at this worker: from a task to a result in the spool.

Its states and what moves it are in TABLE; the program runs from `room` to `end`, or is next in the guardian's line. GONE
means that nothing of it is left here but, perhaps, a delivery: a result on its way to the server.
"""

from __future__ import annotations

import contextlib
import enum
import errno
from collections.abc import Sequence

import msgspec
from twisted.internet.defer import CancelledError, Deferred

from cpc.core.errors import CopernicusError, TooLarge
from cpc.core.manifest import Manifest
from cpc.core.outcome import Outcome
from cpc.core.resources import show_size
from cpc.spool.disk import Stat
from cpc.wire.messages import Result, Task
from cpc.worker.checkpointing import Checkpointer
from cpc.worker.collecting import Collected, collect, is_brief, sync_files, tail, words
from cpc.worker.delivery import Delivery
from cpc.worker.ending import Stop, may_be_told, outcome
from cpc.worker.placing import key_of, place, run_directory
from cpc.worker.processes import Exit, Launch
from cpc.worker.room import Kept, Room
from cpc.worker.spares import untouched
from cpc.worker.starting import Command, job_environment
from cpc.worker.tailing import Tailer
from cpc.worker.transfer import Stopped
from cpc.worker.waiting import Backoff, in_background, later, sleep


class State(enum.StrEnum):
    FETCHING = "fetching"
    WAITING = "waiting"
    RUNNING = "running"
    STOPPING = "stopping"
    COLLECTING = "collecting"
    GONE = "gone"


class Event(enum.StrEnum):
    PLACED = "placed"  # inputs are there, or there are none
    ROOM = "room"  # its cores and memory are free, or will be when another ends: the program starts
    STOP = "stop"  # cancelled, handed back, dropped
    END = "end"  # the program and all it started have ended
    UNBEGUN = "unbegun"  # it was taken out of the line before its program began
    KEPT = "kept"  # the result is in the spool, or nothing is to be reported
    FAULT = "fault"  # the worker could not do its part


TABLE: dict[tuple[State, Event], State] = {
    (State.FETCHING, Event.PLACED): State.WAITING,
    (State.FETCHING, Event.STOP): State.GONE,
    (State.FETCHING, Event.FAULT): State.GONE,
    (State.WAITING, Event.ROOM): State.RUNNING,
    (State.WAITING, Event.STOP): State.GONE,
    (State.WAITING, Event.FAULT): State.GONE,
    (State.RUNNING, Event.STOP): State.STOPPING,
    (State.RUNNING, Event.END): State.COLLECTING,
    (State.RUNNING, Event.UNBEGUN): State.GONE,
    (State.STOPPING, Event.STOP): State.STOPPING,
    (State.STOPPING, Event.END): State.COLLECTING,
    (State.STOPPING, Event.UNBEGUN): State.GONE,
    (State.COLLECTING, Event.STOP): State.COLLECTING,
    (State.COLLECTING, Event.KEPT): State.GONE,
    (State.COLLECTING, Event.FAULT): State.GONE,
}


class Attempt:
    """One leased task. `begin` sets it going; everything else is told through the room's hooks."""

    def __init__(self, room: Room, task: Task) -> None:
        self.task = task
        self.lease = task.lease
        self.state = State.FETCHING
        self.directory = run_directory(room.directory, task.lease)
        self.checkpointer = Checkpointer(room, task, self.directory)
        self.tailer = Tailer(room.disk, task.lease, self.directory)
        self._room = room
        self._key = key_of(task.lease)
        self._stop: Stop | None = None
        self._words = ""
        self._withdrawal = ""
        self._announced = False
        self._lost = 0
        self._stage_in = 0.0  # seconds
        self._bare = False  # it has left nothing, and its directory is another's by now
        self._listening: Deferred[None] | None = None
        self.is_over = False  # its program has ended, and what it has left takes a while to collect

    @property
    def has_ended(self) -> bool:
        """Whether its program has done all that it will: what is left is to keep the result."""
        return self.state is State.COLLECTING

    def begin(self) -> None:
        """Fetch, run, collect, keep."""
        in_background(self._live(), str(self.lease))

    def stop(self, why: Stop, words_: str, grace: float | None = None) -> None:
        """End it: SIGTERM, after `grace` seconds SIGKILL. Asking again for a stronger reason overrules."""
        if self.state is State.GONE or (self._stop is not None and why <= self._stop and grace is None):
            return
        if self._stop is None or why > self._stop:
            self._stop, self._words = why, words_
        before = self.state
        self._to(Event.STOP)
        self.checkpointer.close()
        if before in (State.FETCHING, State.WAITING):
            self._report_unstarted()
        elif before in (State.RUNNING, State.STOPPING):
            limit = self._room.grace if grace is None else grace
            if limit > 0:
                self._room.processes.stop(self._key, limit)
            else:
                self._room.processes.kill(self._key)
        elif self._listening is not None:
            self._listening.cancel()

    def hand_back_unbegun(self, why: str) -> None:
        """If its program has not begun; one that is in line may just have."""
        if self.state is State.RUNNING:
            self._withdrawal = why
            self._room.processes.withdraw(self._key)
        else:
            self.stop(Stop.HAND_BACK, why)

    def _to(self, event: Event) -> None:
        self.state = TABLE[self.state, event]

    def _wanted(self) -> bool:
        return self.state is not State.GONE

    async def _live(self) -> None:
        room = self._room
        try:
            granted = self.task.granted
            has_files = bool(self.task.inputs or self.task.checkpoint)
            if has_files:
                await self._place(room.slots.has_room(granted))
            self._to(Event.PLACED)
            await room.slots.take(self.lease, granted, room.starter.by_name(granted))
            if not has_files:  # a directory alone is no work; no more of them are made than are needed
                await self._place(not room.slots.crowded)
            command = self._command()
        except (Stopped, CancelledError):
            return await self._clear()
        except (OSError, CopernicusError) as error:
            return await self._refuse(error)
        self._to(Event.ROOM)
        end = await self._run(command)
        if not end.began:
            return await self._unbegun()
        self._to(Event.END)
        room.starter.release(self._key)
        room.slots.give(self.lease)
        try:
            await self._finish(end)
        except Exception as error:  # whatever went wrong here is this worker's trouble, never the job's
            if self._wanted():
                await self._refuse(error)
            raise

    async def _place(self, at_once: bool) -> None:
        room, lease = self._room, self.lease
        if room.free_disk() < room.least_free:
            words_ = f"the disk is full: less than {show_size(room.least_free)} are free"
            raise OSError(errno.ENOSPC, words_, room.directory)

        async def fetch(digest: bytes, size: int) -> bytes:
            return await room.transfer.fetch(lease, digest, self._wanted, size)

        began = room.clock.monotonic()
        await place(
            room.disk, room.offload, room.together, room.spares, self.directory, self.task, fetch, room.transfer.early, at_once
        )  # fmt: skip
        if self.task.inputs or self.task.checkpoint:
            self._stage_in = room.clock.monotonic() - began
        if not self._wanted():
            raise Stopped

    def _command(self) -> Command:
        """After the files, because a platform may write into the directory; and what it sets aside is in use from now."""
        try:
            command = self._room.starter.command(self.task, self._key, self.directory)
        except CopernicusError as error:
            self._room.hooks.fault(words(error))
            raise
        self._announced, self._lost = command.announced, command.lost
        return command

    async def _unbegun(self) -> None:
        self._to(Event.UNBEGUN)
        if self._stop is None:
            self._stop, self._words = Stop.HAND_BACK, self._withdrawal
        self._report_unstarted()
        await self._clear()

    async def _run(self, command: Command) -> Exit:
        task = self.task
        ended: Deferred[Exit] = Deferred()
        self.checkpointer.begin()
        self._room.processes.start(
            Launch(
                key=self._key,
                argv=command.argv,
                env=job_environment(command, task),
                cwd=self.directory,
                stdin=task.stdin,
                cores=task.granted.cores,
                memory=task.granted.memory,
                walltime=task.walltime,
                beside=self._room.slots.beside,
            ),
            ended.callback,
        )
        return await ended

    async def _finish(self, end: Exit) -> None:
        """From the program's end to a result in the spool."""
        room = self._room
        self.checkpointer.close()
        await self._listen(end)
        verdict, message = self._outcome(end)
        if verdict is Outcome.CANCELLED:
            return await self._drop(end)
        verdict, message = await self._blame_disk(verdict, message)
        if self._stop is not None:
            message = self._words or message
        room.hooks.ended(self.lease, verdict, end.wall_seconds)
        result = Result(
            lease=self.lease,
            outcome=verdict,
            exit_code=end.code,
            message=message,
            wall_seconds=end.wall_seconds,
            cpu_seconds=end.cpu_seconds,
            max_memory=end.max_memory,
            stage_in_seconds=self._stage_in,
            first=self.task.is_first,
        )
        try:
            collected = await room.together(lambda: self._collect_brief(result))
            if collected is None:
                self.is_over = True
                room.hooks.changed()
                collected = await room.offload(lambda: self._collect(result))
        except OSError as error:
            return await self._refuse(error)
        kept, fresh = collected
        room.transfer.will_send(fresh)
        await self._keep(kept)

    def _outcome(self, end: Exit) -> tuple[Outcome, str]:
        return outcome(end, self._stop, self.task, self._announced, self._lost)

    async def _listen(self, end: Exit) -> None:
        """A batch system that ends an allocation tells the programs in it as well as us, and they may be faster."""
        room = self._room
        verdict, _ = self._outcome(end)
        if room.listens and self._stop is None and not room.told and may_be_told(verdict, self.task):
            self._listening = later(room.reactor, room.listens)
            with contextlib.suppress(CancelledError):
                await self._listening
            self._listening = None
        if room.told:
            self.stop(Stop.HAND_BACK, f"handed back: the worker is leaving ({room.told})")

    async def _blame_disk(self, verdict: Outcome, message: str) -> tuple[Outcome, str]:
        """A job that failed on a full disk did not fail by itself; a refusal is the node's trouble."""
        room = self._room
        if verdict is Outcome.FAILED:
            free = await room.offload(lambda: room.disk.free(room.directory))
            if free < room.least_free:
                verdict = Outcome.REFUSED
                message = f"the worker's disk is full ({room.directory}: {show_size(free)} free); the job {message}"
        if verdict is Outcome.REFUSED:
            room.hooks.fault(message)
        return verdict, message

    def _collect_brief(self, result: Result) -> tuple[Kept, dict[bytes, bytes]] | None:
        """`_collect` where that takes but a moment; None: it does not. Off the reactor, with others.

        Where nothing was left, the directory is another's at once.
        """
        try:
            listing = self._room.disk.scan(self.directory)
        except PermissionError:
            return None
        if not is_brief(listing):
            return None
        collected = self._collect(result, listing)
        self._bare = all(map(untouched, listing)) and self._room.spares.keep(self.directory, listing)
        return collected

    def _collect(self, result: Result, listing: Sequence[Stat] | None = None) -> tuple[Kept, dict[bytes, bytes]]:
        """Hash what the job made; some of its chunks, as they were read. Runs off the reactor."""
        disk, task = self._room.disk, self.task
        handed_back = result.outcome in (Outcome.PREEMPTED, Outcome.WALLTIME)
        patterns = () if handed_back or result.outcome is Outcome.REFUSED else task.outputs
        inputs = {path: content.digest for path, content, _ in task.inputs}
        try:
            found = collect(disk, self.directory, patterns, inputs=inputs, listing=listing)
        except TooLarge as error:
            found = collect(disk, self.directory, ())
            what = f"{error}; name the outputs that are wanted"
            result = msgspec.structs.replace(result, outcome=Outcome.FAILED, message=what)
        if found.left_out:
            text = "; ".join(found.left_out[:3]) + (" …" if len(found.left_out) > 3 else "")
            result = msgspec.structs.replace(
                result, message="; ".join(filter(None, (result.message, f"left out: {text}")))
            )
        checkpoint: Manifest | None = None
        if handed_back and task.checkpoint_patterns:
            checkpoint = collect(disk, self.directory, task.checkpoint_patterns, always=()).files
        self._sync(found, checkpoint)
        last = tail(disk, self.directory, found.listing)
        whole = msgspec.structs.replace(result, files=found.files, small=found.small, tail=last)
        return Kept(whole, checkpoint if checkpoint and checkpoint.entries else None), found.fresh

    def _sync(self, found: Collected, checkpoint: Manifest | None) -> None:
        sync_files(self._room.disk, self.directory, found.files, found.small)
        if checkpoint is not None:
            sync_files(self._room.disk, self.directory, checkpoint, {})

    async def _keep(self, kept: Kept) -> None:
        """Into the spool, however long the disk refuses; then it is a delivery.

        What the report carries as a whole is told meanwhile: once the server has it on record, it is needed here no more.
        """
        room = self._room
        body = msgspec.msgpack.encode(kept)
        delivery = Delivery(room, self.lease, self.directory, room.spool, kept, self._bare)
        told = delivery.is_brief and self._stop not in (Stop.CANCEL, Stop.DROP)
        if told:
            room.hooks.deliver(delivery)
        backoff = Backoff(room.chance, 5.0, 300.0)
        while self._stop not in (Stop.CANCEL, Stop.DROP):
            try:
                if not delivery.is_settled:
                    await room.spool.add(self.lease, body)
            except OSError as error:
                room.hooks.stuck(self.lease, f"a result cannot be written: {words(error)}")
                await room.cache.shrink(0)
                await sleep(room.reactor, backoff.pause())
                continue
            room.hooks.stuck(self.lease, "")
            self._to(Event.KEPT)
            room.hooks.gone(self)
            if delivery.is_settled:
                room.spool.forget(self.lease)
            elif not told:
                room.hooks.deliver(delivery)
            return
        room.hooks.stuck(self.lease, "")
        await self._drop(None)

    async def _refuse(self, error: BaseException) -> None:
        """The worker's own trouble: say so without the disk's help, and step back when it is the node's."""
        room = self._room
        if self._wanted():
            self._to(Event.FAULT)
            self.checkpointer.close()
            room.starter.release(self._key)
            room.slots.give(self.lease)
            text = words(error)
            if isinstance(error, CopernicusError):
                room.hooks.ended(self.lease, Outcome.REFUSED, 0.0)
            else:
                room.hooks.fault(text)
            room.hooks.gone(self)
            if self._stop is not Stop.DROP:
                result = Result(lease=self.lease, outcome=Outcome.REFUSED, message=text, first=self.task.is_first)
                room.hooks.deliver(Delivery(room, self.lease, self.directory, None, Kept(result)))
                return
        await self._clear()

    def _report_unstarted(self) -> None:
        """It was stopped before its program began."""
        self._room.starter.release(self._key)
        self._room.hooks.gone(self)
        self._deliver_words(None)
        self._room.slots.give(self.lease)

    async def _drop(self, end: Exit | None) -> None:
        """Cancelled, or not known to the server any more: nothing is kept."""
        await self._clear()
        self._to(Event.KEPT)
        self._room.hooks.gone(self)
        self._deliver_words(end)

    def _deliver_words(self, end: Exit | None) -> None:
        """A result that has only words and so needs no spool: if it is lost, so is the lease."""
        if self._stop in (None, Stop.DROP):
            return
        end = end or Exit(self._key, None, 0.0, 0.0, 0, "", "")
        verdict, message = outcome(msgspec.structs.replace(end, error=""), self._stop, self.task, False)
        result = Result(
            lease=self.lease,
            outcome=verdict,
            exit_code=end.code,
            message=self._words or message,
            wall_seconds=end.wall_seconds,
            cpu_seconds=end.cpu_seconds,
            first=self.task.is_first,
        )
        self._room.hooks.deliver(Delivery(self._room, self.lease, "", None, Kept(result)))

    async def _clear(self) -> None:
        await self.checkpointer.clear()
        await self._room.clear_away(lambda: self._room.spares.give(self.directory))
