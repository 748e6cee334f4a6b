"""cpcc in this process: a command line in; an exit code and what it printed out."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpc.client import main


@dataclass(frozen=True)
class Said:
    """What came of it."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The `data` of the JSON that was printed."""
        return json.loads(self.out)["data"]

    @property
    def kind(self) -> str:
        return str(json.loads(self.out)["kind"])


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Cpcc:
    """Runs command lines with their own $CPC_HOME."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *arguments: str, stdin: str = "", terminal: bool = False) -> Said:
        kind = _Terminal if terminal else io.StringIO
        out, err = kind(), kind()
        before, sys.stdin = sys.stdin, kind(stdin)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main.run(["--home", str(self.home), *arguments])
        finally:
            sys.stdin = before
        return Said(code, out.getvalue(), err.getvalue())
