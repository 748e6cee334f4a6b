"""The server of an old release, as its transcript has it, against the worker of today.

It gives the orders that it gave then, in that order, each as soon as the worker has done what came before it in the
transcript; chunks are those of then. Certificates are made anew, because the worker's key is.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from cpc.wire.identity import Name, Role
from cpc.wire.tls import ServerTls
from tests.simulation.server import HERE, PORT, given
from tests.simulation.world import World
from tests.upgrade import conversation, raw_peer, shapes
from tests.upgrade.conversation import CERTIFICATE_TIME, WORKER
from tests.upgrade.old_worker import ORDERS
from tests.upgrade.raw_peer import RawPeer
from tests.upgrade.tape import Line

PATIENCE = 3600.0
CUT_AFTER = 3.0  # seconds: what was said before has arrived
Step = tuple[str, Any]  # ("order", {…}), ("push", {…}), ("cut", None), ("leave", None), ("after", what the worker did)


class OldServer:
    """`run` plays a transcript to a worker. AssertionError when the worker does not do what the one of then did."""

    def __init__(self, lines: list[Line]) -> None:
        self.world = World(13, conversation.PLAN)
        self.world.oracle.started = lambda worker, launch, lease: None  # type: ignore[method-assign]  # the jobs are of then
        self.said: dict[str, list[shapes.Shape]] = {}  # method → what the worker said now
        self.results: dict[tuple[int, ...], dict[str, Any]] = {}
        self.seen: Counter[Any] = Counter()
        self.steps = _steps(lines)
        self._welcomes = _answers(lines, "hello")
        self._certified = _answers(lines, "enrol")[0]
        self._chunks = {line["frame"]["b"]["digest"]: body["data"] for line, body in _asked(lines, "chunk-get")}
        self._control: RawPeer | None = None
        self._left = False
        self._greeting = next(line["frame"] for line in lines if line.get("by") == "server" and "p" in line["frame"])

    def run(self) -> OldServer:
        """From joining to leaving."""
        shared, world = given(), self.world
        pinned = {HERE: shared.authority.certificate_pem}
        try:
            host = world.server_host
            made = raw_peer.listen(host, PORT, ServerTls(shared.identity, lambda: pinned), self._taken)
            world.reactor.finish(made)
            worker = world.workers[WORKER]
            worker.start()
            agent = worker.agent
            while self.steps:
                self._until(lambda: self._advance() or not self.steps, f"what comes before {str(self.steps[0])[:600]}")
                if self.steps and self.steps[0][0] == "leave":
                    self.steps.pop(0)
                    assert agent is not None
                    agent.leave("SIGTERM")
            self._until(lambda: self._left and worker.agent is not agent, "goodbye")
            worker.retire()
        finally:
            world.close()
        return self

    def _until(self, true: Any, what: str) -> None:
        try:
            self.world.reactor.run_until(true, PATIENCE)
        except AssertionError:
            heard = "\n".join(self.world.story.last().splitlines()[-15:])
            raise AssertionError(f"the worker of today does not do {what}\n{dict(self.seen)}\n{heard}") from None

    # --- connections ---

    def _taken(self, peer: RawPeer) -> None:
        peer.on_open = lambda peer: peer.send(self._greeting)
        peer.on_frame = self._heard

    def _heard(self, peer: RawPeer, frame: dict[str, Any]) -> None:
        if "e" in frame or "p" in frame:
            self.said.setdefault("greeting" if "p" in frame else "end", []).append(shapes.of(frame))
            return
        method, body = frame["m"], frame["b"]
        self.said.setdefault(method, []).append(shapes.of(body))
        self._see(method, body)
        answer = self._answer(peer, method, body)
        if "i" in frame:
            peer.send({"r": frame["i"], "b": answer})

    def _see(self, method: str, body: dict[str, Any]) -> None:
        for what in _done(method, body):
            self.seen[what] += 1
        for result in body.get("results", ()) if method == "turn" else ():
            self.results[_lease(result)] = result

    def _answer(self, peer: RawPeer, method: str, body: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "enrol" | "renew-certificate":
                name = Name(HERE, Role.WORKER, self._certified["name"])
                certificate = given().authority.issue(body["request"], name, CERTIFICATE_TIME)
                return {**self._certified, "certificate": certificate}
            case "hello":
                self._control = peer
                return self._welcomes.pop(0) if len(self._welcomes) > 1 else self._welcomes[0]
            case "turn":
                return self._orders()
            case "chunk-get":
                return {"data": self._chunks[body["digest"]]}
            case "chunks-missing":
                return {"digests": body["digests"]}
            case "goodbye":
                self._left = True
        return {}

    def _orders(self) -> dict[str, Any]:
        """What may be ordered now, together in one frame."""
        found: dict[str, Any] = {}
        while self.steps:
            kind, what = self.steps[0]
            if kind == "after" and self._is_done(what):
                self.steps.pop(0)
            elif kind == "order":
                self.steps.pop(0)
                for name, value in what.items():
                    found[name] = [*found.get(name, []), *value] if name in ORDERS else value
            else:
                break
        return found

    def _advance(self) -> bool:
        """What the server does by itself; whether the worker is to leave now."""
        while self.steps:
            kind, what = self.steps[0]
            if kind == "leave":
                return True
            if kind == "after" and self._is_done(what):
                self.steps.pop(0)
            elif kind == "push" and self._control is not None and self._control.open:
                self.steps.pop(0)
                self._control.send({"m": "orders", "b": what})
            elif kind == "cut":
                self.steps.pop(0)
                self.world.reactor.callLater(CUT_AFTER, self._cut)
                return False
            else:
                return False
        return False

    def _cut(self) -> None:
        for link in self.world.network.links_of(WORKER):
            self.world.network.cut(link)

    def _is_done(self, what: Counter[Any]) -> bool:
        return all(self.seen[each] >= count for each, count in what.items())


def _done(method: str, body: dict[str, Any]) -> list[Any]:
    """What of a worker's frame the server's next steps may depend on."""
    if method == "turn":
        found: list[Any] = [("result", *_lease(each)) for each in body.get("results", ())]
        found += [("checkpoint", *_lease(each)) for each in body.get("checkpoints", ())]
        found += [("tail", *_lease(each)) for each in body.get("tails", ())]
        return found
    if method in ("enrol", "renew-certificate", "hello", "bulk"):
        return [method]
    if method == "chunk-get":
        return [("chunk-get", body["digest"])]
    return []


#: A worker may send more or fewer of these than the one of then, at other times.
_ONCE = ("checkpoint", "tail", "result")


def _steps(lines: list[Line]) -> list[Step]:
    """The transcript as what the server does, and what must have happened before it."""
    found: list[Step] = []
    done: Counter[Any] = Counter()
    turns: set[tuple[int, int]] = set()
    for line in of_worker(lines):
        frame = line.get("frame", {})
        if line.get("act") in ("cut", "leave"):
            found += [("after", Counter(done)), (line["act"], None)]
        elif line.get("by") == "worker":
            for what in _done(frame.get("m", ""), frame.get("b", {})):
                done[what] = 1 if what[0] in _ONCE else done[what] + 1
            if frame.get("m") == "turn":
                turns.add((line["on"], frame["i"]))
        elif line.get("by") == "server" and "b" in frame:
            pushed = frame.get("m") == "orders"
            if frame["b"] and (pushed or (line["on"], frame.get("r")) in turns):
                found += [("after", Counter(done)), ("push" if pushed else "order", frame["b"])]
    return found


def of_worker(lines: list[Line]) -> list[Line]:
    """Without the stranger who was refused."""
    strange = {
        line["on"] for line in lines if line.get("frame", {}).get("release") == conversation.GREETING["release"]
    }  # fmt: skip
    return [line for line in lines if line.get("on") not in strange]


def _asked(lines: list[Line], method: str) -> list[tuple[Line, dict[str, Any]]]:
    """Each question of this method with its answer's body."""
    answers = {(line["on"], line["frame"]["r"]): line["frame"] for line in lines if "r" in line.get("frame", {})}
    return [
        (line, answers[line["on"], line["frame"]["i"]]["b"])
        for line in of_worker(lines)
        if line.get("frame", {}).get("m") == method and "b" in answers.get((line["on"], line["frame"].get("i")), {})
    ]


def _answers(lines: list[Line], method: str) -> list[dict[str, Any]]:
    return [body for _, body in _asked(lines, method)]


def results_then(lines: list[Line]) -> dict[tuple[int, ...], dict[str, Any]]:
    """What the worker of then reported, by lease."""
    return {
        _lease(result): result
        for line in of_worker(lines)
        if line.get("frame", {}).get("m") == "turn"
        for result in line["frame"]["b"].get("results", ())
    }


def _lease(said: dict[str, Any]) -> tuple[int, ...]:
    """The lease as a server reads it that knows no more of it: a path may follow."""
    return tuple(said["lease"][:3])
