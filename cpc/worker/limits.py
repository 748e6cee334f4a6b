"""How a worker holds its attempts to their limits, and how it says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cpc.core.errors import BadInput
from cpc.worker import cgroups

Way = Literal["auto", "cgroup", "watch"]
WAYS = ("auto", "cgroup", "watch")


@dataclass(frozen=True, slots=True)
class Limits:
    """`memory`: "cgroup" by control groups, "watch" by looking every `interval` seconds and by RLIMIT_AS, "auto" the
    first of them that this machine allows. `grace`: seconds from SIGTERM to SIGKILL when an attempt's walltime is over.
    `gather`: seconds in which good ends are told together, while others stand in line.
    """

    memory: Way = "auto"
    interval: float = 0.5
    grace: float = 15.0
    gather: float = 0.02

    def check(self) -> Limits:
        """The limits, or BadInput; "cgroup" is refused where the machine has none to offer."""
        if self.memory not in WAYS:
            raise BadInput(f"memory limits by {self.memory!r} are unknown", f"use one of {', '.join(WAYS)}")
        if not 0.01 <= self.interval <= 3600 or not 0 <= self.grace <= 86400:
            raise BadInput(
                f"interval {self.interval:g} s or grace {self.grace:g} s is out of range",
                "interval: 0.01 to 3600, grace: 0 to 86400",
            )
        if self.memory == "cgroup":
            why = cgroups.possible()[1]
            if why:
                raise BadInput(f"memory cannot be limited by control groups: {why}", "use 'auto' or 'watch'")
        return self

    def describe(self) -> str:
        """How memory will be limited here, for `cpc-worker --show`."""
        version, why = cgroups.possible() if self.memory != "watch" else (0, "control groups are switched off")
        if version:
            return f"control groups version {version}"
        return f"watching every {self.interval:g} s and RLIMIT_AS ({why})"
