"""Local files of controllers: what they read is what the server has, and nothing from elsewhere gets into the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cpc.core import plain
from cpc.core.errors import BadInput
from cpc.core.manifest import Entry, Manifest
from cpc.core.plain import FileRef
from cpc.core.spec import JobSpec
from cpc.dataflow.answer import PATH, Answer, Job, LocalInput
from cpc.server.workspace import Workspace
from tests.helpers.files import Shop, block, content_of, wait
from tests.simulation.durable import Durable

BIG = block(1) + block(2, 1000)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.end()


@pytest.fixture
def workspace(shop: Shop, tmp_path: Path) -> Workspace:
    async def here(call: Any) -> Any:
        return call()

    return Workspace(tmp_path / "run", shop.files, here)


def test_a_file_is_there_under_its_name_and_cannot_be_changed(shop: Shop, workspace: Workspace) -> None:
    shop.upload(BIG)
    content = content_of(BIG)
    placed = wait(workspace.place(1, [FileRef("conf.gro", content), FileRef("../../conf.gro", content)]))
    path = Path(placed[content.digest.hex()])
    assert path.name == "conf.gro"
    assert path.read_bytes() == BIG
    assert path.stat().st_mode & 0o777 == 0o444
    before = path.stat().st_ino
    assert wait(workspace.place(1, [FileRef("conf.gro", content)])) == placed
    assert path.stat().st_ino == before, "it is not written again"


def test_outputs_of_a_job_lie_as_they_lay_at_the_worker(shop: Shop, workspace: Workspace) -> None:
    shop.upload(b"x")
    manifest = Manifest(
        (Entry(b"a", "dir"), Entry(b"a/out", "file", 0o755, content_of(b"x")), Entry(b"l", "link", target=b"a/out"))
    )
    directory = Path(wait(workspace.outputs(1, 2, "57", manifest)))
    assert (directory / "a/out").read_bytes() == (directory / "l").read_bytes() == b"x"
    assert os.access(directory / "a/out", os.X_OK)
    assert wait(workspace.outputs(1, 2, "58", Manifest())) == ""


def test_what_a_run_wrote_becomes_values_and_inputs(shop: Shop, workspace: Workspace) -> None:
    places = wait(workspace.prepare(1, 2, 3, 1, output=True, persistent=True, former=""))
    Path(places.output, "traj.xtc").write_bytes(BIG)
    answer = Answer(
        outputs=(
            ("xtc", {PATH: f"{places.output}/traj.xtc"}),
            ("n", 3),
            ("all", [{PATH: f"{places.output}/traj.xtc"}]),
        ),
        jobs=(
            Job(
                JobSpec(argv=("true",)),
                files=(LocalInput("a", f"{places.output}/traj.xtc"), LocalInput("b", data=b"hi")),
            ),
        ),
    )
    kept = wait(workspace.ingest(1, answer, places))
    assert plain.read(dict(kept.outputs)["xtc"]) == FileRef("traj.xtc", content_of(BIG))
    assert plain.read(dict(kept.outputs)["all"]) == [FileRef("traj.xtc", content_of(BIG))]
    (job,) = kept.jobs
    assert job.files == ()
    assert [(one.path, one.content) for one in job.spec.inputs] == [("a", content_of(BIG)), ("b", content_of(b"hi"))]
    assert shop.fetch(content_of(BIG)) == BIG
    msgspec.msgpack.encode(kept)


@pytest.mark.parametrize("how", ["elsewhere", "link", "directory", "missing", "dots"])
def test_nothing_from_elsewhere_gets_into_the_store(shop: Shop, workspace: Workspace, tmp_path: Path, how: str) -> None:
    places = wait(workspace.prepare(1, 2, 3, 1, output=True, persistent=False, former=""))
    secret = tmp_path / "key.pem"
    secret.write_bytes(b"secret")
    path = Path(places.output, "x")
    if how == "elsewhere":
        path = secret
    elif how == "link":
        path.symlink_to(secret)
    elif how == "directory":
        path.mkdir()
    elif how == "dots":
        path = Path(places.output, "../../../../key.pem")
    answer = Answer(outputs=(("x", {PATH: str(path)}),))
    with pytest.raises(BadInput, match=r"x|key"):
        wait(workspace.ingest(1, answer, places))


def test_a_persistent_directory_is_as_the_last_commit_left_it(workspace: Workspace) -> None:
    first = wait(workspace.prepare(1, 2, 1, 1, output=True, persistent=True, former=""))
    Path(first.persistent, "part").write_text("one")
    cut_short = wait(workspace.prepare(1, 2, 2, 1, output=True, persistent=True, former=first.persistent_name))
    Path(cut_short.persistent, "part").write_text("half")
    again = wait(workspace.prepare(1, 2, 2, 2, output=True, persistent=True, former=first.persistent_name))
    assert Path(again.persistent, "part").read_text() == "one"
    wait(workspace.keep(1, 2, again.persistent_name))
    assert not Path(first.persistent).exists()
    assert not Path(again.output).exists()
    assert Path(again.persistent, "part").read_text() == "one"
    wait(workspace.forget(1, 2))
    assert not Path(again.persistent).exists()


def test_what_can_be_made_again_is_not_kept_for_ever(shop: Shop, workspace: Workspace) -> None:
    shop.upload(b"old")
    shop.upload(b"new")
    refs = [FileRef("f", content_of(data)) for data in (b"old", b"new")]
    old, new = (Path(wait(workspace.place(1, [ref])).popitem()[1]) for ref in refs)
    kept = wait(workspace.prepare(1, 2, 1, 1, output=False, persistent=True, former=""))
    os.utime(old, (1000, 1000))
    wait(workspace.tidy(2000.0))
    assert (old.exists(), new.exists()) == (False, True)
    os.utime(new, (1000, 1000))
    wait(workspace.place(1, [refs[1]]))
    wait(workspace.tidy(2000.0))
    assert new.exists(), "a run has just asked for it"
    scratch = new.parents[2] / ".scratch-7"
    scratch.mkdir()
    wait(workspace.start())
    assert not new.exists()
    assert not scratch.exists()
    assert Path(kept.persistent).is_dir()


@pytest.mark.parametrize("eager", [False, True])
def test_a_power_loss_leaves_what_the_commit_names_and_nothing_that_is_half_there(
    shop: Shop, tmp_path: Path, eager: bool
) -> None:
    """Of the rest the names may have got to the disk, and the bytes not: it must not be taken for what it was."""
    run = tmp_path / "machine"
    run.mkdir()
    disk = Durable(run)

    async def there(call: Any) -> Any:
        return disk.do(call)

    workspace = Workspace(run, shop.files, there)
    wait(workspace.start())
    shop.upload(b"x")
    manifest = Manifest((Entry(b"out", content=content_of(b"x")),))
    cached = Path(wait(workspace.place(1, [FileRef("conf.gro", content_of(b"x"))])).popitem()[1])
    wait(workspace.outputs(1, 2, "57", manifest))
    places = wait(workspace.prepare(1, 2, 3, 1, output=True, persistent=True, former=""))
    kept = Path(places.persistent)
    (kept / "deep").mkdir()
    (kept / "deep/part").write_bytes(b"one")
    (kept / "last").symlink_to("deep/part")
    wait(workspace.ingest(1, Answer(), places))
    disk.power_loss(eager)
    assert (kept / "last").read_bytes() == b"one"
    assert cached.exists() is eager
    assert not eager or cached.read_bytes() == b"", "else this shows nothing"
    wait(workspace.start())
    assert wait(workspace.place(1, [FileRef("conf.gro", content_of(b"x"))])).popitem()[1] == str(cached)
    assert cached.read_bytes() == b"x"
    assert (Path(wait(workspace.outputs(1, 2, "57", manifest))) / "out").read_bytes() == b"x"
    assert not Path(places.output).exists()


def test_what_is_loaded_survives_a_power_loss(shop: Shop, tmp_path: Path) -> None:
    run = tmp_path / "machine"
    run.mkdir()
    disk = Durable(run)

    async def there(call: Any) -> Any:
        return disk.do(call)

    workspace = Workspace(run, shop.files, there)
    wait(workspace.start())
    source = tmp_path / "loaded"
    source.mkdir()
    (source / "part").write_bytes(b"one")
    wait(workspace.adopt(1, 2, "persistent-loaded", source))
    disk.power_loss(eager=False)
    (part,) = run.rglob("part")
    assert part.read_bytes() == b"one"
