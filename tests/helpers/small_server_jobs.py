"""What the small server says of jobs and files."""

from __future__ import annotations

from typing import Any

import msgspec

from cpc.core.digest import Content
from cpc.core.errors import BadInput, Conflict, NotFound
from cpc.core.spec import JobSpec, check
from cpc.core.views import (
    LogView,
    Page,
    Reason,
    Submitted,
    WhyView,
)
from tests.helpers.small_server import Ask, Bytes, Events
from tests.helpers.small_server_calls import page_of_ids, route
from tests.helpers.small_server_world import OVER, Upload, view


@route("POST", "/projects/([^/]+)/jobs")
def submit(ask: Ask, project: str) -> Submitted:
    given = ask.json("spec", "dry_run")
    try:
        spec = check(msgspec.convert(given["spec"], JobSpec))
    except msgspec.ValidationError as error:
        raise BadInput(str(error)) from None
    ask.world.project(project)
    if given.get("dry_run"):
        return Submitted(id="", size=spec.size, dry_run=True, warnings=("no worker has gromacs/mdrun",))
    for entry in spec.inputs:
        if entry.content.size and entry.content.digest.hex() not in ask.world.files:
            raise NotFound(f"the content of input {entry.path!r} is not here", "upload it first")
    number, size = ask.world.submit(project, spec, ask.user)
    return Submitted(id=number, size=size)


def _chosen(ask: Ask, jobs: list[Any]) -> list[Any]:
    states = [state for state in ask.query.get("state", "").split(",") if state]
    array = ask.query.get("array", "")
    found = [
        view(job) for job in jobs
        if (not states or job.state in states) and (not array or job.id.startswith(f"{array}["))
        and job.name in (ask.query.get("name", job.name), )
    ]  # fmt: skip
    return found


@route("GET", "/projects/([^/]+)/jobs")
def jobs(ask: Ask, project: str) -> Page:
    ask.world.project(project)
    mine = [job for job in ask.world.jobs.values() if job.project == project]
    return page_of_ids(ask, _chosen(ask, mine), "state", "name", "array", "since")


@route("GET", "/projects/([^/]+)/arrays")
def arrays(ask: Ask, project: str) -> Page:
    found = [ask.world.find(one.id) for one in ask.world.arrays.values() if one.project == project]
    return page_of_ids(ask, found)


@route("GET", "/jobs")
def all_jobs(ask: Ask) -> Page:
    wanted = ask.query.get("project", "")
    mine = [job for job in ask.world.jobs.values() if not wanted or job.project == wanted]
    return page_of_ids(ask, _chosen(ask, mine), "state", "project")


@route("GET", "/jobs/([^/]+)")
def job(ask: Ask, name: str) -> Any:
    return ask.world.find(name)


@route("POST", "/jobs/([^/]+)/cancel")
def cancel(ask: Ask, name: str) -> dict[str, int]:
    given = ask.json("reason")
    ask.world.find(name)
    live = [one.id for one in ask.world.elements(name) if one.state not in OVER]
    if live:
        ask.world.end(*live, state="cancelled", exit_code=None, reason=given.get("reason", ""))
    return {"cancelled": len(live)}


@route("POST", "/jobs/([^/]+)/retry")
def retry(ask: Ask, name: str) -> Submitted:
    ask.json()
    ask.world.find(name)
    again = [one for one in ask.world.elements(name) if one.state in ("failed", "cancelled")]
    if not again:
        raise Conflict(f"nothing in job {name} has failed or was cancelled")
    for one in again:
        ask.world.jobs[one.id] = msgspec.structs.replace(one, state="waiting", ended=None, exit_code=None)
    return Submitted(id=name, size=len(again))


@route("POST", "/jobs/([^/]+)/fail-attempt")
def fail_attempt(ask: Ask, name: str) -> dict[str, str]:
    ask.json()
    found = ask.world.find(name)
    if getattr(found, "state", "") != "running":
        raise Conflict(f"job {name} is not running")
    ask.world.jobs[name] = msgspec.structs.replace(ask.world.jobs[name], state="waiting", worker="")
    return {}


@route("PATCH", "/jobs/([^/]+)")
def prioritise(ask: Ask, name: str) -> dict[str, str]:
    ask.world.find(name)
    priority = ask.json("priority")["priority"]
    for one in ask.world.elements(name):
        ask.world.jobs[one.id] = msgspec.structs.replace(one, priority=priority)
    return {}


@route("DELETE", "/jobs/([^/]+)")
def forget(ask: Ask, name: str) -> dict[str, str]:
    ask.world.find(name)
    if any(one.state not in OVER for one in ask.world.elements(name)):
        raise Conflict(f"job {name} has not ended", "cancel it first")
    for one in ask.world.elements(name):
        del ask.world.jobs[one.id]
    ask.world.arrays.pop(name, None)
    return {}


@route("GET", "/jobs/([^/]+)/why")
def why(ask: Ask, name: str) -> WhyView:
    ask.world.find(name)
    miss = Reason(kind="version", text="needs gromacs/mdrun ≥ 2023; worker w1 has 2022.5", step="upgrade w1")
    return WhyView(id=name, state="waiting", reasons=(miss,))


@route("GET", "/jobs/([^/]+)/wait")
def wait(ask: Ask, name: str) -> Any:
    timeout = float(ask.only("timeout").get("timeout", 30))
    if not 0 <= timeout <= 60:
        raise BadInput("in the query: timeout is not between 0 and 60")
    ask.world.find(name)
    return ask.world.wait(name, min(timeout, 5.0))


@route("GET", "/jobs/([^/]+)/outputs")
def outputs(ask: Ask, name: str) -> Page:
    ask.only("attempt")
    ask.world.find(name)
    return Page(items=tuple(ask.world.shown_outputs(name)))


@route("GET", "/jobs/([^/]+)/outputs/(.+)")
def output(ask: Ask, name: str, _path: str) -> Bytes:
    from urllib.parse import unquote_to_bytes

    wanted = unquote_to_bytes(ask.path.partition("/outputs/")[2])
    for one in ask.world.outputs.get(name, ()):
        if one.path == wanted and one.kind == "file":
            return Bytes(one.data, ask.headers.get("range", ""))
    raise NotFound(f"there is no output {wanted!r}")


@route("GET", "/jobs/([^/]+)/logs")
def log(ask: Ask, name: str) -> LogView:
    query = ask.only("stream", "offset", "limit")
    found = ask.world.find(name)
    stream, start = query.get("stream", "stdout"), int(query.get("offset", 0))
    limit = int(query.get("limit", 65536))
    if limit > 1 << 20:
        raise BadInput("in the query: limit is too large")
    data = ask.world.logs.get((name, stream), b"")
    part = data[start : start + limit]
    over = getattr(found, "state", "") in OVER and start + limit >= len(data)
    return LogView(stream=stream, offset=start, data=part.decode(), end=over, next=start + len(part))


@route("GET", "/jobs/([^/]+)/logs/follow")
def follow(ask: Ask, name: str) -> Events:
    query = ask.only("stream", "offset")
    ask.world.find(name)
    start = int(ask.headers.get("last-event-id") or query.get("offset", 0))
    return Events(_lines(ask, name, query.get("stream", "stdout"), start))


def _lines(ask: Ask, name: str, stream: str, start: int) -> Any:
    world = ask.world
    while True:
        over = world.jobs[name].state in OVER
        data = world.logs.get((name, stream), b"")[start:]
        while data:
            line, data = data.partition(b"\n")[0] + b"\n", data.partition(b"\n")[2]
            start += len(line)
            shown = LogView(stream=stream, offset=start - len(line), data=line.decode(), end=False, next=start)
            yield str(start), "log", shown
        if over or world.closed:
            yield "", "end", {}
            return
        with world.news:
            world.news.wait(1.0)


# --- files ---


@route("POST", "/projects/([^/]+)/uploads")
def announce(ask: Ask, project: str) -> Any:
    given = ask.json("digest", "size", "chunks")
    ask.world.project(project)
    chunks = tuple(given.get("chunks", ()))
    Content(bytes.fromhex(given["digest"]), given["size"], tuple(map(bytes.fromhex, chunks))).check()
    for number, upload in ask.world.uploads.items():
        if upload.digest == given["digest"]:
            return ask.world.shown_upload(number)
    number = str(len(ask.world.uploads) + 1)
    ask.world.uploads[number] = Upload(given["digest"], chunks, given["size"])
    if not given["size"]:
        ask.world.files[given["digest"]] = b""
    return ask.world.shown_upload(number)


@route("PUT", "/uploads/([^/]+)")
def part(ask: Ask, number: str) -> Any:
    offset = int(ask.only("offset").get("offset", 0))
    if offset % (4 << 20) or len(ask.body) > 8 << 20:
        raise BadInput("a part begins at a multiple of 4 MiB and has at most 8 MiB")
    return ask.world.take(number, offset, ask.body)


@route("GET", "/uploads/([^/]+)")
def upload(ask: Ask, number: str) -> Any:
    return ask.world.shown_upload(number)


@route("GET", "/projects/([^/]+)/files/([0-9a-f]+)")
def download(ask: Ask, project: str, digest: str) -> Bytes:
    ask.world.project(project)
    if digest not in ask.world.files:
        raise NotFound("there is no such file")
    return Bytes(ask.world.files[digest], ask.headers.get("range", ""))
