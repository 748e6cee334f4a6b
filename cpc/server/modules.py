"""Finding modules: which name stands for which file, and what is written in it.

Looked for in this order, the first hit counts: the directories of the setting `import_path`, `lib` in the directory for all
servers, `lib` in this server's directory, what ships with the server, what installed packages offer as `cpc.modules.v1`. In
each, module `a::b` is `a/b.xml`, `a/b/_import.xml`, `a/b.py` or `a/b/__init__.py`. XML is read here; Python is read by a
controller process.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import msgspec

from cpc.api.finding import GROUP, SHIPPED
from cpc.core.errors import BadInput, CopernicusError, NotFound
from cpc.core.network_views import ModuleView
from cpc.core.offload import Offload
from cpc.core.views import Page
from cpc.dataflow import arithmetic, paths, xml
from cpc.dataflow.description import ModuleText
from cpc.server import checking
from cpc.server.checking import Checker
from cpc.server.gate import Gate
from cpc.server.principal import Principal
from cpc.server.roles import Act

_MAX_XML = 16 << 20


class Describer(Checker, Protocol):
    """The part of the controllers' pool that is needed: reads and tries code in a process of its own."""

    def describe(self, name: str, python: str, directory: str = "") -> Awaitable[ModuleText]: ...


class Finder(Protocol):
    """What others need of the modules: one with all that it imports, those first; and whether their code can be run."""

    def load(self, name: str) -> Awaitable[tuple[ModuleText, ...]]: ...

    def check(self, texts: Sequence[ModuleText]) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a module is. `file`: its XML, or None; then `python` names the Python module, which must lie in `directory`."""

    name: str
    file: Path | None = None
    python: str = ""
    directory: str = ""

    @property
    def where(self) -> str:
        """For people."""
        return str(self.file) if self.file else self.python


class Modules:
    """All modules that this server can find. `directories` are asked for at each look, so that a setting takes effect."""

    def __init__(
        self, gate: Gate, describer: Describer, offload: Offload, directories: Callable[[], Sequence[Path]]
    ) -> None:
        self._gate = gate
        self._describer = describer
        self._offload = offload
        self._directories = directories

    async def load(self, name: str) -> tuple[ModuleText, ...]:
        """The module and all that it imports, those it imports first. NotFound, or BadInput with what is wrong in which file."""
        found: dict[str, ModuleText] = {}
        await self._load(paths.key(name), found, ())
        return tuple(found.values())

    async def check(self, texts: Sequence[ModuleText]) -> None:
        """Refuse, with BadInput, modules and uploads that name code which is not there or cannot be run; the code is tried."""
        await checking.refuse(self._describer, texts)

    async def _load(self, name: str, found: dict[str, ModuleText], above: tuple[str, ...]) -> None:
        if name in found or name in arithmetic.MODULES:
            return
        if name in above:
            raise BadInput(f"the modules {' → '.join((*above, name))} import each other in a circle")
        text = await self._read(await self._offload(lambda: find(name, self._directories())))
        for other in text.imports:
            await self._load(paths.key(other), found, (*above, name))
        found[name] = text

    async def _read(self, place: Place) -> ModuleText:
        if place.file is None:
            text = await self._describer.describe(place.name, place.python, place.directory)
            return msgspec.structs.replace(text, name=place.name)
        file = place.file
        return await self._offload(lambda: _read_xml(place.name, file))

    async def page(self, who: Principal) -> Page:
        """All of them, by name; those that cannot be read with what is wrong."""
        await self._gate.read(who, Act.MODULE_LIST, lambda tx: None)
        shown = [ModuleView(name=name, desc=text.desc, where="the server") for name, text in arithmetic.MODULES.items()]
        for place in await self._offload(lambda: list(everything(self._directories()))):
            shown.append(await self._view(place))
        return Page(items=tuple(sorted(shown, key=lambda one: one.name)), next="")

    async def _view(self, place: Place) -> ModuleView:
        try:
            text = await self._read(place)
        except CopernicusError as error:
            return ModuleView(name=place.name, where=place.where, problem=str(error))
        return ModuleView(name=place.name, version=text.version, desc=text.desc, where=place.where)


def find(name: str, directories: Sequence[Path]) -> Place:
    """Where the module is; NotFound."""
    parts = name.split("::")
    if not all(part.isidentifier() for part in parts):
        raise BadInput(f"{name[:80]!r} is not the name of a module", "names look like gromacs or mylab::fit")
    for directory in directories:
        place = _in_directory(directory, parts)
        if place is not None:
            return place
    shipped = _shipped()
    place = _in_directory(shipped, parts)
    if place is not None:
        return place if place.file else Place(name, python=".".join((SHIPPED, *parts)))
    for entry in entry_points(group=GROUP):
        if paths.key(entry.name) == name:
            return Place(name, python=entry.value)
    raise NotFound(f"module {name} not found", "`cpcc list-modules` shows those that can be imported")


def everything(directories: Sequence[Path]) -> Iterator[Place]:
    """Every module that there is, each name once: the one that is found."""
    seen: set[str] = set()
    for directory in (*directories, _shipped()):
        for name in _names(directory, ()):
            if name not in seen:
                seen.add(name)
                yield find(name, directories)
    for entry in entry_points(group=GROUP):
        name = paths.key(entry.name)
        if name not in seen:
            seen.add(name)
            yield Place(name, python=entry.value)


def _in_directory(directory: Path, parts: list[str]) -> Place | None:
    name, stem = "::".join(parts), directory.joinpath(*parts)
    for file in (stem.with_name(stem.name + ".xml"), stem / "_import.xml"):
        if file.is_file():
            return Place(name, file)
    if stem.with_name(stem.name + ".py").is_file() or (stem / "__init__.py").is_file():
        return Place(name, python=".".join(parts), directory=str(directory))
    return None


def _names(directory: Path, above: tuple[str, ...]) -> Iterator[str]:
    """Modules below a directory. A Python package is one module; only directories without code hold others."""
    here = directory.joinpath(*above)
    try:
        entries = sorted(here.iterdir())
    except OSError:
        return
    for entry in entries:
        stem = entry.name.removesuffix(".xml").removesuffix(".py")
        if not stem.isidentifier() or stem in ("__init__", "_import", "__pycache__"):
            continue
        if entry.is_dir():
            if (entry / "_import.xml").is_file() or (entry / "__init__.py").is_file():
                yield "::".join((*above, stem))
            else:
                yield from _names(directory, (*above, stem))
        elif entry.suffix in (".xml", ".py"):
            yield "::".join((*above, stem))


def _shipped() -> Path:
    spec = importlib.util.find_spec(SHIPPED)
    places: Any = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else Path("/nonexistent")


def _read_xml(name: str, file: Path) -> ModuleText:
    try:
        if file.stat().st_size > _MAX_XML:
            raise BadInput(f"{file} is longer than 16 MiB")
        text = file.read_text("utf-8")
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8", "save it as UTF-8") from error
    return xml.read(text, name, source=str(file), directory=str(file.parent))
