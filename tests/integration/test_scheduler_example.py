"""The scheduler that the manual shows is a whole one: its own test, as printed, passes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "admin" / "schedulers.md"


def test_the_scheduler_of_the_manual_keeps_every_promise(tmp_path: Path) -> None:
    found = dict(re.findall(r'^```python title="([\w.]+)"\n(.*?)^```$', PAGE.read_text(), re.DOTALL | re.MULTILINE))
    assert set(found) == {"machine.py", "test_machine.py"}
    for name, text in found.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-W", "error", "test_machine.py"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert re.search(r"\b17 passed", done.stdout), done.stdout[-500:]
