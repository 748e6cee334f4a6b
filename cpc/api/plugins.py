"""Plugins by name: classes that come with Copernicus and those of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import TypeVar

from cpc.core.errors import BadInput, NotFound

T = TypeVar("T")


def names(group: str, built_in: Mapping[str, str]) -> tuple[str, ...]:
    """What there is in an entry point group, what comes with Copernicus first. Loads nothing."""
    return tuple(dict.fromkeys([*built_in, *(point.name for point in metadata.entry_points(group=group))]))


def named(group: str, name: str, kind: type[T], built_in: Mapping[str, str]) -> type[T]:
    """The subclass of `kind` with this name. `built_in`: name → `module:Class`, loaded when it is asked for.

    NotFound lists the names there are; BadInput for a plugin that is broken.
    """
    what = kind.__name__.lower()
    points = [metadata.EntryPoint(name, built_in[name], group)] if name in built_in else ()
    for point in points or metadata.entry_points(group=group, name=name):
        try:
            loaded = point.load()
        except Exception as error:  # whatever somebody's package may raise
            raise BadInput(
                f"{what} {name} ({point.value}) cannot be loaded: {type(error).__name__}: {error}",
                "mend or uninstall that package",
            ) from None
        if not (isinstance(loaded, type) and issubclass(loaded, kind)):
            raise BadInput(f"{what} {name} ({point.value}) is not a subclass of cpc.api.{kind.__name__}")
        if missing := sorted(getattr(loaded, "__abstractmethods__", ())):
            raise BadInput(f"{what} {name} ({point.value}) lacks {' and '.join(missing)}", "mend that package")
        return loaded
    raise NotFound(f"there is no {what} {name[:80]!r}", f"use one of: {', '.join(names(group, built_in))}")
