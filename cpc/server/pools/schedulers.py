"""Schedulers by name: those that come with Copernicus and those of installed packages."""

from __future__ import annotations

from importlib import metadata

from cpc.api import Scheduler
from cpc.core.errors import BadInput, NotFound
from cpc.plugins.schedulers.slurm import Slurm
from cpc.plugins.schedulers.slurm_rest import SlurmRest

GROUP = "cpc.schedulers.v1"
BUILT_IN: tuple[type[Scheduler], ...] = (Slurm, SlurmRest)


def scheduler_names() -> tuple[str, ...]:
    """What may be given as SCHEDULER. Loads nothing."""
    return tuple(
        dict.fromkeys([kind.name for kind in BUILT_IN] + [point.name for point in metadata.entry_points(group=GROUP)])
    )


def scheduler_class(name: str) -> type[Scheduler]:
    """The class behind a scheduler's name. NotFound lists the names there are; BadInput for a broken plugin."""
    for kind in BUILT_IN:
        if kind.name == name:
            return kind
    for point in metadata.entry_points(group=GROUP, name=name):
        try:
            loaded = point.load()
        except Exception as error:  # whatever somebody's package may raise
            raise BadInput(
                f"scheduler {name} ({point.value}) cannot be loaded: {type(error).__name__}: {error}",
                "mend or uninstall that package",
            ) from None
        if not (isinstance(loaded, type) and issubclass(loaded, Scheduler)):
            raise BadInput(f"scheduler {name} ({point.value}) is not a subclass of cpc.api.Scheduler")
        if missing := sorted(getattr(loaded, "__abstractmethods__", ())):
            raise BadInput(f"scheduler {name} ({point.value}) lacks {' and '.join(missing)}", "mend that package")
        return loaded
    raise NotFound(f"there is no scheduler {name!r}", f"use one of: {', '.join(scheduler_names())}")
