"""A project's dataflow network: look at it, change it, fetch from it, save and load it."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from cpc.core.edits import Edit
from cpc.core.network_views import (
    Changed,
    ExplainView,
    InfoView,
    ItemView,
    ModuleView,
    NetworkView,
    RecordView,
    TransactionView,
    ValueView,
)
from cpc.core.views import LogView, Page
from cpc.server.http.ask import Ask
from cpc.server.http.download import Download
from cpc.server.http.outflow import Outflow
from cpc.server.http.paging import Count, Paging
from cpc.server.http.route import Nothing, Question, route
from cpc.server.roles import Act

Path = Annotated[str, Meta(max_length=4096)]


class Edits(Question, frozen=True):
    """What is to be changed, whole or not at all."""

    edits: Annotated[tuple[Edit, ...], Meta(min_length=1, max_length=200_000)]


class Where(Question, frozen=True):
    """A path in the network: `grompp:in.conf[0]`; empty for the project."""

    path: Path = ""


class Listing(Paging, frozen=True):
    """A page of the instances at `path`."""

    path: Path = ""


class Named(Question, frozen=True):
    """`module`, `module::function` or `module::type`."""

    name: Annotated[str, Meta(min_length=1, max_length=400)]


class LogPart(Question, frozen=True):
    """Part of an instance's log, in bytes."""

    path: Path
    offset: Count = 0
    limit: Annotated[int, Meta(ge=1, le=1 << 20)] = 64 << 10


class RecordQuery(Question, frozen=True):
    """What came after a number."""

    after: Count = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Loading(Question, frozen=True):
    """The uploaded file, in the wire form of a value: `{"$file": …}`."""

    file: dict[str, Any]


@route("POST", "/projects/{project}/edits", act=Act.NETWORK_EDIT, limit=64 << 20)
async def edit(ask: Ask, project: str, body: Edits) -> Changed:
    """Change the network: all of the edits or none. In an open transaction they are recorded, and carried out by its commit."""
    return await ask.services.networks.edit(ask.call, project, body.edits)


@route("POST", "/projects/{project}/transaction", act=Act.NETWORK_EDIT)
async def begin(ask: Ask, project: str, body: Nothing) -> TransactionView:
    """Open a transaction, or another level within it."""
    return await ask.services.networks.begin(ask.call, project)


@route("GET", "/projects/{project}/transaction", act=Act.PROJECT_SHOW)
async def transaction(ask: Ask, project: str) -> TransactionView:
    """The open transaction of this session, and what committing it would change."""
    return await ask.services.networks.transaction(ask.who, project)


@route("POST", "/projects/{project}/transaction/commit", act=Act.NETWORK_EDIT)
async def commit(ask: Ask, project: str, body: Nothing) -> Changed:
    """Carry out what the innermost level of the transaction has recorded."""
    return await ask.services.networks.commit(ask.call, project)


@route("DELETE", "/projects/{project}/transaction", act=Act.NETWORK_EDIT)
async def rollback(ask: Ask, project: str) -> TransactionView:
    """Forget what the innermost level of the transaction has recorded."""
    return await ask.services.networks.rollback(ask.call, project)


@route("GET", "/projects/{project}/item", act=Act.PROJECT_SHOW)
async def item(ask: Ask, project: str, query: Listing) -> ItemView:
    """The project, an instance or a value, with a page of the instances within."""
    return await ask.services.networks.item(ask.who, project, query.path, query.after, query.limit)


@route("GET", "/projects/{project}/value", act=Act.PROJECT_SHOW)
async def value(ask: Ask, project: str, query: Where) -> ValueView:
    """An item's value."""
    return await ask.services.networks.value(ask.who, project, query.path)


@route("GET", "/projects/{project}/file", act=Act.FILE_READ)
async def file(ask: Ask, project: str, query: Where) -> Download:
    """The bytes of an item that is a file. Range and ETag are honoured."""
    found = await ask.services.networks.file(ask.who, project, query.path)
    reader = ask.services.files.reader(found.content)
    name = found.name.encode("utf-8", "surrogateescape")
    return Download(ask.request, name=name, digest=found.content.digest.hex(), size=reader.size, read=reader.read)


@route("GET", "/projects/{project}/instance-log", act=Act.PROJECT_SHOW)
async def instance_log(ask: Ask, project: str, query: LogPart) -> LogView:
    """What an instance's controllers wrote."""
    return await ask.services.networks.log(ask.who, project, query.path, query.offset, query.limit)


@route("GET", "/projects/{project}/network", act=Act.PROJECT_SHOW)
async def network(ask: Ask, project: str, query: Listing) -> NetworkView:
    """A page of the instances directly at a path, and the connections among the network's instances."""
    return await ask.services.networks.network(ask.who, project, query.path, query.after, query.limit)


@route("GET", "/projects/{project}/explain", act=Act.PROJECT_SHOW)
async def explain(ask: Ask, project: str, query: Where) -> ExplainView:
    """Where a value comes from: who set it, or which run of which function, with which jobs on which workers."""
    return await ask.services.networks.explain(ask.who, project, query.path)


@route("GET", "/projects/{project}/record", act=Act.PROJECT_SHOW)
async def record(ask: Ask, project: str, query: RecordQuery) -> Annotated[Page, RecordView]:
    """What has changed the network, in order; an empty project that gets the same becomes the same."""
    return await ask.services.networks.record(ask.who, project, query.after, query.limit)


@route("GET", "/projects/{project}/info", act=Act.PROJECT_SHOW)
async def info(ask: Ask, project: str, query: Named) -> InfoView:
    """A module, function or type that the project has imported."""
    return await ask.services.networks.info(ask.who, project, query.name)


@route("GET", "/modules", act=Act.MODULE_LIST)
async def modules(ask: Ask) -> Annotated[Page, ModuleView]:
    """The modules that this server has."""
    return await ask.services.modules.page(ask.who)


@route("GET", "/projects/{project}/archive", act=Act.FILE_READ)
async def archive(ask: Ask, project: str) -> Outflow:
    """The whole project as it is now, a tar.gz."""
    pieces = await ask.services.networks.archive(ask.who, project)
    return Outflow(ask.request, project.encode() + b".tar.gz", pieces)


@route("POST", "/projects/{project}/load", act=Act.NETWORK_EDIT)
async def load(ask: Ask, project: str, body: Loading) -> Changed:
    """What `archive` gave, from an uploaded file, into this project, which must be empty."""
    return await ask.services.networks.load(ask.call, project, body.file)
