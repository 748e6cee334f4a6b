"""A person who types cpcc commands, in this process: what is printed, where, and the exit code."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cpc.client.main import main
from tests.helpers.small_server import SmallServer


@dataclass(frozen=True, slots=True)
class Said:
    """One call of cpcc."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What --json printed, without its envelope."""
        found = json.loads(self.out)
        assert set(found) == {"copernicus", "kind", "data"}
        assert found["copernicus"] == 1
        return found["data"]

    @property
    def kind(self) -> str:
        """The kind in the envelope."""
        return str(json.loads(self.out)["kind"])


class Person:
    """Has an own home directory and works in an own directory. Call it with words."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.place = directory / "work"
        self.place.mkdir()
        self.home = directory / "home"
        monkeypatch.chdir(self.place)
        monkeypatch.setenv("CPC_HOME", str(self.home))
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: str, stdin: str = "", code: int = 0) -> Said:
        """Run it; the exit code must be `code`, and no call may show a traceback."""
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(list(words))
        out, err = self._capsys.readouterr()
        said = Said(int(left.value.code or 0), out, err)
        assert said.code == code, f"{words}: exit code {said.code}\n{out}{err}"
        assert "Traceback" not in err
        return said

    def refused(self, *words: str, stdin: str = "", code: int = 1) -> str:
        """Run what must be refused in one line on stderr; the line without `cpcc: `."""
        said = self(*words, stdin=stdin, code=code)
        assert said.out == ""
        assert said.err.startswith("cpcc: ")
        assert said.err.count("\n") == 1, said.err
        return said.err.removeprefix("cpcc: ").rstrip()

    def join(self, api: SmallServer, user: str = "alice", password: str = "pw1", project: str = "villin") -> Person:
        """Add the server, log in and choose a project."""
        self("add-server", "-n", "lab", "--fingerprint", api.authority.fingerprint, api.host, str(api.port))
        self("login", "-stdin", user, stdin=f"{password}\n")
        self("cd", project)
        return self
