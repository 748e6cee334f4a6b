"""The original's values: typed nodes, with the makers that module code calls."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from cpc.core import plain
from cpc.core.errors import BadInput
from cpc.core.plain import FILE, FileRef
from cpc.dataflow import paths
from cpc.dataflow.answer import PATH
from cpc.dataflow.code import Shape
from cpc.dataflow.types import Path


class Updates:
    """Which items have changed: the paths that a step lists, what they lie in, and what lies in them."""

    def __init__(self, listed: Sequence[str] = ()) -> None:
        self._listed = {paths.read(one) for one in listed}
        self._above = {path[:length] for path in self._listed for length in range(len(path))}

    def touch(self, path: Path) -> bool:
        """Whether the item at `path` has changed, or anything in it."""
        return path in self._above or any(path[:length] in self._listed for length in range(len(path) + 1))


_NOTHING_NEW = Updates()


class Value:
    """A value: `value` is what it holds (members of compounds are Values), `type` the name of its type.

    `file`: what it holds is a file's path.
    """

    def __init__(
        self, value: Any, type: str, file: bool = False, updates: Updates = _NOTHING_NEW, path: Path = ()
    ) -> None:
        self.value = value
        self.type = type
        self.file = file
        self._updates = updates
        self._path = path

    def get(self) -> Any:
        """What it holds; a file's absolute path."""
        return self.value

    def isUpdated(self) -> bool:
        """Whether it, or anything in it, changed since the instance's last step."""
        return self._updates.touch(self._path)

    def below(self, part: str | int) -> Value | None:
        """A member; None when there is none."""
        if isinstance(self.value, list) and isinstance(part, int):
            return self.value[part] if part < len(self.value) else None
        return self.value.get(part) if isinstance(self.value, dict) else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class BoolValue(Value):
    """True or false."""

    def __init__(self, value: Any) -> None:
        super().__init__(None if value is None else bool(value), "bool")


class IntValue(Value):
    """A whole number."""

    def __init__(self, value: Any) -> None:
        super().__init__(None if value is None else int(value), "int")


class FloatValue(Value):
    """A number."""

    def __init__(self, value: Any) -> None:
        super().__init__(None if value is None else float(value), "float")


class StringValue(Value):
    """A text."""

    def __init__(self, value: Any) -> None:
        super().__init__(None if value is None else str(value), "string")


class FileValue(Value):
    """A file, by its path: absolute, or relative to the run's output directory."""

    def __init__(self, value: str | os.PathLike[str] | None) -> None:
        super().__init__(None if value is None else os.fspath(value), "file", file=True)


class ArrayValue(Value):
    """A list of Values."""

    def __init__(self, value: Sequence[Any] | None) -> None:
        super().__init__(None if value is None else list(value), "array")


class DictValue(Value):
    """A dict of Values."""

    def __init__(self, value: Mapping[str, Any] | None) -> None:
        super().__init__(None if value is None else dict(value), "dict")


class RecordValue(Value):
    """A record: a dict of Values with fixed names."""

    def __init__(self, value: Mapping[str, Any] | None) -> None:
        super().__init__(None if value is None else dict(value), "record")


_NAMES: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "string", list: "array", dict: "dict"}


class Files:
    """Files of a step, by address and by path: what the server has already needs no second copy."""

    def __init__(self, local: Mapping[str, str]) -> None:
        self._local = local
        self._known: dict[str, FileRef] = {}

    def learn(self, path: str, ref: FileRef) -> None:
        """The file at `path` is this one; nobody changes it."""
        self._known[os.path.realpath(path)] = ref

    def read(self, raw: dict[str, Any]) -> str:
        """The local path of a file in wire form."""
        ref = plain.read(raw)
        assert isinstance(ref, FileRef)
        path = self._local.get(ref.content.digest.hex())
        if path is None:
            raise BadInput(f"file {ref.name} is not here", "files of a step come with its inputs")
        self.learn(path, ref)
        return path

    def known(self, path: str) -> FileRef | None:
        """The address of the file at `path`, if the server has it."""
        return self._known.get(os.path.realpath(path))

    def wire(self, path: str) -> Any:
        """A file in an answer; relative paths are below the current directory."""
        ref = self.known(path)
        if ref is not None:
            return plain.wire(ref)
        if not os.path.isfile(path):
            raise BadInput(f"there is no file {path}", "an output's file must exist when the function returns")
        return {PATH: os.path.abspath(path), "name": os.path.basename(path)}


def read(raw: Any, shape: Shape | None, files: Files, updates: Updates, path: Path) -> Value:
    """A wire value as a Value."""

    def below(part: str | int, one: Any) -> Value:
        return read(one, None if shape is None else shape.below(part), files, updates, (*path, part))

    content: Any = raw
    file = isinstance(raw, dict) and FILE in raw
    if file:
        content = files.read(raw)
    elif isinstance(raw, dict):
        content = {name: below(name, one) for name, one in raw.items()}
    elif isinstance(raw, list):
        content = [below(index, one) for index, one in enumerate(raw)]
    name = "file" if file else _NAMES.get(type(content), "value")
    return Value(content, name if shape is None else shape.name, file, updates, path)


def wire(value: Any, files: Files) -> Any:
    """A Value that module code gave, in wire form. Members may be Values or what they hold."""
    if isinstance(value, Value):
        if value.file:
            return None if value.value is None else files.wire(value.value)
        value = value.value
    if isinstance(value, dict):
        return {str(name): wire(one, files) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [wire(one, files) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise BadInput(f"a {type(value).__name__} is not a value", "use FloatValue, FileValue and the like")
