"""Checks that installed packages bring, as entry points: of the server's machine, and of nodes where workers may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import metadata

from cpc.core.allocation import Check
from cpc.core.errors import CopernicusError

SERVER = "cpc.doctor.v1"
NODE = "cpc.node-checks.v1"


def checks(group: str) -> Iterator[tuple[str, Check]]:
    """(the entry point's name, a Check) for each. One that fails is a Check that is not well, and keeps none from being made."""
    for point in sorted(metadata.entry_points(group=group), key=lambda point: point.name):
        try:
            look: Callable[[], Iterable[Check]] = point.load()
            for one in look():
                if not isinstance(one, Check):
                    raise TypeError(f"{type(one).__name__} is not a cpc.api.Check")
                yield point.name, one
        except CopernicusError as error:
            yield point.name, Check("check", False, error.message, error.hint)
        except Exception as error:  # whatever somebody's package may raise
            words = f"{point.value} cannot be asked: {type(error).__name__}: {error}"
            yield point.name, Check("check", False, words, "mend or uninstall that package")
