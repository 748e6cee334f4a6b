"""Jobs and arrays: submit, look, wait, cancel, fetch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from msgspec import Meta

from cpc.core.errors import NotFound
from cpc.core.manifest import safe_path
from cpc.core.spec import JobSpec
from cpc.core.views import ArrayView, FileView, JobDetail, JobView, LogView, Page, Submitted, View, WhyView
from cpc.server.http.answer import encode
from cpc.server.http.ask import Ask
from cpc.server.http.download import Download
from cpc.server.http.paging import Count, Paging
from cpc.server.http.route import Nothing, Question, route
from cpc.server.http.stream import Message, Stream, resume_point
from cpc.server.roles import Act

State = Literal["blocked", "waiting", "running", "succeeded", "failed", "cancelled"]


class Submission(Question, frozen=True):
    """`dry_run`: check everything, store nothing."""

    spec: JobSpec
    dry_run: bool = False


class JobsQuery(Paging, frozen=True):
    """`state` may name several, with commas; `name` and `array` must be equal; `since` is a time in µs."""

    state: tuple[State, ...] = ()
    name: str = ""
    array: str = ""
    since: Count = 0


class AllJobsQuery(Paging, frozen=True):
    state: tuple[State, ...] = ()
    project: str = ""


class Cancellation(Question, frozen=True):
    reason: Annotated[str, Meta(max_length=500)] = ""


class Cancelled(View, frozen=True):
    """How many jobs were cancelled by this call."""

    cancelled: int


class Priority(Question, frozen=True):
    priority: Annotated[int, Meta(ge=-30, le=30)]


class WaitQuery(Question, frozen=True):
    """`timeout` in seconds."""

    timeout: Annotated[float, Meta(ge=0, le=60)] = 30.0


class AttemptQuery(Question, frozen=True):
    """An attempt other than the accepted one."""

    attempt: Annotated[int, Meta(ge=1, le=1 << 31)] | None = None


class LogQuery(Question, frozen=True):
    stream: Literal["stdout", "stderr"] = "stdout"
    offset: Count = 0
    limit: Annotated[int, Meta(ge=1, le=1 << 20)] = 64 << 10


class FollowQuery(Question, frozen=True):
    stream: Literal["stdout", "stderr"] = "stdout"
    offset: Count = 0


@route("POST", "/projects/{project}/jobs", act=Act.JOB_SUBMIT, limit=32 << 20)
async def submit(ask: Ask, project: str, body: Submission) -> Submitted:
    """Submit a job or an array."""
    return await ask.services.jobs.submit(ask.call, project, body.spec, body.dry_run)


@route("GET", "/projects/{project}/jobs", act=Act.JOB_LIST)
async def page(ask: Ask, project: str, query: JobsQuery) -> Annotated[Page, JobView]:
    """The jobs of a project, newest first."""
    return await ask.services.jobs.page(
        ask.who, project, states=query.state, name=query.name, array=query.array, since=query.since,
        after=query.after, limit=query.limit,
    )  # fmt: skip


@route("GET", "/projects/{project}/arrays", act=Act.JOB_LIST)
async def arrays(ask: Ask, project: str, query: Paging) -> Annotated[Page, ArrayView]:
    """The submissions of a project, newest first."""
    return await ask.services.jobs.arrays(ask.who, project, query.after, query.limit)


@route("GET", "/jobs", act=Act.JOB_LIST_ALL)
async def all_jobs(ask: Ask, query: AllJobsQuery) -> Annotated[Page, JobView]:
    """The jobs of all projects that one may see, newest first."""
    return await ask.services.jobs.page(
        ask.who, query.project or None, states=query.state, name="", array="", since=0,
        after=query.after, limit=query.limit,
    )  # fmt: skip


@route("GET", "/jobs/{id}", act=Act.JOB_SHOW)
async def detail(ask: Ask, id: str) -> JobDetail | ArrayView:
    """A job with its attempts, or an array; `kind` tells which."""
    return await ask.services.jobs.detail(ask.who, id)


@route("POST", "/jobs/{id}/cancel", act=Act.JOB_CANCEL)
async def cancel(ask: Ask, id: str, body: Cancellation) -> Cancelled:
    """Cancel a job or what is left of an array."""
    return Cancelled(cancelled=(await ask.services.jobs.cancel(ask.call, id, body.reason)).count)


@route("POST", "/jobs/{id}/retry", act=Act.JOB_RETRY)
async def retry(ask: Ask, id: str, body: Nothing) -> Submitted:
    """Give failed and cancelled jobs a fresh start, as new attempts."""
    return await ask.services.jobs.retry(ask.call, id)


@route("POST", "/jobs/{id}/fail-attempt", act=Act.JOB_FAIL_ATTEMPT)
async def fail_attempt(ask: Ask, id: str, body: Nothing) -> Nothing:
    """End the attempt under way as lost; the job goes back to the queue."""
    await ask.services.jobs.fail_attempt(ask.call, id)
    return Nothing()


@route("PATCH", "/jobs/{id}", act=Act.JOB_PRIORITISE)
async def prioritise(ask: Ask, id: str, body: Priority) -> Nothing:
    """Change the priority of what has not ended."""
    await ask.services.jobs.prioritise(ask.call, id, body.priority)
    return Nothing()


@route("DELETE", "/jobs/{id}", act=Act.JOB_FORGET)
async def forget(ask: Ask, id: str) -> Nothing:
    """Forget a finished job or array, and its files."""
    await ask.services.jobs.forget(ask.call, id)
    return Nothing()


@route("GET", "/jobs/{id}/why", act=Act.JOB_SHOW)
async def why(ask: Ask, id: str) -> WhyView:
    """Why a job is in the state it is in, and what to do."""
    return await ask.services.jobs.why(ask.who, id)


@route("GET", "/jobs/{id}/wait", act=Act.JOB_SHOW)
async def wait(ask: Ask, id: str, query: WaitQuery) -> JobDetail | ArrayView:
    """The job when it has ended, or as it is after `timeout`."""
    return await ask.services.results.wait(ask.who, id, query.timeout)


@route("GET", "/jobs/{id}/outputs", act=Act.JOB_OUTPUT)
async def outputs(ask: Ask, id: str, query: AttemptQuery) -> Annotated[Page, FileView]:
    """The outputs of the accepted attempt, or of another."""
    return await ask.services.results.outputs(ask.who, id, query.attempt)


@route("GET", "/jobs/{id}/outputs/{path...}", act=Act.JOB_OUTPUT)
async def output(ask: Ask, id: str, path: bytes, query: AttemptQuery) -> Download:
    """One output. Bytes that are not UTF-8 are written %XX in the path. Range and ETag are honoured."""
    entry = await ask.services.results.output(ask.who, id, safe_path(path), query.attempt)
    shown = path.decode("utf-8", "replace")
    if entry.content is None:
        raise NotFound(f"output {shown!r} is a {entry.kind}, not a file", "list the outputs to see what it holds")
    reader = ask.services.files.reader(entry.content)
    name = path.rpartition(b"/")[2]
    return Download(ask.request, name=name, digest=entry.content.digest.hex(), size=reader.size, read=reader.read)


@route("GET", "/jobs/{id}/logs", act=Act.JOB_OUTPUT)
async def log(ask: Ask, id: str, query: LogQuery) -> LogView:
    """Part of what a job wrote: live while it runs, the file afterwards."""
    return await ask.services.results.log(ask.who, id, query.stream, query.offset, query.limit)


@route("GET", "/jobs/{id}/logs/follow", act=Act.JOB_OUTPUT)
async def follow(ask: Ask, id: str, query: FollowQuery) -> Stream:
    """The same as server-sent events: "log" with a LogView, and "end". `Last-Event-ID` resumes where it stopped."""
    offset = resume_point(ask, query.offset)
    # Asked for a part first, a refusal has a status; within the stream it could only be an event.
    await ask.services.results.log(ask.who, id, query.stream, offset, 1)
    found = ask.services.results.follow(ask.who, id, query.stream, offset)
    return Stream(ask, _log_messages(found), found)


async def _log_messages(found: AsyncIterator[LogView]) -> AsyncIterator[Message]:
    async for part in found:
        following = part.next or part.offset + len(part.data.encode())
        yield Message(str(following), "log", encode(part))
    yield Message("", "end", b"{}")
