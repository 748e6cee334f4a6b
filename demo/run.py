"""`make demo`: adaptive sampling of a small molecule through a server and a worker that is killed half-way.

    python demo/run.py [--generations N] [--runs N] [--steps N] [--cores N] [--hops N] [--output FOLDER]

With --hops the worker is at another server, so many links away from the one with the project.

The commands it gives are in network.py; the science is in the modules openmm and msm, which come with Copernicus.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import basins
from network import HEARTBEAT, DemoFailed, Network
from screen import Screen, bar

from cpc.core.errors import CopernicusError
from cpc.core.views import JobView
from cpc.plugins.modules.openmm.jobs import dcd

HERE = Path(__file__).resolve().parent
PICOSECONDS = 0.002  # of one step
FRAME = 100  # steps between two frames
TICK = 1.0  # seconds between two looks at the project
PATIENCE = 300.0  # seconds without any progress until the demo gives up, also on a machine that is busy


@dataclass(frozen=True)
class Plan:
    """What is simulated: generations of runs of so many steps."""

    generations: int
    runs: int
    steps: int

    @property
    def total(self) -> int:
        """All runs."""
        return self.generations * self.runs

    @property
    def nanoseconds(self) -> float:
        """Of all runs together."""
        return self.total * self.steps * PICOSECONDS / 1000

    def settings(self) -> dict[str, str]:
        """The inputs of msm::adaptive that are no files."""
        return {
            "runs": str(self.runs), "generations": str(self.generations), "steps": str(self.steps), "every": str(FRAME),
            "lag": "5", "clusters": "200", "platform": "Reference", "seed": "1",
        }  # fmt: skip


@dataclass
class Run:
    """What is known of one run: from the queue, and from what it prints."""

    job: JobView | None = None
    step: int = 0
    speed: str = ""
    continued: int = 0  # the step at which it was picked up, 0: never
    killed_at: int | None = None  # the step it had reached when the worker was killed with it
    followed: int = 0  # the attempt whose lines are taken in

    @property
    def state(self) -> str:
        return self.job.state if self.job else "to come"

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
        elif found := re.match(r"step (\d+) .*?(\d+ steps/s)", line):
            self.step, self.speed = int(found[1]), found[2]

    def describe(self, index: int, steps: int) -> str:
        back = f", back at {self.continued * PICOSECONDS:.0f} ps" if self.continued else ""
        attempt = f", attempt {self.job.attempts}" if self.job and self.job.attempts > 1 else ""
        now = self.speed if self.state == "running" else ""
        picoseconds = f"{self.step * PICOSECONDS:.0f} ps"
        return f"run_{index:<4} {bar(self.step / steps)} {picoseconds:>7}  {now:13} {self.state}{attempt}{back}"


class Sampling:
    """The project, from its beginning to its end, with one murder on the way."""

    def __init__(self, network: Network, screen: Screen, plan: Plan) -> None:
        self.network, self.screen, self.plan = network, screen, plan
        self.runs = [Run() for _ in range(plan.total)]
        self.generation = 0
        self.killed = False

    @property
    def part(self) -> float:
        """How much of all steps is done, 0 to 1."""
        return sum(run.step for run in self.runs) / (self.plan.steps * len(self.runs))

    def watch(self) -> None:
        """Until the last generation has its model. DemoFailed when something fails or nothing moves any more."""
        last, moved = (-1.0, -1), self.screen.elapsed
        while self.generation < self.plan.generations:
            self.look()
            self.show()
            if (self.part, self.generation) != last:
                last, moved = (self.part, self.generation), self.screen.elapsed
            if self.screen.elapsed - moved > PATIENCE:
                stuck = [run.job for run in self.runs if run.job and run.state in ("waiting", "running")]
                why = self.network.why(stuck[0].id) if stuck else self.network.project.item("sampling").running
                raise DemoFailed(f"nothing has moved for {PATIENCE:.0f} s. {why}")
            if not self.killed and self.is_half_way():
                self.kill()
            time.sleep(TICK)
        self.screen.wipe()

    def look(self) -> None:
        self.network.check_worker()
        for name in ("molecule", "sampling"):
            found = self.network.project.item(name)
            if found.state == "error":
                raise DemoFailed(f"{name} is in error: {found.error or 'see its instances'}")
        for run, job in zip(self.runs, self.network.jobs("simulate"), strict=False):
            run.job = job
            if job.state == "succeeded":
                run.step = self.plan.steps
            elif job.state == "running" and job.attempts != run.followed:
                run.follow(self.network.follow(job.id), job.attempts)
        generation = self.network.project.get("sampling:out.generation") or 0
        if generation != self.generation:
            self.generation = generation
            self.screen.say(self.news())

    def news(self) -> str:
        """What the newest model says, in a line."""
        get = self.network.project.get
        nanoseconds, change, connected = (
            get(f"sampling:out.{name}") for name in ("nanoseconds", "change", "connected")
        )
        slow = ", ".join(f"{one:.1f}" for one in get("sampling:out.timescales")[:2])
        return (
            f"{self.screen.elapsed:4.0f} s  model {self.generation}: {nanoseconds:.1f} ns, {connected:.0%} connected, "
            f"timescales {slow} ps, populations changed by {change:.3f}"
        )

    def is_half_way(self) -> bool:
        """Half is done, and what runs now is well under way, so that there is something to lose."""
        running = [run.step / self.plan.steps for run in self.runs if run.state == "running"]
        return bool(running) and self.part > 0.5 and (self.part > 0.7 or 0.25 < min(running) <= max(running) < 0.9)

    def kill(self) -> None:
        self.killed = True
        for run in self.runs:
            run.killed_at = run.step if run.state == "running" else None
        names = ", ".join(f"run_{index}" for index, run in enumerate(self.runs) if run.killed_at is not None)
        self.screen.say(f"\nHalf-way. Now the worker is killed without a warning, and {names} with it:")
        self.network.kill_worker()
        self.screen.say("A new worker takes its place. The jobs come back from the checkpoints that the server has:")
        self.network.start_worker()
        self.screen.say()

    def show(self) -> None:
        counts = {state: sum(run.state == state for run in self.runs) for state in ("succeeded", "running")}
        nanoseconds = self.plan.nanoseconds
        begun = sum(run.job is not None for run in self.runs)
        first = max(0, (begun - 1) // self.plan.runs * self.plan.runs)
        generation = self.runs[first : first + self.plan.runs]
        doing = "" if counts["running"] or not begun else "  a model is being made"
        self.screen.block(
            f"{self.screen.elapsed:4.0f} s  generation {first // self.plan.runs + 1} of {self.plan.generations}  "
            f"{counts['succeeded']:2} runs done  {bar(self.part)}  {self.part * nanoseconds:.2f} of {nanoseconds:.2f} ns{doing}",
            [run.describe(first + index, self.plan.steps) for index, run in enumerate(generation)],
        )


def check(plan: Plan, folder: Path) -> None:
    """Every run's trajectory is there and whole, or DemoFailed."""
    files = sorted(folder.rglob("*.dcd"))
    if len(files) != plan.total:
        raise DemoFailed(f"{plan.total} trajectories were expected in {folder}, there are {len(files)}")
    for file in files:
        frames = len(dcd.read(file))
        if frames != plan.steps // FRAME:
            raise DemoFailed(f"{file} has {frames} frames instead of {plan.steps // FRAME}")


def account(sampling: Sampling) -> str:
    """What the kill cost."""
    attempts = sum(run.job.attempts for run in sampling.runs if run.job)
    said = f"{len(sampling.runs)} simulations, {attempts} attempts."
    lost = [(run.killed_at, run.continued) for run in sampling.runs if run.killed_at is not None]
    if lost:
        again = sum(max(0, before - after) for before, after in lost)
        said += (
            f" {len(lost)} were killed with their worker and came back at "
            f"{', '.join(f'{after * PICOSECONDS:.0f} ps' for _, after in lost)}:\n"
            f"about {again:,} of {sampling.plan.steps * len(sampling.runs):,} steps were computed twice, "
            "no frame is missing and none is there twice."
        )
    return said


def demo(plan: Plan, cores: int, hops: int, output: Path, screen: Screen, home: Path) -> None:
    screen.say(
        f"Everything happens in $DEMO = {home}, which is gone at the end.\n\n"
        f"{'Servers' if hops else 'A server'} of your own, and a worker:"
    )
    with Network(home, cores, hops, screen.say) as network:
        try:
            network.open()
            screen.say(f"(heartbeat_time is {HEARTBEAT} s here, so that a lost worker is noticed soon; 120 s is usual)")
            screen.say(
                f"\nA project: {plan.generations} generations of {plan.runs} runs of {plan.steps * PICOSECONDS:.0f} ps;"
                " each begins where the model of those before knows least:"
            )
            network.build(HERE, plan.settings())
            screen.say()
            sampling = Sampling(network, screen, plan)
            sampling.watch()
            screen.say("\nAll done. The results:")
            shutil.rmtree(output / "trajectories", ignore_errors=True)
            network.fetch(output)
        except (DemoFailed, CopernicusError):
            for log in home.rglob("*.log"):
                shutil.copy(log, output)
            raise
    check(plan, output / "trajectories")
    said = (
        f"{basins.describe(output / 'model.npz')}\n{account(sampling)}\nEverything took {screen.elapsed:.0f} s.\n\n"
        f"The free energy:        {output / 'free_energy.png'}\n"
        f"The Markov states:      {output / 'states.png'}\n"
        f"The implied timescales: {output / 'timescales.png'}\n"
        f"The project's network:  {output / 'sampling.svg'}\n"
        f"The trajectories:       {output / 'trajectories'}\n"
    )
    (output / "summary.txt").write_text(said, encoding="utf-8")
    screen.say(f"\n{said}\nTry next: more generations, --generations 10;\nor your own molecule: docs/tutorial/demo.md.")


def main() -> None:
    words = argparse.ArgumentParser(description="Adaptive sampling of alanine dipeptide through a server and a worker.")
    words.add_argument("--generations", type=int, default=4, help="default: 4")
    words.add_argument("--runs", type=int, default=8, help="in each generation (default: 8)")
    words.add_argument("--steps", type=int, default=80_000, help="of 2 fs, for each run (default: 80000)")
    words.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="default: all")
    words.add_argument("--hops", type=int, default=0, help="between the project's server and the worker's (default: 0)")
    words.add_argument("--output", type=Path, default=Path("demo-output"), help="default: demo-output")
    wanted = words.parse_args()
    if wanted.steps <= 0 or wanted.steps % FRAME:
        words.error(f"--steps {wanted.steps} is not a multiple of {FRAME}")
    if wanted.generations < 1 or wanted.runs < 1:
        words.error("--generations and --runs are 1 or more")
    if not 0 <= wanted.hops <= 15:
        words.error(f"--hops {wanted.hops} is not 0 to 15")
    plan = Plan(wanted.generations, wanted.runs, wanted.steps)
    wanted.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="copernicus-demo-") as home:
            demo(plan, wanted.cores, wanted.hops, wanted.output.resolve(), Screen(), Path(home))
    except (DemoFailed, CopernicusError) as failure:
        sys.exit(f"\nThe demo stopped: {failure}\nThe logs are in {wanted.output}.")
    except KeyboardInterrupt:
        sys.exit("\nStopped, and everything that was started is ended.")


if __name__ == "__main__":
    main()
