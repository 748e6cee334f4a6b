"""One run: so many cycles of a fault, by a seed, on one kind of database; what it came to."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.audit import Audit
from tests.chaos.ensemble import Ensemble
from tests.chaos.faults import deck
from tests.chaos.story import Story

AUDIT_EVERY = 10
MOST_OPEN = 16
PILED = 0.2  # of the cycles have two faults, the second before all is well again


@dataclass(frozen=True)
class Report:
    """What a run came to."""

    kind: str
    seed: int
    cycles: int
    seconds: float
    jobs: int
    files: int
    size: int
    attempts: dict[str, int]
    late: int
    repeated: int
    left_out: str

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.attempts.items()))
        return (
            f"{self.kind}, seed {self.seed}: {self.cycles} cycles in {self.seconds:.0f} s; {self.jobs} jobs, each with the "
            f"end it had to have ({outcomes}; {self.late} late); {self.files} files, {self.size >> 20} MiB, fetched and as "
            f"they were written; {self.repeated} calls repeated after a lost answer"
            + (f"; left out: {self.left_out}" if self.left_out else "")
        )


def run(
    directory: Path, kind: str, seed: int, cycles: int, *, faults: Sequence[str] = (), loud: bool = False
) -> Report:  # fmt: skip
    """`faults`: names of those that are dealt; all, if none is named.

    AssertionError with the seed and the story when a promise is not kept; the logs then stay in `directory`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    story = Story(directory / "story", loud)
    story.tell(f"{kind}, seed {seed}, {cycles} cycles")
    try:
        return _run(directory, kind, seed, cycles, faults, story)
    except BaseException as error:
        story.tell(f"WRONG: {str(error)[:2000] or type(error).__name__}")
        if isinstance(error, Exception):
            only = "".join(f" --fault '{name}'" for name in faults)
            again = f"again: .venv/bin/python -m tests.chaos --seed {seed} --cycles {cycles}{only} {kind}"
            raise AssertionError(
                f"{error}\n--- {kind}, seed {seed}; logs in {directory}; {again}\n{story.last()}"
            ) from error
        raise


def _run(directory: Path, kind: str, seed: int, cycles: int, faults: Sequence[str], story: Story) -> Report:
    ensemble = Ensemble(directory, kind, seed, story)
    with contextlib.closing(ensemble), contextlib.closing(Audit(ensemble)) as audit:
        cards = deck(ensemble, faults)
        for cycle in range(1, cycles + 1):
            if not cards:
                cards = deck(ensemble, faults)
            ensemble.person.ask(ensemble.rng.randrange(2, 7))
            piled = ensemble.rng.random() < PILED and not faults and len(cards) > 1
            for card in [cards.pop() for _ in range(2 if piled else 1)]:
                story.tell(f"cycle {cycle}: {card.name}")
                card.act(ensemble)
            ensemble.healthy()
            audit.glance()
            if cycle % AUDIT_EVERY == 0 or cycle == cycles:
                audit.whole()
            elif ensemble.open_jobs() > MOST_OPEN:
                ensemble.until(lambda: ensemble.open_jobs() <= MOST_OPEN, "the queue gets shorter")
        audit.end()
        return Report(
            kind, seed, cycles, story.seconds, ensemble.ledger.jobs, audit.files, audit.bytes, dict(audit.attempts),
            audit.late, ensemble.person.repeated, f"full disks ({ensemble.missing})" if ensemble.missing else "",
        )  # fmt: skip
