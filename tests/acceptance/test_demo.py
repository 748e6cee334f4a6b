"""`make demo` as it is typed, only shorter: to its end, and interrupted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.real_programs import PATIENCE

for name in ("openmm", "deeptime"):
    pytest.importorskip(name, reason=f"the demo's {name} is not installed (pip install 'copernicus-computing[demo]')")

DEMO = Path(__file__).resolve().parents[2] / "demo"
STEPS = 60_000


@contextmanager
def demo(tmp_path: Path, hops: int = 0) -> Iterator[subprocess.Popen[str]]:
    """The demo with two generations of four runs, everything temporary below tmp_path/tmp."""
    folder = tmp_path / "demo"
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tmp").mkdir()
    with subprocess.Popen(
        [
            sys.executable, folder / "run.py", "--cores", "2", "--steps", str(STEPS), "--runs", "4", "--generations", "2",
            "--hops", str(hops),
        ],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()


def still_there(place: Path) -> list[str]:
    """The command lines of living processes that work below `place`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(place) in os.readlink(process / "cwd") + words + (process / "environ").read_bytes().decode():
                found.append(words)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("hops", [0, 2])
def test_the_demo_loses_a_worker_and_nothing_else(tmp_path: Path, hops: int) -> None:
    """Also when the worker is at a server two links away from the one with the project."""
    with demo(tmp_path, hops) as process:
        said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    assert "Half-way" in said
    assert "$ kill -9 " in said
    assert "8 runs, 4800 frames" in said
    assert "phi > 0 was visited" in said
    assert re.search(r"8 simulations, (9|1\d) attempts\. \d were killed with their worker and came back at", said)
    output = tmp_path / "demo-output"
    for picture in ("free_energy.png", "states.png", "timescales.png"):
        assert (output / picture).read_bytes().startswith(b"\x89PNG")
    assert "run_7" in (output / "sampling.svg").read_text()
    assert (output / "summary.txt").read_text(encoding="utf-8") in said
    assert len(list(output.rglob("*.dcd"))) == 8
    assert list((tmp_path / "tmp").iterdir()) == []
    assert still_there(tmp_path / "tmp") == []
    assert not (tmp_path / "home").exists()


def test_an_interrupted_demo_ends_everything_that_it_started(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "generation 1 of 2" in line:
                break
        assert still_there(tmp_path / "tmp")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "Stopped, and everything that was started is ended." in said
    assert list((tmp_path / "tmp").iterdir()) == []
    assert still_there(tmp_path / "tmp") == []
