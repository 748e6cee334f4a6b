"""All that a server shows of what it holds, as JSON: taken before an upgrade and after it, nothing may be missing."""

from __future__ import annotations

import hashlib
import urllib.parse
from typing import Any

from tests.upgrade.api import PREFIX, Api

ENDED = ("succeeded", "failed", "cancelled")
TIMES = range(1_500_000_000_000_000, 3_000_000_000_000_000)  # microseconds UTC: from 2017 to 2065; ids are larger


def is_time(value: object) -> bool:
    """Whether a number is a time: fixtures are moved to the present, so that nothing in them has expired."""
    return type(value) is int and value in TIMES


def take(api: Api) -> dict[str, Any]:
    """Of a super user's view. `outputs`: job → path → [size, SHA-256 of what was fetched]."""
    jobs = {job["id"]: api.get(f"/jobs/{_quoted(job['id'])}") for job in api.items("/jobs")}
    projects = api.items("/projects")
    return {
        "users": api.items("/users"),
        "projects": projects,
        "bundles": api.items("/bundles"),
        "settings": {each["name"]: each["value"] for each in api.get("/settings")["items"]},
        "arrays": {project["name"]: api.items(f"/projects/{project['name']}/arrays") for project in projects},
        "jobs": jobs,
        "outputs": {name: _outputs(api, name) for name, job in jobs.items() if job["state"] in ENDED},
        "events": events(api),
        "networks": {project["name"]: _network(api, project["name"]) for project in projects},
    }


def _network(api: Api, project: str) -> dict[str, Any]:
    """What a project's network is, and what has changed it."""
    top = api.get(f"/projects/{project}/item?limit=1000")
    paths = [instance["name"] for instance in top["instances"]]
    return {
        "items": {path: api.get(f"/projects/{project}/item?path={path}") for path in paths},
        "values": {
            path: [api.get(f"/projects/{project}/value?path={path}:{tree}")["value"] for tree in ("in", "out")]
            for path in paths
        },
        "record": api.get(f"/projects/{project}/record?limit=1000")["items"],
    }


def events(api: Api) -> list[Any]:
    """All events, in order."""
    found: list[Any] = []
    while True:
        page = api.get(f"/events?limit=1000&after={found[-1]['number'] if found else 0}")["items"]
        if not page:
            return found
        found += page


def _outputs(api: Api, job: str) -> dict[str, list[Any]]:
    found = {}
    for file in api.get(f"/jobs/{_quoted(job)}/outputs")["items"]:
        if file["kind"] != "file":
            continue
        data = api.ask("GET", file["url"] if file["url"].startswith("/") else f"{PREFIX}/{file['url']}").done()
        assert len(data) == file["size"]
        found[file["path"]] = [file["size"], hashlib.sha256(data).hexdigest()]
    return found


def _quoted(job: str) -> str:
    return urllib.parse.quote(job)


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """What was there before and is not, or is something else, in words. More may be there now: new keys, new events."""
    if isinstance(before, dict) and isinstance(after, dict):
        lost = [f"{path}/{name} is gone" for name in before if name not in after]
        return lost + [
            line
            for name in before
            if name in after
            for line in differences(before[name], after[name], f"{path}/{name}")
        ]
    if isinstance(before, list) and isinstance(after, list):
        if len(after) < len(before):
            return [f"{path}: {len(before)} before, {len(after)} now"]
        return [
            line
            for at, (one, other) in enumerate(zip(before, after, strict=False))
            for line in differences(one, other, f"{path}/{at}")
        ]
    if before == after or (is_time(before) and is_time(after)):
        return []
    return [f"{path} was {before!r} and is {after!r}"]
