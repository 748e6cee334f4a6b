"""The calls of the fake server: method, path, and what it does to the world."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from cpc.core import ids
from cpc.core.digest import Content
from cpc.core.errors import BadInput, Conflict, Gone, NotFound, NotLoggedIn
from cpc.core.spec import JobSpec, check
from cpc.core.views import (
    BundleView,
    HeartbeatView,
    LogView,
    MemberView,
    Page,
    Reason,
    ServerStatus,
    ServerView,
    Session,
    Submitted,
    TokenView,
    WhyView,
)
from tests.helpers.small_server import Ask, Bytes, Events
from tests.helpers.small_server_world import NOW, OVER, Upload, view

ROUTES: list[tuple[str, str, Callable[..., Any]]] = []


def route(method: str, pattern: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a call."""

    def declare(act: Callable[..., Any]) -> Callable[..., Any]:
        ROUTES.append((method, pattern, act))
        return act

    return declare


def page(ask: Ask, items: list[Any], *known: str) -> Page:
    """A part of a list; the cursor is a position."""
    query = ask.only("limit", "after", *known)
    limit, start = int(query.get("limit", 100)), int(query.get("after") or 0)
    if not 1 <= limit <= 1000:
        raise BadInput("in the query: limit is not between 1 and 1000")
    more = start + limit < len(items)
    return Page(items=tuple(items[start : start + limit]), next=str(start + limit) if more else "")


def page_of_ids(ask: Ask, items: list[Any], *known: str) -> Page:
    """A part of a list that goes down by id; the cursor is the last id of the part before."""
    query = ask.only("limit", "after", *known)
    limit = int(query.get("limit", 100))
    if not 1 <= limit <= 1000:
        raise BadInput("in the query: limit is not between 1 and 1000")
    below = ids.read(query["after"])[0] if query.get("after") else 1 << 62
    rest = sorted((one for one in items if ids.read(one.id)[0] < below), key=lambda one: -ids.read(one.id)[0])
    return Page(items=tuple(rest[:limit]), next=rest[limit - 1].id if len(rest) > limit else "")


# --- the server and people ---


@route("GET", "/server")
def server(ask: Ask) -> ServerView:
    world = ask.world
    return ServerView(
        id=world.server_id, name="lab", release="3.0.0", protocol=1, incarnation=1, host="127.0.0.1", port=13807,
        client_port=world.port, fingerprint=world.fingerprint, started=NOW, heartbeat_time=120.0,
    )  # fmt: skip


@route("GET", "/status")
def status(ask: Ask) -> ServerStatus:
    states: dict[str, int] = {}
    for job in ask.world.jobs.values():
        states[job.state] = states.get(job.state, 0) + 1
    return ServerStatus(
        server=server(ask), workers=1, workers_busy=0, jobs=states, storage_used=1 << 20, storage_free=1 << 30,
        intake_paused="", warnings=("the certificate ends in 3 days (renew it)",),
    )  # fmt: skip


@route("POST", "/server/stop")
def stop(ask: Ask) -> dict[str, str]:
    ask.super_user()
    ask.world.stopped = True
    return {}


@route("POST", "/server/reload")
def reload(ask: Ask) -> dict[str, str]:
    ask.super_user()
    return {}


@route("POST", "/login")
def login(ask: Ask) -> Session:
    given = ask.json("user", "password")
    if ask.world.passwords.get(given["user"]) != given["password"]:
        raise NotLoggedIn("wrong user name or password")
    token = secrets.token_hex(8)
    ask.world.tokens[token] = given["user"]
    found = ask.world.users[given["user"]]
    return Session(token=token, user=found.name, super_user=found.super_user, expires=NOW + 1)


@route("POST", "/logout")
def logout(ask: Ask) -> dict[str, str]:
    del ask.world.tokens[ask.headers["authorization"].removeprefix("Bearer ")]
    return {}


@route("GET", "/whoami")
def whoami(ask: Ask) -> Any:
    return ask.world.users[ask.user]


@route("GET", "/users")
def users(ask: Ask) -> Page:
    return page(ask, list(ask.world.users.values()))


@route("POST", "/users")
def add_user(ask: Ask) -> Any:
    ask.super_user()
    given = ask.json("name", "password", "super_user")
    if given["name"] in ask.world.users:
        raise Conflict(f"there is a user {given['name']!r} already")
    return ask.world.add_user(given["name"], given["password"], given.get("super_user", False))


@route("DELETE", "/users/([^/]+)")
def delete_user(ask: Ask, name: str) -> dict[str, str]:
    ask.super_user()
    _user(ask, name)
    del ask.world.users[name]
    return {}


@route("PATCH", "/users/([^/]+)")
def change_user(ask: Ask, name: str) -> Any:
    given = ask.json("super_user", "disabled", "password", "old_password")
    if ask.user != name or "super_user" in given:
        ask.super_user()
    if given.get("password"):
        if ask.user == name and given.get("old_password") != ask.world.passwords[name]:
            raise BadInput("the old password is wrong")
        ask.world.passwords[name] = given["password"]
    changes = {part: given[part] for part in ("super_user", "disabled") if given.get(part) is not None}
    ask.world.users[name] = msgspec.structs.replace(_user(ask, name), **changes)
    return ask.world.users[name]


def _user(ask: Ask, name: str) -> Any:
    if name not in ask.world.users:
        raise NotFound(f"there is no user {name!r}")
    return ask.world.users[name]


@route("GET", "/tokens")
def tokens(ask: Ask) -> Page:
    ask.only()
    return Page(items=tuple(ask.world.named_tokens.values()))


@route("POST", "/tokens")
def make_token(ask: Ask) -> Any:
    given = ask.json("name", "scope", "expires_in")
    made = TokenView(
        name=given["name"], user=ask.user, scope=given.get("scope", "all"), created=NOW,
        expires=NOW + int(given.get("expires_in", 1) * 1e6),
    )  # fmt: skip
    ask.world.named_tokens[made.name] = made
    ask.world.tokens[f"secret-{made.name}"] = ask.user
    return {"token": f"secret-{made.name}", "view": made}


@route("DELETE", "/tokens/([^/]+)")
def delete_token(ask: Ask, name: str) -> dict[str, str]:
    if ask.world.named_tokens.pop(name, None) is None:
        raise NotFound(f"you have no token {name!r}")
    return {}


# --- projects ---


@route("GET", "/projects")
def projects(ask: Ask) -> Page:
    return page(ask, list(ask.world.projects.values()))


@route("POST", "/projects")
def create(ask: Ask) -> Any:
    given = ask.json("name", "quota", "weight")
    if given["name"] in ask.world.projects:
        raise Conflict(f"there is a project {given['name']!r} already")
    return ask.world.add_project(given["name"], ask.user, given.get("quota", 0), given.get("weight", 1.0))


@route("GET", "/projects/([^/]+)")
def get_project(ask: Ask, name: str) -> Any:
    return ask.world.project(name)


@route("PATCH", "/projects/([^/]+)")
def change_project(ask: Ask, name: str) -> Any:
    ask.super_user()
    ask.world.projects[name] = msgspec.structs.replace(ask.world.project(name), **ask.json("quota", "weight"))
    return ask.world.projects[name]


@route("DELETE", "/projects/([^/]+)")
def delete_project(ask: Ask, name: str) -> dict[str, str]:
    ask.only()
    ask.world.project(name)
    del ask.world.projects[name]
    return {}


@route("PUT", "/projects/([^/]+)/members/([^/]+)")
def grant(ask: Ask, name: str, user: str) -> MemberView:
    _user(ask, user)
    member = MemberView(user=user, role=ask.json("role")["role"])
    project = ask.world.project(name)
    others = tuple(one for one in project.members if one.user != user)
    ask.world.projects[name] = msgspec.structs.replace(project, members=(*others, member))
    return member


@route("DELETE", "/projects/([^/]+)/members/([^/]+)")
def revoke(ask: Ask, name: str, user: str) -> dict[str, str]:
    project = ask.world.project(name)
    if user not in {one.user for one in project.members}:
        raise NotFound(f"{user!r} is not a member of {name!r}")
    others = tuple(one for one in project.members if one.user != user)
    ask.world.projects[name] = msgspec.structs.replace(project, members=others)
    return {}


# --- jobs ---


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


# --- workers, bundles, events, settings ---


@route("GET", "/workers")
def workers(ask: Ask) -> Page:
    ask.only()
    return Page(items=tuple(ask.world.workers.values()))


@route("GET", "/workers/([^/]+)")
def worker(ask: Ask, name: str) -> Any:
    if name not in ask.world.workers:
        raise NotFound(f"there is no worker {name!r}")
    return ask.world.workers[name]


@route("POST", "/workers/([^/]+)/drain")
def drain(ask: Ask, name: str) -> Any:
    ask.super_user()
    given = ask.json("reason", "finish")
    if not given["reason"]:
        raise BadInput("a drain needs a reason")
    found = msgspec.structs.replace(worker(ask, name), state="draining", note=given["reason"])
    ask.world.workers[name] = found
    return found


@route("POST", "/workers/([^/]+)/resume")
def resume(ask: Ask, name: str) -> Any:
    ask.super_user()
    ask.world.workers[name] = msgspec.structs.replace(worker(ask, name), state="idle", note="")
    return ask.world.workers[name]


@route("GET", "/heartbeats")
def heartbeats(ask: Ask) -> Page:
    ask.only()
    running = [one for one in ask.world.jobs.values() if one.state == "running"]
    return Page(items=tuple(HeartbeatView(job=one.id, attempt=1, worker="w1", expires_in=99.5) for one in running))


@route("GET", "/bundles")
def bundles(ask: Ask) -> Page:
    return page(ask, list(ask.world.bundles.values()))


@route("POST", "/bundles")
def make_bundle(ask: Ask) -> Any:
    given = ask.json("name", "role", "user", "expires_in")
    if given["role"] == "worker":
        ask.super_user()
    made = BundleView(
        name=given["name"], role=given["role"], user=given.get("user") or ask.user, created=NOW, expires=0,
        revoked=False, used=0, last_used=None,
    )  # fmt: skip
    ask.world.bundles[made.name] = made
    return {"bundle": '{"version": 1}\n', "view": made}


@route("DELETE", "/bundles/([^/]+)")
def revoke_bundle(ask: Ask, name: str) -> dict[str, str]:
    if name not in ask.world.bundles:
        raise NotFound(f"there is no bundle {name!r}")
    ask.world.bundles[name] = msgspec.structs.replace(ask.world.bundles[name], revoked=True)
    return {}


def _events(ask: Ask, kinds: tuple[str, ...], *known: str) -> Page:
    query = ask.only("after", "limit", *known)
    after, limit = int(query.get("after") or 0), int(query.get("limit", 100))
    found = [
        one for one in ask.world.events
        if one.number > after and one.kind.startswith(kinds) and query.get("project", one.project) == one.project
        and query.get("kind", one.kind) == one.kind
    ]  # fmt: skip
    return Page(items=tuple(found[:limit]), next=str(found[limit - 1].number) if len(found) > limit else "")


@route("GET", "/events")
def events(ask: Ask) -> Page:
    return _events(ask, ("",), "project", "kind")


@route("GET", "/audit")
def audit(ask: Ask) -> Page:
    ask.super_user()
    return _events(ask, ("user.", "bundle.", "setting."), "user")


@route("GET", "/events/stream")
def stream(ask: Ask) -> Events:
    query = ask.only("after", "project", "job", "kind")
    after = int(ask.headers.get("last-event-id") or query.get("after") or 0)
    if after < ask.world.forgotten:
        raise Gone(f"events up to {ask.world.forgotten} are past their retention", "go on with a later one")
    watched = ask.world.watch(after, query.get("project", ""), query.get("job", ""), query.get("kind", ""))
    return Events(watched)


@route("GET", "/settings")
def settings(ask: Ask) -> Page:
    ask.super_user()
    ask.only()
    return Page(items=tuple(ask.world.settings.values()))


@route("PUT", "/settings/([^/]+)")
def change_setting(ask: Ask, name: str) -> Any:
    ask.super_user()
    if name not in ask.world.settings:
        raise NotFound(f"there is no setting {name!r}")
    ask.world.settings[name] = msgspec.structs.replace(ask.world.settings[name], value=ask.json("value")["value"])
    return ask.world.settings[name]
