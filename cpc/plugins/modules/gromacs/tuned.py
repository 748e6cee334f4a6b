"""mdrun_tune: how many cores a simulation can use, tried out."""

from __future__ import annotations

from dataclasses import replace

from cpc.api import File, RunDesc, Step, controller
from cpc.plugins.modules.gromacs import running, tables, tuning
from cpc.plugins.modules.gromacs.mdp import Setting
from cpc.plugins.modules.gromacs.preparing import prepare
from cpc.plugins.modules.gromacs.tools import GMX, VERSIONS

STEPS = 20  # of the test run: enough to set up the domains


@controller(outputs={"mdp": File, "tpr": File, "resources": RunDesc}, cancel_on_change=True)
def mdrun_tune(
    step: Step,
    *,
    conf: File,
    mdp: File,
    top: File,
    include: list[File] | None = None,
    settings: list[Setting] | None = None,
    ndx: File | None = None,
    maxwarn: int = 0,
    cmdline_options: str = "",
) -> None:
    """The most cores that pay for this simulation: one for 250 particles, as far as domains of 1.2 nm fit into the box.

    The run is prepared and tried for a few steps. If its domains do not fit after all, half as many cores are tried.
    """
    if step.fresh:
        cores = tuning.cores(tuning.size(conf.path, conf.name))
        step.state.update(cores=cores)
        job = prepare(conf, mdp, top, include, settings, ndx, maxwarn=maxwarn)
        step.submit(replace(job, executable=GMX, versions=VERSIONS), key="grompp")
        return
    done = step.finished[-1]
    if done.key == "grompp" and done.succeeded:
        step.output("tpr", done.file("topol.tpr"))
        step.output("mdp", done.file("mdout.mdp"))
        _try(step, done.file("topol.tpr"), cmdline_options)
    elif done.succeeded:
        step.output("resources", RunDesc(min={"cores": 1}, max={"cores": step.state["cores"]}))
    elif "domain decomposition" in tables.fatal(done.text("stderr")) and step.state["cores"] > 1:
        step.state["cores"] //= 2
        _try(step, done.file("topol.tpr"), cmdline_options)
    else:
        step.fail(done.failure())


def _try(step: Step, tpr: File, cmdline_options: str) -> None:
    job = running.start(tpr, cmdline_options, None)
    step.submit(
        replace(
            job,
            args=[*job.args, "-nsteps", STEPS],
            max_cores=step.state["cores"],
            checkpoint=(),
            outputs=("topol.tpr",),
        ),
        key="mdrun",
    )
