"""The demo's story: what it counts and how it fails. `tests/acceptance/test_demo.py` tells it with real programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openmm", reason="the demo's OpenMM is not installed (pip install 'copernicus-computing[demo]')")

from openmm import app

DEMO = Path(__file__).resolve().parents[2] / "demo"


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DEMO))
    import run

    return run


def sampling(story: Any, states: list[tuple[str, int]], steps: int = 1000) -> Any:
    made = story.Sampling(None, None, story.Plan(1, len(states), steps))
    for run, (state, step) in zip(made.runs, states, strict=True):
        run.job, run.step = Standing(state), step
    return made


class Standing:
    def __init__(self, state: str, attempts: int = 1) -> None:
        self.state, self.attempts = state, attempts


def test_lines_of_progress_are_understood_and_others_passed_over(story: Any) -> None:
    run = story.Run()
    run.hear("continued at step 30000")
    assert (run.step, run.continued) == (30_000, 30_000)
    run.hear("step 40000 of 250000  80 ps  31000 steps/s")
    assert (run.step, run.speed) == (40_000, "31000 steps/s")
    run.hear("something else")
    assert run.step == 40_000


@pytest.mark.parametrize(
    ("states", "kill"),
    [
        ([("running", 400), ("waiting", 0)], False),  # not half-way
        ([("succeeded", 1000), ("running", 100)], False),  # what runs has only begun
        ([("succeeded", 1000), ("running", 300)], True),
        ([("succeeded", 1000), ("succeeded", 1000)], False),  # too late: nothing runs
        ([("succeeded", 1000)] * 5 + [("running", 100)], True),  # past 70 %: rather now than never
    ],
)
def test_the_worker_is_killed_half_way_when_there_is_something_to_lose(
    story: Any, states: list[tuple[str, int]], kill: bool
) -> None:
    assert sampling(story, states).is_half_way() is kill


def test_the_account_counts_attempts_and_the_steps_computed_twice(story: Any) -> None:
    made = sampling(story, [("succeeded", 1000)] * 3)
    made.runs[1].job.attempts = made.runs[2].job.attempts = 2
    made.runs[1].killed_at, made.runs[2].killed_at = 600, 300
    made.runs[1].continued = 400
    said = story.account(made)
    assert "3 simulations, 5 attempts. 2 were killed with their worker and came back at 1 ps, 0 ps" in said
    assert "about 500 of 3,000 steps were computed twice" in said


def test_a_missing_or_short_trajectory_is_not_passed_over(story: Any, tmp_path: Path) -> None:
    plan = story.Plan(1, 1, 1000)
    with pytest.raises(story.DemoFailed, match="1 trajectories were expected"):
        story.check(plan, tmp_path)
    pdb = app.PDBFile(str(DEMO / "alanine.pdb"))
    with (tmp_path / "trajectory.dcd").open("w+b") as file:
        frames = app.DCDFile(file, pdb.topology, 0.002)
        for _ in range(9):
            frames.writeModel(pdb.positions)
    with pytest.raises(story.DemoFailed, match="9 frames instead of 10"):
        story.check(plan, tmp_path)


def test_a_command_that_fails_is_told_in_its_own_words(story: Any, tmp_path: Path) -> None:
    import network

    one = network.Network(tmp_path, 1, 0, lambda text: None)
    with pytest.raises(story.DemoFailed, match=r"(?s)python -c.*no such thing"):
        one.run("python -c 'import sys; sys.exit(\"no such thing\")'")


def test_the_block_gives_way_to_single_lines_in_a_pipe(story: Any, capsys: pytest.CaptureFixture[str]) -> None:
    screen = story.Screen()
    screen.spoken = -100.0
    screen.block("now", ["one", "two"])
    screen.block("too soon", ["one", "two"])
    assert capsys.readouterr().out == "now\n"


def test_a_number_of_steps_that_makes_no_whole_frames_is_a_usage_error() -> None:
    run = subprocess.run(
        [sys.executable, DEMO / "run.py", "--steps", "150"], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 2
    assert "--steps 150 is not a multiple of 100" in run.stderr
