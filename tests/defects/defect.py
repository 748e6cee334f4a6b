"""What a deliberate defect is: a small change of one function, the promise that it breaks, and who must notice."""

from __future__ import annotations

from dataclasses import dataclass

Change = tuple[str, str, str]  # ("module:Qualified.name", the exact fragment of its source, what stands there instead)


@dataclass(frozen=True, slots=True)
class Defect:
    """One of them. `changes` are found by symbol, never by line, so that they cannot rot unnoticed.

    `caught_by`: what pytest is to run, or "seeds FIRST-LAST" of the simulation; the defect is caught by the first that
    fails, in at most `seconds` on a machine that does nothing else. `quick`: also run in `make test`.
    """

    name: str
    promise: str
    changes: tuple[Change, ...]
    caught_by: tuple[str, ...]
    seconds: float = 60.0
    quick: bool = False

    @property
    def tests(self) -> tuple[str, ...]:
        """What pytest runs."""
        return tuple(each for each in self.caught_by if not each.startswith("seeds "))

    @property
    def seeds(self) -> tuple[range, ...]:
        """What the simulation runs."""
        found = []
        for each in self.caught_by:
            if each.startswith("seeds "):
                first, last = each.removeprefix("seeds ").split("-")
                found.append(range(int(first), int(last) + 1))
        return tuple(found)


def defect(
    name: str, where: str, old: str, new: str, *, promise: str, caught_by: str | tuple[str, ...],
    also: tuple[Change, ...] = (), seconds: float = 60.0, quick: bool = False,
) -> Defect:  # fmt: skip
    """A defect as the catalogue writes it: one change (and, rarely, others) under a name."""
    tests = (caught_by,) if isinstance(caught_by, str) else caught_by
    return Defect(name, promise, ((where, old, new), *also), tests, seconds, quick)
