"""Networks, as people use them: the service behind the API's calls about a project's network.

Looking takes the writer's turn, because the networks are in its memory; it writes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from cpc.core import ids, plain
from cpc.core.edits import Define, Edit, Import, SetValue
from cpc.core.errors import Conflict, CopernicusError
from cpc.core.network_views import (
    Changed,
    ExplainView,
    InfoView,
    ItemView,
    NetworkView,
    RecordView,
    TransactionView,
    ValueView,
)
from cpc.core.offload import Offload
from cpc.core.plain import FileRef
from cpc.core.views import LogView, Page
from cpc.dataflow import edits as editing
from cpc.dataflow import xml
from cpc.dataflow.description import ModuleText
from cpc.dataflow.graph import Graph
from cpc.dataflow.instance import Instance
from cpc.dataflow.library import LOCAL
from cpc.server import explaining, looks, preview
from cpc.server.changes import Change
from cpc.server.dataflow import Dataflow
from cpc.server.gate import Gate
from cpc.server.modules import Finder
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from cpc.store import drafts, instance_logs, record, steps
from cpc.store.drafts import Owner
from cpc.store.steps import JobState
from cpc.store.transaction import Tx

T = TypeVar("T")

MOST_JOBS = 100  # in one view
MOST_LEVELS = 100  # of open transactions


class Archives(Protocol):
    """Saves and loads projects; `cpc.server.saving.Saving`."""

    def archive(self, who: Principal, project: str) -> Awaitable[AsyncIterator[bytes]]: ...
    def load(self, call: Call, project: str, file: dict[str, Any]) -> Awaitable[Changed]: ...


class Networks:
    """Change, look at, explain. `runs`: whether a step's function runs now; `may_install` raises Denied, in a unit.

    `offload` runs what takes long in a thread.
    """

    def __init__(
        self, *, gate: Gate, flow: Dataflow, modules: Finder, archives: Archives, offload: Offload,
        runs: Callable[[int], bool], may_install: Callable[[Tx, Principal], None],
    ) -> None:  # fmt: skip
        self._gate = gate
        self._flow = flow
        self._modules = modules
        self._archives = archives
        self._offload = offload
        self._runs = runs
        self._may_install = may_install

    # --- changing ---

    async def edit(self, call: Call, project: str, edits: Sequence[Edit]) -> Changed:
        """Carry out all of the edits or none. In an open transaction they are recorded instead."""
        texts = await self._named_in(call.who, project, edits)

        def unit(tx: Tx) -> Changed:
            owner = self._owner(tx, call.who, project)
            level = drafts.level(tx, owner)
            if level:
                return _record(tx, owner, level, edits)
            return self._carry_out(tx, owner.project, call.who, edits, texts)

        return await self._gate.write(call, Act.NETWORK_EDIT, unit, project=project, answer=Changed)

    async def begin(self, call: Call, project: str) -> TransactionView:
        """Open a transaction, or another level within it."""

        def unit(tx: Tx) -> TransactionView:
            owner = self._owner(tx, call.who, project)
            if drafts.level(tx, owner) >= MOST_LEVELS:
                raise Conflict(f"{MOST_LEVELS} levels of transactions are open", "commit some or roll them back")
            return TransactionView(level=drafts.begin(tx, owner))

        return await self._gate.write(call, Act.NETWORK_EDIT, unit, project=project, answer=TransactionView)

    async def commit(self, call: Call, project: str) -> Changed:
        """Carry out what the innermost level has recorded: all of it or nothing, and then the level stays open."""
        recorded = await self._gate.read(
            call.who, Act.PROJECT_SHOW, lambda tx: _innermost(tx, self._owner(tx, call.who, project)), project=project
        )
        texts = await self._named_in(call.who, project, recorded)

        def unit(tx: Tx) -> Changed:
            owner = self._owner(tx, call.who, project)
            level = _open_level(tx, owner)
            edits = drafts.edits(tx, owner, level)
            changed = self._carry_out(tx, owner.project, call.who, edits, texts)
            drafts.drop(tx, owner, level)
            return changed

        return await self._gate.write(call, Act.NETWORK_EDIT, unit, project=project, answer=Changed)

    async def rollback(self, call: Call, project: str) -> TransactionView:
        """Forget what the innermost level has recorded; the answer is that level."""

        def unit(tx: Tx) -> TransactionView:
            owner = self._owner(tx, call.who, project)
            level = _open_level(tx, owner)
            edits = drafts.edits(tx, owner, level)
            drafts.drop(tx, owner, level)
            return TransactionView(level=level, edits=tuple(map(editing.words, edits)))

        return await self._gate.write(call, Act.NETWORK_EDIT, unit, project=project, answer=TransactionView)

    async def transaction(self, who: Principal, project: str) -> TransactionView:
        """The innermost open level, and what committing it would change now; level 0: none is open."""
        recorded = await self._gate.read(
            who, Act.PROJECT_SHOW, lambda tx: _innermost(tx, self._owner(tx, who, project)), project=project
        )
        try:
            texts, problem = await self._named_in(who, project, recorded), ""
        except CopernicusError as error:
            texts, problem = [], str(error)

        def unit(tx: Tx) -> TransactionView:
            owner = self._owner(tx, who, project)
            level = drafts.level(tx, owner)
            if not level:
                return TransactionView(level=0)
            edits = drafts.edits(tx, owner, level)
            shown = TransactionView(level=level, edits=tuple(map(editing.words, edits)), problem=problem)
            if problem:
                return shown
            with self._flow.graphs.offering(texts):
                return preview.preview(tx, self._flow.graphs.get(tx, owner.project), edits, shown)

        return await self._gate.look(who, Act.PROJECT_SHOW, unit, project=project)

    def release(self, tx: Tx, project: int) -> None:
        """The project is being deleted: nothing of its network goes on; its rows go in the next rounds of retention."""
        steps.end_all(tx, project)
        self._flow.graphs.drop(project)

    def _owner(self, tx: Tx, who: Principal, project: str) -> Owner:
        return Owner(self._gate.project(tx, project, who).id, who.user, who.token)

    def _carry_out(
        self, tx: Tx, project: int, who: Principal, edits: Sequence[Edit], texts: Sequence[ModuleText]
    ) -> Changed:
        """Edits, all or none: what is refused is refused before anything is written."""
        graph = self._flow.graphs.get(tx, project)
        change = Change(self._flow, tx, project, graph)
        with self._flow.graphs.offering(texts), preview.undone_on_error(tx, graph):
            outcome = graph.apply(edits, lambda: tx.next("instance"))
            if any(text.code for text in outcome.modules if text.name == LOCAL):
                self._may_install(tx, who)
            change.check(outcome)
        change.settle(outcome)
        change.write(who.actor, "edited", 0, lambda: {"edits": _builtins(edits)})
        if not outcome.empty:
            change.event(who.actor, "network.edited", tuple(outcome.lines))
        return Changed(lines=tuple(outcome.lines))

    async def _named_in(self, who: Principal, project: str, edits: Iterable[Edit]) -> list[ModuleText]:
        """The modules that edits import, as this server has them now; NotFound, or what is wrong with one.

        Code that modules and uploads name is tried, so those who may not bring it are refused before that.
        """
        names: list[str] = []
        uploads: list[ModuleText] = []
        for edit in edits:
            if isinstance(edit, Import):
                names.append(edit.module)
            elif isinstance(edit, Define):
                text = await self._offload(partial(xml.read, edit.text, LOCAL))
                names += text.imports
                uploads += [text] if text.code else []
        if not names and not uploads:
            return []
        await self._gate.read(
            who, Act.NETWORK_EDIT, lambda tx: self._may_name(tx, who, project, bool(uploads)), project=project
        )
        found: dict[str, ModuleText] = {}
        for name in names:
            found |= {text.name: text for text in await self._modules.load(name)}
        await self._modules.check([*found.values(), *uploads])
        return list(found.values())

    def _may_name(self, tx: Tx, who: Principal, project: str, code: bool) -> None:
        self._gate.project(tx, project, who)
        if code:
            self._may_install(tx, who)

    # --- looking ---

    async def item(self, who: Principal, project: str, path: str, after: str, limit: int) -> ItemView:
        """The project, an instance or a value, with a page of the instances within."""

        def see(tx: Tx, graph: Graph, _: int) -> ItemView:
            view, instance = looks.item(graph, path, after, limit)
            return self._with_step(tx, instance, view) if instance is not None and instance.step else view

        return await self._look(who, project, see)

    async def value(self, who: Principal, project: str, path: str) -> ValueView:
        """An item's value."""
        return await self._look(who, project, lambda tx, graph, _: looks.value(graph, path))

    async def file(self, who: Principal, project: str, path: str) -> FileRef:
        """The file that an item is."""
        return await self._look(who, project, lambda tx, graph, _: looks.file(graph, path), Act.FILE_READ)

    async def network(self, who: Principal, project: str, path: str, after: str, limit: int) -> NetworkView:
        """A page of the instances at a path, with connections, to be drawn."""
        return await self._look(who, project, lambda tx, graph, _: looks.network(graph, path, after, limit))

    async def explain(self, who: Principal, project: str, path: str) -> ExplainView:
        """Where a value comes from."""
        return await self._look(who, project, lambda tx, graph, number: explaining.explain(tx, graph, number, path))

    async def info(self, who: Principal, project: str, name: str) -> InfoView:
        """A module, function or type that the project has imported."""
        return await self._look(who, project, lambda tx, graph, _: looks.info(graph, name))

    async def log(self, who: Principal, project: str, path: str, offset: int, limit: int) -> LogView:
        """Part of an instance's log, in bytes. A character cut at the end comes whole with the next part."""

        def see(tx: Tx, graph: Graph, _: int) -> LogView:
            found = graph.find(path)
            if not isinstance(found, Instance) or found is graph.root:
                raise Conflict(f"{path or 'the project'} has no log", "name an instance")
            size, data = instance_logs.size(tx, found.id), instance_logs.read(tx, found.id, offset, limit)
            text = data.decode("utf-8", "ignore" if offset + len(data) < size else "replace")
            whole = len(text.encode()) if offset + len(data) < size else len(data)
            following = offset + whole
            return LogView(stream="log", offset=offset, data=text, end=following >= size, next=following)

        return await self._look(who, project, see)

    async def record(self, who: Principal, project: str, after: int, limit: int) -> Page:
        """What has changed the network, in order."""

        def unit(tx: Tx) -> Page:
            rows = record.page(tx, self._gate.project(tx, project, who).id, after, limit + 1)
            shown = tuple(
                RecordView(number=row.change, time=row.time, actor=row.actor, kind=row.kind, details=row.details)
                for row in rows[:limit]
            )
            return Page(items=shown, next=str(shown[-1].number) if len(rows) > limit else "")

        return await self._gate.read(who, Act.PROJECT_SHOW, unit, project=project)

    def _look(
        self, who: Principal, project: str, see: Callable[[Tx, Graph, int], T], act: Act = Act.PROJECT_SHOW
    ) -> Awaitable[T]:
        """What `see` finds in the project's network."""

        def unit(tx: Tx) -> T:
            number = self._gate.project(tx, project, who).id
            return see(tx, self._flow.graphs.get(tx, number), number)

        return self._gate.look(who, act, unit, project=project)

    def _with_step(self, tx: Tx, instance: Instance, view: ItemView) -> ItemView:
        """The view with what the instance's open step does."""
        asked = steps.jobs(tx, instance.step)
        live = [job for job in asked if job.state is JobState.LIVE]
        parked = sum(job.state is JobState.PARKED for job in asked)
        if self._runs(instance.step):
            doing = "runs its controller"
        elif not live and not parked:
            doing = "waits for its controller" if instance.state.runs else "is held"
        else:
            doing = f"waits for {len(live)} job{'' if len(live) == 1 else 's'}" if live else ""
            doing += f"{', ' if doing else ''}{parked} held back" if parked else ""
        shown = tuple(ids.show(job.array) for job in live[:MOST_JOBS])
        return msgspec.structs.replace(view, running=doing, jobs=shown)

    # --- saving ---

    def archive(self, who: Principal, project: str) -> Awaitable[AsyncIterator[bytes]]:
        """The whole project, to be loaded anywhere."""
        return self._archives.archive(who, project)

    def load(self, call: Call, project: str, file: dict[str, Any]) -> Awaitable[Changed]:
        """What `archive` gave, into this project, which must be empty."""
        return self._archives.load(call, project, file)


def _record(tx: Tx, owner: Owner, level: int, edits: Sequence[Edit]) -> Changed:
    values = [edit.value for edit in edits if isinstance(edit, SetValue)]
    drafts.record(tx, owner, level, edits, [file.content for file in plain.files(values)])
    return Changed(lines=tuple(map(editing.words, edits)), level=level)


def _open_level(tx: Tx, owner: Owner) -> int:
    level = drafts.level(tx, owner)
    if not level:
        raise Conflict("no transaction is open in this session", "`cpcc transact` opens one")
    return level


def _innermost(tx: Tx, owner: Owner) -> list[Edit]:
    level = drafts.level(tx, owner)
    return drafts.edits(tx, owner, level) if level else []


def _builtins(edits: Sequence[Edit]) -> list[Any]:
    found: list[Any] = msgspec.to_builtins(list(edits), builtin_types=(bytes,))
    return found
