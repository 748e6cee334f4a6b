"""The worker of an old release, as its transcript has it, against the server of today.

It says what it said then; names that the server gives (sessions, leases) are those of now. Orders may come in other frames
and in another order than then: what must be true is that all of them come.
"""

from __future__ import annotations

from typing import Any

from cpc.core.chance import SeededChance
from cpc.wire.identity import Identity, Name, Role, fingerprint_of, name_of, new_key, read_certificate, request
from cpc.wire.tls import ClientTls
from tests.simulation.server import HERE, PORT, YEARS, given
from tests.simulation.world import World
from tests.upgrade import conversation, raw_peer, shapes
from tests.upgrade.raw_peer import RawPeer
from tests.upgrade.shapes import LEFT_OUT
from tests.upgrade.tape import Line

PATIENCE = 400.0  # virtual seconds for what must come
ORDERS = ("tasks", "settled", "cancel", "hand_back", "follow", "retry")


class OldWorker:
    """`run` says and hears a whole transcript; AssertionError when something that was there is not."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines
        self.world = World(12, conversation.Plan(workers=0, clients=0, heartbeat_time=60.0, checkpoint_interval=20.0))
        self.heard: dict[str, list[shapes.Shape]] = {}  # method → what was answered now
        self._key = new_key(SeededChance(5))
        self._stranger = new_key(SeededChance(6))
        self._certificate: Identity | None = None
        self._peers: dict[int, RawPeer] = {}
        self._asked: dict[tuple[int, int], str] = {}
        self._names: dict[Any, Any] = {}  # a session or lease then → the one now
        self._orders: list[tuple[str, Any]] = []  # that came and were not looked for yet
        self._last = 0.0

    def run(self) -> OldWorker:
        """From the first line to the last."""
        try:
            conversation.begin(self.world)
            conversation.told(self.lines, self._one)
        finally:
            self.world.close()
        return self

    def _one(self, line: Line) -> None:
        if "act" in line:
            self._act(dict(line))
        elif "closed" in line:
            if line["on"] in self._peers:
                self._peers[line["on"]].channel.close()
                self.world.reactor.advance(0.5)
        elif line["by"] == "worker":
            self._say(line)
        else:
            self._expect(line)

    def _act(self, line: Line) -> None:
        what = line.pop("act")
        if what in ("cut", "leave"):
            return  # what follows of it is in the transcript
        if "lease" in line:
            line["lease"] = self._now(line["lease"])
        if "job" in line:
            line["job"] = next(
                new[0] for old, new in self._names.items() if isinstance(old, tuple) and old[0] == line["job"]
            )
        conversation.act(self.world, what, line)

    # --- what it says ---

    def _say(self, line: Line) -> None:
        on, envelope = line["on"], line["frame"]
        if on not in self._peers:
            self._peers[on] = self._connect(line["as"])
        envelope = self._now(envelope)
        if "i" in envelope:
            self._asked[on, envelope["i"]] = envelope["m"]
        self._peers[on].send(envelope)

    def _connect(self, role: str) -> RawPeer:
        shared, number = given(), len(self._peers)
        bundle = shared.bundle
        if role == "bundle":
            certificate = bundle.certificate.encode()
            identity = Identity(name_of(read_certificate(certificate)), bundle.key.encode(), certificate,
                                bundle.authority.encode())  # fmt: skip
        elif any(line.get("on") == number + 1 and line.get("frame", {}).get("release") == conversation.GREETING["release"]
                 for line in self.lines):  # fmt: skip
            identity = shared.authority.identity(Name(HERE, Role.WORKER, "nobody"), YEARS)
        else:
            assert self._certificate is not None, "it has not enrolled"
            identity = self._certificate
        host = self.world.network.host("old")
        peer = raw_peer.connect(host, "s", PORT, ClientTls(identity, shared.authority.certificate_pem, HERE))
        peer.on_frame = self._heard
        return peer

    def _now(self, value: Any) -> Any:
        """The same with the names of now."""
        if value == LEFT_OUT:
            return request(self._key)
        if isinstance(value, list):
            if _is_lease(value):
                return list(self._names.get(tuple(value), value))
            return [self._now(each) for each in value]
        if isinstance(value, dict):
            return {
                key: self._names.get(("session", each), each) if key == "session" else self._now(each)
                for key, each in value.items()
            }
        return value

    # --- what it hears ---

    def _heard(self, peer: RawPeer, frame: dict[str, Any]) -> None:
        on = next(number for number, each in self._peers.items() if each is peer)
        method = frame["m"] if "m" in frame else self._asked.get((on, frame.get("r", 0)), "")
        if method in ("orders", "turn") and "b" in frame:
            body = frame["b"]
            self._orders += [(kind, each) for kind in ORDERS for each in body.get(kind, ())]
            self._orders += [(kind, body[kind]) for kind in ("drain", "leave") if kind in body]
        if "b" in frame:
            kept = "orders" if method == "turn" else method
            self.heard.setdefault(kept, []).append(shapes.of(frame["b"]))

    def _expect(self, line: Line) -> None:
        on, then = line["on"], line["frame"]
        peer = self._peers.get(on)
        if peer is None:
            return  # the server greets first: it is looked at with the first answer
        if "p" in then:
            self._until(lambda: any("p" in frame for frame in peer.got), "a greeting")
            now = next(frame for frame in peer.got if "p" in frame)
            lost = shapes.lost(shapes.of(then), shapes.of(now))
            assert not lost, lost
            assert now["oldest"] <= then["p"] <= now["p"], f"protocol {then['p']} is not spoken any more: {now}"
            return
        if "r" in then:
            self._answered(on, peer, then)
        if "b" in then and (then.get("m") == "orders" or self._asked.get((on, then.get("r", 0))) == "turn"):
            self._ordered(then["b"])

    def _answered(self, on: int, peer: RawPeer, then: dict[str, Any]) -> None:
        call, method = then["r"], self._asked[on, then["r"]]
        self._until(lambda: peer.answer(call) or peer.lost, f"an answer to {method}")
        now = peer.answer(call)
        assert now is not None, f"the connection was lost instead of an answer to {method}: {peer.lost} {peer.got[-1:]}"
        assert ("e" in now) == ("e" in then), f"{method} was answered {then} and is answered {now}"
        if "e" in then:
            assert now["e"][0] == then["e"][0], f"{method} was refused as {then['e']} and is refused as {now['e']}"
            assert len(now["e"]) >= len(then["e"])
            return
        if "session" in then["b"]:
            self._names["session", then["b"]["session"]] = now["b"]["session"]
        if "certificate" in then["b"]:
            self._certificate = Identity.load(self._key, now["b"]["certificate"], given().bundle.authority.encode())
            assert self._certificate.name.name.endswith(fingerprint_of(request(self._key))[:8])

    def _ordered(self, then: dict[str, Any]) -> None:
        """Everything that was ordered then is ordered now, in its turn."""
        for kind in ORDERS:
            for each in then.get(kind, ()):
                self._order(kind, each)
        for kind in ("drain", "leave"):
            if kind in then:
                self._order(kind, then[kind])

    def _order(self, kind: str, then: Any) -> None:
        found: list[tuple[str, Any]] = []

        def came() -> bool:
            found.extend(each for each in self._orders if each[0] == kind and self._is(kind, then, each[1]))
            return bool(found)

        self._until(came, f"{kind} {then}")
        self._orders.remove(found[0])
        now = found[0][1]
        if kind == "tasks":
            self._names[tuple(then["lease"])] = tuple(now["lease"][:3])
        lost = shapes.lost(shapes.of(then), shapes.of(now))
        assert not lost, f"{kind}: {'; '.join(lost)}"

    def _is(self, kind: str, then: Any, now: Any) -> bool:
        if kind == "tasks":
            return bool(then["argv"] == now["argv"] and then["lease"][1] == now["lease"][1])
        if kind == "settled":
            return bool(self._now(then["lease"]) == now["lease"][:3] and then["verdict"] == now["verdict"])
        if kind == "cancel":
            return bool(self._now(then[0]) == now[0])
        return bool(self._now(then) == now)

    def _until(self, true: Any, what: str) -> None:
        try:
            self.world.reactor.run_until(true, PATIENCE)
        except AssertionError:
            came = [str(each)[:200] for each in self._orders]
            raise AssertionError(
                f"the server of today does not say {str(what)[:500]}; orders not looked for: {came}"
            ) from None


def _is_lease(value: list[Any]) -> bool:
    return len(value) == 3 and all(type(each) is int for each in value)


def shapes_then(lines: list[Line], by: str) -> dict[str, shapes.Shape]:
    """Method → what one side said in a transcript. Orders are one, however they came."""
    asked: dict[tuple[int, int], str] = {}
    found: dict[str, list[shapes.Shape]] = {}
    for line in lines:
        frame = line.get("frame", {})
        if "i" in frame:
            asked[line["on"], frame["i"]] = frame["m"]
        if line.get("by") != by or "b" not in frame:
            continue
        method = frame["m"] if "m" in frame else asked[line["on"], frame["r"]]
        kept = "orders" if method == "turn" and by == "server" else method
        found.setdefault(kept, []).append(shapes.of(frame["b"]))
    return {method: shapes.merge(each) for method, each in found.items()}
