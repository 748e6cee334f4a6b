"""How a defect gets into a process: the module's source is changed on its way from the disk to the compiler.

The hook is in place before anything else is imported, in every process that is started with CPC_TEST_DEFECT and `site` on
its path (see `site/sitecustomize.py`). The files are never touched, nor the compiled ones beside them.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import CodeType, ModuleType

from tests.defects.defect import Change, Defect

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "CPC_TEST_DEFECT"

#: The guardian is an interpreter of its own that looks at no environment: whoever starts it brings the defect along.
GUARDIAN = frozenset(f"cpc.worker.{name}" for name in ("guardian", "attempt", "birth", "cgroups", "pipe", "tree"))
_BRING = (
    "cpc.worker.processes:_PROGRAM",
    "from cpc.worker.guardian",
    "from tests.defects import catalogue; catalogue.install({name!r}); from cpc.worker.guardian",
)


class Rotten(Exception):
    """A defect that does not apply any more, in one line that says what to do."""


def changes(defect: Defect) -> dict[str, list[Change]]:
    """What is changed, by module."""
    found: dict[str, list[Change]] = {}
    for change in defect.changes:
        found.setdefault(change[0].partition(":")[0], []).append(change)
    if GUARDIAN & found.keys():
        where, old, new = _BRING
        # The text is a format of its own, so that braces of ours would be its placeholders.
        bring = (where, old, new.format(name=defect.name))
        found.setdefault("cpc.worker.processes", []).append(bring)
    return found


def changed(name: str, source: str, wanted: Iterable[Change]) -> str:
    """The source of a module with the changes of a defect. Rotten unless each fragment is there exactly once."""
    tree = ast.parse(source)
    for where, old, new in wanted:
        _, _, symbol = where.partition(":")
        node = _find(tree.body, symbol.split("."))
        if node is None:
            raise Rotten(f"defect {name}: there is no {where} any more; write the defect for the code as it is now")
        lines = source.splitlines(keepends=True)
        first, last = _first_line(node) - 1, node.end_lineno or node.lineno
        text = "".join(lines[first:last])
        if (count := text.count(old)) != 1:
            raise Rotten(
                f"defect {name}: {where} has {count} times, not once: {old!r}; write the defect for the code as it is now"
            )
        source = "".join(lines[:first]) + text.replace(old, new) + "".join(lines[last:])
        before, tree = tree, ast.parse(source)
        if ast.dump(before) == ast.dump(tree):
            raise Rotten(f"defect {name}: the code of {where} means the same with {new!r}")
    return source


def _find(body: Sequence[ast.stmt], names: Sequence[str]) -> ast.stmt | None:
    """The class, function or assignment with this qualified name; a function within one is named by it too."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name == names[0]:
                return node if len(names) == 1 else _find(node.body, names[1:])
        elif isinstance(node, ast.Assign | ast.AnnAssign) and len(names) == 1:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == names[0] for target in targets):
                return node
    return None


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def source_of(module: str) -> str:
    """The text of a production module, without importing it."""
    path = ROOT / Path(*module.split("."))
    file = path.with_suffix(".py")
    file = file if file.exists() else path / "__init__.py"
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        raise Rotten(f"there is no module {module} any more; write its defects for the code as it is now") from None


def check(defect: Defect) -> None:
    """Rotten unless the defect applies, and gives code that compiles."""
    for module, wanted in changes(defect).items():
        compile(changed(defect.name, source_of(module), wanted), module, "exec", dont_inherit=True)


# --- in the process that has the defect ------------------------------------------------------------------------------------


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module's own file with the changes, and neither reads nor writes compiled files."""

    def __init__(self, fullname: str, path: str, name: str, wanted: Sequence[Change]) -> None:
        super().__init__(fullname, path)
        self._defect = name
        self._wanted = wanted

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        text = changed(self._defect, importlib.util.decode_source(self.get_data(path)), self._wanted)
        return compile(text, path, "exec", dont_inherit=True)


class _Finder:
    """First on `sys.meta_path`: finds the changed modules where the others find them, and loads them itself."""

    def __init__(self, defect: Defect) -> None:
        self._name = defect.name
        self._changes = changes(defect)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._changes:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(fullname, path, target) if finder is not self else None
            if spec is not None and spec.origin is not None:
                spec.loader = _Loader(fullname, spec.origin, self._name, self._changes[fullname])
                return spec
        return None


def install(defect: Defect) -> None:
    """From now on modules are imported with the defect. Too late for those that are here already."""
    late = sorted(changes(defect).keys() & sys.modules.keys())
    if late:
        raise RuntimeError(f"{', '.join(late)} was imported before the defect {defect.name}")
    sys.meta_path.insert(0, _Finder(defect))
