"""Transcripts of the public API: what people's programs asked and what was answered, in order; recorded and asked again.

A line is a call, `{"as": user, "method", "path", "body" or "raw", "headers", "status", "kind", "answer"}`, or an act,
`{"act": "worker"}`: a worker comes. Tokens and ids of then are those of now when it is asked again.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec

from cpc.core import plain
from cpc.core.digest import of_chunks
from cpc.core.plain import FileRef
from tests.helpers.network_of_processes import PASSWORD, Network
from tests.upgrade import shapes
from tests.upgrade.api import PREFIX, Answer, Api

Line = dict[str, Any]
_NAMES = ("token", "id")  # fields whose values are given by the server
_HERE = Path(__file__).resolve().parents[2]
_FILE = b"what the job reads\n"
_NETWORK = """<?xml version="1.0"?>
<cpc version="1">
  <import name="float"/>
  <function id="double" type="command">
    <inputs><field id="x" type="int"/></inputs>
    <outputs><field id="y" type="int"/><field id="copy" type="file"/></outputs>
    <command>
      <arg value="/bin/sh"/><arg value="-c"/><arg value="echo $(({x} * 2)) | tee y > copy"/>
      <output id="y" path="y"/><output id="copy" path="copy"/>
    </command>
  </function>
  <network><instance id="d" function="double"/></network>
</cpc>
"""


class Recorder:
    """Asks, and writes down."""

    def __init__(self, network: Network) -> None:
        self.lines: list[Line] = []
        self.network = network
        self._api = Api.of(network)
        self._tokens: dict[str, str] = {"": ""}

    def ask(self, who: str, method: str, path: str, body: Any = None, raw: bytes | None = None, **headers: str) -> Any:
        """One call, by somebody who has logged in; its answer's body."""
        path = path if path.startswith("/api") or path in ("/health", "/metrics") else PREFIX + path
        answer = self._api.bearing(self._tokens[who]).ask(method, path, body, raw, **headers)
        text = answer.body if answer.kind == "application/json" else None
        if path == f"{PREFIX}/modules":  # where they lie on this machine is nobody's business
            text = json.loads(json.dumps(text).replace(str(_HERE), "/opt/copernicus"))
        line = {
            "as": who, "method": method, "path": path, "body": body, "raw": raw, "headers": headers,
            "status": answer.status, "kind": answer.kind, "answer": text,
        }  # fmt: skip
        self.lines.append({name: value for name, value in line.items() if value not in (None, {})})
        if path == f"{PREFIX}/login" and answer.status == 200:
            self._tokens[body["user"]] = answer.body["token"]
        return answer.body

    def act(self, what: str) -> None:
        """Something that is no call."""
        self.lines.append({"act": what})
        act(self.network, what)


def act(network: Network, what: str) -> None:
    """`worker`: a worker comes. `woven`: the network is at rest. `stopped`: the server has stopped."""
    if what == "worker":
        network.client = network.connect()
        network.worker(cores=2)
    elif what == "woven":
        network.until(lambda: not network.client.network("sums").item("d").running, "the network is at rest")
    else:
        assert network.server is not None
        assert network.server.ended() == 0


def record(network: Network) -> list[Line]:
    """A fresh network with a project `p` and an administrator who has logged in; at the end the server has stopped."""
    talk = Recorder(network)
    ask = talk.ask
    for path in ("/server", "/openapi.json"):
        ask("", "GET", path)
    ask("", "POST", "/login", {"user": "cpc-admin", "password": PASSWORD})
    ask("", "POST", "/login", {"user": "cpc-admin", "password": "something else"})
    ask("", "GET", "/whoami")
    _people(ask)
    _projects(ask)
    _files_and_jobs(talk)
    _networks(talk)
    _endings(ask)
    ask("cpc-admin", "POST", "/server/reload")
    ask("cpc-admin", "POST", "/server/stop")
    talk.act("stopped")
    return talk.lines


def _people(ask: Any) -> None:
    root = "cpc-admin"
    for name in ("ann", "bob"):
        ask(root, "POST", "/users", {"name": name, "password": PASSWORD})
        ask("", "POST", "/login", {"user": name, "password": PASSWORD})
    ask(root, "POST", "/users", {"name": "ann", "password": PASSWORD})
    ask(root, "POST", "/users", {"name": "x", "password": 1})
    ask(root, "PATCH", "/users/bob", {"super_user": False})
    for path in ("/users", "/whoami", "/status", "/settings", "/bundles", "/audit", "/events?limit=5"):
        ask(root, "GET", path)
    for path in ("/health", "/metrics"):
        ask("", "GET", path)
    ask("ann", "GET", "/audit")
    ask("ann", "POST", "/tokens", {"name": "script", "scope": "read", "expires_in": 1000.0})
    ask("ann", "GET", "/tokens")
    ask("ann", "DELETE", "/tokens/script")
    ask(root, "PUT", "/settings/checkpoint_interval", {"value": "1m"})
    ask(root, "POST", "/bundles", {"name": "lab", "role": "worker"})
    ask("ann", "POST", "/bundles", {"name": "laptop", "role": "client", "expires_in": 1000.0})
    ask(root, "DELETE", "/bundles/lab")


def _projects(ask: Any) -> None:
    ask("ann", "POST", "/projects", {"name": "villin"})
    ask("ann", "PUT", "/projects/villin/members/bob", {"role": "member"})
    ask("ann", "GET", "/projects")
    ask("ann", "GET", "/projects/villin")
    ask("cpc-admin", "PATCH", "/projects/villin", {"quota": 1 << 30, "weight": 2.0})
    ask("ann", "DELETE", "/projects/villin/members/bob")
    ask("bob", "GET", "/projects/villin")
    ask("ann", "GET", "/projects/nowhere")


def _files_and_jobs(talk: Recorder) -> None:
    ask = talk.ask
    content = of_chunks([_FILE])
    file = {"digest": content.digest.hex(), "size": content.size, "chunks": [each.hex() for each in content.chunks]}
    begun = ask("ann", "POST", "/projects/villin/uploads", file)
    ask("ann", "GET", f"/uploads/{begun['id']}")
    ask("ann", "PUT", f"/uploads/{begun['id']}?offset=0", raw=_FILE)
    ask("ann", "GET", f"/projects/villin/files/{file['digest']}")
    found = _as_json(file)
    script = "cat in.txt; echo to {name} >&2; mkdir out; echo result > out/r"
    spec = {
        "name": "first", "argv": ["/bin/sh", "-c", script], "inputs": [{"path": "in.txt", "content": found}],
        "env": {"WHO": "ann"}, "need": {"cores": 1, "memory": 1 << 20}, "priority": 2, "walltime": 60.0,
        "outputs": ["**"], "max_failures": 2, "max_losses": 3,
    }  # fmt: skip
    ask("ann", "POST", "/projects/villin/jobs", {"spec": spec, "dry_run": True})
    job = ask("ann", "POST", "/projects/villin/jobs", {"spec": spec}, Idempotency_Key="one")["id"]
    ask("ann", "POST", "/projects/villin/jobs", {"spec": spec}, Idempotency_Key="one")
    ask("ann", "POST", "/projects/villin/jobs", {"spec": {**spec, "name": "other"}}, Idempotency_Key="one")
    ask("ann", "POST", "/projects/villin/jobs", {"spec": {"argv": []}})
    ask("ann", "GET", f"/jobs/{job}")
    ask("ann", "GET", f"/jobs/{job}/why")
    ask("ann", "PATCH", f"/jobs/{job}", {"priority": 5})
    talk.act("worker")
    ask("ann", "GET", f"/jobs/{job}/wait?timeout=60")
    for path in (
        "/outputs",
        "/outputs/out/r",
        "/outputs/in.txt?attempt=1",
        "/logs?stream=stdout&offset=0&limit=100",
        "",
    ):
        ask("ann", "GET", f"/jobs/{job}{path}")
    ask("ann", "GET", f"/jobs/{job}/logs/follow?stream=stderr")
    array = {
        "argv": ["/bin/sh", "-c", "exit {code}"],
        "array": 2,
        "table": {"columns": ["code"], "rows": [["0"], ["3"]]},
    }
    several = ask("ann", "POST", "/projects/villin/jobs", {"spec": array})["id"]
    after = {"argv": ["/bin/true"], "after": [{"job": several, "on": "end"}], "labels": ["nowhere"]}
    blocked = ask("ann", "POST", "/projects/villin/jobs", {"spec": after})["id"]
    ask("ann", "GET", f"/jobs/{several}/wait?timeout=60")
    ask("ann", "GET", f"/jobs/{several}[1]/wait?timeout=60".replace("[", "%5B").replace("]", "%5D"))
    ask("ann", "GET", f"/jobs/{blocked}/why")
    for path in (
        "/jobs?state=failed,succeeded",
        "/projects/villin/jobs?limit=2",
        "/projects/villin/arrays",
        "/workers",
    ):
        ask("ann", "GET", path)
    ask("ann", "POST", f"/jobs/{blocked}/cancel", {"reason": "enough"})
    ask("ann", "POST", f"/jobs/{several}/retry", {})
    ask("ann", "GET", f"/jobs/{several}/wait?timeout=60")
    sleeps = ask("ann", "POST", "/projects/villin/jobs", {"spec": {"argv": ["/bin/sleep", "1000"]}})["id"]
    ask("ann", "GET", f"/jobs/{sleeps}/wait?timeout=2")
    ask("ann", "GET", "/heartbeats")
    ask("ann", "POST", f"/jobs/{sleeps}/fail-attempt", {})
    ask("ann", "POST", f"/jobs/{sleeps}/cancel", {})
    ask("ann", "DELETE", f"/jobs/{job}")


def _networks(talk: Recorder) -> None:
    ask, sums = talk.ask, "/projects/sums"

    def edit(*edits: dict[str, Any]) -> None:
        ask("ann", "POST", f"{sums}/edits", {"edits": edits})

    ask("ann", "POST", "/projects", {"name": "sums"})
    ask("ann", "GET", "/modules")
    edit(
        {"edit": "define", "text": _NETWORK}, {"edit": "instance", "path": "a", "function": "float::add"},
        {"edit": "connect", "source": "d:out.y", "target": "a:in.a"}, {"edit": "set", "item": "a:in.b", "value": 0.5},
        {"edit": "literal", "item": "d:in.x", "text": "3"}, {"edit": "activate"},
    )  # fmt: skip
    edit({"edit": "set", "item": "a:in.b", "value": 1.0}, {"edit": "set", "item": "nowhere:in.b", "value": 1.0})
    job = ask("ann", "GET", f"{sums}/jobs?limit=1")["items"][0]["id"]
    ask("ann", "GET", f"/jobs/{job}/wait?timeout=60")
    talk.act("woven")
    for path in (
        "item", "item?path=d", "item?path=a:in.a", "item?limit=1", "value?path=a:out.c", "value?path=d:out",
        "file?path=d:out.copy", "file?path=a:out.c", "network", "explain?path=a:out.c", "explain?path=d:out.y",
        "info?name=float", "info?name=float::add", "info?name=double", "instance-log?path=d", "record", "transaction",
        "item?path=nowhere",
    ):  # fmt: skip
        ask("ann", "GET", f"{sums}/{path}")
    for end in (("DELETE", ""), ("POST", "/commit")):
        ask("ann", "POST", f"{sums}/transaction", {})
        edit({"edit": "set", "item": "a:in.b", "value": 2.0})
        ask("ann", "GET", f"{sums}/transaction")
        ask("ann", end[0], f"{sums}/transaction{end[1]}", {} if end[1] else None)
    ask("ann", "POST", f"{sums}/transaction/commit", {})
    edit({"edit": "deactivate", "path": "a"}, {"edit": "rerun", "path": "a"}, {"edit": "clear-error"})
    edit({"edit": "import", "module": "int"}, {"edit": "instance", "path": "b", "function": "int::add"})
    edit(
        {"edit": "disconnect", "target": "a:in.a"}, {"edit": "unset", "item": "a:in.b"}, {"edit": "remove", "path": "b"}
    )
    _saved(talk)


def _saved(talk: Recorder) -> None:
    """What this release has saved is loaded again; asked again, it is loaded by a later one."""
    ask, again = talk.ask, "/projects/sums-again"
    data = ask("ann", "GET", "/projects/sums/archive")
    content = of_chunks([data])
    file = {"digest": content.digest.hex(), "size": content.size, "chunks": [each.hex() for each in content.chunks]}
    ask("ann", "POST", "/projects", {"name": "sums-again"})
    begun = ask("ann", "POST", f"{again}/uploads", file)
    ask("ann", "PUT", f"/uploads/{begun['id']}?offset=0", raw=data)
    wire = json.loads(msgspec.json.encode(plain.wire(FileRef("sums.tar.gz", content))))
    ask("ann", "POST", f"{again}/load", {"file": wire})
    ask("ann", "GET", f"{again}/value?path=d:out.y")


def _endings(ask: Any) -> None:
    root = "cpc-admin"
    worker = ask(root, "GET", "/workers")["items"][0]["id"]
    ask(root, "GET", f"/workers/{worker}")
    ask(root, "POST", f"/workers/{worker}/drain", {"reason": "repair", "finish": True})
    ask(root, "POST", f"/workers/{worker}/resume")
    ask("ann", "GET", "/events?kind=job.*&limit=500")
    ask("ann", "GET", "/events/stream?after=0")
    ask("ann", "DELETE", "/projects/villin")
    ask(root, "DELETE", "/users/bob")
    ask("ann", "POST", "/logout")
    ask("ann", "GET", "/whoami")
    ask(root, "GET", "/no/such/call")


def _as_json(file: dict[str, Any]) -> dict[str, Any]:
    """A content as JSON has it inside a specification: bytes are base64."""

    def text(digest: str) -> str:
        return base64.b64encode(bytes.fromhex(digest)).decode()

    return {"digest": text(file["digest"]), "size": file["size"], "chunks": [text(each) for each in file["chunks"]]}


# --- asked again --------------------------------------------------------------------------------------------------------


class Replay:
    """Asks what was asked then, of the server of today. `wrong` says what is not answered any more."""

    def __init__(self, network: Network) -> None:
        self.wrong: list[str] = []
        self._network = network
        self._api = Api.of(network)
        self._tokens: dict[str, str] = {"": ""}
        self._now: dict[str, str] = {}

    def run(self, lines: list[Line]) -> Replay:
        """All of it, in order."""
        for number, line in enumerate(lines, 1):
            if "act" in line:
                act(self._network, line["act"])
                continue
            name = f"line {number}: {line['method']} {line['path']}"
            api = self._api.bearing(self._tokens[line["as"]])
            path = "/".join(self._now.get(part, part) for part in line["path"].split("/"))
            body = _renamed(line.get("body"), self._now)
            answer = api.ask(line["method"], path, body, line.get("raw"), **line.get("headers", {}))
            self.wrong += [f"{name}: {words}" for words in self._compare(line, answer)]
        return self

    def _compare(self, line: Line, answer: Answer) -> list[str]:
        if answer.status != line["status"]:
            return [f"was answered {line['status']} and is answered {answer.status} {str(answer.body)[:300]}"]
        if answer.kind != line["kind"]:
            return [f"was answered in {line['kind']} and is answered in {answer.kind}"]
        if "answer" not in line:
            return []
        if line["path"] == f"{PREFIX}/login" and answer.status == 200:
            self._tokens[line["body"]["user"]] = answer.body["token"]
        if "code" in line["answer"] and line["answer"]["code"] != answer.body.get("code"):
            return [f"was refused as {line['answer']['code']} and is refused as {answer.body.get('code')}"]
        if line["path"].endswith("/openapi.json"):
            return []  # compared by meaning: see `promises`
        self._learn(line["answer"], answer.body)
        return shapes.lost(shapes.of(line["answer"]), shapes.of(answer.body))

    def _learn(self, then: Any, now: Any) -> None:
        """Names that the server gives."""
        if isinstance(then, dict) and isinstance(now, dict):
            for key, value in then.items():
                if key in _NAMES and isinstance(value, str) and isinstance(now.get(key), str):
                    self._now[value] = now[key]
                else:
                    self._learn(value, now.get(key))
        elif isinstance(then, list) and isinstance(now, list):
            for one, other in zip(then, now, strict=False):
                self._learn(one, other)


def _renamed(body: Any, now: dict[str, str]) -> Any:
    if isinstance(body, dict):
        return {key: now.get(each, each) if key == "job" else _renamed(each, now) for key, each in body.items()}
    if isinstance(body, list):
        return [_renamed(each, now) for each in body]
    return body


def reached(lines: list[Line], document: dict[str, Any]) -> set[str]:
    """The operations of a description that a transcript has an answer of."""
    found = set()
    for line in lines:
        if "act" in line:
            continue
        parts = line["path"].partition("?")[0].split("/")
        for path, methods in document["paths"].items():
            if line["method"].lower() in methods and _fits(path.split("/"), parts):
                found.add(f"{line['method']} {path}")
    return found


def _fits(pattern: list[str], parts: list[str]) -> bool:
    if pattern and pattern[-1] == "{path}":
        parts = [*parts[: len(pattern) - 1], "/".join(parts[len(pattern) - 1 :])]
    return len(pattern) == len(parts) and all(
        bool(part) if one.startswith("{") else one == part for one, part in zip(pattern, parts, strict=True)
    )


def every(document: dict[str, Any]) -> set[str]:
    """All operations."""
    return {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
