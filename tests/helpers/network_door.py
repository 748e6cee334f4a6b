"""A scripted API server about one project's network, and cpcc that talks to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpc.core import plain
from cpc.core.digest import Content
from cpc.core.network_views import Changed
from cpc.core.plain import FileRef
from tests.helpers import sample_views as sample
from tests.helpers.command_line import Cpcc, Said
from tests.helpers.fake_api import FakeApi, Raw

HERE = "/projects/villin"


class Door(FakeApi):
    """Answers about the network of one project."""

    def network(self, method: str, what: str, answer: Any) -> None:
        """Answer this call about the project so."""
        self.on(method, f"{HERE}/{what}", answer)

    @property
    def edits(self) -> list[list[dict[str, Any]]]:
        """What was to be changed, call by call."""
        return [call.json["edits"] for call in self.asked("POST", f"{HERE}/edits")]

    def holds(self, path: str, value: Any, type: str = "file") -> None:
        """An item has this value; bytes become files of the name `data`."""
        files: dict[str, bytes] = {}
        self.network("GET", "value", sample.value(path, plain.wire(_with_files(path, value, files)), type))
        self.network("GET", "file", lambda call: Raw(files[call.query["path"]]))


def _with_files(path: str, value: Any, files: dict[str, bytes]) -> Any:
    if isinstance(value, bytes):
        files[path] = value
        return ref("data", value)
    if isinstance(value, list):
        return [_with_files(f"{path}[{at}]", one, files) for at, one in enumerate(value)]
    if isinstance(value, dict):
        return {name: _with_files(f"{path}.{name}", one, files) for name, one in value.items()}
    return value


def ref(name: str, data: bytes) -> FileRef:
    digest = hashlib.sha256(data).digest()
    return FileRef(name, Content(digest, len(data), (digest,) if data else ()))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Door]:
    (tmp_path / "door").mkdir()
    with Door(tmp_path / "door") as running:
        running.network("POST", "edits", Changed(lines=("Done.",)))
        yield running


@pytest.fixture
def cpcc(api: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cpcc:
    api.configure(tmp_path / "home")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return Cpcc(tmp_path / "home")


def refused(said: Said, code: int = 1) -> str:
    """The one line of a refusal."""
    assert said.code == code, said
    assert said.out == ""
    assert said.err.startswith("cpcc: ")
    assert said.err.count("\n") == 1, said.err
    return said.err
