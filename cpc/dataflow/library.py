"""The modules that a project knows: names resolved to types and functions, with everything checked that can be.

A project keeps a module as it was when it was imported, until it is imported again. Definitions that were uploaded are the
module with the empty name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cpc.core.errors import BadInput, NotFound
from cpc.core.journal import Journal
from cpc.dataflow import arithmetic, paths
from cpc.dataflow.description import ModuleText
from cpc.dataflow.functions import Function
from cpc.dataflow.resolver import Resolver
from cpc.dataflow.types import SCALARS, Type

#: The module of what was uploaded into the project.
LOCAL = ""


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """A module, resolved. Types and functions by their bare names."""

    name: str
    texts: tuple[ModuleText, ...]
    types: dict[str, Type]
    functions: dict[str, Function]


def nothing(name: str) -> ModuleText:
    """A place to look for modules that has none."""
    raise NotFound(f"module {name} not found", "`cpcc list-modules` shows those that can be imported")


class Library:
    """What can be named in a project. `find` gives a module that is not imported yet, or raises NotFound."""

    def __init__(self, find: Callable[[str], ModuleText] = nothing) -> None:
        self.modules: dict[str, Module] = {}
        self._find = find

    def need(self, name: str, journal: Journal) -> list[ModuleText]:
        """Import a module with all that it imports; those that were not there, in the order in which they came."""
        new: list[ModuleText] = []
        self._need(paths.key(name), journal, new, ())
        return new

    def _need(self, name: str, journal: Journal, new: list[ModuleText], above: tuple[str, ...]) -> None:
        if not name:
            raise BadInput("a module needs a name", "`cpcc list-modules` shows those that can be imported")
        if name in self.modules:
            return
        if name in above:
            raise BadInput(f"the modules {' → '.join((*above, name))} import each other in a circle")
        text = arithmetic.MODULES.get(name) or self._find(name)
        for other in text.imports:
            self._need(paths.key(other), journal, new, (*above, name))
        self.add(text, journal)
        new.append(text)

    def renew(self, name: str, journal: Journal) -> ModuleText | None:
        """Take a module that was imported before as it is now; None when it is the same, or not found any more."""
        former = self.modules.get(paths.key(name))
        if former is None or former.name in arithmetic.MODULES:
            return None
        try:
            text = self._find(former.name)
        except NotFound:
            return None
        if text in former.texts:
            return None
        self.add(text, journal)
        return text

    def define(self, text: ModuleText, journal: Journal) -> list[ModuleText]:
        """Take in an upload: what it imports, and its types and functions as the project's own. What is new."""
        new: list[ModuleText] = []
        for other in text.imports:
            self._need(paths.key(other), journal, new, ())
        if text.types or text.functions:
            self.add(text, journal)
            new.append(text)
        return new

    def add(self, text: ModuleText, journal: Journal) -> Module:
        """Resolve a module; what it imports must be there. BadInput names the module, the definition and the field.

        A module that is there already is replaced; the project's own definitions are added to those that are there.
        """
        name = paths.key(text.name)
        replaced = self.modules.get(name)
        former = replaced if name == LOCAL else None
        resolved = Resolver(self, text, former)
        types, functions = resolved.all()
        texts: tuple[ModuleText, ...] = (text,)
        if former is not None:
            types, functions, texts = former.types | types, former.functions | functions, (*former.texts, text)
        module = Module(name, texts, types, functions)
        journal.note(self._put, name, replaced)
        self.modules[name] = module
        return module

    def _put(self, name: str, module: Module | None) -> None:
        if module is None:
            del self.modules[name]
        else:
            self.modules[name] = module

    def function(self, name: str, here: str = LOCAL) -> Function:
        """The function `module::name`; a bare name is looked up in module `here`."""
        module, bare = self._split(name, here)
        if module not in self.modules and module != LOCAL:
            raise NotFound(f"module {module} is not imported", f"`cpcc import {module}` makes {name} known")
        known = self.modules[module].functions if module in self.modules else {}
        if bare not in known:
            raise NotFound(f"function {bare} not found in {_module(module)}", _some(known))
        return known[bare]

    def type(self, name: str, here: str = LOCAL) -> Type:
        """The type `module::name`, a built-in one, or a bare name of module `here`."""
        module, bare = self._split(name, here)
        if "::" not in name and bare in SCALARS:
            return SCALARS[bare]
        known = self.modules[module].types if module in self.modules else {}
        if bare not in known:
            raise NotFound(f"type {bare} not found in {_module(module)}", _some(known))
        return known[bare]

    def texts(self) -> list[ModuleText]:
        """All modules as they were imported, in an order in which they can be added again."""
        return [text for module in self.modules.values() for text in module.texts]

    @staticmethod
    def _split(name: str, here: str) -> tuple[str, str]:
        module, separator, bare = paths.key(name).rpartition("::")
        return (module if separator else here), bare


def _module(name: str) -> str:
    return f"module {name}" if name else "the project's own definitions"


def _some(known: dict[str, Type] | dict[str, Function]) -> str:
    names = sorted(known)
    return ("it has " + ", ".join(names[:12]) + (", …" if len(names) > 12 else "")) if names else ""
