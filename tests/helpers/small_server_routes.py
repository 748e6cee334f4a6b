"""What the small server says of itself, people, projects, workers, bundles, events and settings."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from cpc.core.errors import BadInput, Conflict, Gone, NotFound, NotLoggedIn
from cpc.core.views import (
    BundleView,
    HeartbeatView,
    MemberView,
    Page,
    ServerStatus,
    ServerView,
    Session,
    TokenView,
)
from tests.helpers.small_server import Ask, Events
from tests.helpers.small_server_calls import page, route
from tests.helpers.small_server_world import NOW

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
