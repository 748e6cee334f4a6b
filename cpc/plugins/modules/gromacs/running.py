"""mdrun: one simulation, as a chain of jobs that go on where the one before was."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import Annotated

from cpc.api import BadInput, File, Finished, Job, RunDesc, Step, controller
from cpc.plugins.modules.gromacs import tables
from cpc.plugins.modules.gromacs.tools import MDRUN, VERSIONS

LEAVES = (
    "state.cpt",
    "state_prev.cpt",
    "traj.xtc",
    "traj.trr",
    "ener.edr",
    "md.log",
    "*.xvg",
)  # all that a run goes on from
RESULTS = {
    "conf": "confout.gro", "edr": "ener.edr", "log": "md.log", "cpt": "state.cpt", "xtc": "traj.xtc", "trr": "traj.trr"
}  # fmt: skip
OURS = ("-s", "-cpi", "-cpo", "-deffnm", "-x", "-o", "-e", "-g", "-c", "-maxh", "-noappend", "-nt", "-ntomp", "-ntmpi")


@dataclass(frozen=True, slots=True)
class Run:
    """What a simulation leaves; `xtc` and `trr` as far as its run parameters ask for them."""

    conf: File
    edr: File
    log: File
    cpt: File
    stdout: File
    stderr: File
    xtc: File | None = None
    trr: File | None = None


@controller(outputs=Run, sub_outputs={"parts": list[File]}, access_outputs=True, cancel_on_change=True)
def mdrun(
    step: Step,
    *,
    tpr: Annotated[File, "the run, as grompp has prepared it"],
    priority: Annotated[int, "of its jobs, −30 to 30"] = 0,
    cmdline_options: Annotated[str, "more arguments of gmx mdrun"] = "",
    resources: Annotated[RunDesc | None, "the cores it needs and can use"] = None,
    hours: Annotated[float | None, "how long one job may take; then another one goes on"] = None,
) -> None:
    """One simulation. It survives the loss of its worker, and goes on from its last checkpoint at another one.

    When it takes several jobs, `sub_out.parts` has the files of what was simulated so far.
    """
    job = replace(start(tpr, cmdline_options, hours), priority=priority)
    job = resources.limit(job) if resources else job
    if step.fresh:
        step.state.clear()
        step.sub_output("parts", None)
        step.submit(job)
        return
    done = step.finished[-1]
    parts = so_far(step, done)
    said = tables.fatal(done.text("stderr")) if done.has("stderr") else ""
    if cut_short(done) and "state.cpt" in parts:
        step.log(f"job {done.job} has ended early; the next one goes on from its checkpoint")
        step.sub_output("parts", list(parts.values()))
        files = {**parts, **(job.files or {})}
        step.submit(fewer_cores(step, replace(job, priority=min(priority + 1, 30), files=files)))
    elif done.succeeded:
        for name, path in RESULTS.items():
            step.output(name, parts.get(path))
        for name in ("stdout", "stderr"):
            step.output(name, done.file(name))
    elif "domain decomposition" in said and (cores := most_cores(step, job) // 2) >= (job.cores or 1):
        step.log(f"the box is too small for so many cores: trying at most {cores}")
        step.state["cores"] = cores
        step.submit(fewer_cores(step, job))
    else:
        step.fail(f"mdrun: {said}\n\n{done.failure()}" if said else done.failure())


def cut_short(done: Finished) -> bool:
    """Whether mdrun was told to stop before its end: by -maxh, or by a signal from outside, which is no failure.

    A job that somebody has cancelled has no exit code: it stays cancelled.
    """
    return done.exit_code is not None and done.has("md.log") and tables.stopped_early(done.text("md.log"))


def start(tpr: File, cmdline_options: str, hours: float | None) -> Job:
    """The job for a run that has not begun, or that goes on where there is a state.cpt."""
    options = shlex.split(cmdline_options)
    taken = [one for one in options if one in OURS]
    if taken:
        raise BadInput(f"cmdline_options: {taken[0]} is set by the system", "leave it out")
    if hours is not None and hours <= 0:
        raise BadInput(f"hours = {hours:g} is no time to run for", "give more than 0, or nothing at all")
    limit: list[str | float] = [] if hours is None else ["-maxh", hours]
    return Job(
        ["-s", "topol.tpr", "-cpi", "state.cpt", "-x", "traj.xtc", "-o", "traj.trr", *limit, *options],
        executable=MDRUN,
        versions=VERSIONS,
        files={"topol.tpr": tpr},
        outputs=("confout.gro", *LEAVES),
        checkpoint=LEAVES,
        walltime=None if hours is None else 3600 * hours * 1.1 + 120,  # mdrun itself stops at 99 % of -maxh
        name="gmx mdrun",
    )


def most_cores(step: Step, job: Job) -> int:
    """How many cores the last job could have had."""
    return int(step.state.get("cores") or job.max_cores or job.cores or 1)


def fewer_cores(step: Step, job: Job) -> Job:
    """The job with as few cores as a run before has needed."""
    return replace(job, max_cores=step.state["cores"]) if step.state.get("cores") else job


def so_far(step: Step, done: Finished) -> dict[str, File]:
    """All files of the run, by path: of the job that has ended, and those of earlier ones that it left as they were."""
    before = {file.name: file for file in step.sub_outputs.get("parts") or ()}
    return before | {path: done.file(path) for path in done.files if path not in ("stdout", "stderr")}
