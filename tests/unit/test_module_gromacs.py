"""The gromacs module without GROMACS: run parameters, what tools print, how many cores pay, what is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpc.api import BadInput, Failed, File, NotFound, RunDesc, describe
from cpc.api.testing import Bench, RunningJob
from cpc.plugins.modules import gromacs
from cpc.plugins.modules.gromacs import mdp, tables, tuning
from cpc.plugins.modules.gromacs.mdp import Setting

MDP = """; a comment
integrator               = md
nsteps = 5000     ; 10 ps
ref-t  = 300
include                  = -I../top
"""

ENERGY = """
Statistics over 74 steps [ 0.0000 through 73.0000 ps ], 1 data sets
All statistics are over 59 points (frames)

Energy                      Average   Err.Est.       RMSD  Tot-Drift
-------------------------------------------------------------------------------
{row}
"""

BAR = """
Temperature: 300 K

Detailed results in kT (see help for explanation):

 lam_A  lam_B      DG   +/-     s_A   +/-     s_B   +/-   stdev   +/-
     0      1    2.10  0.03    0.10  0.01    0.11  0.01    0.45  0.01

Final results in kJ/mol:

point      0 -      1,   DG   5.25 +/-  0.08
point      1 -      2,   DG  -1.50 +/-  0.10

total      0 -      2,   DG   3.75 +/-  0.13
"""

FATAL = """
-------------------------------------------------------
Program:     gmx grompp, version 2022.5-Debian_2022.5_2
Source file: src/gromacs/gmxpreprocess/grompp.cpp (line 2661)

Fatal error:
Too many warnings (1).
If you are sure all warnings are harmless, use the -maxwarn option.

For more information and tips for troubleshooting, please check the GROMACS
website at http://www.gromacs.org/Documentation/Errors
-------------------------------------------------------
"""


# run parameters


def test_a_parameter_is_replaced_in_its_line_and_a_new_one_added_at_the_end() -> None:
    merged = mdp.merge(MDP, [Setting("ref_t", "310"), Setting("gen-vel", "yes")])
    lines = merged.splitlines()
    assert lines[0] == "; a comment"
    assert lines[3].split() == ["ref_t", "=", "310"]
    assert lines[-1].split() == ["gen-vel", "=", "yes"]
    assert mdp.value(merged, "nsteps") == "5000"


def test_names_are_compared_as_gromacs_compares_them_and_the_last_setting_counts() -> None:
    merged = mdp.merge("Ref_T = 1\nREF-T = 2\n", [Setting("ref-t", "3"), Setting("ref_t", "4")])
    assert mdp.values(merged) == {"reft": "4"}
    assert merged.count("=") == 1


@pytest.mark.parametrize("wrong", [Setting("", "1"), Setting("a=b", "1"), Setting("a", "1\n2"), Setting("a", "1 ; x")])
def test_what_would_spoil_the_file_is_refused(wrong: Setting) -> None:
    with pytest.raises(BadInput):
        mdp.merge(MDP, [wrong])


def test_a_parameter_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(NotFound, match=r"nothing of dt.*integrator, nsteps"):
        mdp.value(MDP, "dt")


names = st.sampled_from(["nsteps", "ref-t", "ref_t", "dt", "Integrator", "nst-xout"])
texts = st.text("abc123 .-", min_size=0, max_size=8).map(str.strip)


@given(st.lists(st.tuples(names, texts)), st.lists(st.builds(Setting, names, texts)))
def test_after_a_merge_every_setting_holds_and_everything_else_is_as_it_was(
    lines: list[tuple[str, str]], settings: list[Setting]
) -> None:
    text = "".join(f"{name} = {value} ; words\n" for name, value in lines)
    wanted = mdp.values(text) | {mdp.key(one.name): one.value for one in settings}
    assert mdp.values(mdp.merge(text, settings)) == wanted


def test_merge_mdp_and_extract_mdp_do_the_same_to_files(tmp_path: Path) -> None:
    (tmp_path / "run.mdp").write_text(MDP)
    bench = Bench(tmp_path / "bench")
    one = File(tmp_path / "run.mdp")
    made = bench.run(gromacs.merge_mdp, mdp=one, settings=[Setting("nsteps", "7")])
    assert mdp.value(made["mdp"].read_text(), "nsteps") == "7"
    assert bench.run(gromacs.extract_mdp, mdp=one, name="nsteps")["value"] == "5000"
    assert bench.run(gromacs.extract_mdp, mdp=one, name="dt", settings=[Setting("dt", "0.1")])["value"] == "0.1"
    with pytest.raises(Failed, match="nothing of pcoupl"):
        bench.run(gromacs.extract_mdp, mdp=one, name="pcoupl")


# what tools print


def test_an_energy_term_is_read_with_its_error_and_unit() -> None:
    row = "Potential                  -10156.2        390    1256.47   -2590.35  (kJ/mol)"
    assert tables.energy(ENERGY.format(row=row)) == tables.Energy(-10156.2, 390, 1256.47, -2590.35, "kJ/mol")
    row = "Pres. DC (bar)             1.2e-05         --         --"  # not a row: its rmsd is missing
    with pytest.raises(NotFound):
        tables.energy(ENERGY.format(row=row))


def test_an_error_that_could_not_be_estimated_is_left_unset() -> None:
    assert tables.energy(ENERGY.format(row="Kinetic En.     1e+03    --    0    nan  (kJ/mol)")).error is None


def test_the_free_energy_is_the_total_with_its_steps() -> None:
    steps, whole = tables.differences(BAR)
    assert whole == tables.Difference(0, 2, 3.75, 0.13)
    assert [one.value for one in steps] == [5.25, -1.5]
    with pytest.raises(NotFound):
        tables.differences("nothing")


def test_of_a_failure_only_what_is_wrong_is_kept() -> None:
    assert tables.fatal(FATAL).startswith("Too many warnings (1).\nIf you are sure")
    assert "website" not in tables.fatal(FATAL)
    assert tables.fatal("all is well") == ""


def test_only_the_last_run_in_a_log_says_whether_it_was_cut_short() -> None:
    cut = "Started mdrun on rank 0\nStep 1120: Run time exceeded 0.990 hours, will terminate the run within 40 steps\n"
    assert tables.stopped_early(cut)
    assert tables.stopped_early("Started mdrun\n\nReceived the TERM signal, stopping within 40 steps\n")
    assert not tables.stopped_early(
        f"{cut}Restarting from checkpoint, appending to previous log file.\nFinished mdrun\n"
    )


# cores


@pytest.mark.parametrize(
    ("size", "cores"),
    [
        (tuning.Size(100, (2, 2, 2)), 1),
        (tuning.Size(2000, (3, 3, 3)), 8),
        (tuning.Size(100_000, (3, 3, 3)), 8),  # no more than there are cells
        (tuning.Size(100_000, (10, 10, 10)), 400),
        (tuning.Size(1000), 4),  # no box
    ],
)
def test_cores_pay_for_250_particles_each_as_far_as_cells_fit_into_the_box(size: tuning.Size, cores: int) -> None:
    assert tuning.cores(size) == cores


def test_the_size_is_read_from_gro_and_pdb(tmp_path: Path) -> None:
    gro = tmp_path / "a.gro"
    gro.write_text(
        "water\n    2\n    1SOL     OW    1   0.1   0.2   0.3\n    1SOL    HW1    2   0.1   0.2   0.3\n  2 3 4.5\n"
    )
    assert tuning.size(gro, "a.gro") == tuning.Size(2, (2.0, 3.0, 4.5))
    pdb = tmp_path / "a.pdb"
    pdb.write_text(
        "CRYST1   20.000   30.000   45.000  90.00  90.00  90.00 P 1\n" + "ATOM      1  OW\n" * 3 + "ENDMDL\nATOM\n"
    )
    assert tuning.size(pdb, "a.pdb") == tuning.Size(3, (2.0, 3.0, 4.5))
    with pytest.raises(BadInput, match=r"b\.gro cannot be read"):
        tuning.size(pdb, "b.gro")


# what is asked for


def test_the_module_describes_itself_with_all_its_original_names() -> None:
    known = {one.id: one for one in describe(gromacs).functions}
    assert set(known) == set(gromacs.__all__)
    inputs = {one.id: one for one in known["grompp"].inputs}
    assert [name for name, one in inputs.items() if not one.opt] == ["conf", "mdp", "top"]
    assert inputs["include"].complete
    assert inputs["settings"].complete
    resources = next(one for one in known["mdrun"].inputs if one.id == "resources")
    assert resources.type == "resource::run_desc"
    assert {one.id for one in known["mdrun"].outputs} >= {"conf", "xtc", "trr", "edr", "log", "stdout", "stderr"}


class Mdrun:
    """An mdrun that stops early a few times; each part appends a word to its files, as GROMACS does."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.args: list[tuple[str, ...]] = []

    def __call__(self, job: RunningJob) -> int:
        self.args.append(job.args)
        here = job.directory
        done = len((here / "traj.xtc").read_text().split()) if (here / "state.cpt").exists() else 0
        with (here / "md.log").open("a") as log:
            log.write("Started mdrun on rank 0\n")
            if done + 1 < self.parts:
                log.write("Step 10: Run time exceeded 0.990 hours, will terminate the run within 40 steps\n")
        with (here / "traj.xtc").open("a") as xtc:
            xtc.write(f"part{done} ")
        (here / "ener.edr").write_text("e")
        (here / "state.cpt").write_text(str(done))
        if done + 1 >= self.parts:
            (here / "confout.gro").write_text("end")
        return 0


@pytest.fixture
def tpr(tmp_path: Path) -> File:
    (tmp_path / "topol.tpr").write_text("a run")
    return File(tmp_path / "topol.tpr")


def test_a_run_that_is_cut_short_goes_on_from_what_it_has_left_until_it_is_whole(tmp_path: Path, tpr: File) -> None:
    program = Mdrun(3)
    bench = Bench(tmp_path / "bench", {"gromacs/mdrun": program})
    made = bench.run(gromacs.mdrun, tpr=tpr, hours=0.5, cmdline_options="-v -dlb 'no'", priority=2)
    assert made["xtc"].read_text() == "part0 part1 part2 "
    assert made["conf"].read_text() == "end"
    assert made["trr"] is None
    assert program.args[0] == ("-s", "topol.tpr", "-cpi", "state.cpt", "-x", "traj.xtc", "-o", "traj.trr", "-maxh", "0.5",
                               "-v", "-dlb", "no")  # fmt: skip
    assert len(program.args) == 3


def test_cores_and_more_come_from_the_resources(tmp_path: Path, tpr: File) -> None:
    bench = Bench(tmp_path / "bench", {"gromacs/mdrun": Mdrun(1)})
    bench.run(gromacs.mdrun, tpr=tpr, resources=RunDesc(min={"cores": 2}, max={"cores": 8}))
    (job,) = bench.answers[0].jobs
    assert (job.spec.need.cores, job.spec.max_cores) == (2, 8)
    assert "state.cpt" in job.spec.checkpoint


def test_tools_go_where_the_servers_environment_says(
    tmp_path: Path, tpr: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMX_TOOLS_LABELS", "tools near")
    job = gromacs.g_energy.job(edr=tpr, item="Potential")
    assert job.labels == ["tools", "near"]
    assert job.files is not None
    assert job.files["choices"] == b"Potential\n\n"
    monkeypatch.delenv("GMX_TOOLS_LABELS")
    assert not gromacs.g_energy.job(edr=tpr, item="Potential").labels


def test_an_energy_term_of_two_lines_is_refused(tmp_path: Path, tpr: File) -> None:
    with pytest.raises(Failed, match="is one line"):
        Bench(tmp_path / "bench").run(gromacs.g_energy, edr=tpr, item="a\nb")


def test_files_to_include_must_not_take_each_others_place(tmp_path: Path, tpr: File) -> None:
    (tmp_path / "a").mkdir()
    for path in ("a/x.itp", "x.itp"):
        (tmp_path / path).write_text(path)
    files = [File(tmp_path / "a" / "x.itp"), File(tmp_path / "x.itp")]
    with pytest.raises(Failed, match=r"include: there are two files x\.itp"):
        Bench(tmp_path / "bench").run(gromacs.grompp, conf=tpr, mdp=tpr, top=tpr, include=files)


@pytest.mark.parametrize("option", ["-s other.tpr", "-nt 4", "-deffnm x", "-cpi a.cpt"])
def test_options_that_the_system_sets_are_refused(tmp_path: Path, tpr: File, option: str) -> None:
    with pytest.raises(Failed, match=f"cmdline_options: {option.split(maxsplit=1)[0]} is set by the system"):
        Bench(tmp_path / "bench").run(gromacs.mdrun, tpr=tpr, cmdline_options=option)


def test_a_failure_says_first_what_gromacs_says_is_wrong(tmp_path: Path, tpr: File) -> None:
    def broken(job: RunningJob) -> int:
        job.write("stderr", FATAL)
        return 1

    with pytest.raises(Failed, match=r"^mdrun: Too many warnings"):
        Bench(tmp_path / "bench", {"gromacs/mdrun": broken}).run(gromacs.mdrun, tpr=tpr)


def test_a_box_too_small_for_its_domains_is_tried_with_half_the_cores(tmp_path: Path, tpr: File) -> None:
    tried = []

    def small(job: RunningJob) -> int:
        tried.append(job.args)
        if len(tried) < 3:
            job.write("stderr", "Fatal error:\nThere is no domain decomposition for 8 ranks\n")
            return 1
        return Mdrun(1)(job)

    bench = Bench(tmp_path / "bench", {"gromacs/mdrun": small})
    assert bench.run(gromacs.mdrun, tpr=tpr, resources=RunDesc(max={"cores": 8}))["conf"].read_text() == "end"
    asked = [job.spec.max_cores for answer in bench.answers for job in answer.jobs]
    assert asked == [8, 4, 2]
