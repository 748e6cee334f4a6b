"""The owner of an old release, as its transcript has it, against the home server of today, with its worker.

It gives the jobs and orders that it gave then, in that order, each as soon as the home has reported what came before it in
the transcript; chunks are those of then.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from cpc.wire.tls import ServerTls
from tests.simulation.federation.by_hand import asleep
from tests.simulation.server import PORT, given
from tests.upgrade import peer_conversation, raw_peer, shapes
from tests.upgrade.peer_conversation import HOME, OWNER, WORKER, WORLD
from tests.upgrade.raw_peer import RawPeer
from tests.upgrade.tape import Line

PATIENCE = 900.0
PAUSE = 2.0  # seconds before anything is done to either server: what was said before has come

#: ("after", results that were reported), ("tasks", […]), ("push", a frame), ("ask", a frame), ("act", a line), ("cut", None),
#: ("end", a frame), ("refuse", a frame)
Step = tuple[str, Any]


class OldOwner:
    """`run` plays a transcript to a home server. AssertionError when it does not do what the one of then did."""

    def __init__(self, lines: list[Line]) -> None:
        self.made = asleep(**WORLD)
        self.home = self.made.sites[HOME]
        self.said: dict[str, list[shapes.Shape]] = {}  # method → what the home said now
        self.results: dict[tuple[int, ...], dict[str, Any]] = {}
        self.seen: Counter[Any] = Counter()
        self.steps = _steps(lines)
        self._greeting = next(line["frame"] for line in lines if line.get("by") == "owner" and "p" in line["frame"])
        self._answers = answers(lines)
        self._chunks = {question["digest"]: body for question, body in asked(lines, "far-chunk-get")}
        self._settled = _settled(lines)
        self._refusal: dict[str, Any] | None = None
        self._lines: dict[bool, RawPeer] = {}  # by whether it is for files
        self._ended = False
        for word in ("started", "settled", "entrusted", "discarded"):  # the jobs are of then
            setattr(self.made.sites[OWNER].oracle, word, lambda *_: None)

    def run(self) -> OldOwner:
        """From the first job to the end of the trust."""
        made = self.made
        try:
            pinned = {self.home.id: given(HOME).authority.certificate_pem}
            tls = ServerTls(given(OWNER).identity, lambda: pinned)
            made.reactor.finish(raw_peer.listen(made.sites[OWNER].server_host, PORT, tls, self._taken))
            self.home.start_server()
            self._until(lambda: self.home.peers, "that it runs")
            self.home.workers[WORKER].start()
            while self.steps:
                self._step(*self.steps[0])
            self._until(lambda: self._ended, "a word of the end")
        finally:
            made.close()
        return self

    def _until(self, true: Any, what: str) -> None:
        try:
            self.made.reactor.run_until(true, PATIENCE)
        except AssertionError:
            heard = "\n".join(self.made.story.last().splitlines()[-15:])
            raise AssertionError(f"the home of today does not do {what[:600]}\n{dict(self.seen)}\n{heard}") from None

    # --- steps ---

    def _step(self, kind: str, what: Any) -> None:
        reactor = self.made.reactor
        if kind == "tasks":  # they leave as answers
            self._until(lambda: not self.steps or self.steps[0] != (kind, what), f"what lets it have {kind} {what}")
            return
        self.steps.pop(0)
        match kind:
            case "after":
                self._until(lambda: all(self.seen[each] >= count for each, count in what.items()), f"all of {what}")
            case "push" | "ask":
                self._until(lambda: len(self._lines) == 2, "a hello on both connections")
                reactor.advance(PAUSE)
                self._lines[False].send(what)
                if kind == "ask":
                    self._until(lambda: self._lines[False].answer(what["i"]), f"an answer to {what['m']}")
                    self.said.setdefault(f"{what['m']} answered", []).append(
                        shapes.of((self._lines[False].answer(what["i"]) or {})["b"])
                    )
            case "act":
                reactor.advance(PAUSE)
                facts = {key: value for key, value in what.items() if key not in ("act", "at")}
                peer_conversation.act(self.home, self.made.sites[OWNER], what["act"], facts)
            case "end" | "cut":
                reactor.advance(PAUSE)
                if kind == "end":
                    self._lines[False].send(what)
                lines, self._lines = self._lines, {}
                reactor.advance(PAUSE)
                for line in lines.values():
                    line.channel.close()
            case "refuse":
                self._refusal = what
                self._until(lambda: self._refusal is None, f"a try, to be told {what['e']}")
        if kind in ("end", "refuse"):
            self._until(lambda: self._state() == "withdrawn", f"the end after {what}")

    def _state(self) -> str:
        server = self.home.peers
        state = server.federation.book.state(self.made.sites[OWNER].id) if server is not None else None
        return state.value if state is not None else ""

    # --- connections ---

    def _taken(self, peer: RawPeer) -> None:
        peer.on_open = self._opened
        peer.on_frame = self._heard

    def _opened(self, peer: RawPeer) -> None:
        if self._refusal is not None:
            peer.send(self._refusal)
            peer.channel.close()
            self._refusal = None
        else:
            peer.send(self._greeting)

    def _heard(self, peer: RawPeer, frame: dict[str, Any]) -> None:
        if "m" not in frame:
            return
        method, body = frame["m"], frame["b"]
        self.said.setdefault(method, []).append(shapes.of(body))
        if method == "withdrawn":
            self._ended = True
        if method == "peer-hello":
            self._lines[body.get("bulk", False)] = peer
        if method == "report":
            for one in body.get("workers", ()):
                for result in one.get("results", ()):
                    self.seen["result", *_lease(result["lease"])] += 1
                    self.results[_lease(result["lease"])] = result
        if "i" in frame:
            peer.send({"r": frame["i"], "b": self._answer(method, body)})

    def _answer(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "peer-hello":
                return {**self._answers["peer-hello"], "bulk": body.get("bulk", False)}
            case "ask-work":
                tasks = self._tasks()
                if not tasks:
                    return {"subscribed": 300.0}
                route = [self.made.sites[OWNER].id]
                return {"given": [{"worker": body["offers"][0]["worker"], "route": route, "tasks": tasks}]}
            case "report":
                return {"beat": 15.0, "workers": [{"worker": one["worker"], "orders": self._orders(one)}
                                                  for one in body.get("workers", ())]}  # fmt: skip
            case "far-chunk-get":
                return dict(self._chunks[body["digest"]])
            case "far-missing":
                return {"digests": body["digests"]}
            case "survey" | "ping":
                return dict(self._answers[method])
        return {}

    def _orders(self, one: dict[str, Any]) -> dict[str, Any]:
        leases = [_lease(result["lease"]) for result in one.get("results", ())]
        found: dict[str, Any] = {"settled": [self._settled[lease] for lease in leases]}
        if one.get("free", {}).get("cores", 0):
            found["tasks"] = self._tasks()
        return found

    def _tasks(self) -> Any:
        """What is given next, if its time has come."""
        return self.steps.pop(0)[1] if self.steps and self.steps[0][0] == "tasks" else []


def _lease(said: list[Any]) -> tuple[int, ...]:
    return tuple(said[:3])


def _steps(lines: list[Line]) -> list[Step]:
    """The transcript as what the owner does, and what must have been reported before it."""
    found: list[Step] = []
    done: Counter[Any] = Counter()
    parted = told = False
    for line in lines:
        frame = line.get("frame", {})
        made: Step | None = None
        if "act" in line:
            parted = (parted or line["act"] == "part") and line["act"] != "heal"
            if line["act"] == "part":
                made, told = ("cut", None), False
            elif line.get("at") == HOME:
                made = ("act", line)
        elif line.get("by") == "home":
            if frame.get("m") == "report":
                for one in frame["b"].get("workers", ()):
                    done.update(("result", *_lease(result["lease"])) for result in one.get("results", ()))
                    for key in done:
                        done[key] = 1  # it may be reported again, or not
        elif line.get("by") == "owner" and not parted:
            made = _step_of(frame)
            if made is not None and made[0] == "refuse":  # whoever tried again then was told again
                made, told = None if told else made, True
        if made is not None:
            found += [("after", Counter(done)), made]
    return found


def _step_of(frame: dict[str, Any]) -> Step | None:
    body = frame.get("b", {})
    if frame.get("e", [""])[0].startswith("trust-ended"):
        return "refuse", frame
    if frame.get("m") in ("demand", "far-orders"):
        return "push", frame
    if frame.get("m") in ("survey", "ping"):
        return "ask", frame
    if frame.get("m") == "withdrawn":
        return "end", frame
    tasks = [task for one in body.get("given", ()) for task in one["tasks"]]
    return ("tasks", tasks) if tasks else None


def asked(lines: list[Line], method: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each of the home's questions of this method, with the body that answered it."""
    given = {
        (line["on"], line["frame"]["r"]): line["frame"]
        for line in lines
        if line.get("by") == "owner" and "r" in line["frame"]
    }
    return [
        (line["frame"]["b"], given[line["on"], line["frame"]["i"]]["b"])
        for line in lines
        if line.get("by") == "home"
        and line["frame"].get("m") == method
        and "b" in given.get((line["on"], line["frame"].get("i")), {})
    ]


def answers(lines: list[Line]) -> dict[str, Any]:
    """Method → what the owner answered last."""
    return {method: body for method in ("peer-hello", "survey", "ping") for _, body in asked(lines, method)}


def _settled(lines: list[Line]) -> dict[tuple[int, ...], Any]:
    return {
        _lease(settled["lease"]): settled
        for _, body in asked(lines, "report")
        for one in body.get("workers", ())
        for settled in one.get("orders", {}).get("settled", ())
    }


def results_then(lines: list[Line]) -> dict[tuple[int, ...], dict[str, Any]]:
    """What the home of then reported, by lease."""
    return {
        _lease(result["lease"]): result
        for question, _ in asked(lines, "report")
        for one in question.get("workers", ())
        for result in one.get("results", ())
    }
