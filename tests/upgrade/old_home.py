"""The home server of an old release, as its transcript has it, against the owner of today.

It says what it said then; leases are those of now. Orders may come in other frames and in another order than then: what must
be true is that all of them come.
"""

from __future__ import annotations

from typing import Any

from cpc.wire.tls import ClientTls
from tests.simulation.federation.by_hand import asleep
from tests.simulation.server import PORT, given
from tests.upgrade import conversation, peer_conversation, raw_peer, shapes
from tests.upgrade.old_worker import ORDERS
from tests.upgrade.peer_conversation import HOME, OWNER, WORLD
from tests.upgrade.raw_peer import RawPeer
from tests.upgrade.tape import Line

PATIENCE = 200.0  # virtual seconds for what must come


class OldHome:
    """`run` says and hears a whole transcript; AssertionError when something that was there is not."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines
        self.made = asleep(**WORLD)
        self.owner = self.made.sites[OWNER]
        self.heard: dict[str, list[shapes.Shape]] = {}  # method → what the owner said now
        self._peers: dict[int, RawPeer] = {}
        self._asked: dict[tuple[int, int], str] = {}
        self._names: dict[tuple[int, ...], list[Any]] = {}  # a lease then → the one now
        self._orders: list[tuple[str, Any]] = []  # that came and were not looked for yet
        self._words: list[str] = []  # methods of what came without being an answer, likewise
        self._answers = _answers(lines)

    def run(self) -> OldHome:
        """From the first line to the last."""
        try:
            self.owner.start_server()
            self._until(lambda: self.owner.peers, "that it runs")
            conversation.told(self.lines, self._one)
        finally:
            self.made.close()
        return self

    def _one(self, line: Line) -> None:
        if "act" in line:
            self._act(dict(line))
        elif "closed" in line:
            self._close(line["on"])
        elif line["by"] == "home":
            self._say(line["on"], line["frame"])
        else:
            self._expect(line["on"], line["frame"])

    def _act(self, line: Line) -> None:
        if line.pop("at", HOME) == HOME:
            return  # what follows of it is in the transcript
        if "job" in line:
            line["job"] = next(now[0] for then, now in self._names.items() if then[0] == line["job"])
        peer_conversation.act(self.owner, self.made.sites[HOME], line.pop("act"), line)

    def _close(self, on: int) -> None:
        if on in self._peers:
            self._peers[on].channel.close()
            self.made.reactor.advance(0.5)

    # --- what it says ---

    def _say(self, on: int, frame: dict[str, Any]) -> None:
        if "r" in frame:
            return  # questions are answered as they come
        if "i" in frame:
            self._asked[on, frame["i"]] = frame["m"]
        self._peer(on).send(self._now(frame))

    def _peer(self, on: int) -> RawPeer:
        if on not in self._peers:
            tls = ClientTls(given(HOME).identity, given(OWNER).authority.certificate_pem, self.owner.id)
            peer = raw_peer.connect(self.made.sites[HOME].server_host, self.owner.name, PORT, tls)
            peer.on_frame = self._heard
            self._peers[on] = peer
        return self._peers[on]

    def _now(self, value: Any) -> Any:
        """The same with the leases of now."""
        if isinstance(value, list):
            if is_lease(value):
                return self._names.get(tuple(value[:3]), value[:3]) + value[3:]
            return [self._now(each) for each in value]
        return {key: self._now(each) for key, each in value.items()} if isinstance(value, dict) else value

    # --- what it hears ---

    def _heard(self, peer: RawPeer, frame: dict[str, Any]) -> None:
        on = next(number for number, each in self._peers.items() if each is peer)
        method = frame.get("m") or self._asked.get((on, frame.get("r", 0)), "")
        if "b" not in frame:
            return
        body = frame["b"]
        self.heard.setdefault(method, []).append(shapes.of(body))
        self._orders += orders_in(body)
        if "m" in frame:
            self._words.append(method)
        if "i" in frame:
            peer.send({"r": frame["i"], "b": self._answers.get(method, {})})

    def _expect(self, on: int, then: dict[str, Any]) -> None:
        if on not in self._peers and not then.get("e", [""])[0].startswith("trust-ended"):
            return  # the owner greets first: it is looked at with the first frame of ours
        peer = self._peer(on)
        if "p" in then:
            self._until(lambda: any("p" in frame for frame in peer.got), "a greeting")
            now = next(frame for frame in peer.got if "p" in frame)
            assert now["oldest"] <= then["p"] <= now["p"], f"protocol {then['p']} is not spoken any more: {now}"
        elif "r" in then:
            self._answered(on, peer, then)
        elif "e" in then:
            self._until(lambda: any("e" in frame and "r" not in frame for frame in peer.got), f"the end {then['e']}")
            now = next(frame for frame in peer.got if "e" in frame and "r" not in frame)
            assert now["e"][0] == then["e"][0], f"it ended with {then['e']} and ends with {now['e']}"
        elif then["m"] not in ("alive", "far-orders"):
            self._until(lambda: then["m"] in self._words, f"the word {then['m']}")
            self._words.remove(then["m"])
        for kind, each in orders_in(then.get("b", {})):
            self._ordered(kind, each)

    def _answered(self, on: int, peer: RawPeer, then: dict[str, Any]) -> None:
        call, method = then["r"], self._asked[on, then["r"]]
        self._until(lambda: peer.answer(call) or peer.lost, f"an answer to {method}")
        now = peer.answer(call)
        assert now is not None, f"the connection was lost instead of an answer to {method}: {peer.lost} {peer.got[-1:]}"
        assert ("e" in now) == ("e" in then), f"{method} was answered {then} and is answered {now}"
        if "e" in then:
            assert now["e"][0] == then["e"][0], f"{method} was refused as {then['e']} and is refused as {now['e']}"

    def _ordered(self, kind: str, then: Any) -> None:
        found: list[tuple[str, Any]] = []

        def came() -> bool:
            found.extend(each for each in self._orders if each[0] == kind and self._is(kind, then, each[1]))
            return bool(found)

        self._until(came, f"{kind} {then}")
        self._orders.remove(found[0])
        now = found[0][1]
        if kind == "tasks":
            self._names[tuple(then["lease"][:3])] = now["lease"][:3]
        lost = shapes.lost(shapes.of(then), shapes.of(now))
        assert not lost, f"{kind}: {'; '.join(lost)}"

    def _is(self, kind: str, then: Any, now: Any) -> bool:
        if kind == "tasks":
            return bool(then["argv"] == now["argv"] and then["lease"][2] == now["lease"][2])
        if kind == "settled":
            return bool(self._now(then["lease"])[:3] == now["lease"][:3] and then["verdict"] == now["verdict"])
        if kind == "cancel":
            return bool(self._now(then[0])[:3] == now[0][:3])
        return bool(self._now(then)[:3] == now[:3])

    def _until(self, true: Any, what: str) -> None:
        try:
            self.made.reactor.run_until(true, PATIENCE)
        except AssertionError:
            came = [str(each)[:200] for each in self._orders]
            raise AssertionError(
                f"the owner of today does not say {what[:500]}; orders not looked for: {came}, words: {self._words}"
            ) from None


def is_lease(value: list[Any]) -> bool:
    """With or without a path."""
    return len(value) in (3, 4) and all(type(each) is int for each in value[:3])


def orders_in(body: dict[str, Any]) -> list[tuple[str, Any]]:
    """What a frame of an owner orders for workers, wherever it is."""
    found = [("tasks", task) for one in body.get("given", ()) for task in one["tasks"]]
    for one in body.get("workers", ()):
        orders = one.get("orders", {}) if isinstance(one, dict) else {}
        found += [(kind, each) for kind in ORDERS for each in orders.get(kind, ())]
    return found


def _answers(lines: list[Line]) -> dict[str, Any]:
    """Method → what the home answered when it was asked."""
    asked = {
        (line["on"], line["frame"]["i"]): line["frame"]["m"]
        for line in lines
        if line.get("by") == "owner" and "i" in line["frame"]
    }
    return {
        asked[line["on"], line["frame"]["r"]]: line["frame"]["b"]
        for line in lines
        if line.get("by") == "home" and "r" in line["frame"]
    }
