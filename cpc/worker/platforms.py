"""Platforms by name: those that come with Copernicus and those of installed packages."""

from __future__ import annotations

from importlib import metadata

from cpc.api import Platform
from cpc.core.errors import BadInput, NotFound
from cpc.plugins.platforms.cray import Cray
from cpc.plugins.platforms.mpi import Mpi
from cpc.plugins.platforms.slurm import Slurm
from cpc.plugins.platforms.smp import Smp

GROUP = "cpc.platforms.v1"
BUILT_IN: tuple[type[Platform], ...] = (Smp, Mpi, Slurm, Cray)


def platform_names() -> tuple[str, ...]:
    """What may be given as PLATFORM. Loads nothing."""
    return tuple(
        dict.fromkeys([kind.name for kind in BUILT_IN] + [point.name for point in metadata.entry_points(group=GROUP)])
    )


def platform_class(name: str) -> type[Platform]:
    """The class behind a platform's name. NotFound lists the names there are; BadInput for a broken plugin."""
    for kind in BUILT_IN:
        if kind.name == name:
            return kind
    for point in metadata.entry_points(group=GROUP, name=name):
        try:
            loaded = point.load()
        except Exception as error:  # whatever somebody's package may raise
            raise BadInput(
                f"platform {name} ({point.value}) cannot be loaded: {type(error).__name__}: {error}",
                "mend or uninstall that package",
            ) from None
        if not (isinstance(loaded, type) and issubclass(loaded, Platform)):
            raise BadInput(f"platform {name} ({point.value}) is not a subclass of cpc.api.Platform")
        if missing := sorted(getattr(loaded, "__abstractmethods__", ())):
            raise BadInput(f"platform {name} ({point.value}) lacks {' and '.join(missing)}", "mend that package")
        return loaded
    raise NotFound(f"there is no platform {name!r}", f"use one of: {', '.join(platform_names())}")
