"""What leaves a run directory and what is put into it: hashed, bounded, never outside; on a real disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cpc.core.digest import CHUNK, of_chunk
from cpc.core.errors import BadInput, Damaged, TooLarge
from cpc.core.lease import Lease
from cpc.core.manifest import Entry, Manifest
from cpc.core.offload import inline
from cpc.spool.disk import walk
from cpc.spool.real_disk import RealDisk
from cpc.wire.messages import Task
from cpc.worker import collecting
from cpc.worker.collecting import FRESH, SMALL_CHUNK, check_chunk, collect, read_chunk, sources, sync_files, tail
from cpc.worker.fetching import Early
from cpc.worker.placing import place
from cpc.worker.spares import Spares
from tests.helpers.worker_world import content
from tests.unit.test_spool import now

DISK = RealDisk()


def paths(found: collecting.Collected) -> list[bytes]:
    return [entry.path for entry in found.files.entries]


def test_everything_that_matches_and_the_streams(tmp_path: Path) -> None:
    for name in ("stdout", "stderr", "a.txt", "b.log", "deep/c.txt", "deep/d.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert paths(collect(DISK, str(tmp_path), ("*.txt",))) == [b"a.txt", b"stderr", b"stdout"]
    assert paths(collect(DISK, str(tmp_path), ("deep/",))) == [b"deep/c.txt", b"deep/d.log", b"stderr", b"stdout"]
    assert len(paths(collect(DISK, str(tmp_path), ("**",)))) == 6


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    name = b"caf\xe9 \n\xff"
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"x")
    found = collect(DISK, str(tmp_path), ("**",))
    assert paths(found) == [name]


def test_links_pipes_and_empty_directories(tmp_path: Path) -> None:
    (tmp_path / "inside").symlink_to("sub/target")
    (tmp_path / "outside").symlink_to("/etc/passwd")
    (tmp_path / "up").symlink_to("../x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "sub" / "target").write_text("t")
    os.mkfifo(tmp_path / "pipe")
    found = collect(DISK, str(tmp_path), ("**",))
    assert paths(found) == [b"empty", b"inside", b"sub/target"]
    assert [line.split(":")[0] for line in sorted(found.left_out)] == ["outside", "pipe", "up"]


def test_unchanged_inputs_are_no_outputs_and_changed_ones_are(tmp_path: Path) -> None:
    (tmp_path / "same").write_text("same")
    (tmp_path / "changed").write_text("new")
    inputs = {"same": content(b"same").digest, "changed": content(b"old").digest}
    assert paths(collect(DISK, str(tmp_path), ("**",), inputs=inputs)) == [b"changed"]


def test_small_contents_travel_inside_and_stay_within_their_bounds(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}").write_bytes(os.urandom(SMALL_CHUNK))
    (tmp_path / "large").write_bytes(os.urandom(SMALL_CHUNK + 1))
    found = collect(DISK, str(tmp_path), ("**",))
    assert all(len(data) <= SMALL_CHUNK for data in found.small.values())
    assert sum(map(len, found.small.values())) <= collecting.SMALL_TOTAL
    assert len(found.small) == 16


def test_of_large_files_the_first_chunks_are_at_hand_up_to_a_bound(tmp_path: Path) -> None:
    data = os.urandom(CHUNK + SMALL_CHUNK + 1)
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode() + data)
    (tmp_path / "small").write_bytes(b"small")
    found = collect(DISK, str(tmp_path), ("**",))
    known = {digest for _, content in found.files.files() for digest in content.chunks}
    assert 2 * CHUNK >= FRESH - CHUNK < sum(map(len, found.fresh.values())) <= FRESH
    assert set(found.fresh) <= known - set(found.small)
    assert all(of_chunk(data) == digest for digest, data in found.fresh.items())


def test_chunks_are_read_back_and_damage_is_seen(tmp_path: Path) -> None:
    data = os.urandom(CHUNK) + b"rest" * 30_000
    (tmp_path / "big").write_bytes(data)
    found = collect(DISK, str(tmp_path), ("**",))
    where = sources(str(tmp_path), found.files)
    entry = found.files.find(b"big")
    assert entry is not None
    assert entry.content is not None
    assert b"".join(read_chunk(DISK, where[digest]) for digest in entry.content.chunks) == data
    sync_files(DISK, str(tmp_path), found.files, found.small)
    last = entry.content.chunks[1]
    check_chunk(DISK, where[last], last)
    (tmp_path / "big").write_bytes(data[:-1] + b"!")
    with pytest.raises(Damaged, match="big"):
        check_chunk(DISK, where[last], last)
    for less in (data[:-1], None):
        (tmp_path / "big").unlink()
        if less:
            (tmp_path / "big").write_bytes(less)
        with pytest.raises(Damaged, match="big"):
            read_chunk(DISK, where[last])


def test_too_many_paths_are_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpc.core.manifest.MAX_ENTRIES", 5)
    for number in range(6):
        (tmp_path / str(number)).touch()
    with pytest.raises(TooLarge):
        collect(DISK, str(tmp_path), ("**",))


def test_a_tail_is_short_and_has_the_last_lines(tmp_path: Path) -> None:
    (tmp_path / "stdout").write_bytes(b"".join(b"line %d\n" % number for number in range(10_000)))
    (tmp_path / "stderr").write_bytes(b"\xff\xfe last words \xc3\xa9\n" * 1000)
    text = tail(DISK, str(tmp_path), walk(DISK, str(tmp_path)))
    assert len(text.encode()) <= 4096
    assert "line 9999" in text
    assert "last words é" in text


def test_a_directory_whose_rights_a_job_took_away_is_read_and_removed(tmp_path: Path) -> None:
    top = tmp_path / "run"
    (top / "locked").mkdir(parents=True)
    (top / "locked" / "file").write_text("x")
    (top / "locked" / "file").chmod(0)
    (top / "locked").chmod(0)
    assert paths(collect(DISK, str(top), ("**",))) == [b"locked/file"]
    (top / "locked").chmod(0)
    DISK.remove_tree(str(top))
    assert not top.exists()


def task(**fields: object) -> Task:
    from cpc.core.resources import Amounts

    return Task(lease=Lease(1, 1, 1), project=1, granted=Amounts(cores=1), argv=("x",), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["../x", "/x", "a/../x", "", "a//b", "./a", "a/" + "b" * 300])
def test_an_input_never_leaves_the_directory(tmp_path: Path, path: str) -> None:
    async def fetch(digest: bytes, size: int) -> bytes:
        return b"x"

    with pytest.raises(BadInput):
        now(
            place(
                DISK,
                inline,
                inline,
                Spares(DISK, str(tmp_path), str(tmp_path / "spare")),
                str(tmp_path / "run"),
                task(inputs=((path, content(b"x"), False),)),
                fetch,
                Early(),
            )
        )
    assert [each.name for each in tmp_path.iterdir()] in ([], ["run"])


def test_a_link_of_a_checkpoint_is_never_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")

    async def fetch(digest: bytes, size: int) -> bytes:
        return b"x"

    bad = Manifest((Entry(b"a", kind="link", target=b"../outside"), Entry(b"a/b", content=content(b"x"))))
    with pytest.raises(BadInput):
        now(
            place(
                DISK,
                inline,
                inline,
                Spares(DISK, str(tmp_path), str(tmp_path / "spare")),
                str(tmp_path / "run"),
                task(checkpoint=bad),
                fetch,
                Early(),
            )
        )
    link = Manifest((Entry(b"in", kind="link", target=b"other"),))
    files = task(inputs=(("in", content(b"x"), False),), checkpoint=link)
    spares = Spares(DISK, str(tmp_path), str(tmp_path / "spare"))
    now(place(DISK, inline, inline, spares, str(tmp_path / "run"), files, fetch, Early()))
    assert os.readlink(tmp_path / "run" / "in") == "other"
    assert outside.read_text() == "mine"


def test_one_input_below_another_is_the_jobs_mistake(tmp_path: Path) -> None:
    async def fetch(digest: bytes, size: int) -> bytes:
        return b"x"

    inputs = (("a", content(b"x"), False), ("a/b", content(b"x"), False))
    with pytest.raises(BadInput, match="below"):
        now(
            place(
                DISK,
                inline,
                inline,
                Spares(DISK, str(tmp_path), str(tmp_path / "spare")),
                str(tmp_path / "run"),
                task(inputs=inputs),
                fetch,
                Early(),
            )
        )
