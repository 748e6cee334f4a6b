"""A run directory that is used again is as fresh, empty and private as a new one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cpc.spool.real_disk import RealDisk
from cpc.worker import spares as module
from cpc.worker.spares import Spares

DISK = RealDisk()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def used(spares: Spares, path: Path) -> int:
    """A directory as a small job leaves it; its inode."""
    spares.take(str(path))
    (path / "stdout").write_text("hello")
    (path / ".hidden").touch()
    (path / "link").symlink_to("/etc/passwd")
    path.chmod(0o777)
    return path.stat().st_ino


def test_the_next_attempt_gets_the_directory_empty_and_private(runs: Path) -> None:
    spares = Spares(DISK, str(runs), str(runs.parent / "spare"))
    inode = used(spares, runs / "1.1.1")
    spares.give(str(runs / "1.1.1"))
    assert not (runs / "1.1.1").exists()
    spares.take(str(runs / "2.1.1"))
    assert (runs / "2.1.1").stat().st_ino == inode
    assert os.listdir(runs) == ["2.1.1"]
    assert os.listdir(runs / "2.1.1") == []
    assert stat.S_IMODE((runs / "2.1.1").stat().st_mode) == 0o700


def test_streams_that_nothing_was_written_to_stay(runs: Path) -> None:
    spares = Spares(DISK, str(runs), str(runs.parent / "spare"))
    spares.take(str(runs / "1.1.1"))
    for name in ("stdout", "stderr", "other"):
        (runs / "1.1.1" / name).touch()
    spares.give(str(runs / "1.1.1"))
    spares.take(str(runs / "2.1.1"))
    assert sorted(os.listdir(runs / "2.1.1")) == ["stderr", "stdout"]


@pytest.mark.parametrize("change", ["write", "chmod", "link", "replace"])
def test_a_stream_that_a_job_has_changed_goes(runs: Path, change: str) -> None:
    spares = Spares(DISK, str(runs), str(runs.parent / "spare"))
    spares.take(str(runs / "1.1.1"))
    stream = runs / "1.1.1" / "stdout"
    stream.touch()
    match change:
        case "write":
            stream.write_text("x")
        case "chmod":
            stream.chmod(0o755)
        case "link":  # it would show what the next job writes
            os.link(stream, runs.parent / "mine")
        case "replace":
            stream.unlink()
            os.mkfifo(stream)
    spares.give(str(runs / "1.1.1"))
    spares.take(str(runs / "2.1.1"))
    assert os.listdir(runs / "2.1.1") == []


def test_what_lies_at_the_path_already_is_removed(runs: Path) -> None:
    spares = Spares(DISK, str(runs), str(runs.parent / "spare"))
    used(spares, runs / "1.1.1")
    spares.give(str(runs / "1.1.1"))
    used(Spares(DISK, str(runs), str(runs.parent / "spare")), runs / "2.1.1")
    spares.take(str(runs / "2.1.1"))
    assert os.listdir(runs / "2.1.1") == []


def test_directories_with_directories_or_many_files_are_removed(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILES", 3)
    spares = Spares(DISK, str(runs), str(runs.parent / "spare"))
    used(spares, runs / "1.1.1")
    (runs / "1.1.1" / "deep").mkdir()
    used(spares, runs / "2.1.1")
    (runs / "2.1.1" / "one more").touch()
    for name in ("1.1.1", "2.1.1"):
        spares.give(str(runs / name))
    assert os.listdir(runs) == []


def test_no_more_are_kept_than_are_useful(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    spares = Spares(DISK, str(runs), str(runs.parent / "spare"))
    for name in ("1.1.1", "2.1.1"):
        used(spares, runs / name)
    for name in ("1.1.1", "2.1.1"):
        spares.give(str(runs / name))
    assert os.listdir(runs) == []
    assert len(os.listdir(runs.parent / "spare")) == 1


def test_a_link_in_the_directorys_place_leads_nowhere(runs: Path, tmp_path: Path) -> None:
    """A job may do with its directory what it wants; what a link of its leads to is not emptied."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").touch()
    (runs / "1.1.1").symlink_to(tmp_path / "elsewhere")
    spares = Spares(DISK, str(runs), str(runs.parent / "spare"))
    with pytest.raises(OSError, match="symbolic link"):
        spares.give(str(runs / "1.1.1"))
    assert (tmp_path / "elsewhere" / "precious").exists()


def test_directories_of_other_workers_are_removed(runs: Path, tmp_path: Path) -> None:
    spares = Spares(DISK, str(runs), str(runs.parent / "spare"))
    used(spares, tmp_path / "other" / "runs" / "1.1.1")
    spares.give(str(tmp_path / "other" / "runs" / "1.1.1"))
    assert os.listdir(tmp_path / "other" / "runs") == []
    assert os.listdir(runs) == []


def test_one_that_is_ready_is_taken_by_a_rename_and_what_is_in_its_way_is_left_to_take(runs: Path) -> None:
    spares = Spares(DISK, str(runs), str(runs.parent / "spare"))
    assert not spares.take_ready(str(runs / "1.1.1"))  # there is none
    inode = used(spares, runs / "1.1.1")
    spares.give(str(runs / "1.1.1"))
    (runs / "2.1.1").mkdir()
    (runs / "2.1.1" / "left").touch()
    assert not spares.take_ready(str(runs / "2.1.1"))
    assert (runs / "2.1.1" / "left").exists()
    assert spares.take_ready(str(runs / "3.1.1"))
    assert ((runs / "3.1.1").stat().st_ino, os.listdir(runs / "3.1.1")) == (inode, [])
    spares.take(str(runs / "2.1.1"))
    assert os.listdir(runs / "2.1.1") == []
