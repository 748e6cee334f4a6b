"""The original's helpers: a persistent dict, resources of a command, and its exception."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from cpc.controller.original.command import Command
from cpc.controller.original.values import Value
from cpc.core.errors import CopernicusError


class CpcError(CopernicusError):
    """What module code raises for people; its text becomes the instance's error. Subclasses may set `str` alone."""

    def __init__(self, exc: object = "") -> None:
        super().__init__(str(exc))
        self.str = str(exc)

    def __str__(self) -> str:
        return str(getattr(self, "str", "") or next(iter(self.args), ""))


class Persistence:
    """A dict in a JSON file; without the file it is empty. `write` puts it there."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.dict: dict[str, Any] = {}
        if os.path.exists(filename):
            with open(filename, encoding="utf-8") as file:
                self.dict = json.load(file)

    def get(self, name: str) -> Any:
        """The entry, or None."""
        return self.dict.get(name)

    def set(self, name: str, value: Any) -> None:
        """Set an entry."""
        self.dict[name] = value

    def has_key(self, name: str) -> bool:
        """Whether there is such an entry."""
        return name in self.dict

    def write(self) -> None:
        """Write the file, whole or not at all."""
        new = f"{self.filename}.new"
        with open(new, "w", encoding="utf-8") as file:
            json.dump(self.dict, file)
        os.replace(new, self.filename)


class Amounts(dict[str, int]):
    """Named amounts; `set` and `get` besides what a dict has."""

    def set(self, name: str, amount: int) -> None:
        """Set one."""
        self[name] = int(amount)


class Resources:
    """What a command needs (`min`), what it can use (`max`), and both per kind of worker (`workers`).

    Made of a `resource::run_desc` input's Value.
    """

    def __init__(self, inputVal: Value | None = None) -> None:
        told = _plain(inputVal) or {}
        self.min = Amounts(told.get("min") or {})
        self.max = Amounts(told.get("max") or {})
        self.workers: dict[str, Any] = told.get("workers") or {}

    def updateCmd(self, cmd: Command) -> None:
        """Give a command these limits."""
        cmd.minRequired.update(self.min)
        cmd.maxAllowed.update(self.max)

    def save(self, filename: str) -> None:
        """Keep them in a file."""
        with open(filename, "w", encoding="utf-8") as file:
            json.dump({"min": self.min, "max": self.max, "workers": self.workers}, file)

    def load(self, filename: str) -> None:
        """Take them from a file."""
        with open(filename, encoding="utf-8") as file:
            told: Mapping[str, Any] = json.load(file)
        self.min, self.max, self.workers = Amounts(told["min"]), Amounts(told["max"]), dict(told["workers"])


def _plain(value: Any) -> Any:
    content = value.value if isinstance(value, Value) else value
    if isinstance(content, dict):
        return {name: _plain(one) for name, one in content.items()}
    return [_plain(one) for one in content] if isinstance(content, list) else content
