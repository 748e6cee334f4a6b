"""Markov state models: known populations and timescales are found again, rare places are where runs begin, generations follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("deeptime", reason="deeptime is not installed (pip install 'copernicus-computing[demo]')")

import numpy as np

from cpc.api import Failed, File, describe
from cpc.api.testing import PYTHON, Bench, Project, RunningJob
from cpc.plugins.modules import msm, openmm

MODULES = Path(msm.__file__).parents[1]
DEMO = Path(__file__).resolve().parents[2] / "demo"
LAG = 1


@pytest.fixture
def markov(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(MODULES / "msm" / "jobs"))
    import markov

    return markov


@pytest.fixture
def features(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(MODULES / "msm" / "jobs"))
    import features

    return features


@pytest.fixture
def dcd(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(MODULES / "openmm" / "jobs"))
    import dcd

    return dcd


# the model


def walk(matrix: np.ndarray, steps: int, start: int, seed: int) -> np.ndarray:
    """A random walk between the corners 0, 1, 2, … of a line, as features."""
    chance = np.random.default_rng(seed)
    path = [start]
    for _ in range(steps - 1):
        path.append(int(chance.choice(len(matrix), p=matrix[path[-1]])))
    return np.array(path, np.float32)[:, None]


THREE = np.array([[0.90, 0.10, 0.00], [0.05, 0.90, 0.05], [0.00, 0.20, 0.80]])
POPULATIONS = np.array([4, 8, 2]) / 14  # by detailed balance: 0.1 a = 0.05 b, 0.05 b = 0.2 c


def test_populations_and_timescales_of_a_known_process_are_found_again(markov: Any) -> None:
    model = markov.estimate([walk(THREE, 20_000, seed % 3, seed) for seed in range(3)], 3, LAG)
    order = np.argsort(model.centers[:, 0])
    np.testing.assert_allclose(model.populations[order], POPULATIONS, atol=0.02)
    eigenvalues = np.sort(np.linalg.eigvals(THREE).real)[::-1][1:]
    np.testing.assert_allclose(model.timescales, -1 / np.log(eigenvalues), rtol=0.1)
    assert model.connected == 1
    assert model.weights.sum() == pytest.approx(1)


def test_runs_that_began_out_of_balance_are_weighed_back_into_it(markov: Any) -> None:
    rare = [walk(THREE, 50, 2, seed) for seed in range(400)]  # all begin in the rarest state
    model = markov.estimate(rare, 3, LAG)
    seen = np.array([(np.concatenate(rare)[:, 0] == state).mean() for state in range(3)])
    order = np.argsort(model.centers[:, 0])
    assert abs(seen - POPULATIONS).max() > 0.04
    np.testing.assert_allclose(model.populations[order], POPULATIONS, atol=0.03)


def test_what_is_not_connected_keeps_its_part_of_the_frames_and_the_model_says_so(markov: Any) -> None:
    here, there = walk(THREE, 3000, 0, 1), walk(THREE, 1000, 0, 2) + 10
    model = markov.estimate([here, there], 6, LAG)
    far = model.centers[:, 0] > 5
    assert model.connected == pytest.approx(0.75)
    assert model.populations[far].sum() == pytest.approx(0.25)
    assert len(model.sets) == 2


def test_the_gap_between_two_sets_is_where_runs_begin(markov: Any) -> None:
    model = markov.estimate([walk(THREE, 3000, 0, 1), walk(THREE, 1000, 0, 2) + 10], 6, LAG)
    states = markov.gap(model, 2, np.random.default_rng(1))
    assert sorted(model.centers[states, 0]) == [2, 10]


def test_what_was_seen_least_is_where_most_runs_begin(markov: Any) -> None:
    path = np.array([0] * 1000 + [1] * 1000 + [2] * 10 + [0], np.float32)[:, None]
    model = markov.estimate([path], 3, LAG)
    chosen = markov.starts(model, 300, "counts", 7)
    at = [path[frame, 0] for trajectory, frame in chosen]
    assert {trajectory for trajectory, _ in chosen} == {0}
    assert at.count(2) > 250
    assert chosen == markov.starts(model, 300, "counts", 7)
    with pytest.raises(ValueError, match="not by 'luck'"):
        markov.starts(model, 1, "luck", 7)


def test_states_lie_evenly_and_there_are_no_more_than_different_points(markov: Any) -> None:
    points = np.concatenate([np.zeros((1000, 1)), np.linspace(0, 10, 11)[:, None]])
    assert sorted(markov.k_centers(points, 3)[:, 0]) == [0, 5, 10]
    assert len(markov.k_centers(points, 50)) == 11


def test_the_change_is_nothing_for_the_same_model_and_all_for_another_place(markov: Any) -> None:
    one = markov.estimate([walk(THREE, 3000, 0, 1)], 3, LAG)
    assert markov.change(one.weights, one.weights, one) == pytest.approx(0, abs=1e-9)
    elsewhere = markov.estimate([walk(THREE, 300, 0, 1), walk(THREE, 30_000, 0, 2) + 100], 6, LAG)
    assert markov.change(np.full(300, 1 / 300), elsewhere.weights, elsewhere) > 0.95


def test_data_too_few_for_a_model_are_no_error(markov: Any) -> None:
    model = markov.estimate([np.zeros((3, 1), np.float32)], 10, 5)
    assert (model.connected, len(model.timescales)) == (0, 0)
    assert markov.starts(model, 2, "counts", 1)[0][0] == 0


# features


def test_torsions_are_measured_with_their_sign(features: Any) -> None:
    x = np.array([[[0, 1, 0], [0, 0, 0], [1, 0, 0], [1, np.cos(a), np.sin(a)]] for a in (0.5, -2.0, np.pi)])
    np.testing.assert_allclose(np.abs(features.torsions(x, [(0, 1, 2, 3)])[:, 0]), [0.5, 2.0, np.pi], atol=1e-9)
    assert np.sign(features.torsions(x, [(0, 1, 2, 3)])[0, 0]) != np.sign(features.torsions(x, [(0, 1, 2, 3)])[1, 0])


def test_the_backbone_of_alanine_dipeptide_is_one_pair_of_angles(features: Any) -> None:
    atoms = features.atoms_of(DEMO / "alanine.pdb")
    assert [[atoms[at].name for at in four] for four in features.backbone(atoms)] == [
        ["C", "N", "CA", "C"], ["N", "CA", "C", "N"],
    ]  # fmt: skip


def test_features_that_cannot_be_are_one_clear_line(features: Any, tmp_path: Path) -> None:
    atoms = features.atoms_of(DEMO / "alanine.pdb")
    x = np.zeros((2, 22, 3))
    with pytest.raises(ValueError, match="fewer than four residues"):
        features.featurize("contacts", x, atoms, tmp_path / "none")
    with pytest.raises(ValueError, match="no features 'shape'"):
        features.featurize("shape", x, atoms, tmp_path / "none")
    own = tmp_path / "own.py"
    own.write_text("def features(x, atoms):\n    return x[:, :, 0].mean(axis=1, keepdims=True)\n")
    assert features.featurize("backbone", x, atoms, own).shape == (2, 1)
    own.write_text("def features(x, atoms):\n    return x\n")
    with pytest.raises(ValueError, match=r"shape \(2, 22, 3\)"):
        features.featurize("backbone", x, atoms, own)


# the functions


def write_dcd(path: Path, x: np.ndarray, dcd: Any) -> None:
    """A DCD file with these coordinates (frames, atoms, 3), nm."""
    frames, atoms, _ = x.shape
    header = np.zeros(23, "<i4")
    header[0], header[-1] = 84, 84
    header[1] = int.from_bytes(b"CORD", "little")
    header[2] = frames
    title = np.array([84, 1], "<i4").tobytes() + b" " * 80 + np.array([84, 4, atoms, 4], "<i4").tobytes()
    raw = np.zeros(frames, dcd.frame_type(atoms, False))
    for place, axis in enumerate("xyz"):
        raw[axis]["begin"] = raw[axis]["end"] = 4 * atoms
        raw[axis]["at"] = x[:, :, place] * 10
    path.write_bytes(header.tobytes() + title + raw.tobytes())


def test_a_trajectory_is_read_as_it_was_written_and_cut_where_it_is_told_to(dcd: Any, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(0, 1, (7, 5, 3)).astype(np.float32)
    path = tmp_path / "a.dcd"
    write_dcd(path, x, dcd)
    np.testing.assert_allclose(dcd.read(path), x, rtol=1e-5)
    with path.open("ab") as file:
        file.write(b"half a frame")
    assert len(dcd.read(path)) == 7
    dcd.cut(path, 4)
    np.testing.assert_allclose(dcd.read(path), x[:4], rtol=1e-5)
    with pytest.raises(ValueError, match="fewer than 5"):
        dcd.cut(path, 5)
    (tmp_path / "b.dcd").write_text("text")
    with pytest.raises(ValueError, match=r"b\.dcd is not a DCD file"):
        dcd.read(tmp_path / "b.dcd")


def molecule(frames: int, seed: int) -> np.ndarray:
    """Alanine dipeptide shaken, so that its angles differ."""
    lines = [line for line in (DEMO / "alanine.pdb").read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    x = np.array([[float(line[at : at + 8]) / 10 for at in (30, 38, 46)] for line in lines])
    return x + np.random.default_rng(seed).normal(0, 0.03, (frames, *x.shape))


def test_a_model_is_one_job_with_its_pictures_and_continues_the_one_before(tmp_path: Path, dcd: Any) -> None:
    bench = Bench(tmp_path / "bench", {"deeptime": PYTHON})
    files = []
    for number in range(3):
        write_dcd(tmp_path / f"{number}.dcd", molecule(60, number), dcd)
        files.append(File(tmp_path / f"{number}.dcd"))
    common = {"structure": File(DEMO / "alanine.pdb"), "every": 0.5, "clusters": 5, "lag": 1, "starts": 4}
    first = bench.run(msm.model, trajectories=files[:2], **common)
    assert (first["change"], first["nanoseconds"]) == (1.0, 0.06)
    second = bench.run(msm.model, trajectories=files[2:], before=first["data"], **common)
    assert second["nanoseconds"] == pytest.approx(0.09)
    assert 0 <= second["change"] < 1
    assert sum(second["populations"]) == pytest.approx(1)
    assert {one.trajectory for one in second["starts"]} <= {0, 1, 2}
    for name in ("free_energy", "implied_timescales", "network"):
        assert second[name].read_bytes().startswith(b"\x89PNG")
    with np.load(second["data"]) as saved:
        assert saved["plane"].shape == (180, 2)


def test_trajectories_of_another_molecule_are_refused_with_both_sizes(tmp_path: Path, dcd: Any) -> None:
    write_dcd(tmp_path / "a.dcd", np.zeros((5, 3, 3)), dcd)
    with pytest.raises(Failed, match="the structure has 22 atoms, a trajectory 3"):
        Bench(tmp_path / "bench", {"deeptime": PYTHON}).run(
            msm.model, structure=File(DEMO / "alanine.pdb"), trajectories=[File(tmp_path / "a.dcd")], every=1.0
        )


class Fakes:
    """Simulations that leave where they began, and models that get better by half each time."""

    def __init__(self) -> None:
        self.began: list[str] = []

    def simulate(self, job: RunningJob) -> None:
        request = json.loads(job.text("request.json"))
        start = job.text("start") if (job.directory / "start").exists() else "structure"
        self.began.append(f"{start}[{request['frame']}]")
        job.write("trajectory.dcd", f"run {request['seed']}")
        job.write("final.pdb", "")

    def estimate(self, job: RunningJob) -> None:
        request = json.loads(job.text("request.json"))
        before = json.loads(job.text("before.npz")) if (job.directory / "before.npz").exists() else []
        known = [*before, *(path.read_text() for path in sorted((job.directory / "trajectories").iterdir()))]
        job.write("model.npz", json.dumps(known))
        for name in ("free_energy.png", "timescales.png", "network.png"):
            job.write(name, name)
        starts = [{"trajectory": len(known) - 1, "frame": 10 + place} for place in range(request["starts"])]
        result = {
            "populations": [1.0], "timescales": [5.0], "connected": 1.0, "change": 0.5 ** len(known), "starts": starts,
            "nanoseconds": float(len(known)),
        }  # fmt: skip
        job.write("result.json", json.dumps(result))


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
def project(tmp_path: Path, fakes: Fakes) -> Project:
    made = Project(tmp_path, openmm, msm, programs={"openmm": fakes.simulate, "deeptime": fakes.estimate})
    (tmp_path / "a.pdb").write_text("molecule")
    (tmp_path / "b.xml").write_text("forces")
    made.add("s", "msm::adaptive")
    made.set("s:in.structure", tmp_path / "a.pdb")
    made.set("s:in.runs", 2)
    made.set("s:in.generations", 3)
    made.set("s:in.system", tmp_path / "b.xml")
    return made


def test_each_generation_begins_where_the_model_before_says(project: Project, fakes: Fakes) -> None:
    project.run()
    assert project.error("s") == ""
    assert fakes.began == [
        "structure[0]", "structure[0]", "run 1[10]", "run 1[11]", "run 3[10]", "run 3[11]",
    ]  # fmt: skip
    assert project.get("s:out.generation") == 3
    assert project.get("s:out.nanoseconds") == 6
    assert [one.read_text() for one in project.get("s:out.trajectories")] == [f"run {number}" for number in range(6)]
    assert json.loads(project.get("s:out.model").read_text()) == [f"run {number}" for number in range(6)]
    assert project.get("s:out.free_energy").read_text() == "free_energy.png"


def test_it_stops_when_populations_do_not_change_any_more(project: Project) -> None:
    project.set("s:in.tolerance", 0.07)
    project.set("s:in.generations", 100)
    project.run()
    assert (project.get("s:out.generation"), project.get("s:out.converged")) == (2, True)


def test_more_generations_go_on_where_it_has_ended_and_nothing_is_done_again(project: Project, fakes: Fakes) -> None:
    project.run()
    project.set("s:in.generations", 4)
    project.run()
    assert project.get("s:out.generation") == 4
    assert len(fakes.began) == 8


def test_given_starts_are_taken_in_turn(project: Project, fakes: Fakes, tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / f"{name}.pdb").write_text(name)
    project.set("s:in.starts", [File(tmp_path / "x.pdb"), File(tmp_path / "y.pdb")])
    project.set("s:in.runs", 3)
    project.set("s:in.generations", 1)
    project.run()
    assert fakes.began == ["x[0]", "y[0]", "x[0]"]


def test_the_module_says_what_it_needs() -> None:
    assert "openmm" in describe(msm).imports
