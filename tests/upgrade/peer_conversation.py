"""What a transcript of two servers is made by: all that they say to each other, in virtual time.

Server 1, the *home*, has a worker and dials; server 2, the *owner*, has the jobs. Frames are those on the owner's side.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cpc.core import ids
from cpc.core.digest import of_chunks
from cpc.core.spec import Input, JobSpec
from cpc.server.principal import SERVER, Call
from tests.simulation.federation.by_hand import end, join, quiet, runs, state
from tests.simulation.federation.site import Site
from tests.simulation.federation.universe import Universe
from tests.simulation.programs import INPUT
from tests.upgrade.tape import Line, Tape, recording

HOME, OWNER = 1, 2
PAIR = (HOME, OWNER)
WORKER = "s1n1"
WORLD: dict[str, Any] = {"pairs": [PAIR], "workers": (1, 0), "dials": {PAIR: HOME}}
APART = 120.0  # seconds in which a lost link is noticed


def act(site: Site, other: Site, what: str, facts: dict[str, Any]) -> Any:
    """Something that people do at one of the two servers."""
    call = Call(SERVER, f"by hand {site.reactor.steps} {what}")
    match what:
        case "submit":
            spec = msgspec.convert(facts["spec"], JobSpec)
            job = ids.read(site.call(lambda server: server.jobs.submit(call, "p", spec, False)).id)[0]
            site.oracle.acknowledged(job, spec)
            return job
        case "upload":
            view = site.call(lambda server: server.files.announce(call, "p", of_chunks([INPUT])))
            return view.done or site.call(lambda server: server.files.part(SERVER, view.id, 0, INPUT))
        case "cancel":
            job = facts["job"]
            site.oracle.known[job].cancelled.add(job)
            return site.call(lambda server: server.jobs.cancel(call, ids.show(job), "enough"))
        case "revoke":
            return site.call(lambda server: server.federation.trust.revoke(call, other.id, facts["hand_back"]))  # type: ignore[attr-defined]
        case "trust":
            fingerprint = other.given.authority.fingerprint
            return site.call(lambda server: server.federation.trust.trust(call, other.id, fingerprint))  # type: ignore[attr-defined]
        case "look":
            site.call(lambda server: server.federation.surveying.network(SERVER))  # type: ignore[attr-defined]
            return site.call(lambda server: server.federation.surveying.ping(SERVER, other.id))  # type: ignore[attr-defined]
    raise AssertionError(what)


class PeerConversation:
    """Records one."""

    def __init__(self) -> None:
        self.made: Universe
        self.tape: Tape

    def run(self) -> list[Line]:
        """All lines."""
        with recording() as tape:
            self.tape = tape
            self.made = quiet(**WORLD)
            try:
                self._talk()
                self.made.trust.touched.add(PAIR)
            finally:
                end(self.made)
        return of_peers(tape.lines)

    def _act(self, number: int, what: str, **facts: Any) -> Any:
        self.made.reactor.advance(2.0)  # what was under way has come: acts are told between frames
        self.tape.act(what, at=number, **facts)
        return act(self.made.sites[number], self.made.sites[3 - number], what, facts)

    def _submit(self, *argv: str, **fields: Any) -> int:
        spec = JobSpec(argv=("run", *argv), **fields)
        job: int = self._act(OWNER, "submit", spec=msgspec.to_builtins(spec, builtin_types=(bytes,)))
        return job

    def _ended(self, job: int, how: str) -> None:
        self.made.until(lambda: state(self.made, OWNER, job) == how, 900.0)
        self.made.until(lambda: self.made.sites[HOME].workers[WORKER].quiet, 600.0)

    def _runs(self) -> None:
        self.made.until(lambda: runs(self.made, WORKER), 100.0)

    def _talk(self) -> None:
        made = self.made
        join(made, WORKER)
        made.reactor.advance(30.0)  # the worker was offered in vain: each job calls it
        self._ended(self._submit("ok", "1", "10", name="small"), "succeeded")
        self._ended(self._submit("ok", "5", "150000", name="large"), "succeeded")
        self._ended(self._submit("bad", "1"), "failed")
        self._act(OWNER, "upload")
        self._ended(self._submit("copy", "1", inputs=(Input("in", of_chunks([INPUT])),)), "succeeded")
        self._ended(self._submit("steps", "120", checkpoint=("p.cpt",)), "succeeded")
        job = self._submit("ok", "500", "10")
        self._runs()
        self._act(OWNER, "cancel", job=job)
        self._ended(job, "cancelled")
        for number in PAIR:
            self._act(number, "look")
        self._ends()

    def _ends(self) -> None:
        """Trust, heard of live and when the two meet; its result comes in custody, and is handed in when there is trust again."""
        made = self.made
        job = self._submit("ok", "30", "10")
        self._runs()
        self._act(OWNER, "revoke", hand_back=False)
        made.until(lambda: state(made, OWNER, job) == "waiting", 10.0)
        home = made.sites[HOME]
        made.until(lambda: home.peers is not None and len(home.peers.custody) == 1, 200.0)
        for number in (OWNER, HOME):
            self._act(number, "trust")
        self._ended(job, "succeeded")
        made.until(lambda: home.peers is not None and not len(home.peers.custody), 100.0)
        self.tape.act("part")
        made.network.partition("s1", "s2")
        self._act(OWNER, "revoke", hand_back=True)
        made.reactor.advance(APART)
        self.tape.act("heal")
        made.network.heal()
        made.until(lambda: not home.peers.federation.book.trusts(made.sites[OWNER].id), 120.0)  # type: ignore[union-attr]
        for number in PAIR:
            self._act(number, "trust")
        made.until(lambda: made.trust.up(*PAIR), 120.0)
        made.reactor.advance(30.0)
        self._act(HOME, "revoke", hand_back=True)
        made.reactor.advance(30.0)


def of_peers(lines: list[Line]) -> list[Line]:
    """What servers say to each other, and what is done to them; connections of workers are left out."""
    servers = {
        line["on"]
        for line in lines
        if line.get("as") == "server" or line.get("frame", {}).get("e", [""])[0].startswith("trust-ended")
    }
    return [
        {**line, "by": "owner" if line["by"] == "server" else "home"} if "by" in line else line
        for line in lines
        if "act" in line or line["on"] in servers
    ]
