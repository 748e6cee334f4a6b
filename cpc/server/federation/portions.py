"""A report of a home in portions: each is one unit of the writer, so that our own workers are answered in between."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from cpc.core.errors import TooLarge
from cpc.core.lease import Lease
from cpc.server.settling import Settlement
from cpc.wire.peer_messages import Report, WorkerReport

PORTION = 200  # workers, results and checkpoints: each is looked up in the writer
MOST_SAID = 4000  # results and checkpoints in one report
MOST_HELD = 300_000  # leases that are named in one report
HELD = 50  # leases that are renewed as fast as one of them is looked up


@dataclass(frozen=True, slots=True)
class Said:
    """What a home says of one worker, or, not `whole`, a part of its results that goes ahead of the rest. `told`: the leases of
    all its results in the report."""

    report: WorkerReport
    whole: bool
    told: frozenset[Lease]

    @property
    def weight(self) -> int:
        """How many things are to be looked up."""
        return 1 + len(self.report.results) + len(self.report.checkpoints) + len(self.report.holds) // HELD


@dataclass(slots=True)
class Answer:
    """What a report, or a portion of it, comes to: by the worker's number at its home."""

    sessions: dict[int, int] = field(default_factory=dict)
    settled: dict[int, Settlement] = field(default_factory=dict)
    cancel: dict[int, list[Lease]] = field(default_factory=dict)
    unknown: dict[int, None] = field(default_factory=dict)
    tails: list[tuple[int, WorkerReport]] = field(default_factory=list)

    def settle(self, worker: int, more: Settlement) -> None:
        """These results of the worker are judged."""
        settlement = self.settled.setdefault(worker, Settlement())
        settlement.settled += more.settled
        settlement.retry += more.retry

    def add(self, portion: Answer) -> None:
        """The next portion is on record too."""
        for worker, settlement in portion.settled.items():
            self.settle(worker, settlement)
        self.sessions |= portion.sessions
        self.cancel |= portion.cancel
        self.unknown |= portion.unknown
        self.tails += portion.tails


def check_size(report: Report) -> None:
    """TooLarge for one that no home of ours composes: it would keep the reactor busy for seconds."""
    if sum(len(one.results) + len(one.checkpoints) for one in report.workers) > MOST_SAID:
        raise TooLarge(f"a report has at most {MOST_SAID} results and checkpoints", "send it in parts")
    if sum(len(one.holds) for one in report.workers) > MOST_HELD:
        raise TooLarge(f"a report names at most {MOST_HELD} leases", "name those of other workers in the next one")


def portions(report: Report) -> list[list[Said]]:
    """The report in its order, in portions of about the same weight. Checkpoints of a worker go ahead of its results."""
    found: list[list[Said]] = [[]]
    left = PORTION
    for one in report.workers:
        for said in _parts(one):
            if said.weight > left and found[-1]:
                found.append([])
                left = PORTION
            found[-1].append(said)
            left -= said.weight
    return found


def _parts(one: WorkerReport) -> list[Said]:
    told = frozenset(result.lease for result in one.results)
    found = []
    while len(one.checkpoints) + len(one.results) > PORTION:
        checkpoints = one.checkpoints[:PORTION]
        results = one.results[: PORTION - len(checkpoints)]
        ahead = msgspec.structs.replace(
            one, holds=(), results=results, checkpoints=checkpoints, tails=(), wants=False, gone=""
        )
        found.append(Said(ahead, whole=False, told=told))
        one = msgspec.structs.replace(
            one, results=one.results[len(results) :], checkpoints=one.checkpoints[len(checkpoints) :]
        )
    return [*found, Said(one, whole=True, told=told)]
