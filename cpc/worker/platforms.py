"""Platforms by name: those that come with Copernicus and those of installed packages."""

from __future__ import annotations

from cpc.api import Platform, plugins

GROUP = "cpc.platforms.v1"
BUILT_IN = {
    "smp": "cpc.plugins.platforms.smp:Smp",
    "mpi": "cpc.plugins.platforms.mpi:Mpi",
    "slurm": "cpc.plugins.platforms.slurm:Slurm",
    "cray": "cpc.plugins.platforms.cray:Cray",
}


def platform_names() -> tuple[str, ...]:
    """What may be given as PLATFORM. Loads nothing."""
    return plugins.names(GROUP, BUILT_IN)


def platform_class(name: str) -> type[Platform]:
    """The class behind a platform's name. NotFound lists the names there are; BadInput for a broken plugin."""
    return plugins.named(GROUP, name, Platform, BUILT_IN)  # type: ignore[type-abstract]  # only subclasses are made
