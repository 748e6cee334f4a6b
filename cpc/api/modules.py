"""Modules written in Python: what a file or package with decorated functions says of itself."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import ModuleType

from cpc.api.functions import Function
from cpc.api.hints import Types, doc
from cpc.core.errors import BadInput
from cpc.dataflow.description import ModuleText


def functions(module: ModuleType) -> dict[str, Function[..., object]]:
    """The functions that a module offers: those of its own, and of its submodules as far as it imports their names."""
    own = f"{module.__name__}."
    return {
        one.name: one
        for one in vars(module).values()
        if isinstance(one, Function) and (one.__module__ == module.__name__ or one.__module__.startswith(own))
    }


def describe(module: ModuleType, name: str = "") -> ModuleText:
    """The module as the engine knows it, under `name` (default: the last part of its own); BadInput says what is wrong.

    Its version is its `__version__`, else made from what its file says. `IMPORTS` names modules that it instantiates functions
    of; those whose types it uses are imported anyway.
    """
    found = functions(module)
    name = name or module.__name__.rpartition(".")[2]
    if not found:
        raise BadInput(
            f"module {name} offers no function", "decorate one with @function, @command or @controller of cpc.api"
        )
    types = Types()
    try:
        texts = tuple(one.text(types) for one in found.values())
    except BadInput as error:
        raise BadInput(f"module {name}: {error.message}", error.hint) from None
    return ModuleText(
        name=name,
        version=str(getattr(module, "__version__", "") or _fingerprint(module)),
        desc=doc(module),
        imports=tuple(sorted({*types.imported, *getattr(module, "IMPORTS", ())} - {name})),
        types=tuple(types.found.values()),
        functions=texts,
        source=module.__file__ or "",
    )


def _fingerprint(module: ModuleType) -> str:
    try:
        said = Path(module.__file__ or "").read_bytes()
    except OSError:
        return ""
    return hashlib.sha256(said).hexdigest()[:12]
