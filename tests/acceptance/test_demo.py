"""`make demo` as it is typed, only shorter: to its end, and interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("openmm", reason="the demo's OpenMM is not installed (pip install 'copernicus-computing[demo]')")

import numpy as np

DEMO = Path(__file__).resolve().parents[2] / "demo"
STEPS = 120_000


@contextmanager
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo with four starts, everything temporary below tmp_path/tmp."""
    folder = tmp_path / "demo"
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "starts.csv").write_text("phi,psi\n-65,150\n55,40\n-70,-20\n-155,160\n")
    (tmp_path / "tmp").mkdir()
    with subprocess.Popen(
        [sys.executable, folder / "run.py", "--cores", "2", "--steps", str(STEPS)],
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


def test_the_demo_loses_a_worker_and_nothing_else(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "Half-way" in said
    assert "$ kill -9 " in said
    assert "0.96 ns in 4 runs, 4800 frames" in said
    assert "phi > 0 was visited" in said
    assert "were killed with their worker and came back at" in said
    output = tmp_path / "demo-output"
    assert (output / "ramachandran.png").read_bytes().startswith(b"\x89PNG")
    assert (output / "summary.txt").read_text(encoding="utf-8") in said
    continued = [np.load(file)["continued"].tolist() for file in output.rglob("trajectory.npz")]
    assert len(continued) == 4
    assert any(continued), "no run came back from a checkpoint"
    assert list((tmp_path / "tmp").iterdir()) == []
    assert still_there(tmp_path / "tmp") == []
    assert not (tmp_path / "home").exists()


def test_an_interrupted_demo_ends_everything_that_it_started(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if " 2 running " in line:
                break
        assert still_there(tmp_path / "tmp")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Stopped, and everything that was started is ended." in said
    assert list((tmp_path / "tmp").iterdir()) == []
    assert still_there(tmp_path / "tmp") == []
