"""A simulation with GROMACS whose worker is killed: one trajectory, as long as it should be, with continuous times."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.gromacs import EM, MD, TOPOLOGY, gmx, times_of
from tests.helpers.network_of_processes import HEARTBEAT, Network

pytestmark = pytest.mark.skipif(shutil.which("gmx") is None, reason="GROMACS (Debian: gromacs) is not installed")
STEPS = 20_000


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A box of water that has been minimised, and what a run needs."""
    gmx(tmp_path, "solvate", "-cs", "spc216.gro", "-box", "1.9", "1.9", "1.9", "-o", "start.gro")
    number = (tmp_path / "start.gro").read_text().count("OW")
    (tmp_path / "topol.top").write_text(TOPOLOGY.format(number=number))
    (tmp_path / "em.mdp").write_text(EM)
    (tmp_path / "md.mdp").write_text(MD)
    gmx(tmp_path, "grompp", "-f", "em.mdp", "-c", "start.gro", "-p", "topol.top", "-o", "em.tpr", "-maxwarn", "1")
    gmx(tmp_path, "mdrun", "-nt", "1", "-deffnm", "em", "-c", "conf.gro")
    return tmp_path


def has_state(directory: Path) -> bool:
    """Before that there is nothing from which a run could go on, whatever else is sent in as a checkpoint."""
    try:
        return next(directory.rglob("state.cpt"), None) is not None
    except FileNotFoundError:
        return False  # a copy that went while we looked


def test_a_simulation_goes_on_at_another_worker_as_if_nothing_had_been(
    make_network: Callable[..., Network], files: Path
) -> None:
    lab = make_network(checkpoint_interval="1")
    first = lab.worker(cores=1)
    network = lab.client.network("p")
    for module in ("gromacs",):
        lab.cpcc("import", module).done()
    lab.cpcc("instance", "gromacs::grompp", "prep").done()
    lab.cpcc("instance", "gromacs::mdrun", "md").done()
    lab.cpcc("connect", "prep:out.tpr", "md:in.tpr").done()
    lab.cpcc("set", "md:in.cmdline_options", "-cpt 0.01").done()  # minutes
    lab.cpcc("set", "prep:in.settings", f'[{{"name": "nsteps", "value": "{STEPS}"}}]').done()
    lab.cpcc("activate").done()
    for item, name in (("conf", "conf.gro"), ("mdp", "md.mdp"), ("top", "topol.top")):
        lab.cpcc("setf", f"prep:in.{item}", str(files / name)).done()
    job = lab.until(lambda: network.item("md").jobs, "mdrun is a job")[0]
    lab.until(lambda: has_state(first.directory), "mdrun has written its state")
    for _ in range(2):  # what is sent in first may have been copied before
        newest = lab.job(job).checkpoint or 0
        lab.until(lambda newest=newest: (lab.job(job).checkpoint or 0) > newest, "a checkpoint is sent in")
    first.kill()
    lab.client.set_setting("heartbeat_time", "2")
    lab.until(lambda: lab.job(job).history[0].outcome == "lost", "the first attempt is lost")
    lab.client.set_setting("heartbeat_time", f"{HEARTBEAT:g}")
    with lab.working(cores=1):
        network.wait_for("md:out.xtc", 300)
        assert [attempt.outcome for attempt in lab.job(job).history] == ["lost", "ok"]
        lab.cpcc("getf", "md:out.xtc", "-f", str(files / "whole.xtc")).done()
        lab.cpcc("getf", "md:out.log", "-f", str(files / "md.log")).done()
    assert "Restarting from checkpoint" in (files / "md.log").read_text()
    times = times_of(files / "whole.xtc")
    assert times == pytest.approx([0.2 * number for number in range(STEPS // 100 + 1)], abs=1e-3)
