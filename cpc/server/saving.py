"""Saving a project to one file while it runs, and loading it on any server, as it was.

What is saved is one moment: the network, what its controllers keep, the open steps with what they have asked for, the
record. What is loaded gets ids of this server. Jobs that had not ended run again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from twisted.logger import Logger

from cpc import __version__
from cpc.core import plain
from cpc.core.digest import Content
from cpc.core.errors import BadInput, Conflict, CopernicusError, Damaged, Unavailable
from cpc.core.journal import Journal
from cpc.core.network_views import Changed
from cpc.core.offload import Offload
from cpc.core.plain import FileRef
from cpc.dataflow import paths, snapshot
from cpc.dataflow.description import ModuleText
from cpc.dataflow.library import LOCAL, Library
from cpc.dataflow.snapshot import InstanceRow, LinkRow, Snapshot, ValueRow
from cpc.dataflow.step import State as StepState
from cpc.server import archive, keeping, submission
from cpc.server.archive import Memory, Packer, Saved, SavedChange, SavedJob, SavedStep
from cpc.server.changes import Change
from cpc.server.dataflow import Dataflow
from cpc.server.files import Files
from cpc.server.gate import Gate
from cpc.server.modules import Finder
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from cpc.server.steps import Kept
from cpc.server.workspace import Workspace
from cpc.store import instances, networks, projects, record, steps
from cpc.store.instances import Delta
from cpc.store.packed import unpack
from cpc.store.record import ChangeRow
from cpc.store.steps import JobState, StepJob, StepRow
from cpc.store.transaction import Tx

_log = Logger()
_TRIES = 5
_PAGE = 1000
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class _Moment:
    """A project as it was when it was saved. `contents`: of all files in it."""

    project: int
    saved: Saved
    contents: tuple[Content, ...]


class Saving:
    """Saves and loads. `may_install` refuses with Denied, in a unit, who may not bring code."""

    def __init__(
        self, *, gate: Gate, flow: Dataflow, files: Files, workspace: Workspace, modules: Finder,
        offload: Offload, may_install: Callable[[Tx, Principal], None],
    ) -> None:  # fmt: skip
        self._gate = gate
        self._flow = flow
        self._files = files
        self._workspace = workspace
        self._modules = modules
        self._offload = offload
        self._may_install = may_install

    # --- saving ---

    async def archive(self, who: Principal, project: str) -> AsyncIterator[bytes]:
        """The pieces of the archive; refusals come at once, not with the first piece."""
        await self._gate.read(who, Act.FILE_READ, lambda tx: self._gate.project(tx, project, who), project=project)
        return self._pieces(who, project)

    async def _pieces(self, who: Principal, project: str) -> AsyncIterator[bytes]:
        number = (await self._moment(who, project)).project
        async with self._workspace.scratch(number) as scratch:
            moment = await self._held(who, project, scratch)
            kept = {memory.instance: await self._kept(memory, scratch) for memory in moment.saved.memories}
            left = tuple(f"{instance}/{path}" for instance, found in kept.items() for path in found.left)
            if left:
                _log.warn("saving {project}: {what}", project=project, what=keeping.words(left))
            packer = Packer()
            data = archive.encode(msgspec.structs.replace(moment.saved, left=left))
            yield packer.begin(archive.NETWORK, len(data))
            for start in range(0, len(data), _PIECE):
                yield await self._offload(partial(packer.data, data[start : start + _PIECE]))
            for content in moment.contents:
                yield packer.begin(f"{archive.FILES}/{content.digest.hex()}", content.size)
                async for piece in self._files.reader(content).pieces():
                    yield await self._offload(partial(packer.data, piece))
            for instance, found in kept.items():
                for path, file, size in found.files:
                    yield packer.begin(f"{archive.PERSISTENT}/{instance}/{path}", size)
                    async for piece in self._read(file, size):
                        yield await self._offload(partial(packer.data, piece))
            for instance, found in kept.items():
                for path, target in found.links:
                    yield packer.link(f"{archive.PERSISTENT}/{instance}/{path}", target)
            yield packer.end()

    async def _kept(self, memory: Memory, scratch: Path) -> keeping.Content:
        found: keeping.Content = await self._offload(partial(keeping.content, scratch / str(memory.instance)))
        return found

    async def _read(self, path: Path, size: int) -> AsyncIterator[bytes]:
        file: BinaryIO = await self._offload(lambda: path.open("rb"))
        try:
            while size:
                piece: bytes = await self._offload(partial(file.read, min(size, _PIECE)))
                if not piece:
                    raise Unavailable(f"{path} has become shorter", "save the project again")
                size -= len(piece)
                yield piece
        finally:
            file.close()

    async def _held(self, who: Principal, project: str, scratch: Path) -> _Moment:
        """A moment whose files and persistent directories stay, whatever happens meanwhile."""
        for _ in range(_TRIES):
            moment = await self._moment(who, project)
            digests = [digest for content in moment.contents for digest in content.chunks]
            lacking: tuple[bytes, ...] = ()
            for start in range(0, len(digests), _PAGE):
                lacking += await self._files.missing(moment.project, digests[start : start + _PAGE])
            if not lacking and await self._hold(moment, scratch):
                return moment
        raise Unavailable(f"project {project} changes too fast to be saved", "deactivate it, or try again")

    async def _hold(self, moment: _Moment, scratch: Path) -> bool:
        for memory in moment.saved.memories:
            target = scratch / str(memory.instance)
            wanted = memory.directory and not target.exists()
            if wanted and not await self._workspace.hold(moment.project, memory.instance, memory.directory, target):
                return False
        return True

    async def _moment(self, who: Principal, project: str) -> _Moment:
        def unit(tx: Tx) -> _Moment:
            row = self._gate.project(tx, project, who)
            rows, values, links = instances.load(tx, row.id)
            taken = Snapshot(
                networks.change(tx, row.id) or 0, tuple(networks.modules(tx, row.id)), tuple(rows), tuple(values),
                tuple(links),
            )  # fmt: skip
            saved = Saved(
                archive.VERSION, row.name, tx.now, __version__, taken,
                tuple(Memory(*each) for each in instances.memories(tx, row.id)),
                tuple(self._step(tx, each) for each in steps.of_project(tx, row.id)), tuple(_record(tx, row.id)),
            )  # fmt: skip
            return _Moment(row.id, saved, tuple(_contents(saved).values()))

        # In the writer, whose view of jobs' descriptions it shares; it writes nothing.
        return await self._gate.look(who, Act.FILE_READ, unit, project=project)

    def _step(self, tx: Tx, row: StepRow) -> SavedStep:
        jobs: tuple[SavedJob, ...] = ()
        packed = None
        if row.state.open:
            jobs = tuple(
                SavedJob(
                    job.ordinal,
                    job.key,
                    None if job.state is JobState.GIVEN else self._flow.queue.specs.get(tx, job.array).spec,
                )
                for job in steps.jobs(tx, row.id)
            )
            packed = steps.snapshot(tx, row.id)
        return SavedStep(
            row.id, row.instance, row.number, int(row.state), row.run, row.function, row.version, row.since, row.opened,
            row.closed, packed, jobs,
        )  # fmt: skip

    # --- loading ---

    async def load(self, call: Call, project: str, file: dict[str, Any]) -> Changed:
        """The project as it was saved. Conflict when this one is not empty; what is wrong with the archive in words."""
        ref = plain.read(file)
        if not isinstance(ref, FileRef):
            raise BadInput("there is no file to load", "upload the archive and use the address it gets")
        number = await self._gate.read(
            call.who, Act.NETWORK_EDIT, lambda tx: self._gate.project(tx, project, call.who).id, project=project
        )
        known = await self._files.missing(number, ref.content.chunks)
        if known:
            raise BadInput(f"the project has no file {ref.name}", "upload it first")
        async with self._workspace.scratch(number) as scratch:
            saved = await self._unpacked(ref, scratch)
            texts, foreign = await self._texts(saved)
            for content in _contents(saved).values():
                await self._take(number, content, scratch)
            numbers = _Numbers()

            def unit(tx: Tx) -> Changed:
                row = self._gate.project(tx, project, call.who)
                if networks.change(tx, row.id) is not None:
                    raise Conflict(f"project {row.name} is not empty", "load into a new one: cpcc load FILE PROJECT")
                if foreign:
                    self._may_install(tx, call.who)
                return self._restore(tx, row.id, call.who.actor, saved, texts, numbers)

            # Nothing may refer to a directory before it is there; so ids are given, and directories moved, first.
            await self._adopt(call, project, number, saved, numbers, scratch)
            return await self._gate.write(call, Act.NETWORK_EDIT, unit, project=project, answer=Changed)

    async def _unpacked(self, ref: FileRef, scratch: Path) -> Saved:
        path = scratch / "archive"
        out: BinaryIO = await self._offload(lambda: path.open("wb"))
        try:
            async for piece in self._files.reader(ref.content).pieces():
                await self._offload(partial(out.write, piece))
        finally:
            await self._offload(out.close)
        saved: Saved = await self._offload(partial(archive.unpack, path, scratch))
        return saved

    async def _texts(self, saved: Saved) -> tuple[list[ModuleText], bool]:
        """The modules, those this server has the same as it has them; and whether any of the others brings code."""
        texts, foreign = [], False
        for text in saved.snapshot.modules:
            own = await self._own(text.name) if text.name != LOCAL else None
            same = own is not None and _comparable(own) == _comparable(text)
            texts.append(own if own is not None and same else text)
            foreign = foreign or (text.code and not same)
        return texts, foreign

    async def _own(self, name: str) -> ModuleText | None:
        try:
            return next((text for text in await self._modules.load(name) if text.name == name), None)
        except CopernicusError:
            return None

    async def _take(self, project: int, content: Content, scratch: Path) -> None:
        path = scratch / archive.FILES / content.digest.hex()
        try:
            stored = await self._workspace.store(project, path)
        except BadInput:
            raise Damaged(f"the archive lacks the file {content.digest.hex()}", "save the project again") from None
        if stored != content:
            raise Damaged(
                f"the file {content.digest.hex()} in the archive is not what it was", "save the project again"
            )

    async def _adopt(
        self, call: Call, project: str, number: int, saved: Saved, numbers: _Numbers, scratch: Path
    ) -> None:
        def give(tx: Tx) -> None:
            self._gate.check(tx, call.who, Act.NETWORK_EDIT, number, f"project {project}")
            for row in saved.snapshot.instances:
                numbers.instances[row.id] = tx.next("instance")

        await self._gate.write(Call(call.who), Act.NETWORK_EDIT, give, project=project)
        for memory in saved.memories:
            if memory.directory and memory.instance in numbers.instances:
                source = scratch / archive.PERSISTENT / str(memory.instance)
                await self._workspace.adopt(number, numbers.instances[memory.instance], _LOADED, source)

    def _restore(
        self, tx: Tx, project: int, actor: str, saved: Saved, texts: list[ModuleText], numbers: _Numbers
    ) -> Changed:
        for step in saved.steps:
            numbers.steps[step.id] = tx.next("step")
        rows = [numbers.instance(row) for row in saved.snapshot.instances]
        values = [numbers.value(row) for row in saved.snapshot.values]
        links = [numbers.link(row, tx.next("instance")) for row in saved.snapshot.links]
        _check(saved, texts, rows, values, links)
        files = {(v.instance, v.tree, v.path) for v in values if isinstance(plain.read(v.value), FileRef)}
        delta = Delta(added=rows, values=values, links_added=links, files=files)
        instances.check(tx, project, delta)
        networks.set_change(tx, project, saved.snapshot.change)
        networks.add_modules(tx, project, texts)
        instances.write(tx, project, delta)
        for memory in saved.memories:
            instances.set_memory(tx, numbers.instances[memory.instance], memory.memory)
            if memory.directory:
                instances.set_directory(tx, numbers.instances[memory.instance], _LOADED)
        for each in saved.record:
            row = ChangeRow(
                each.change, each.time, each.actor, each.kind, numbers.steps.get(each.step, 0), each.details
            )
            record.restore(tx, project, row)
        for step in saved.steps:
            self._restore_step(tx, project, step, numbers)
        self._flow.graphs.drop(project)
        self._settle(tx, project, numbers)
        tx.event(actor, "network.loaded", project=project, subject=project, name=saved.project, instances=len(rows))
        self._flow.queue.round(tx)
        lines = [f"Loaded project {saved.project}: {len(rows)} instances"]
        if saved.left:
            lines.append(f"What was not saved of what functions keep on disk: {keeping.words(saved.left)}")
        return Changed(lines=tuple(lines))

    def _restore_step(self, tx: Tx, project: int, step: SavedStep, numbers: _Numbers) -> None:
        state = StepState(step.state)
        live = [job for job in step.jobs if job.spec is not None]
        if state.open:
            state = StepState.WAITING if live else StepState.READY
        row = StepRow(
            numbers.steps[step.id], project, numbers.instances.get(step.instance, 0), step.number, state, step.run,
            step.function, step.version, step.since, step.opened, step.closed,
        )  # fmt: skip
        steps.add(tx, [row])
        if not state.open:
            return
        if step.snapshot is not None:
            kept = unpack(step.snapshot, Kept, "what a step has started from")
            contents = [file.content for file in plain.files([kept.inputs, kept.sub_inputs])]
            steps.keep_snapshot(tx, row, step.snapshot, contents)
        owner = projects.by_id(tx, project)
        assert owner is not None, "the gate has found it"
        jobs = []
        for job in step.jobs:
            if job.spec is None:
                jobs.append(StepJob(job.ordinal, 0, job.key, JobState.GIVEN))
                continue
            array = submission.submit(self._flow.queue, tx, project, owner.owner, "server", job.spec, row.id)
            jobs.append(StepJob(job.ordinal, array.id, job.key, JobState.LIVE))
        steps.add_jobs(tx, row.id, jobs)

    def _settle(self, tx: Tx, project: int, numbers: _Numbers) -> None:
        """Steps that can run are told of; those of held instances wait with them."""
        graph = self._flow.graphs.get(tx, project)
        change = Change(self._flow, tx, project, graph)
        for number in numbers.steps.values():
            row = steps.get(tx, number)
            if row is None or not row.state.open:
                continue
            instance = graph.instances[row.instance]
            if not instance.state.runs:
                change.park(row)
            elif row.state is StepState.READY:
                tx.after(partial(self._flow.ready, number))


_LOADED = "persistent-loaded"


class _Numbers:
    """The ids of this server for those of the archive."""

    def __init__(self) -> None:
        self.instances: dict[int, int] = {}
        self.steps: dict[int, int] = {}

    def instance(self, row: InstanceRow) -> InstanceRow:
        return msgspec.structs.replace(
            row, id=self.instances[row.id], parent=self._of(row.parent), step=self.steps.get(row.step, 0)
        )

    def value(self, row: ValueRow) -> ValueRow:
        return msgspec.structs.replace(
            row, instance=self._of(row.instance), origin=self.steps.get(row.origin, 0)
        )  # fmt: skip

    def link(self, row: LinkRow, number: int) -> LinkRow:
        return msgspec.structs.replace(
            row, id=number, network=self._of(row.network), source=self._of(row.source), target=self._of(row.target)
        )

    def _of(self, number: int) -> int:
        found = self.instances.get(number, 0)
        if number and not found:
            raise Damaged("the network in the archive names an instance that is not in it", "save the project again")
        return found


def _check(
    saved: Saved, texts: list[ModuleText], rows: list[InstanceRow], values: list[ValueRow], links: list[LinkRow]
) -> None:
    """Damaged or BadInput when the network cannot be what a server has saved; nothing is kept of it here."""
    journal = Journal()
    library = Library()
    for text in texts:
        library.add(text, journal)
    for row in rows:
        if paths.instance_name(row.name) != row.name:
            raise Damaged(f"{row.name[:80]!r} is not an instance's name", "save the project again")
    snapshot.load(
        library, journal, name=saved.project, change=saved.snapshot.change, instances=rows, values=values, links=links
    )
    known = {row.id for row in saved.snapshot.instances}
    if any(memory.instance not in known for memory in saved.memories):
        raise Damaged("the archive keeps something for an instance that is not in it", "save the project again")
    waiting = {row.step for row in rows if row.step}
    opened = [step for step in saved.steps if StepState(step.state).open]
    if len(opened) != len(waiting) or any(step.instance not in known for step in opened):
        raise Damaged("the steps in the archive do not go with its instances", "save the project again")


def _contents(saved: Saved) -> dict[bytes, Content]:
    """All files that it takes, by digest."""
    found: dict[bytes, Content] = {}
    for value in saved.snapshot.values:
        ref = plain.read(value.value)
        if isinstance(ref, FileRef):
            found[ref.content.digest] = ref.content
    for step in saved.steps:
        if step.snapshot is not None:
            kept = unpack(step.snapshot, Kept, "what a step has started from")
            files = plain.files([kept.inputs, kept.sub_inputs])
            found |= {file.content.digest: file.content for file in files}
        for job in step.jobs:
            if job.spec is not None:
                found |= {entry.content.digest: entry.content for entry in job.spec.inputs}
    return found


def _record(tx: Tx, project: int) -> list[SavedChange]:
    found: list[SavedChange] = []
    while page := record.page(tx, project, found[-1].change if found else 0, _PAGE):
        found += [SavedChange(row.change, row.time, row.actor, row.kind, row.step, row.details) for row in page]
    return found


def _comparable(text: ModuleText) -> ModuleText:
    """A module but for where it lies."""
    return msgspec.structs.replace(text, source="", directory="")
