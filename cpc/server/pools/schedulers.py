"""Schedulers by name: those that come with Copernicus and those of installed packages."""

from __future__ import annotations

from cpc.api import plugins
from cpc.api.scheduler import Scheduler

GROUP = "cpc.schedulers.v1"
BUILT_IN = {
    "slurm": "cpc.plugins.schedulers.slurm:Slurm",
    "slurm-rest": "cpc.plugins.schedulers.slurm_rest:SlurmRest",
}


def scheduler_names() -> tuple[str, ...]:
    """What may be given as SCHEDULER. Loads nothing."""
    return plugins.names(GROUP, BUILT_IN)


def scheduler_class(name: str) -> type[Scheduler]:
    """The class behind a scheduler's name. NotFound lists the names there are; BadInput for a broken plugin."""
    return plugins.named(GROUP, name, Scheduler, BUILT_IN)  # type: ignore[type-abstract]  # only subclasses are made
