"""Schedulers by name: those that come with Copernicus and those of installed packages."""

from __future__ import annotations

import importlib
from importlib import metadata

from cpc.api.scheduler import Scheduler
from cpc.core.errors import BadInput, NotFound

GROUP = "cpc.schedulers.v1"
#: name → where its class is; loaded when it is asked for.
BUILT_IN = {
    "slurm": "cpc.plugins.schedulers.slurm:Slurm",
    "slurm-rest": "cpc.plugins.schedulers.slurm_rest:SlurmRest",
}


def scheduler_names() -> tuple[str, ...]:
    """What may be given as SCHEDULER. Loads nothing."""
    return tuple(dict.fromkeys([*BUILT_IN, *(point.name for point in metadata.entry_points(group=GROUP))]))


def scheduler_class(name: str) -> type[Scheduler]:
    """The class behind a scheduler's name. NotFound lists the names there are; BadInput for a broken plugin."""
    if name in BUILT_IN:
        module, _, kind = BUILT_IN[name].partition(":")
        return getattr(importlib.import_module(module), kind)  # type: ignore[no-any-return]
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
    raise NotFound(f"there is no scheduler {name[:80]!r}", f"use one of: {', '.join(scheduler_names())}")
