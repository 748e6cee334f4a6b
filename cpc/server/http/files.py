"""Uploads in parts, and downloads by digest."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from cpc.core.digest import CHUNK, Content
from cpc.core.errors import BadInput
from cpc.core.views import UploadView
from cpc.server.http.ask import Ask
from cpc.server.http.download import Download
from cpc.server.http.paging import Count
from cpc.server.http.route import Question, route
from cpc.server.roles import Act

MAX_PART = 8 << 20
Hex = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Announcement(Question, frozen=True):
    """A file's address: SHA-256 of the whole and of every 4 MiB chunk, in hex."""

    digest: Hex
    size: Count
    chunks: tuple[Hex, ...] = ()


class Offset(Question, frozen=True):
    """Where the part begins: a multiple of 4 MiB."""

    offset: Count = 0


@route("POST", "/projects/{project}/uploads", act=Act.FILE_UPLOAD, limit=8 << 20)
async def announce(ask: Ask, project: str, body: Announcement) -> UploadView:
    """Begin an upload, or go on with it: `received` bytes are here; `done` when the project has the file already."""
    content = Content(bytes.fromhex(body.digest), body.size, tuple(map(bytes.fromhex, body.chunks)))
    return await ask.services.files.announce(ask.call, project, content.check())


async def _may_upload(ask: Ask, id: str, query: Offset) -> None:
    await ask.services.files.upload(ask.who, id)


@route("PUT", "/uploads/{id}", act=Act.FILE_UPLOAD, raw=MAX_PART, early=_may_upload)
async def part(ask: Ask, id: str, query: Offset) -> UploadView:
    """Bytes of an upload, at most 8 MiB from `offset`. Whole chunks are safe even when the connection breaks."""
    if query.offset % CHUNK:
        raise BadInput(f"offset {query.offset} is not a multiple of {CHUNK}", "go on at `received`")
    offset, view = query.offset, None
    async for data in ask.parts(CHUNK, MAX_PART):
        view = await ask.services.files.part(ask.who, id, offset, data)
        offset += len(data)
    return view or await ask.services.files.upload(ask.who, id)


@route("GET", "/uploads/{id}", act=Act.FILE_UPLOAD)
async def upload(ask: Ask, id: str) -> UploadView:
    """How far an upload is."""
    return await ask.services.files.upload(ask.who, id)


@route("GET", "/projects/{project}/files/{digest}", act=Act.FILE_READ)
async def download(ask: Ask, project: str, digest: str) -> Download:
    """A file of the project by its digest in hex. Range and ETag are honoured."""
    try:
        wanted = bytes.fromhex(digest)
    except ValueError:
        wanted = b""
    if len(wanted) != 32:
        raise BadInput(f"{digest[:80]!r} is not a SHA-256 in hex")
    size, read = await ask.services.files.open(ask.who, project, wanted)
    return Download(ask.request, name=wanted.hex().encode(), digest=wanted.hex(), size=size, read=read)
