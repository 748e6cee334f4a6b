"""What this worker can start: executables from directories, installed packages and those that come with Copernicus.

In a directory of the search path, `X.toml` and `X/executable.toml` describe a program, `X/executable.xml` too, as in the
original system, and an executable file `X` or `X/plugin` is an original plugin script: it is run as
`X <installation directory> executable <platform>` and prints what would be in an executable.xml. What is broken is named
in one line, and everything else still loads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path

import cpc
import cpc.plugins.executables
from cpc.api import Executable, Found, Search
from cpc.core import names
from cpc.core.errors import BadInput, CopernicusError
from cpc.plugins.executables.gromacs import Gmx, Mdrun
from cpc.plugins.executables.python import Deeptime, OpenMM, Python
from cpc.worker import executable_files
from cpc.worker.search import PathSearch

GROUP = "cpc.executables.v1"
BUILT_IN: tuple[type[Executable], ...] = (Python, Mdrun, Gmx, OpenMM, Deeptime)
MAX_ENTRIES = 10_000
TOGETHER = 8  # programs that are asked for their versions at a time


def search_path(environ: Mapping[str, str], home: Path, setting: str = "") -> tuple[Path, ...]:
    """Directories to look in, in order: the `executables_path` setting, $CPC_EXECUTABLES, HOME/executables."""
    parts = [*setting.split(os.pathsep), *environ.get("CPC_EXECUTABLES", "").split(os.pathsep)]
    paths = [Path(part).expanduser() for part in parts if part]
    own = home / "executables"
    return tuple(dict.fromkeys([*paths, *([own] if own.is_dir() else [])]))


def discover(
    directories: Iterable[Path], platform: str, search: PathSearch | None = None, runs: Sequence[str] = ()
) -> tuple[Found, ...]:
    """Every executable for `platform`, and, with `why_not`, what was looked for in vain and every broken description.
    `runs`: other platforms whose executables it starts as well.

    Of two with one name and version the first is taken; programs that are missing here but were found elsewhere are left
    out. Runs programs to ask for versions, side by side: takes seconds at worst, 20 for one that hangs.
    """
    search = search or PathSearch()
    there = tuple(directories)
    looks = [look for name in (platform, *runs) for look in _on(there, name, search)]
    with ThreadPoolExecutor(TOGETHER) as pool:
        return _first_of_each([one for found in pool.map(lambda look: look(), looks) for one in found])


def _on(directories: Iterable[Path], platform: str, search: PathSearch) -> list[Callable[[], Iterable[Found]]]:
    """All there is to be looked at for one platform."""
    looks: list[Callable[[], Iterable[Found]]] = []
    for directory in directories:
        looks.append(partial(_in_directory, directory, platform, search))
    for point in metadata.entry_points(group=GROUP):
        looks.append(partial(_careful, point.value, platform, _from_point(point, platform, search)))
    for kind in BUILT_IN:
        looks.append(partial(_careful, kind.name, platform, _from_kind(kind, platform, search)))
    for path in sorted(Path(cpc.plugins.executables.__file__).parent.glob("*.toml")):
        looks.append(partial(_described, path, platform, search))
    return looks


def _first_of_each(found: Sequence[Found]) -> tuple[Found, ...]:
    there = {names.key(one.name) for one in found if not one.why_not}
    seen: set[tuple[str, str]] = set()
    kept = []
    for one in found:
        key = (names.key(one.name), one.version)
        if key in seen or (one.why_not and key[0] in there):
            continue
        seen.add(key)
        kept.append(one)
    return tuple(kept)


def pick(found: Iterable[Found], name: str, version: str) -> Found | None:
    """The executable that a job asks for by name and exact version, or None."""
    for one in found:
        if names.key(one.name) == names.key(name) and one.version == version and not one.why_not:
            return one
    return None


def _careful(what: str, platform: str, find: Callable[[], tuple[Found, ...]]) -> tuple[Found, ...]:
    """What `find` finds, or one Found that says, in a line, what is wrong with `what`."""
    try:
        return find()
    except CopernicusError as error:
        why = str(error)
    except Exception as error:  # whatever somebody's plugin may raise; the others must still load
        why = f"{type(error).__name__}: {error}"
    return (Found(what, platform=platform, source=what, why_not=" ".join(why.split())[:500]),)


def _described(path: Path, platform: str, search: Search) -> tuple[Found, ...]:
    return _careful(str(path), platform, lambda: executable_files.load(path, platform, search))


def _from_kind(kind: type[Executable], platform: str, search: Search) -> Callable[[], tuple[Found, ...]]:
    return lambda: kind().find(platform, search)


def _from_point(point: metadata.EntryPoint, platform: str, search: Search) -> Callable[[], tuple[Found, ...]]:
    def find() -> tuple[Found, ...]:
        kind = point.load()
        if kind in BUILT_IN:
            return ()  # asked for anyway, also where the package was installed before they were declared
        if not (isinstance(kind, type) and issubclass(kind, Executable)):
            raise BadInput(f"{point.value} is not a subclass of cpc.api.Executable")
        results: object = kind().find(platform, search)
        if not isinstance(results, tuple) or not all(isinstance(one, Found) for one in results):
            raise BadInput(f"{point.value}.find did not answer with a tuple of Found")
        return results

    return find


def _in_directory(directory: Path, platform: str, search: PathSearch) -> list[Found]:
    try:
        entries = sorted(path for path in directory.iterdir() if not path.name.startswith("."))[:MAX_ENTRIES]
    except OSError as error:
        why = f"the directory of executables cannot be read: {error.strerror}"
        return [Found(str(directory), platform=platform, source=str(directory), why_not=why)]
    found: list[Found] = []
    for entry in entries:
        found.extend(_in_entry(entry, platform, search))
    return found


def _in_entry(entry: Path, platform: str, search: PathSearch) -> tuple[Found, ...]:
    if entry.suffix == ".toml":
        return _described(entry, platform, search)
    for script in (entry, entry / "plugin"):
        if script.is_file() and os.access(script, os.X_OK) and not script.name.endswith("~"):
            return _careful(str(script), platform, _from_script(script, platform, search))
    for name in ("executable.toml", "executable.xml"):
        if (entry / name).is_file():
            return _described(entry / name, platform, search)
    return ()


def _from_script(script: Path, platform: str, search: PathSearch) -> Callable[[], tuple[Found, ...]]:
    def find() -> tuple[Found, ...]:
        answer = search.ask((str(script), str(Path(cpc.__file__).parent.parent), "executable", platform))
        if answer.code != 0:
            lines = (answer.errors or answer.output).strip().splitlines() or ["and said nothing"]
            raise BadInput(f"the plugin ended with {answer.code}: {lines[-1][:200]}")
        return executable_files.from_xml(answer.output, script.parent, platform, str(script))

    return find
