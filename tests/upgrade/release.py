"""Another release of this program: a copy of the code with changes, to run beside the one that is tested.

There is no package of a release that is not made yet; a copy of today's code that differs where the next or the former
release would is run as one, by real processes.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import cpc

ROOT = Path(__file__).parents[2]
_LAUNCHER = """#!{python}
import os, sys
sys.path[0] = os.environ["PYTHONPATH"] = {code!r}
from {module} import main
main()
"""
_PROGRAMS = {"cpc-server": "cpc.server.main", "cpc-worker": "cpc.worker.main", "cpcc": "cpc.client.main"}


class Release:
    """The code in `directory`, changed by `replace` and `write`; `bin` has its programs."""

    def __init__(self, directory: Path, name: str) -> None:
        self.code = directory / name
        self.bin = self.code / "bin"
        shutil.copytree(ROOT / "cpc", self.code / "cpc")
        shutil.copytree(ROOT / "migrations", self.code / "cpc" / "migrations")
        self.bin.mkdir()
        for program, module in _PROGRAMS.items():
            path = self.bin / program
            path.write_text(_LAUNCHER.format(python=sys.executable, code=str(self.code), module=module))
            path.chmod(0o755)
        self.replace("__init__.py", f'__version__ = "{cpc.__version__}"', f'__version__ = "{name}"')

    def replace(self, path: str, old: str, new: str) -> None:
        """Change one place of a file below cpc/; an AssertionError when it is not there once."""
        file = self.code / "cpc" / path
        text = file.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {path}: this test must follow the code"
        file.write_text(text.replace(old, new))

    def write(self, path: str, text: str) -> None:
        """A new file below cpc/."""
        (self.code / "cpc" / path).write_text(text)
