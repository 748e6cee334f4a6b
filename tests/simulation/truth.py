"""Why jobs wait, worked out from what machines have and what is on record, and compared with what people are told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from cpc.core import ids
from cpc.core.resources import Amounts
from cpc.core.spec import JobSpec

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle
    from tests.simulation.server import Server


class Truth:
    """Asked with every answer to `why`."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.world = oracle.world
        self.rows = oracle.rows
        self.wrong = oracle.wrong
        self._soon: dict[int, float] = {}

    def waiting(self, limit: int) -> list[int]:
        """Jobs that wait, for workers or for others; at most so many."""
        return [row[0] for row in self.rows("SELECT id FROM jobs WHERE state < 2 ORDER BY rank, id LIMIT ?", limit)]

    def why(self, server: Server, job: int, kinds: Iterable[str], final: bool) -> bool:
        """Whether the reason that a person is given is the true one. Between the answer and this look, other units of
        the same batch may have changed the truth: only what is wrong again and again (`final`) is wrong."""
        kinds = [kind for kind in kinds if kind not in ("again", "intake")]
        found = self.rows("SELECT state FROM jobs WHERE id = ?", job)
        if found not in ([(0,)], [(1,)]):
            self._soon.pop(job, None)
            return True
        truth = self._truth(server, job) if found == [(1,)] else self._blocked(job)
        if not kinds or kinds[0] not in truth:
            if not final:
                return False
            self.wrong(f"job {ids.show(job, True)} waits because of {kinds}; the truth is {truth}")
        if kinds[0] == "soon":
            since = self._soon.setdefault(job, self.world.now)
            if self.world.now - since > 2 * self.world.plan.probe_every:
                self.wrong(f"job {ids.show(job, True)} could run and has waited for {self.world.now - since:.0f} s")
        else:
            self._soon.pop(job, None)
        return True

    def _blocked(self, job: int) -> tuple[str, ...]:
        """By the instance that has asked for it, if that is held; else by other jobs."""
        held = self.rows(
            "SELECT i.id FROM step_jobs s JOIN steps o ON o.id = s.step JOIN instances i ON i.id = o.instance "
            "WHERE s.array = ? AND o.state < 4 AND i.state = 0", job,
        )  # fmt: skip
        return ("held",) if held else ("blocked",)

    def _truth(self, server: Server, job: int) -> tuple[str, ...]:
        """Worked out from the offers of the machines and the ledger of attempts."""
        spec = self.known_spec(job)
        (project,) = self.rows("SELECT project FROM jobs WHERE id = ?", job)[0]
        sessions = list(server.queue.index.sessions.values())
        names = dict(self.rows("SELECT id, host FROM workers"))
        offers = {session.number: self.world.kind_of(names[session.worker]) for session in sessions}
        numbers = self.world.project_numbers
        sessions = [s for s in sessions if not offers[s.number].project or numbers[offers[s.number].project] == project]
        if not sessions:
            return ("no-worker",)
        able = [session for session in sessions if fits(spec, offers[session.number])]
        if not able:
            return ("nobody",)
        ready = [session for session in able if session.wants and session.drain is None]
        if not ready:
            return ("draining", "stepped-back")
        free = []
        for session in ready:
            kind, left = offers[session.number], session.deadline
            cores, memory = kind.cores, kind.memory
            for held, granted in self.rows(
                "SELECT job, granted FROM attempts WHERE ended IS NULL AND worker = ?", session.worker
            ):
                if held in session.ahead or held in session.over:
                    continue
                amounts = msgspec.msgpack.decode(granted, type=Amounts)
                cores, memory = cores - amounts.cores, memory - amounts.memory
            enough = cores >= spec.need.cores and memory >= spec.need.memory
            time = left is None or spec.walltime <= left - server.queue.now or spec.checkpoint
            if enough and time:
                free.append(session)
        return ("soon", "turn") if free else ("full",)

    def known_spec(self, job: int) -> JobSpec:
        """What was submitted; also when nobody was told yet."""
        (text,) = self.rows("SELECT spec FROM arrays WHERE id = ?", ids.array(job))[0]
        return msgspec.msgpack.decode(text, type=JobSpec)


def fits(spec: JobSpec, kind: Any) -> bool:
    """Whether a machine of this kind can run such a job, when it has nothing else to do."""
    versions = [float(version) for name, version in kind.programs if name == spec.executable]
    wanted = float(spec.versions.removeprefix(">=") or 0)
    return (
        set(spec.labels) <= set(kind.labels)
        and kind.cores >= spec.need.cores
        and kind.memory >= spec.need.memory
        and (not spec.executable or any(version >= wanted for version in versions))
    )
