"""Options and tables that all benchmarks share."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Row = dict[str, float]


@dataclass(frozen=True, slots=True)
class Options:
    """`size`: jobs, workers or payloads of a run; `runs`: how often; `postgresql`: use it instead of SQLite.

    `away`: seconds of an outage, where there is one.
    """

    size: int
    runs: int
    postgresql: bool = False
    json: bool = False
    away: float = 60.0


@dataclass(slots=True)
class Table:
    """Rows of figures under a title; `show` prints the median of every column with its extremes below."""

    title: str
    rows: list[Row] = field(default_factory=list)

    def add(self, **figures: float) -> None:
        """One run."""
        self.rows.append(figures)

    def medians(self) -> Row:
        """The median of each column."""
        names = list(self.rows[0])
        return {name: statistics.median(row[name] for row in self.rows) for name in names}

    def show(self, as_json: bool = False) -> None:
        """Print it."""
        if as_json:
            print(json.dumps({"title": self.title, "median": self.medians(), "runs": self.rows}))
            return
        names = list(self.rows[0])
        middle = self.medians()
        lines = [["", *(name.replace("_", " ") for name in names)], ["median", *(_figure(middle[n]) for n in names)]]
        if len(self.rows) > 1:
            for word, pick in (("least", min), ("most", max)):
                choose: Callable[[Any], float] = pick
                lines.append([word, *(_figure(choose(row[name] for row in self.rows)) for name in names)])
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        print(f"{self.title}  ({len(self.rows)} runs, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores)")
        for line in lines:
            print("  " + "  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)))
        print(flush=True)


Run = Callable[[Options], Table | Sequence[Table]]


def _figure(value: float) -> str:
    if value == int(value) or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))]


def show_all(found: Table | Sequence[Table], as_json: bool) -> None:
    """Print what a benchmark has found."""
    for table in (found,) if isinstance(found, Table) else found:
        table.show(as_json)


def main(what: str, run: Run, size: int, runs: int, meaning: str, outage: bool = False) -> None:
    """The command line of one benchmark; `outage`: it may be said for how long."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("-n", "--size", type=int, default=size, help=f"{meaning} (default {size})")
    parser.add_argument("--runs", type=int, default=runs, help=f"repetitions (default {runs})")
    parser.add_argument("--postgresql", action="store_true", help="on PostgreSQL instead of SQLite")
    parser.add_argument("--json", action="store_true", help="print JSON")
    if outage:
        parser.add_argument("--away", type=float, default=60.0, help="seconds of the outage (default 60)")
    given = parser.parse_args()
    if given.size < 1 or given.runs < 1:
        parser.error("--size and --runs are at least 1")
    if platform.system() != "Linux":
        sys.exit("the benchmarks read /proc: they run on Linux")
    options = Options(given.size, given.runs, given.postgresql, given.json)
    if outage:
        options = replace(options, away=given.away)
    show_all(run(options), options.json)
