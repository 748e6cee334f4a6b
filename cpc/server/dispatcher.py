"""Who gives ready steps to controllers and brings their answers back. On the reactor; each step is one coroutine.

    ready ─▶ take (writer) ─▶ files and directories ─▶ the function runs ─▶ files are stored ─▶ answer (writer)

A server that is killed anywhere in between finds the step ready again. What a run has left on disk is removed by a later one.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, ensureDeferred
from twisted.logger import Logger

from cpc.core import plain
from cpc.core.clock import Timers
from cpc.core.digest import CHUNK, Content
from cpc.core.errors import CopernicusError, Unavailable
from cpc.dataflow.answer import Answer, StepInput
from cpc.dataflow.description import ControllerText, FunctionKind
from cpc.dataflow.functions import Function
from cpc.dataflow.step import State
from cpc.server import command_steps, steps
from cpc.server.dataflow import Dataflow
from cpc.server.steps import Run
from cpc.server.workspace import Files, Workspace
from cpc.store import instances
from cpc.store import steps as rows
from cpc.store.store import Store
from cpc.store.transaction import Tx

log = Logger()

MOST = 200  # steps that are given out at a time; the others wait here
AGAIN = 10.0  # seconds until a step is tried again that could not be run
PAGE = 1000

_LOST = "its persistent directory was not there any more; it has begun with an empty one"
_DEFECT = "something went wrong inside the server; its log has the details"


class Pool(Protocol):
    """Runs functions; `cpc.server.controllers.Controllers`."""

    def run(self, step: StepInput, function: Function) -> Deferred[Answer]: ...


class Dispatcher:
    """Steps that can run, in the order in which they could."""

    def __init__(
        self, store: Store, flow: Dataflow, pool: Pool, workspace: Workspace, files: Files, timers: Timers
    ) -> None:
        self._store = store
        self._flow = flow
        self._pool = pool
        self._workspace = workspace
        self._files = files
        self._timers = timers
        self._waiting: dict[int, None] = {}
        self._under_way: dict[int, Deferred[Answer] | None] = {}
        self._again: set[int] = set()
        self._homes: dict[int, DeferredLock] = {}  # an instance's directories belong to one run at a time
        self._stopped = False
        flow.ready, flow.ended, flow.cleared = self.ready, self._ended, self._cleared

    async def start(self) -> None:
        """Give out what was ready when the server stopped."""
        after = 0
        while page := await self._store.read(lambda tx, after=after: rows.opened(tx, after, PAGE)):  # type: ignore[misc]
            for row in page:
                if row.state is State.READY:
                    self.ready(row.id)
            after = page[-1].id

    def stop(self) -> None:
        """Give out nothing more. What is under way may be answered or not: it is run again after a restart."""
        self._stopped = True
        self._waiting.clear()

    def ready(self, step: int) -> None:
        """A step can run. One that is running does so again when its answer is in."""
        if step in self._under_way:
            self._again.add(step)
        else:
            self._waiting[step] = None
            self._pump()

    def runs(self, step: int) -> bool:
        """Whether the step's function runs now."""
        return self._under_way.get(step) is not None

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waits."""
        return not self._under_way and not self._waiting

    # --- one step ---

    def _pump(self) -> None:
        while self._waiting and len(self._under_way) < MOST and not self._stopped:
            step = next(iter(self._waiting))
            del self._waiting[step]
            self._under_way[step] = None
            ensureDeferred(self._carry_out(step)).addErrback(
                lambda failure: log.failure("a step could not be carried out", failure)
            )

    async def _carry_out(self, step: int) -> None:
        try:
            run = await self._store.write(lambda tx: steps.take(self._flow, tx, step))
            if run is not None:
                await self._at_home(run)
        except CancelledError:
            pass  # its step was cut short
        except CopernicusError as refusal:
            if not self._stopped:
                log.warn("a step cannot be run now: {reason}", reason=refusal)
                self._timers.callLater(AGAIN, self.ready, step)
        finally:
            del self._under_way[step]
            if step in self._again:
                self._again.discard(step)
                self._waiting[step] = None
            self._pump()

    async def _at_home(self, run: Run) -> None:
        """Run it, alone in its instance's directories, and clean them when the step is over."""
        project, instance = run.step.project, run.step.instance
        home = self._homes.setdefault(instance, DeferredLock())
        await home.acquire()
        try:
            answer, directory = await self._answer(run)
            kept = await self._taken(run, answer, directory)
            if kept is not None and run.function.controller is not None:
                await self._workspace.keep(project, instance, kept)
        finally:
            home.release()
            if not home.locked:
                self._homes.pop(instance, None)

    async def _taken(self, run: Run, answer: Answer, directory: str) -> str | None:
        """Carry the answer out; the persistent directory on record when the step is over, else None.

        A defect of the server stops this instance only, and does not leave it waiting for ever.
        """

        def unit(tx: Tx, given: Answer, made: str) -> str | None:
            # An error, or an answer that comes too late, has left the former directory.
            over = steps.answer(self._flow, tx, run, given, made)
            return instances.memory(tx, run.step.instance)[1] if over else None

        try:
            return await self._store.write(lambda tx: unit(tx, answer, directory))
        except CopernicusError:
            raise
        except Exception:
            log.failure("the answer of {instance} could not be carried out", instance=run.given.instance)
            return await self._store.write(lambda tx: unit(tx, Answer(error=_DEFECT), ""))

    async def _answer(self, run: Run) -> tuple[Answer, str]:
        """What the function returns, its files stored; and the name of its persistent directory.

        Unavailable when it cannot be run now; everything else that goes wrong is the instance's error.
        """
        try:
            if run.function.kind is FunctionKind.COMMAND:
                return await command_steps.answer(run, self._read), ""
            return await self._controlled(run, run.function.controller or ControllerText())
        except (Unavailable, CancelledError):
            raise
        except CopernicusError as error:
            return Answer(error=str(error)), ""
        except Exception:
            log.failure("running {instance} failed", instance=run.given.instance)
            return Answer(error=_DEFECT), ""

    async def _controlled(self, run: Run, controller: ControllerText) -> tuple[Answer, str]:
        project, instance, row = run.step.project, run.step.instance, run.step
        local, given = self._workspace, run.given
        files = await local.place(project, plain.files([given.inputs, given.sub_inputs]))
        finished = [
            msgspec.structs.replace(job, directory=await local.outputs(project, instance, job.job, job.files))
            for job in given.finished
        ]
        where = await local.prepare(
            project, instance, row.number, row.run,
            output=controller.output_dir, persistent=controller.persistent_dir, former=run.directory,
        )  # fmt: skip
        given = msgspec.structs.replace(
            given, files=files, finished=tuple(finished), output_dir=where.output, persistent_dir=where.persistent
        )
        running = self._pool.run(given, run.function)
        self._under_way[row.id] = running
        try:
            answer = await running
        finally:
            self._under_way[row.id] = None
        if where.lost and not answer.warning:
            answer = msgspec.structs.replace(answer, warning=_LOST)
        return await local.ingest(project, answer, where), where.persistent_name

    async def _read(self, content: Content, length: int) -> bytes:
        reader, data = self._files.reader(content), b""
        while len(data) < length and (piece := await reader.read(len(data), min(length - len(data), CHUNK))):
            data += piece
        return data

    # --- what others say ---

    def _ended(self, step: int) -> None:
        """The step was cut short: nobody wants the answer of the run that is under way."""
        self._waiting.pop(step, None)
        running = self._under_way.get(step)
        if running is not None:
            running.cancel()

    def _cleared(self, project: int, instance: int) -> None:
        """The instance is gone."""
        ensureDeferred(self._forget(project, instance)).addErrback(
            lambda failure: log.warn("a directory stays: {why}", why=failure.value)
        )

    async def _forget(self, project: int, instance: int) -> None:
        await self._workspace.forget(project, instance)
