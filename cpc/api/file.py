"""Files as values: what a function gets as an input and gives as an output."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cpc.core import plain
from cpc.core.plain import FileRef
from cpc.dataflow.answer import PATH


class File(os.PathLike[str]):
    """A file: its local `path` and the `name` people know it by. `open(file)` works, as wherever a path does.

    `ref`: its address, when the server has stored it already; such a file is read-only, and passing it on costs nothing.
    """

    __slots__ = ("name", "path", "ref")

    def __init__(self, path: str | os.PathLike[str], name: str = "", ref: FileRef | None = None) -> None:
        self.path = Path(path)
        self.name = name or self.path.name
        self.ref = ref

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"File({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, File):
            return NotImplemented
        if self.ref is not None and other.ref is not None:
            return self.ref == other.ref
        return self.path == other.path and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def read_bytes(self) -> bytes:
        """All it holds."""
        return self.path.read_bytes()

    def read_text(self) -> str:
        """All it holds, as UTF-8."""
        return self.path.read_text(encoding="utf-8")


def wire(file: File) -> dict[str, Any]:
    """The file as it stands in an answer: by its address, or where it lies."""
    if file.ref is not None:
        return dict(plain.wire(FileRef(file.name, file.ref.content)))
    return {PATH: str(file.path.absolute()), "name": file.name}
