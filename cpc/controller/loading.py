"""Python code by its name: modules and the functions in them, with words for what can be wrong."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from cpc.api.running import explain
from cpc.core.errors import BadInput, NotFound


def module(name: str, directory: str = "") -> ModuleType:
    """The Python module; NotFound when it is not there, BadInput when it cannot be imported, or comes from elsewhere
    than `directory`."""
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise NotFound(f"there is no Python module {name}", "it must be on the import path, or installed") from None
        raise BadInput(f"Python module {name} imports {error.name}, which is not installed") from None
    except (Exception, SystemExit) as error:
        raise BadInput(f"Python module {name} cannot be imported: {explain(error)}") from None
    if directory and not _below(found, directory):
        raise BadInput(
            f"module {name} in {directory} is hidden by Python's own {name} ({found.__file__ or 'built in'})",
            "give it another name",
        )
    return found


def thing(module_name: str, name: str) -> Any:
    """What a controller's `function` names in its module: `run`, or in full `mylab.fit.run`."""
    found: Any = module(module_name)
    bare = name.removeprefix(f"{module_name}.")
    for part in bare.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise NotFound(f"Python module {module_name} has no {bare}")
    if not callable(found):
        raise BadInput(f"{bare} in Python module {module_name} is no function")
    return found


def files(found: ModuleType) -> tuple[tuple[str, int, int], ...]:
    """The files that a module and its submodules were read from, each with its time of change (ns) and size."""
    parts = [
        one for name, one in sys.modules.items() if name == found.__name__ or name.startswith(f"{found.__name__}.")
    ]
    paths = sorted({path for one in parts if (path := getattr(one, "__file__", None)) is not None})
    facts = ((path, os.stat(path)) for path in paths)
    return tuple((path, fact.st_mtime_ns, fact.st_size) for path, fact in facts)


def _below(found: ModuleType, directory: str) -> bool:
    return found.__file__ is not None and Path(os.path.realpath(found.__file__)).is_relative_to(
        os.path.realpath(directory)
    )
