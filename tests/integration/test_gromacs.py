"""The gromacs module on the real program: preparing, running (killed, cut short), analysing."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cpc.api import Failed, File, RunDesc
from cpc.api.testing import Bench, Project, RunningJob
from cpc.dataflow import xml
from cpc.plugins.modules import gromacs
from cpc.plugins.modules.gromacs.mdp import Setting
from tests.helpers.gromacs import EM, MD, TOPOLOGY, gmx, times_of

DEMO = Path(__file__).parents[2] / "demo"
MODULES = Path(gromacs.__file__).parents[1]
GMX = shutil.which("gmx")
pytestmark = pytest.mark.skipif(GMX is None, reason="GROMACS (Debian: gromacs) is not installed")


def mdrun(job: RunningJob) -> int:
    """As the worker starts it, on one core."""
    with (job.directory / "stdout").open("wb") as out, (job.directory / "stderr").open("wb") as err:
        return subprocess.run(
            [str(GMX), "mdrun", "-nt", "1", *job.args], cwd=job.directory, stdout=out, stderr=err, check=False
        ).returncode


DATA = [xml.read((MODULES / f"{name}.xml").read_text(), name) for name in ("resource", "meas")]
PROGRAMS = {"gromacs/gmx": (str(GMX),), "gromacs/mdrun": mdrun}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "bench", PROGRAMS)


@pytest.fixture(scope="module")
def water(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small box of water: conf.gro (after a minimisation), topol.top, em.mdp, md.mdp."""
    folder = tmp_path_factory.mktemp("water")
    gmx(folder, "solvate", "-cs", "spc216.gro", "-box", "1.9", "1.9", "1.9", "-o", "start.gro")
    number = (folder / "start.gro").read_text().count("OW")
    (folder / "topol.top").write_text(TOPOLOGY.format(number=number))
    (folder / "em.mdp").write_text(EM)
    (folder / "md.mdp").write_text(MD)
    gmx(folder, "grompp", "-f", "em.mdp", "-c", "start.gro", "-p", "topol.top", "-o", "em.tpr", "-maxwarn", "1")
    gmx(folder, "mdrun", "-nt", "1", "-deffnm", "em", "-c", "conf.gro")
    return folder


@pytest.fixture
def given(water: Path) -> dict[str, File]:
    return {name: File(water / path) for name, path in (("conf", "conf.gro"), ("mdp", "md.mdp"), ("top", "topol.top"))}


def prepared(bench: Bench, given: dict[str, File], **settings: str) -> File:
    changes = [Setting(name.replace("_", "-"), value) for name, value in settings.items()]
    tpr = bench.run(gromacs.grompp, **given, settings=changes)["tpr"]
    return File(tpr, "topol.tpr")


def test_grompp_takes_settings_over_the_file(bench: Bench, given: dict[str, File]) -> None:
    made = bench.run(gromacs.grompp, **given, settings=[Setting("nsteps", "123"), Setting("ref-t", "310")])
    assert bench.run(gromacs.extract_mdp, mdp=made["mdp"], name="nsteps")["value"] == "123"
    assert bench.run(gromacs.extract_mdp, mdp=made["mdp"], name="ref_t")["value"] == "310"
    assert made["tpr"].read_bytes()


def test_what_grompp_refuses_is_told_in_its_own_words(bench: Bench, given: dict[str, File]) -> None:
    with pytest.raises(Failed, match=r"Invalid enum 'nonsense'"):
        bench.run(gromacs.grompp, **given, settings=[Setting("integrator", "nonsense")])


def test_a_simulation_leaves_everything_that_it_is_asked_for(bench: Bench, given: dict[str, File]) -> None:
    made = bench.run(gromacs.mdrun, tpr=prepared(bench, given, nsteps="500"))
    assert made["trr"] is None
    assert times_of(made["xtc"]) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    energy = bench.run(gromacs.g_energy, edr=made["edr"], item="Temperature")
    assert 250 < energy["average"] < 350
    assert energy["unit"] == "K"
    assert energy["xvg"].read_text().count("\n") > 10
    with pytest.raises(Failed, match="No energy terms"):
        bench.run(gromacs.g_energy, edr=made["edr"], item="Nonsense")


def slow(job: RunningJob, *words: str) -> subprocess.Popen[bytes]:
    """mdrun that stands still after some hundred steps, until somebody reads what it says of them."""
    argv = [str(GMX), "mdrun", "-nt", "1", "-v", "-stepout", "10", *words, *job.args]
    return subprocess.Popen(argv, cwd=job.directory, stderr=subprocess.PIPE, pipesize=4096)


def test_a_run_that_is_killed_goes_on_from_its_checkpoint_as_if_nothing_had_been(
    bench: Bench, given: dict[str, File], tmp_path: Path
) -> None:
    killed = []

    def twice(job: RunningJob) -> int:
        """The first attempt is killed at its first checkpoint; the second one finds its files, as the server hands them on."""
        with slow(job, "-cpt", "0") as process:
            while not (job.directory / "state.cpt").exists() and process.poll() is None:
                time.sleep(0.01)
            killed.append(process.poll())
            process.send_signal(signal.SIGKILL)
        return mdrun(job)

    once = bench.run(gromacs.mdrun, tpr=prepared(bench, given, nsteps="3000"))
    again = Bench(tmp_path / "again", {**PROGRAMS, "gromacs/mdrun": twice}).run(
        gromacs.mdrun, tpr=prepared(bench, given, nsteps="3000")
    )
    assert killed == [None]
    assert "Restarting from checkpoint" in again["log"].read_text()
    assert times_of(again["xtc"]) == times_of(once["xtc"])
    assert len(times_of(again["xtc"])) == 31


def test_sigterm_is_no_failure_and_the_next_job_goes_on(bench: Bench, given: dict[str, File], tmp_path: Path) -> None:
    codes = []

    def told_to_stop(job: RunningJob) -> int:
        """SIGTERM from outside, as a batch system sends it; only the first time."""
        if codes:
            return mdrun(job)
        with slow(job) as process:
            while "Started mdrun" not in _text(job.directory / "md.log"):
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            (job.directory / "stderr").write_bytes(process.communicate()[1])
        codes.append(process.returncode)
        return process.returncode

    other = Bench(tmp_path / "other", {**PROGRAMS, "gromacs/mdrun": told_to_stop})
    made = other.run(gromacs.mdrun, tpr=prepared(bench, given, nsteps="3000"))
    assert codes == [1]
    assert len(times_of(made["xtc"])) == 31


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_a_run_longer_than_a_job_may_be_is_a_chain_of_jobs_with_one_trajectory(
    bench: Bench, given: dict[str, File]
) -> None:
    made = bench.run(gromacs.mdrun, tpr=prepared(bench, given, nsteps="4000"), hours=0.0003)
    assert len(bench.answers) > 2
    assert made["log"].read_text().count("Restarting from checkpoint") == len(bench.answers) - 2
    times = times_of(made["xtc"])
    assert times == pytest.approx([0.2 * number for number in range(41)])


def test_tuning_tries_the_cores_that_pay(bench: Bench, given: dict[str, File]) -> None:
    made = bench.run(gromacs.mdrun_tune, **given)
    assert made["resources"] == RunDesc(min={"cores": 1}, max={"cores": 1})  # 200 waters: 600 particles, one cell
    assert made["tpr"].read_bytes()


def test_trajectories_are_converted_and_split(bench: Bench, given: dict[str, File]) -> None:
    tpr = prepared(bench, given, nsteps="500")
    xtc = bench.run(gromacs.mdrun, tpr=tpr)["xtc"]
    part = bench.run(gromacs.trjconv, traj=xtc, tpr=tpr, first_frame_ps=0.3, pbc="mol", center=True)["xtc"]
    assert times_of(part) == [0.4, 0.6, 0.8, 1.0]
    confs = bench.run(gromacs.trjconv_split, traj=xtc, tpr=tpr, skip=2)["confs"]
    assert len(confs) == 3
    assert [conf.read_text().splitlines()[0].split("t=")[1].split()[0] for conf in confs] == [
        "0.00000", "0.40000", "0.80000",
    ]  # fmt: skip


def test_energy_files_are_joined(bench: Bench, given: dict[str, File]) -> None:
    edr = bench.run(gromacs.mdrun, tpr=prepared(bench, given, nsteps="100"))["edr"]
    later = bench.run(gromacs.mdrun, tpr=prepared(bench, given, nsteps="100", tinit="0.2"))["edr"]
    joined = bench.run(gromacs.eneconv, edr_files=[edr, later])["edr"]
    rows = bench.run(gromacs.g_energy, edr=joined, item="Potential")["xvg"].read_text().splitlines()
    assert float(rows[-1].split()[0]) == pytest.approx(0.4)


def test_a_topology_is_made_of_a_structure(bench: Bench, tmp_path: Path) -> None:
    structure = tmp_path / "alanine.pdb"
    structure.write_text((DEMO / "alanine.pdb").read_text().replace(" C   NME", " CH3 NME"))  # as GROMACS calls it
    made = bench.run(gromacs.pdb2gmx, conf=File(structure), ff="amber99sb-ildn", ignh=True)
    assert "[ moleculetype ]" in made["top"].read_text()
    assert made["conf"].read_text().splitlines()[1].strip() == "22"
    assert [file.name for file in made["include"]] == ["posre.itp"]
    with pytest.raises(Failed, match=r"Could not find force field 'nonsense'"):
        bench.run(gromacs.pdb2gmx, conf=made["conf"], ff="nonsense")


def test_a_free_energy_is_read_from_runs_at_all_lambda_points(bench: Bench, given: dict[str, File]) -> None:
    edr = []
    for state in range(3):
        tpr = prepared(
            bench, given, nsteps="1000", free_energy="yes", init_lambda_state=str(state), couple_moltype="SOL",
            couple_lambda0="vdw-q", couple_lambda1="vdw", coul_lambdas="0 0.02 0.04", nstdhdl="10",
            calc_lambda_neighbors="1", separate_dhdl_file="no",
        )  # fmt: skip
        edr.append(bench.run(gromacs.mdrun, tpr=tpr)["edr"])
    made = bench.run(gromacs.g_bar, edr=edr)
    assert made["dG"].value == pytest.approx(sum(one.value for one in made["bar_values"]), abs=0.02)
    assert [(one.begin, one.end) for one in made["bar_values"]] == [(0, 1), (1, 2)]
    assert made["dG"].value > 0  # weaker charges are worse in water
    with pytest.raises(Failed, match="two lambda points at least"):
        bench.run(gromacs.g_bar, edr=edr[:1])


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", *DATA, gromacs, programs=PROGRAMS)
    made.add("g", "gromacs::grompp_mdruns")
    return made


def test_arrays_grow_and_every_new_element_is_one_more_simulation(project: Project, water: Path) -> None:
    conf, top, mdp = (File(water / name) for name in ("conf.gro", "topol.top", "md.mdp"))
    project.set("g:in.top[0]", top)
    project.set("g:in.mdp[0]", mdp)
    project.set("g:in.settings[0]", [{"name": "nsteps", "value": "100"}])
    project.set("g:in.conf[0]", conf)
    project.set("g:in.conf[1]", conf)
    project.run()
    assert project.error("g") == ""
    assert [len(times_of(one)) for one in project.get("g:out.xtc")] == [2, 2]
    before = project.ran
    project.set("g:in.conf[2]", conf)
    project.run()
    assert len(project.get("g:out.xtc")) == 3
    assert project.ran - before == 2  # a grompp and an mdrun


def test_arrays_that_do_not_agree_stop_the_instance_and_name_both(project: Project, water: Path) -> None:
    for item, count in (("conf", 3), ("mdp", 2), ("top", 1)):
        project.set(f"g:in.{item}", [File(water / "conf.gro")] * count)
    project.run(check=False)
    assert "inconsistent number of items: conf has 3, mdp has 2" in project.error("g")
