"""`make demo`: 16 molecular dynamics runs through a server and a worker that is killed half-way.

    python demo/run.py [--steps N] [--cores N] [--output FOLDER]

The commands it gives are in network.py, the science in molecule.py, simulate.py and picture.py.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from network import HEARTBEAT, DemoFailed, Network
from screen import Screen, bar

from cpc.core.errors import CopernicusError
from cpc.core.views import JobView

HERE = Path(__file__).resolve().parent
PICOSECONDS = 0.002  # of one step
FRAME = 100  # steps between two frames
TICK = 2.0  # seconds between two looks at the queue
PATIENCE = 90.0  # seconds without any progress until the demo gives up
DONE = ("succeeded", "failed", "cancelled")


@dataclass
class Run:
    """What is known of one run: from the queue, and from what it prints."""

    start: str
    job: JobView | None = None
    step: int = 0
    angles: str = ""
    continued: int = 0  # the step at which it was picked up, 0: never
    killed_at: int | None = None  # the step it had reached when the worker was killed with it
    followed: int = 0  # the attempt whose lines are taken in

    @property
    def state(self) -> str:
        return self.job.state if self.job else "waiting"

    def follow(self, lines: Iterator[str], attempt: int) -> None:
        """Take in what an attempt prints, in a thread of its own."""

        def listen() -> None:
            with suppress(CopernicusError, OSError):  # only the view is poorer without it
                for line in lines:
                    if self.followed == attempt:
                        self.hear(line)

        self.followed = attempt
        threading.Thread(target=listen, daemon=True).start()

    def hear(self, line: str) -> None:
        if found := re.match(r"continued at step (\d+)", line):
            self.step = self.continued = int(found[1])
        elif found := re.match(r"step (\d+) .*(phi .* psi +\S+)", line):
            self.step, self.angles = int(found[1]), found[2]

    def describe(self, index: int, steps: int) -> str:
        back = f", back at {self.continued * PICOSECONDS:.0f} ps" if self.continued else ""
        attempt = f", attempt {self.job.attempts}" if self.job and self.job.attempts > 1 else ""
        now = self.angles if self.state == "running" else ""
        picoseconds = f"{self.step * PICOSECONDS:.0f} ps"
        return f"{index:3} {self.start:>9}  {bar(self.step / steps)} {picoseconds:>7}  {now:19} {self.state}{attempt}{back}"


class Ensemble:
    """The runs, from the submission to their end, with one murder on the way."""

    def __init__(self, network: Network, screen: Screen, starts: list[str], steps: int) -> None:
        self.network, self.screen, self.steps = network, screen, steps
        self.runs = [Run(start) for start in starts]
        self.killed = False

    @property
    def part(self) -> float:
        """How much of all steps is done, 0 to 1."""
        return sum(run.step for run in self.runs) / (self.steps * len(self.runs))

    def watch(self) -> None:
        """Until every run has ended. DemoFailed when one fails or nothing moves any more."""
        last, moved = -1.0, self.screen.elapsed
        while True:
            self.look()
            self.show()
            if all(run.state in DONE for run in self.runs):
                return
            if self.part != last:
                last, moved = self.part, self.screen.elapsed
            if self.screen.elapsed - moved > PATIENCE:
                stuck = next(run.job for run in self.runs if run.state not in DONE)
                raise DemoFailed(
                    f"nothing has moved for {PATIENCE:.0f} s. " + (self.network.why(stuck.id) if stuck else "")
                )
            if not self.killed and self.is_half_way():
                self.kill()
            time.sleep(TICK)

    def look(self) -> None:
        self.network.check_worker()
        for run, job in zip(self.runs, self.network.jobs(), strict=True):
            run.job = job
            if job.state == "failed":
                raise DemoFailed(f"job {job.id} failed: {job.reason}")
            if job.state == "succeeded":
                run.step = self.steps
            elif job.state == "running" and job.attempts != run.followed:
                run.follow(self.network.follow(job.id), job.attempts)

    def is_half_way(self) -> bool:
        """Half is done, and what runs now is well under way, so that there is something to lose."""
        running = [run.step / self.steps for run in self.runs if run.state == "running"]
        return bool(running) and self.part > 0.5 and (self.part > 0.7 or 0.25 < min(running) <= max(running) < 0.9)

    def kill(self) -> None:
        self.killed = True
        for run in self.runs:
            run.killed_at = run.step if run.state == "running" else None
        names = ", ".join(str(index) for index, run in enumerate(self.runs) if run.killed_at is not None)
        self.screen.say(f"\nHalf-way. Now the worker is killed without a warning, and runs {names} with it:")
        self.network.kill_worker()
        self.screen.say("A new worker takes its place. The jobs come back from the checkpoints that the server has:")
        self.network.start_worker()
        self.screen.say()

    def show(self) -> None:
        counts = {state: sum(run.state == state for run in self.runs) for state in ("succeeded", "running")}
        nanoseconds = self.steps * PICOSECONDS / 1000 * len(self.runs)
        self.screen.block(
            f"{self.screen.elapsed:4.0f} s  {counts['succeeded']:2} done  {counts['running']:2} running  "
            f"{bar(self.part)}  {self.part * nanoseconds:.2f} of {nanoseconds:.2f} ns",
            [run.describe(index, self.steps) for index, run in enumerate(self.runs)],
        )


def prepare(folder: Path) -> list[str]:
    """The files that the jobs need, in `folder`; the starting angles as text."""
    folder.mkdir()
    for name in ("simulate.py", "alanine.pdb", "starts.csv"):
        shutil.copy(HERE / name, folder)
    subprocess.run([sys.executable, HERE / "molecule.py", "alanine.pdb", "system.xml"], cwd=folder, check=True)
    with (folder / "starts.csv").open() as file:
        return [f"{row['phi']} {row['psi']}" for row in csv.DictReader(file)]


def check(ensemble: Ensemble, folder: Path) -> list[list[int]]:
    """Every run's trajectory is there and whole, or DemoFailed. Where each run was picked up from a checkpoint, steps."""
    continued: dict[int, list[int]] = {}
    for file in folder.rglob("trajectory.npz"):
        with np.load(file) as saved:
            continued[int(saved["seed"])] = saved["continued"].tolist()
            if len(saved["angles"]) != ensemble.steps // FRAME:
                raise DemoFailed(f"{file} has {len(saved['angles'])} frames instead of {ensemble.steps // FRAME}")
    if sorted(continued) != list(range(len(ensemble.runs))):
        raise DemoFailed(f"{len(ensemble.runs)} trajectories were expected in {folder}, there are {len(continued)}")
    return [continued[index] for index in range(len(ensemble.runs))]


def draw(folder: Path, picture: Path, home: Path) -> str:
    """Make the picture; what it shows, in words."""
    done = subprocess.run(
        [sys.executable, HERE / "picture.py", folder, picture],
        env={**os.environ, "MPLCONFIGDIR": str(home / "matplotlib"), "PYTHONIOENCODING": "utf-8"},
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if done.returncode:
        raise DemoFailed(f"the picture could not be drawn: {done.stderr.strip()}")
    return done.stdout


def account(ensemble: Ensemble, continued: list[list[int]]) -> str:
    """What the kill cost."""
    attempts = sum(run.job.attempts for run in ensemble.runs if run.job)
    said = f"{len(ensemble.runs)} jobs, {attempts} attempts."
    lost = [
        (run.killed_at, steps[-1] if steps else 0)
        for run, steps in zip(ensemble.runs, continued, strict=True)
        if run.killed_at is not None
    ]
    if lost:
        again = sum(max(0, before - after) for before, after in lost)
        said += (
            f" {len(lost)} were killed with their worker and came back at "
            f"{', '.join(f'{after * PICOSECONDS:.0f} ps' for _, after in lost)}:\n"
            f"about {again:,} of {ensemble.steps * len(ensemble.runs):,} steps were computed twice, "
            "no frame is missing and none is there twice."
        )
    return said


def demo(steps: int, cores: int, output: Path, screen: Screen, home: Path) -> None:
    screen.say(
        f"Everything happens in $DEMO = {home}, which is gone at the end.\n\nA server of your own, and a worker:"
    )
    with Network(home, cores, screen.say) as network:
        try:
            network.open()
            screen.say(f"(heartbeat_time is {HEARTBEAT} s here, so that a lost worker is noticed soon; 120 s is usual)")
            starts = prepare(home / "inputs")
            screen.say(f"\n{len(starts)} runs of {steps * PICOSECONDS:.0f} ps, one for each line of starts.csv:")
            array = network.submit(home / "inputs", steps)
            screen.say()
            ensemble = Ensemble(network, screen, starts, steps)
            ensemble.watch()
            screen.say("\nAll done. The results:")
            shutil.rmtree(output / "runs", ignore_errors=True)
            network.fetch(array, output / "runs")
        except (DemoFailed, CopernicusError):
            for log in home.rglob("*.log"):
                shutil.copy(log, output)
            raise
    continued = check(ensemble, output / "runs")
    said = (
        f"{draw(output / 'runs', output / 'ramachandran.png', home)}\n{account(ensemble, continued)}\n"
        f"Everything took {screen.elapsed:.0f} s.\n\n"
        f"The picture:       {output / 'ramachandran.png'}\nThe trajectories:  {output / 'runs'}\n"
    )
    (output / "summary.txt").write_text(said, encoding="utf-8")
    screen.say(
        f"\n{said}\nTry next: add a line to demo/starts.csv, say 60,60, and `make demo` again;"
        "\nor your own molecule: docs/tutorial/demo.md."
    )


def main() -> None:
    words = argparse.ArgumentParser(description="16 molecular dynamics runs through a server and a worker.")
    words.add_argument("--steps", type=int, default=250_000, help="of 2 fs, for each run (default: 250000)")
    words.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="default: all")
    words.add_argument("--output", type=Path, default=Path("demo-output"), help="default: demo-output")
    wanted = words.parse_args()
    if wanted.steps <= 0 or wanted.steps % FRAME:
        words.error(f"--steps {wanted.steps} is not a multiple of {FRAME}")
    wanted.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="copernicus-demo-") as home:
            demo(wanted.steps, wanted.cores, wanted.output.resolve(), Screen(), Path(home))
    except (DemoFailed, CopernicusError) as failure:
        sys.exit(f"\nThe demo stopped: {failure}\nThe logs are in {wanted.output}.")
    except KeyboardInterrupt:
        sys.exit("\nStopped, and everything that was started is ended.")


if __name__ == "__main__":
    main()
